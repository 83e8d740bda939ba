"""An exception as plain data, so that it can travel: type, text, arguments, traceback, cause, context, notes.

The way back is in the late part ``remote_errors``: data from below never makes more than a ``RemoteError``. Any thread.
"""
import sys
from types import MemberDescriptorType

from ramet.kernel import compat, compat_late, values
from ramet.kernel.calls import Interrupt
from ramet.kernel.faults import CallCancelled, Error

MYPY = False
if MYPY:
    from typing import Any, Dict, List

CHAIN_MAX = 10      # causes of causes
FRAMES_MAX = 100    # of a traceback, the innermost
GROUP_MAX = 100     # members of an exception group
TEXT_MAX = 10000    # of what travels beside the value itself
FIELDS_MAX = 100    # of what an exception of one's own class holds
OURS = ("ramet.kernel.errors", "ramet.kernel.faults")      # where ramet's own are made; ``errors`` moves them to "ramet"
ATTRIBUTES = ("errno", "filename", "filename2", "strerror", "name", "stage", "seen", "command", "status", "cause",
              "remedy", "again")


def of_call(calls, message, raised=(), options=()):
    # type: (Any, Any, Any, Any) -> List[Any]
    """The exception with which a call ends, as chunks for its reply. A cast has none: the node's stderr tells of it.

    Args:
        raised: a list of it, which is emptied: what still holds it holds what the call was given. The current one, if empty.
        options: the call's. What follows it in a pipeline doesn't begin.
    """
    if "pipeline" in options:
        calls.failed[options["pipeline"]] = True
    error = raised.pop() if raised else sys.exc_info()[1]  # type: Any
    if not message.reply_to:
        sys.excepthook(type(error), error, sys.exc_info()[2] or _got(error, "__traceback__"))
    return pack(CallCancelled("cancelled while it ran") if isinstance(error, Interrupt) else error)


def pack(error):
    # type: (Any) -> List[Any]
    """Describe an exception, as chunks for a reply with the flag ERROR. Never raises, whatever the exception's methods do."""
    compat_late.cut_circle()
    try:
        return values.encode(describe(error))
    except BaseException:   # its class lies about itself: even so the node must live, and the caller hear of it
        return values.encode({
            "type": str(type.__dict__["__name__"].__get__(type(error))), "class": ["builtins", ""], "bases": [], "args": [],
            "text": "(it can't be described: %s)" % sys.exc_info()[0].__name__,  # type: ignore[union-attr]
            "attributes": {}, "frames": [], "own": ""})


def _got(error, name, default=None):
    # type: (Any, str, Any) -> Any
    """An attribute that may be a property with a mind of its own: one that exits, say."""
    try:
        return getattr(error, name, default)
    except BaseException:
        return default


def describe(error, depth=0):
    # type: (Any, int) -> Dict[str, Any]
    """The exception as a dict; keys are in docs/protocol.md."""
    cls = type(error)
    own = _own(cls)
    plain = own and own != "RemoteError" and _is_ours(cls)      # else it holds what an exception of that kind holds
    name = "%s.%s" % (cls.__module__, getattr(cls, "__qualname__", cls.__name__))
    found = {
        "type": "ramet." + cls.__name__ if own and cls.__module__ in OURS + ("ramet",) else name,
        "class": _class(cls),
        "bases": [base.__name__ for base in cls.__mro__ if base.__module__ == Exception.__module__],
        "text": _text(error),
        "args": [_plain(arg) for arg in _listed(_got(error, "args"))],
        "attributes": {},
        "frames": _frames(error),
        "own": own,
    }  # type: Dict[str, Any]
    for name in ATTRIBUTES:
        value = error.__dict__.get(name) if plain else _got(error, name)
        if value is not None:
            found["attributes"][name] = _plain(value)
    if cls.__module__ not in OURS + ("ramet", Exception.__module__):
        found["fields"] = dict([(key, _plain(value)) for key, value in _held(error)[:FIELDS_MAX]])
    notes = _listed(_got(error, "__notes__"))
    if notes:
        found["notes"] = [_text(note) for note in notes]
    if depth < CHAIN_MAX:
        for key in "cause", "context":
            linked = _got(error, "__%s__" % key)
            if issubclass(type(linked), BaseException) and not (key == "context" and _got(error, "__suppress_context__")):
                found[key] = describe(linked, depth + 1)
        group = _listed(_got(error, "exceptions"))
        if group and "BaseExceptionGroup" in found["bases"]:
            found["message"] = _text(_got(error, "message", ""))    # the text counts the members as well
            found["group"] = [describe(one, depth + 1) for one in group[:GROUP_MAX] if issubclass(type(one), BaseException)]
    return found


def _held(error):
    # type: (Any) -> List[Any]
    """What it holds, in the slots of its classes and its ``__dict__``: [(name, value) ...]. A nearer class may hide a slot."""
    found, hidden = {}, set()  # type: Dict[Any, Any], Any
    for base in type(error).__mro__:
        for name, slot in list(base.__dict__.items()) if "__slots__" in base.__dict__ else ():
            if type(slot) is MemberDescriptorType and name not in hidden:
                try:
                    found[name] = slot.__get__(error)
                except (AttributeError, TypeError):
                    pass    # nothing was put there; or it is another class's
        hidden.update(base.__dict__)
    own = _got(error, "__dict__")
    held = [item for item in list(own.items()) if item[0] not in found] if type(own) is dict else []
    return [item for item in list(found.items()) + held if isinstance(item[0], str) and item[0][:2] != "__"]


def _own(cls):
    # type: (type) -> str
    """The name of the nearest class of ramet's own that it is of, "" if of none. What a RemoteError is besides says more."""
    names = [base.__name__ for base in cls.__mro__ if _is_ours(base) and base is not Error]
    return (names[1:] if names[:1] == ["RemoteError"] and names[1:] else names + [""])[0]


def _is_ours(cls):
    # type: (type) -> bool
    """Whether it is one of ramet's own, and not made for what a node has said, as ``remote_errors`` does."""
    errors = sys.modules.get("ramet.kernel.errors")
    return cls.__module__ in OURS or cls.__module__ == "ramet" and getattr(errors, cls.__name__, None) is cls


def _listed(items):
    # type: (Any) -> Any
    """A real list or tuple, not what only looks like one; else nothing."""
    return items if type(items) in (list, tuple) else ()


def _class(cls):
    # type: (type) -> List[str]
    """How the controller knows a class: by module and name; by its number if it came by value."""
    instances = sys.modules.get("ramet.kernel.instances")  # type: Any
    try:
        if cls in instances.by_value:
            return [instances.BY_VALUE, instances.by_value[cls]]
    except Exception:
        pass    # the part isn't here, or the class has a metaclass with a mind of its own
    return ["__main__" if cls.__module__ == compat.MAIN else cls.__module__, getattr(cls, "__qualname__", cls.__name__)]


def _text(value):
    # type: (Any) -> Any
    try:
        text = compat.text().join((compat.text(value),))    # no subclass
    except BaseException:
        try:
            text = str(value)
        except BaseException:
            text = "(its text can't be made: %s)" % sys.exc_info()[0].__name__  # type: ignore[union-attr]
    return text


def _plain(value):
    # type: (Any) -> Any
    """The value itself, if whoever reads it can surely make it; else what becomes its text where that isn't so."""
    ctx = values.Context()
    try:
        packed = b"".join(map(bytes, values.encode(value, ctx)))
    except BaseException:
        return _text(value)
    if not ctx.rare or values.MARK + b"K" in packed:    # a channel can be read everywhere, and must be seen at a door
        return value
    from ramet.kernel import portable
    return portable.OrText(packed, _text(value)[:TEXT_MAX])


def _frames(error):
    # type: (Any) -> List[List[Any]]
    trace = _got(error, "__traceback__")
    if trace is None and error is sys.exc_info()[1]:
        trace = sys.exc_info()[2]
    found = []  # type: List[List[Any]]
    while trace is not None:
        code = trace.tb_frame.f_code
        module = trace.tb_frame.f_globals.get("__name__")
        kernel = type(module) is str and module[:13] == "ramet.kernel." or code.co_filename[:17] == "<frozen importlib"
        if found or not kernel:     # not the kernel's own, between the link and the function
            found.append([code.co_filename, trace.tb_lineno, code.co_name])
        trace = trace.tb_next
    return found[-FRAMES_MAX:]
