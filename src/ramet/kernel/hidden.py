"""``Hidden``: a text that never shows itself, such as a password. The kernel's; ``ramet.Secret`` is made of it.

Pure. Late part of the kernel; any thread. What Python lets us overwrite is overwritten when it isn't needed any more: the one
lasting copy is a bytearray. Short-lived copies, in a message that passes or in what is handed to the system, can't be.
"""
from ramet.kernel import compat

MYPY = False
if MYPY:
    from typing import Any, NoReturn, Optional

SHOWN = "********"


def to_bytes(value):
    # type: (Any) -> bytes
    """Text as the bytes it stands for; bytes as they are."""
    return value.encode("utf-8", "surrogateescape") if isinstance(value, compat.text) else bytes(value)


def wipe(data):
    # type: (bytearray) -> None
    """Overwrite a bytearray where it lies in memory."""
    data[:] = b"\0" * len(data)


class Hidden(object):
    """Bytes that no ``repr``, ``str``, format, log record, traceback or pickle shows. A copy is the same object.

    Args:
        value: text or bytes; a bytearray is taken over, not copied. None: it isn't known (yet).
    """

    __slots__ = ("_held", "__weakref__")

    def __init__(self, value=None):
        # type: (Any) -> None
        self._held = None  # type: Optional[bytearray]
        if value is not None:
            self._held = value if isinstance(value, bytearray) else bytearray(to_bytes(value))

    @property
    def known(self):
        # type: () -> bool
        """Whether the value is at hand."""
        return self._held is not None

    def copied(self):
        # type: () -> Optional[bytearray]
        """A copy of the value, to be overwritten by who takes it; None if it isn't known."""
        return None if self._held is None else bytearray(self._held)

    def text(self):
        # type: () -> Any
        """The value as text; "" if it isn't known."""
        return (self._held or bytearray()).decode("utf-8", "replace")

    def wipe(self):
        # type: () -> None
        """Overwrite the value: it isn't known any more."""
        held, self._held = self._held, None
        if held is not None:
            wipe(held)

    def __del__(self):
        # type: () -> None
        held = getattr(self, "_held", None)
        if held is not None:
            held[:] = b"\0" * len(held)

    def __repr__(self):
        # type: () -> str
        return "<%s %s>" % (type(self).__name__, SHOWN)

    def __format__(self, spec):
        # type: (str) -> str
        return repr(self)

    def __copy__(self):
        # type: () -> Hidden
        return self

    def __deepcopy__(self, memo):
        # type: (Any) -> Hidden
        return self

    def __reduce_ex__(self, protocol):
        # type: (Any) -> NoReturn
        raise TypeError("a secret isn't pickled or sent as a value: give it to what asks for it, or send what reveal() gives")


def of(value):
    # type: (Any) -> Hidden
    """What a plan has for a secret, as a new ``Hidden``: of text, bytes, another one, or None."""
    return Hidden(value.copied() if isinstance(value, Hidden) else value)
