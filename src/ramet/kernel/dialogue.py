"""Dialogues: what to do at each prompt that a program shows while it connects, as data.

Pure: bytes in, decisions out. It must not know of descriptors, time, or what a link is. ``grow`` plays it on the keeper.

A rule is a dict; unknown keys are left alone, so a newer controller can give more than an older node plays:

=========  ============================================================================================================
on         where the text is: "tty" (default), "stderr", "output" (before the first marker). Others are looked at in
           the end, see ``verdict``: "exit" when the program has ended, "else" when none of those fits, "late" when it
           took too long
match      a regular expression; it is searched in what came since the last match, without terminal escapes
do         "send" an answer, "fail", or "skip": take the text out of sight of the rules that follow
secret     what to send: the name of one of the secrets; nothing if it wasn't given. Only "send". One that isn't known yet
           is asked for when the rule matches: see "ask" in ``Decision``
open       the answer that is asked for is nothing to be hidden, such as "yes". Only with "secret"
send       what to send when it is no secret, such as "yes". Only "send"
max        how often this rule may send (1). The same question once more means that the answer was refused: that fails
error      the class to fail with, by its name in ``ramet.kernel.errors``
stage      where that is in connecting
text       the cause in words, with the rule's ``remedy``
again      true: it may pass by itself, so it is worth another try
status     only "exit": the exit status, or a list of them; any if it is missing
=========  ============================================================================================================

Rules are tried in their order, the first that matches wins. A secret is sent at most ``max`` times, never shown: not in
an error or a ``repr``; and only where the question that it answers is the last thing that was said.
"""
import re

from ramet.kernel import hidden
from ramet.kernel.hidden import SHOWN, Hidden, of

MYPY = False
if MYPY:
    from typing import Any, Dict, Iterable, List, Optional, Tuple, Union

    Rule = Dict[str, Any]

to_bytes = hidden.to_bytes

# What of a prompt is looked at: OpenSSH's longest, a changed host key with its frame, has 900 bytes.
prompt_bytes_max = 4096

# One more than any terminal's longest control sequence that is worth waiting for when a read ends in the middle of it.
escape_bytes_max = 256

# Control sequences of ECMA-48: CSI, strings (OSC, DCS, ...) with their end, and the short ones.
_ESCAPE = re.compile(b"\x1b(?:\\[[0-?]*[ -/]*[@-~]|[\\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\\\)|[ -/]+[0-~]|[0-OQ-WYZ\\\\a-~])")
_NOISE = re.compile(b"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]")


def to_text(data):
    # type: (bytes) -> str
    """Bytes for people to read: no escapes, no control characters, unix line ends. Never fails.

    Programs of Windows write UTF-16, two bytes a letter: where every other byte is zero it is that.
    """
    even, odd = data[::2].count(b"\0"), data[1::2].count(b"\0")
    if 4 * (even + odd) > len(data) and min(even, odd) * 8 < max(even, odd):
        data = data[even > odd:].decode("utf-16-le", "replace").encode("utf-8", "replace")
    data = _NOISE.sub(b"", _ESCAPE.sub(b"", data).replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
    return data.replace(b"\x1b", b"").decode("utf-8", "replace")  # type: ignore[no-any-return,unused-ignore]


def mask(text, secrets):
    # type: (str, Iterable[Any]) -> str
    """The text with every secret in it replaced. One or two letters aren't masked: that would show where they stand."""
    known = [of(secret).text() for secret in secrets]
    for secret in sorted(known, key=len, reverse=True):
        if len(secret) > 2:
            text = text.replace(secret, SHOWN)
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
        self.cut = self.cut or len(self.data) + len(data) > self.limit
        self.data = (self.data + data[-self.limit:])[-self.limit:]

    def text(self):
        # type: () -> str
        """What was kept, for people to read; only whole lines where the beginning is missing."""
        text = to_text(self.data)
        whole = text[text.find("\n") + 1:] if self.cut else text
        return whole if whole.strip() else text


class Decision(object):
    """What to do now.

    Attributes:
        do: "send": type the bytes in ``data``. "fail": for the reason in ``rule``. "ask": get the secret of that rule, and give
            it to ``Dialogue.answer``; nothing else is decided until then.
        text: only "ask": the question as it was seen.
        attempt: only "ask": how often this rule has asked for an answer, this one included.
    """

    __slots__ = ("attempt", "data", "do", "rule", "source", "text")

    def __init__(self, do, rule, data=b"", source="", attempt=0, text=b""):
        # type: (str, Rule, Any, str, int, bytes) -> None
        self.do = do
        self.rule = rule
        self.data = data
        self.source = source
        self.attempt = attempt
        self.text = text

    def __repr__(self):
        # type: () -> str
        return "<Decision %s>" % self.do


class Dialogue(object):
    """Plays the rules of one plan.

    Args:
        rules: as above. Those for the end are ignored here.
        secrets: name -> text or ``Hidden``; None for one that must be asked for.

    Raises:
        ValueError: a rule is broken: its text says which.
    """

    def __init__(self, rules, secrets=None):
        # type: (Iterable[Rule], Optional[Dict[str, Any]]) -> None
        self._secrets = dict([(name, of(value)) for name, value in (secrets or {}).items()])
        self._rules = []  # type: List[Tuple[str, Any, Rule]]
        self._sent = {}  # type: Dict[int, int]
        self._asked = None  # type: Optional[Decision]
        self._typed = []  # type: List[Hidden]
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
        return self._decided([source]) if self._asked is None else []

    def answer(self, value):
        # type: (Hidden) -> List[Decision]
        """Take what was asked for; give what to do, in order, as ``feed`` does.

        It isn't sent where something else was said behind the question: what reads it then may be another.
        """
        asked, self._asked = self._asked, None
        if asked is None:
            return []
        sent = []  # type: List[Decision]
        if not self._seen[asked.source].strip():
            sent.append(self._answered(asked.rule, asked.attempt, value))
        return sent + self._decided(sorted(self._seen))

    def close(self):
        # type: () -> None
        """It is over: forget the secrets."""
        for secret in list(self._secrets.values()) + self._typed:
            secret.wipe()

    def _decided(self, sources):
        # type: (List[str]) -> List[Decision]
        decisions = []  # type: List[Decision]
        for source in sources:
            found = self._match(source)
            while found is not None:
                if found.do != "skip":
                    decisions.append(found)
                if found.do in ("fail", "ask"):
                    return decisions
                found = self._match(source)
        return decisions

    def _match(self, source):
        # type: (str) -> Optional[Decision]
        text = self._seen[source]
        for where, pattern, rule in self._rules:
            match = pattern.search(text) if where == source else None
            if match and match.end():   # one that matches nothing at all would match for ever
                self._seen[source] = text[match.end():]
                return self._decide(rule, source, text[:match.end()])
        return None

    def _decide(self, rule, source, text):
        # type: (Rule, str, bytes) -> Decision
        do = rule.get("do", "fail")
        if do != "send":
            return Decision(do, rule)
        attempt = self._sent.get(id(rule), 0) + 1
        if attempt > rule.get("max", 1):
            return Decision("fail", rule)
        secret = self._secrets.get(rule["secret"], Hidden("")) if "secret" in rule else Hidden(rule.get("send", ""))
        if secret.known:
            return self._answered(rule, attempt, secret)
        self._asked = Decision("ask", rule, b"", source, attempt, text)
        return self._asked

    def _answered(self, rule, attempt, secret):
        # type: (Rule, int, Hidden) -> Decision
        self._sent[id(rule)] = attempt
        typed = secret.copied() or bytearray()
        if len(typed) > 2:
            self._typed.append(of(secret))
        return Decision("send", rule, typed + b"\n")

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
            data = data.replace(bytes(answer.copied() or b""), b"") if answer.known else data
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
