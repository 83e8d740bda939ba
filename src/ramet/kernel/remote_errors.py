"""A failure's description becomes an exception again: a ``RemoteError`` that is also of its own type, as far as that is known.

Late part of the kernel, and the controller's. Nothing in a description can run code: only exception classes that are builtin or
ramet's, or that the controller knows and itself sent to nodes, are mixed in, without their ``__init__`` and ``__new__``; only
subclasses of ``Exception``, and never StopIteration, which would end somebody's loop. Any thread.
"""
import sys
from types import MemberDescriptorType

from ramet.kernel import compat, errors, limits
from ramet.kernel.errors import Error, ProtocolError, RemoteError

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Optional

BUILTINS = sys.modules[Exception.__module__]
NEVER = ("StopIteration", "StopAsyncIteration", "Exception", "BaseException", "Warning")
CLASSES = {}  # type: Dict[str, type]
DEPTH_MAX = 12
FRAMES_MAX = 100    # of a traceback: ``failures`` sends no more
STAGE_IT = ("It is a package's file, opened by its path; but what was sent is in memory only. importlib.resources and "
            "pkgutil.get_data find it; or tree.modules.stage(NAME) has all of the package written to a private folder there")

# What an error of ramet's own says of itself.
_OWN = ("stage", "seen", "name", "command", "status", "cause", "remedy", "again")


def _text_of(self):
    # type: (Any) -> str
    # The class may have something else of that name.
    return self.__dict__["description"]["text"]  # type: ignore[no-any-return]


def _reduce(self):
    # type: (Any) -> Any
    return unpack, (self.__dict__["description"], self.node_name)


def class_for(bases, own=None):
    # type: (List[Any], Any) -> Any
    """The RemoteError class for builtin base names, the nearest first; the same class for the same type each time.

    Args:
        own: a class of the program's own, or of ramet's, which comes before those.
    """
    if own is not None:     # not kept in CLASSES, where it would never go: a cell of a notebook makes a new one each time
        made = [known for known in type.__subclasses__(own) if known.__bases__ == (RemoteError, own)]
        return made[0] if made else _class_of(own) or class_for(bases)
    base, key = None, ""  # type: Any, Any
    for name in bases:
        found = getattr(BUILTINS, name, None) if isinstance(name, (str, compat.text)) else None
        if isinstance(found, type) and issubclass(found, Exception) and name not in NEVER:
            base, key = found, name
            break
    if key not in CLASSES:
        CLASSES[key] = _class_of(base) or class_for([])
    return CLASSES[key]


def _class_of(base):
    # type: (Any) -> Any
    parents = (RemoteError,) if base is None else (RemoteError, base)
    try:
        return type("RemoteError", parents, {"__module__": "ramet", "__str__": _text_of, "__reduce__": _reduce})
    except TypeError:       # an exception group or another layout that can't be combined
        return None


def _own_class(description, find_class):
    # type: (Any, Any) -> Any
    """The program's own class of an exception, or None: what was raised is of none that may be mixed in."""
    module, name = description.get("class", ("builtins", ""))
    if not find_class or module in ("builtins", "exceptions"):
        return None
    try:
        cls = find_class(module, name)
    except Exception:
        return None
    plain = type(cls) is type and issubclass(cls, Exception) and not issubclass(cls, (RemoteError, StopIteration))
    plain = plain and cls is not getattr(errors, cls.__name__, None)
    # No code of the class runs when another is made of it.
    hooked = any("__init_subclass__" in base.__dict__ for base in cls.__mro__[:-1]) if plain else True
    return None if hooked or issubclass(cls, getattr(BUILTINS, "StopAsyncIteration", StopIteration)) else cls


def _ours(name):
    # type: (Any) -> Any
    """The class of ramet's own of that name, or None."""
    found = getattr(errors, name, None) if isinstance(name, (str, compat.text)) else None
    return found if isinstance(found, type) and issubclass(found, Error) and found is not Error else None


def _say_of_itself(error, attributes):
    # type: (Any, Dict[str, Any]) -> None
    """Set what an error of ramet's own says of itself, as far as it is what it should be."""
    for key, value in attributes.items():
        kind = (bool, int, type(None)) if key in ("status", "again") else (str, compat.text)
        if key in _OWN and isinstance(value, kind):
            setattr(error, key, value[:limits.reason_chars_max] if isinstance(value, (str, compat.text)) else value)


def _made(cls, text, group):
    # type: (Any, Any, Any) -> Any
    """An exception without its classes' own ``__new__``: by that of the nearest builtin one."""
    base = [one for one in cls.__mro__ if one.__module__ == Exception.__module__][0]
    try:
        return base.__new__(cls)
    except TypeError:   # an exception group wants what is in it; MemoryError's own __new__ doesn't take our class
        return base.__new__(cls, text, group) if group else Exception.__new__(cls)


def _put(error, name, value):
    # type: (Any, str, Any) -> None
    """Set an attribute past the class: a property of the program's own isn't run for what came from below."""
    for base in type(error).__mro__:
        slot = base.__dict__.get(name)
        if base.__module__ == Exception.__module__ and hasattr(slot, "__set__"):
            try:
                slot.__set__(error, value)  # type: ignore[union-attr]
            except (AttributeError, TypeError):
                pass        # read-only on this class
            return
    error.__dict__[name] = value


def _hold(error, name, value):
    # type: (Any, Any, Any) -> None
    """Set what an exception of the program's own held, in a slot if its class has one of that name. None of its code runs."""
    base = next((one for one in type(error).__mro__ if name in one.__dict__), object)
    slot = base.__dict__.get(name)
    if type(slot) is MemberDescriptorType and "__slots__" in base.__dict__:
        try:
            slot.__set__(error, value)
        except (AttributeError, TypeError):
            pass        # it is another class's
    else:
        error.__dict__[name] = value


def unpack(description, node_name, source_line=None, find_class=None, depth=0):
    # type: (Any, str, Optional[Callable[[str, int], str]], Optional[Callable[[str, str], Any]], int) -> Error
    """Make the exception.

    Args:
        description: from ``failures.describe``, over the wire: not to be trusted.
        node_name: where it was raised.
        source_line: gives the text of a line of a file, for the traceback; "" if it can't.
        find_class: gives the program's own class by module and qualified name, if it was sent to nodes; raises otherwise.

    Returns:
        A RemoteError; or, without that, the error of ramet itself that the kernel over there raised.
    """
    try:
        return _unpack(description, node_name, source_line, find_class, depth)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError):
        return ProtocolError("node %s sent a failure that can't be read: %.200r" % (node_name, description))


def _unpack(description, node_name, source_line, find_class, depth):
    # type: (Any, str, Any, Any, int) -> Error
    text, type_name = description["text"] + "", description["type"]     # it is text, or the description is refused
    ours = _ours(description["own"])
    # A RemoteError may be of another type besides, also where only the kernel has met it: what a program's input fails with.
    if ours not in (None, RemoteError) and not description.get("frames") and type_name == "ramet." + ours.__name__:
        error = ours(text)  # type: Any
        _say_of_itself(error, description.get("attributes", {}))
        return error  # type: ignore[no-any-return]
    theirs = _own_class(description, find_class)
    own_class = theirs or (None if ours is RemoteError else ours)
    bases, errno = description["bases"], description["attributes"].get("errno")
    if EnvironmentError is OSError and isinstance(errno, int) and any(one in ("OSError", "IOError") for one in bases[:2]):
        bases = [type(OSError(errno, "")).__name__] + bases     # 2.7 doesn't tell them apart: a FileNotFoundError, say
    cls = class_for(bases, own_class)
    inner = description.get("group", ()) if depth < DEPTH_MAX else ()
    group = tuple([unpack(one, node_name, source_line, find_class, depth + 1) for one in inner])
    error = _made(cls, description.get("message", text) + "", group)
    Error.__init__(error)
    _put(error, "args", tuple(description["args"]))
    fields = error.__dict__
    for key, value in description["fields"].items() if theirs and issubclass(cls, theirs) else ():
        if key[:2] != "__":
            _hold(error, key, value)
    fields.update(type_name=type_name, node_name=node_name, description=description)
    fields["traceback_text"] = traceback_text(description, source_line)
    if isinstance(error, SyntaxError):
        error.msg = text    # tracebacks show this instead of str(error)
    if ours and issubclass(cls, ours):
        _say_of_itself(error, description["attributes"])
    for key, value in description["attributes"].items():
        if key in ("errno", "filename", "filename2", "strerror", "name"):
            _put(error, key, value)
    for key in "cause", "context":
        if key in description and depth < DEPTH_MAX:
            linked = unpack(description[key], node_name, source_line, find_class, depth + 1)
            _put(error, "__%s__" % key, linked)
    notes = list(description.get("notes", ()))
    missing = description["attributes"].get("filename")
    if isinstance(missing, (str, compat.text)) and missing[:6] == "ramet:" and isinstance(error, EnvironmentError):
        notes.append(STAGE_IT)
    if depth == 0:
        notes.append("In node %s, %s" % (node_name, fields["traceback_text"]))
    if notes:
        fields["__notes__"] = notes
    if group:
        fields["exceptions"] = group
    return error  # type: ignore[no-any-return]


def traceback_text(description, source_line=None):
    # type: (Any, Optional[Callable[[str, int], str]]) -> str
    """The remote traceback in Python's own layout."""
    lines = ["Traceback (most recent call last):"]
    for file, line, function in description["frames"][-FRAMES_MAX:]:
        lines.append('  File "%s", line %d, in %s' % (file, line, function))
        source = source_line(file, line).strip() if source_line else ""
        if source:
            lines.append("    " + source)
    name = description["type"]
    for prefix in "builtins.", "exceptions.", "__main__.", compat.MAIN + ".":
        if name.startswith(prefix):
            name = name[len(prefix):]
    text = description["text"]
    lines.append("%s: %s" % (name, text) if text else name)
    return "\n".join(lines)
