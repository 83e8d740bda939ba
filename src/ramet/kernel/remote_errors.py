"""A failure's description becomes an exception again: a ``RemoteError`` that is also of its own builtin type.

Late part of the kernel, and the controller's. Nothing in a description can run code: only builtin exception classes are
mixed in, only subclasses of ``Exception``, and never StopIteration, which would end somebody's loop. Any thread.
"""
import sys

from ramet.kernel import compat, errors
from ramet.kernel.errors import Error, ProtocolError, RemoteError

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Optional

BUILTINS = sys.modules[Exception.__module__]
NEVER = ("StopIteration", "StopAsyncIteration", "Exception", "BaseException", "Warning")
CLASSES = {}  # type: Dict[str, type]
DEPTH_MAX = 12


def _text_of(self):
    # type: (Any) -> str
    return self.description["text"]  # type: ignore[no-any-return]


def _reduce(self):
    # type: (Any) -> Any
    return unpack, (self.description, self.node_name)


def class_for(bases):
    # type: (List[Any]) -> Any
    """The RemoteError class for builtin base names, the nearest first; the same class for the same type each time."""
    for name in bases:
        base = getattr(BUILTINS, name, None) if isinstance(name, compat.text) or isinstance(name, str) else None
        if isinstance(base, type) and issubclass(base, Exception) and name not in NEVER:
            break
    else:
        base, name = None, ""
    if name not in CLASSES:
        parents = (RemoteError,) if base is None else (RemoteError, base)
        try:
            CLASSES[name] = type("RemoteError", parents, {
                "__module__": "ramet", "__str__": _text_of, "__reduce__": _reduce})
        except TypeError:       # an exception group or another layout that can't be combined
            CLASSES[name] = class_for([])
    return CLASSES[name]


def unpack(description, node_name, source_line=None, depth=0):
    # type: (Any, str, Optional[Callable[[str, int], str]], int) -> Error
    """Make the exception.

    Args:
        description: from ``failures.describe``, over the wire: not to be trusted.
        node_name: where it was raised.
        source_line: gives the text of a line of a file, for the traceback; "" if it can't.

    Returns:
        A RemoteError, or the error of ramet itself that the kernel over there raised.
    """
    try:
        return _unpack(description, node_name, source_line, depth)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return ProtocolError("node %s sent a failure that can't be read: %.200r" % (node_name, description))


def _unpack(description, node_name, source_line, depth):
    # type: (Any, str, Any, int) -> Error
    text, type_name = description["text"] + "", description["type"]     # it is text, or the description is refused
    if description["own"] and not description.get("frames"):
        own = getattr(errors, type_name.partition(".")[2], None)
        if isinstance(own, type) and issubclass(own, Error):
            error = own(text)  # type: Any
            for key, value in description.get("attributes", {}).items():
                if key in ("stage", "seen", "name"):
                    setattr(error, key, value)
            return error  # type: ignore[no-any-return]
    cls = class_for(description["bases"])
    inner = description.get("group", ()) if depth < DEPTH_MAX else ()
    group = tuple([unpack(one, node_name, source_line, depth + 1) for one in inner])
    try:
        error = cls.__new__(cls)
    except TypeError:   # an exception group wants what is in it; MemoryError's own __new__ doesn't take our class
        error = cls.__new__(cls, text, group) if group else Exception.__new__(cls)
    Error.__init__(error)
    error.args = tuple(description["args"])
    fields = error.__dict__
    fields.update(type_name=type_name, node_name=node_name, description=description)
    fields["traceback_text"] = traceback_text(description, source_line)
    if isinstance(error, SyntaxError):
        error.msg = text    # tracebacks show this instead of str(error)
    for key, value in description["attributes"].items():
        if key in ("errno", "filename", "filename2", "strerror", "name"):
            try:
                setattr(error, key, value)
            except (AttributeError, TypeError):
                pass        # read-only on this class
    for key in "cause", "context":
        if key in description and depth < DEPTH_MAX:
            linked = unpack(description[key], node_name, source_line, depth + 1)
            setattr(error, "__%s__" % key, linked)
    notes = list(description.get("notes", ()))
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
    for file, line, function in description["frames"]:
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
