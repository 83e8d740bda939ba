"""Text of Python 2.7 that isn't UTF-8: every byte that isn't travels as a lone surrogate U+DC80..U+DCFF, and comes back.

What Python 3 calls surrogateescape. Late part, used by ``compat`` on 2.7 only; 2.7's own codec is no help, as it reads
surrogates where it should complain. Pure; any thread.
"""
import codecs

MYPY = False
if MYPY:
    from typing import Any


def escape(error):
    # type: (Any) -> Any
    """The codec's error handler: three bytes for each that isn't UTF-8."""
    wrong = error.object[error.start:error.end]
    found = "".join("\xed" + chr(ord(byte) >> 6 | 0xb0) + chr(ord(byte) & 63 | 128) for byte in wrong)  # type: Any
    return found.decode("utf-8"), error.end


codecs.register_error("ramet.escape", escape)


def utf8(data):
    # type: (Any) -> Any
    """A ``str`` of any bytes as UTF-8."""
    parts = data.split("\xed")      # what starts with that byte and goes on with A0 or more is a surrogate
    found = [parts[0]]
    for part in parts[1:]:
        found += ["\xed\xb3\xad", part] if part[:1] >= "\xa0" else ["\xed" + part]
    return "".join(part if part == "\xed\xb3\xad" else part.decode("utf-8", "ramet.escape").encode("utf-8") for part in found)


def native(data):
    # type: (Any) -> Any
    """The ``str`` of which ``utf8`` made this; None if it holds no byte in disguise."""
    parts = data.split("\xed")
    if not any(part[:1] in ("\xb2", "\xb3") for part in parts[1:]):
        return None
    for n, part in enumerate(parts[1:], 1):
        disguised = part[:1] in ("\xb2", "\xb3")
        parts[n] = chr((ord(part[0]) & 3) << 6 | ord(part[1]) & 63) + part[2:] if disguised else "\xed" + part
    return "".join(parts)
