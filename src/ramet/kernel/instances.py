"""Instances of the user's classes as values: enum members, namedtuples, dataclasses, exceptions.

They are rebuilt without running code of their class, whoever sent them: made by the built-in base's ``__new__``, their
attributes put where the class keeps them, past its properties and descriptors. What comes from below is held to more:
its class's module must be loaded already, and ``Context.find_class`` agree; a class with ``__del__`` is refused, since
that would run on made-up contents; and no attribute may hide a method.

====  ==============================================================================================================
kind  items
====  ==============================================================================================================
E     module, qualified name, name of the member
e     module, qualified name, value: a combination of flags
N     module, qualified name, items of the namedtuple
O     module, qualified name, name, value, name, value ...: all attributes of a dataclass's instance
X     module, qualified name, args, cause, context, suppress context, name, value ...; the traceback doesn't travel
====  ==============================================================================================================

Late part of ``values``. Pure; any thread may call it.
"""
import sys
from types import GetSetDescriptorType, MemberDescriptorType, ModuleType

from ramet.kernel import compat
from ramet.kernel.faults import ProtocolError, ValueNotPortableError

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Optional, Tuple

    from ramet.kernel.values import Context

HEAP = 1 << 9           # of a type's flags: it was made by a class statement, not in C
FLAG_COMBINATIONS_MAX = 4096    # an enum class keeps every combination of flags that it was ever asked for
BUILTINS = int.__module__

GENERIC = "__orig_class__"  # ``typing`` puts it into an instance of ``Box[int](3)``; nothing asks for it when it runs

BY_VALUE = "ramet.by_value"     # (wire) stands for the module of a class that came by value; its name then is a number

by_value = {}  # type: Any   # such classes, and what the ancestor that sent them calls them
by_number = {}  # type: Any  # the same ones that came as source, while they are in use

_mro = type.__dict__["__mro__"].__get__
_namespace = type.__dict__["__dict__"].__get__


def lookup(cls, name):
    # type: (Any, str) -> Any
    """What a class holds under a name, by itself or from a base; without asking its metaclass. None if nothing."""
    for base in _mro(cls):
        if name in _namespace(base):
            return _namespace(base)[name]
    return None


def wire_name(cls):
    # type: (Any) -> Tuple[str, str]
    """Module and qualified name under which another interpreter finds a class."""
    if by_value and cls in by_value:
        return BY_VALUE, by_value[cls]
    module, name = cls.__module__, getattr(cls, "__qualname__", cls.__name__)
    found = sys.modules.get(module)  # type: Any
    content = getattr(found, "__dict__", {})
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not cls:    # such as what shutil.disk_usage gives, a "usage" that has another name there
        others = [other for other, value in list(content.items()) if value is cls]
        if not others:
            raise ValueNotPortableError("its class isn't found as %s.%s: define it at a module's top" % (module, name))
        name = others[0]
    if module in (compat.MAIN, BUILTINS, "exceptions"):
        module = "__main__" if module == compat.MAIN else "builtins"
    return module, name


def _loaded(module, name):
    # type: (str, str) -> Any
    """A class by its name on the wire, if it is loaded; without running anything for it."""
    module = compat.local_module(module)
    place = sys.modules.get(module, sys.modules.get("__main__") if module == compat.MAIN else None)  # type: Any
    for part in name.split("."):
        if isinstance(place, type):
            place = _namespace(place).get(part)
        elif isinstance(place, ModuleType):     # not getattr: a module may be a lazy one, which that would import
            place = object.__getattribute__(place, "__dict__").get(part)
        else:
            return None
    return place


def shown(*parts):
    # type: (*Any) -> str
    """What came from elsewhere, as errors repeat it: they travel, too, so without what can't be encoded (lone surrogates;
    on 2.7 all but ASCII), and no longer than this.
    """
    return repr(".".join(["%s" % (part,) for part in parts])[:1000])[1:-1]


def find(ctx, module, name, base):
    # type: (Optional[Context], str, str, Any) -> Any
    """The class of that name on the wire.

    Raises:
        ValueNotPortableError: there is none, it isn't allowed, or it is no subclass of ``base``.
    """
    found = _loaded(module, name)
    free = base is BaseException and module in ("builtins", "exceptions", "ramet.kernel.faults", "ramet.kernel.errors")
    if not free:
        if not ctx or not ctx.find_class:
            raise ValueNotPortableError("no instance of %s is expected" % shown(module, name))
        if not ctx.trusted and not isinstance(found, type) and module != BY_VALUE:
            raise ValueNotPortableError("%s isn't loaded here" % shown(module, name))
        try:
            known = by_number.get(name) if ctx.trusted and module == BY_VALUE else None
            found = known or ctx.find_class(module, name)
        except Exception as error:
            raise ValueNotPortableError("%s: %s: %s" % (shown(module, name), type(error).__name__, shown(error)))
    if not isinstance(found, type) or base not in _mro(found):
        raise ValueNotPortableError("%s isn't here, or is no %s" % (shown(module, name), base.__name__))
    if not (ctx and ctx.trusted) and lookup(found, "__del__"):
        raise ValueNotPortableError("%s has a __del__: refused from below" % shown(module, name))
    return found


def is_known(value):
    # type: (Any) -> bool
    """Whether an instance is of these kinds."""
    enum, kind = sys.modules.get("enum"), type(value)
    return bool(enum and isinstance(value, enum.Enum) or isinstance(value, BaseException)
                or isinstance(value, tuple) and isinstance(lookup(kind, "_fields"), tuple)
                or isinstance(lookup(kind, "__dataclass_fields__"), dict) and not isinstance(value, type))


def pack(value, kind, name=wire_name):
    # type: (Any, Any, Callable[[Any], Tuple[str, str]]) -> Optional[Tuple[bytes, Any]]
    """Kind and items of an instance; None if it is none of these.

    Args:
        name: gives what a class is called on the wire.
    """
    enum = sys.modules.get("enum")
    if enum and isinstance(value, enum.Enum):
        return _pack_enum(value, name(kind), lookup(kind, "_member_map_"))
    if isinstance(value, tuple) and isinstance(lookup(kind, "_fields"), tuple):
        if attributes(value):
            raise ValueNotPortableError("a namedtuple with other attributes than its items can't travel")
        return b"N", name(kind) + tuple(value)
    if isinstance(value, BaseException):
        return _pack_exception(value, kind, name(kind))
    if isinstance(lookup(kind, "__dataclass_fields__"), dict) and not isinstance(value, type):
        foreign = [base.__name__ for base in _mro(kind) if not base.__flags__ & HEAP and base is not object]
        if foreign:
            raise ValueNotPortableError("a dataclass that is also a %s can't travel" % foreign[0])
        return b"O", name(kind) + tuple(x for pair in attributes(value).items() for x in pair)
    return None


def _pack_enum(value, name, members):
    # type: (Any, Tuple[str, str], Any) -> Tuple[bytes, Any]
    if members.get(value._name_) is value:
        return b"E", name + (value._name_,)
    if type(value._value_) in compat.integers:
        return b"e", name + (value._value_,)
    raise ValueNotPortableError("%s isn't a member of its class" % value._name_)


def _pack_exception(value, kind, name):
    # type: (Any, Any, Tuple[str, str]) -> Tuple[bytes, Any]
    reduced = _native_base(kind).__reduce__(value)
    args = list(reduced[1])
    if isinstance(value, UnicodeDecodeError):
        args[1] = compat.Bytes(args[1])     # 2.7 would send text
    state = dict(reduced[2] or {}) if len(reduced) > 2 else {}
    state.pop("args", None)
    state.pop(GENERIC, None)
    if isinstance(value, (AttributeError, NameError)) and getattr(value, "name", None) is not None:
        state["name"] = value.name      # not in 3.11's __reduce__
    return b"X", name + (
        tuple(args), getattr(value, "__cause__", None), getattr(value, "__context__", None),
        getattr(value, "__suppress_context__", False)) + tuple(x for pair in state.items() for x in pair)


def _native_base(cls):
    # type: (Any) -> Any
    """The nearest base of an exception's class that is made in C."""
    return next(base for base in _mro(cls) if not base.__flags__ & HEAP)


def _own_dict(value):
    # type: (Any) -> Any
    """An instance's ``__dict__``, past whatever its class may do to that name; None if it has none."""
    for base in _mro(type(value)):
        found = _namespace(base).get("__dict__")
        if isinstance(found, GetSetDescriptorType) and base is not type:
            return found.__get__(value)
    return None


def attributes(value):
    # type: (Any) -> Dict[str, Any]
    """What an instance holds, in its ``__dict__`` and its slots."""
    found = {}  # type: Dict[str, Any]
    for base in _mro(type(value)):
        for name, slot in list(_namespace(base).items()):
            if isinstance(slot, MemberDescriptorType) and base.__flags__ & HEAP:
                try:
                    found[name] = slot.__get__(value)
                except AttributeError:
                    pass
    found.update(_own_dict(value) or {})
    found.pop(GENERIC, None)
    return found


def _fill(value, names, contents, ctx):
    # type: (Any, List[Any], List[Any], Optional[Context]) -> Any
    """Give a new instance its attributes."""
    cls = type(value)
    own = _own_dict(value)
    declared = lookup(cls, "__dataclass_fields__") or ()
    for name, content in zip(names, contents):
        if type(name) not in (str, compat.text):
            raise ProtocolError("the name of an attribute must be text")
        slot = lookup(cls, name)
        if isinstance(slot, MemberDescriptorType):
            slot.__set__(value, content)
        elif own is None:
            raise ValueNotPortableError("%s has no attribute %r here" % (cls.__name__, name))
        else:
            if name not in declared and not (ctx and ctx.trusted):
                _check_name(cls, name, slot)
            own[str(name)] = content
    return value


def _check_name(cls, name, hidden):
    # type: (Any, str, Any) -> None
    """Refuse an attribute from below that isn't a field and would hide a method."""
    active = any(lookup(type(hidden), special) for special in ("__get__", "__call__"))
    if name != "__notes__" and (name[:2] == "__" or active and type(hidden).__name__ != "cached_property"):
        raise ValueNotPortableError("an attribute %r of a %s is refused from below" % (name, cls.__name__))


def _unpack_member(items, ctx):
    # type: (List[Any], Optional[Context]) -> Any
    import enum
    module, name, member = items
    cls = find(ctx, module, name, enum.Enum)
    return lookup(cls, "_member_map_")[member]


def _unpack_flags(items, ctx):
    # type: (List[Any], Optional[Context]) -> Any
    import enum
    module, name, value = items
    cls = find(ctx, module, name, enum.Flag)
    known = lookup(cls, "_value2member_map_")
    if value in known:
        return known[value]
    makes = lookup(cls, "_missing_").__func__
    safe = [lookup(base, "_missing_").__func__ for base in (enum.Flag, enum.IntFlag)]
    if not (ctx and ctx.trusted) and (makes not in safe or len(known) > FLAG_COMBINATIONS_MAX):
        raise ValueNotPortableError("a combination of %s is refused from below" % cls.__name__)
    return cls(value)


def _unpack_namedtuple(items, ctx):
    # type: (List[Any], Optional[Context]) -> Any
    cls = find(ctx, items[0], items[1], tuple)
    names = lookup(cls, "_fields")
    if not isinstance(names, tuple) or len(names) != len(items) - 2:
        raise ValueNotPortableError("%s has other fields here" % cls.__name__)
    return tuple.__new__(cls, items[2:])


def _unpack_dataclass(items, ctx):
    # type: (List[Any], Optional[Context]) -> Any
    cls = find(ctx, items[0], items[1], object)
    if not isinstance(lookup(cls, "__dataclass_fields__"), dict):
        raise ValueNotPortableError("%s is no dataclass here" % cls.__name__)
    return _fill(object.__new__(cls), items[2::2], items[3::2], ctx)


def _unpack_exception(items, ctx):
    # type: (List[Any], Optional[Context]) -> Any
    module, name, args, cause, context, suppress = items[:6]
    cls = find(ctx, module, name, BaseException)
    if type(args) is not tuple:
        raise ProtocolError("the arguments of an exception must be a tuple")
    base = _native_base(cls)
    value = base.__new__(cls, *args)
    base.__init__(value, *args)
    for name, content in ("__cause__", cause), ("__context__", context), ("__suppress_context__", suppress):
        slot = lookup(BaseException, name)
        if slot:
            slot.__set__(value, content)
    return _fill(value, items[6::2], items[7::2], ctx)


UNPACK = {
    "E": _unpack_member, "e": _unpack_flags, "N": _unpack_namedtuple, "O": _unpack_dataclass, "X": _unpack_exception,
}  # type: Dict[str, Callable[[List[Any], Optional[Context]], Any]]
