"""Dialogues: what to do at each prompt that a program shows while it connects, as data.

Pure: bytes in, decisions out. It must not know of descriptors, time, or what a link is. ``grow`` plays it on the keeper.

A rule is a dict; unknown keys are left alone, so a newer controller can give more than an older node plays:

=========  ============================================================================================================
on         where the text is: "tty" (default), "stderr", "output" (before the first marker). Others are looked at in
           the end, see ``verdict``: "exit" when the program has ended, "else" when none of those fits, "late" when it
           took too long
match      a regular expression; it is searched in what came since the last match, without terminal escapes
do         "send" an answer, "fail", or "skip": take the text out of sight of the rules that follow
secret     what to send: the name of one of the secrets. Only "send"
send       what to send when it is no secret, such as "yes". Only "send"
max        how often this rule may send (1). The same question once more means that the answer was refused: that fails
error      the class to fail with, by its name in ``ramet.kernel.errors``
stage      where that is in connecting
text       the cause in words, with the rule's ``remedy``
again      true: it may pass by itself, so it is worth another try
status     only "exit": the exit status, or a list of them; any if it is missing
=========  ============================================================================================================

Rules are tried in their order, the first that matches wins. A secret is sent at most ``max`` times, never shown: not in
a decision, an error or a ``repr``.
"""
import re

from ramet.kernel import compat

MYPY = False
if MYPY:
    from typing import Any, Dict, Iterable, List, Optional, Tuple, Union

    Rule = Dict[str, Any]

# What of a prompt is looked at: OpenSSH's longest, a changed host key with its frame, has 900 bytes.
prompt_bytes_max = 4096

# One more than any terminal's longest control sequence that is worth waiting for when a read ends in the middle of it.
escape_bytes_max = 256

# Control sequences of ECMA-48: CSI, strings (OSC, DCS, ...) with their end, and the short ones.
_ESCAPE = re.compile(b"\x1b(?:\\[[0-?]*[ -/]*[@-~]|[\\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\\\)|[ -/]+[0-~]|[0-OQ-WYZ\\\\a-~])")
_NOISE = re.compile(b"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]")


def to_bytes(value):
    # type: (Any) -> bytes
    """Text as the bytes it stands for; bytes as they are."""
    return value.encode("utf-8", "surrogateescape") if isinstance(value, compat.text) else bytes(value)


def to_text(data):
    # type: (bytes) -> str
    """Bytes for people to read: no escapes, no control characters, unix line ends. Never fails."""
    data = _NOISE.sub(b"", _ESCAPE.sub(b"", data).replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
    return data.replace(b"\x1b", b"").decode("utf-8", "replace")  # type: ignore[no-any-return,unused-ignore]


def mask(text, secrets):
    # type: (str, Iterable[str]) -> str
    """The text with every secret in it replaced. One or two letters aren't masked: that would show where they stand."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) > 2:
            text = text.replace(secret, "********")
    return text


class Tail(object):
    """The last bytes of what somebody said.

    Args:
        limit: how many bytes to keep.
    """

    def __init__(self, limit):
        # type: (int) -> None
        self.limit = limit
        self.data = b""
        self.cut = False

    def add(self, data):
        # type: (bytes) -> None
        """Take more; what is too old is dropped."""
        data = self.data + data[-self.limit:]
        self.cut = self.cut or len(data) > self.limit
        self.data = data[-self.limit:]

    def text(self):
        # type: () -> str
        """What was kept, for people to read; only whole lines where the beginning is missing."""
        text = to_text(self.data)
        whole = text[text.find("\n") + 1:] if self.cut else text
        return whole if whole.strip() else text


class Decision(object):
    """What to do now: ``do`` is "send" with the bytes in ``data``, or "fail" for the reason in ``rule``."""

    __slots__ = ("data", "do", "rule")

    def __init__(self, do, rule, data=b""):
        # type: (str, Rule, bytes) -> None
        self.do = do
        self.rule = rule
        self.data = data

    def __repr__(self):
        # type: () -> str
        return "<Decision %s>" % self.do


class Dialogue(object):
    """Plays the rules of one plan.

    Args:
        rules: as above. Those for the end are ignored here.
        secrets: name -> text.

    Raises:
        ValueError: a rule is broken: its text says which.
    """

    def __init__(self, rules, secrets=None):
        # type: (Iterable[Rule], Optional[Dict[str, str]]) -> None
        self._secrets = dict(secrets or {})
        self._rules = []  # type: List[Tuple[str, Any, Rule]]
        self._sent = {}  # type: Dict[int, int]
        self._typed = []  # type: List[bytes]
        self._held = {}  # type: Dict[str, bytes]
        self._seen = {}  # type: Dict[str, bytes]
        for rule in rules:
            if rule.get("on", "tty") not in ("exit", "else", "late"):
                self._rules.append((rule.get("on", "tty"), compiled(rule), rule))

    def __repr__(self):
        # type: () -> str
        return "<Dialogue of %d rules>" % len(self._rules)

    def feed(self, source, data):
        # type: (str, bytes) -> List[Decision]
        """Take what the program said; give what to do, in order. Ends with the first "fail". Never raises.

        Args:
            source: "tty", "stderr" or "output".
        """
        self._seen[source] = (self._seen.get(source, b"") + self._cleaned(source, data))[-prompt_bytes_max:]
        decisions = []  # type: List[Decision]
        found = self._match(source)
        while found is not None:
            if found.do != "skip":
                decisions.append(found)
            found = self._match(source) if found.do != "fail" else None
        return decisions

    def _match(self, source):
        # type: (str) -> Optional[Decision]
        text = self._seen[source]
        for number, (where, pattern, rule) in enumerate(self._rules):
            match = pattern.search(text) if where == source else None
            if match and match.end():   # one that matches nothing at all would match for ever
                self._seen[source] = text[match.end():]
                return self._decide(number, rule)
        return None

    def _decide(self, number, rule):
        # type: (int, Rule) -> Decision
        do = rule.get("do", "fail")
        if do != "send":
            return Decision(do, rule)
        self._sent[number] = self._sent.get(number, 0) + 1
        if self._sent[number] > rule.get("max", 1):
            return Decision("fail", rule)
        answer = to_bytes(self._secrets.get(rule["secret"], "") if "secret" in rule else rule.get("send", ""))
        if len(answer) > 2:
            self._typed.append(answer)
        return Decision("send", rule, answer + b"\n")

    def _cleaned(self, source, data):
        # type: (str, bytes) -> bytes
        """Without escapes, control characters, and the echo of what was typed."""
        data = _ESCAPE.sub(b"", self._held.pop(source, b"") + data)
        at = data.rfind(b"\x1b")
        if 0 <= at and len(data) - at < escape_bytes_max:   # a sequence that isn't complete yet
            self._held[source] = data[at:]
            data = data[:at]
        data = _NOISE.sub(b"", data.replace(b"\x1b", b"").replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
        for answer in self._typed:
            data = data.replace(answer, b"")
        return data


def compiled(rule):
    # type: (Rule) -> Any
    """The pattern of a rule, for bytes.

    Raises:
        ValueError: it isn't a regular expression, or there is none.
    """
    try:
        return re.compile(to_bytes(rule["match"]))
    except Exception as error:
        raise ValueError("a dialogue rule has no usable pattern (%r): %s" % (rule.get("match"), error))


def verdict(rules, status, text, on="exit"):
    # type: (Iterable[Rule], Optional[int], str, str) -> Optional[Rule]
    """The first rule for how it ended, or None.

    Args:
        status: the program's exit status; None if that isn't known, negative for a signal.
        text: what it said.
        on: "exit", "else" or "late".
    """
    for rule in rules:
        if rule.get("on") != on:
            continue
        wanted = rule.get("status")  # type: Union[None, int, List[int]]
        fits = wanted is None or status == wanted or isinstance(wanted, (list, tuple)) and status in wanted
        if fits and ("match" not in rule or compiled(rule).search(to_bytes(text))):
            return rule
    return None
