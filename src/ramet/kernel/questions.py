"""``Questions``: what a program asks while it connects, answered by its plan's dialogue, or by who must be asked for a secret.

Runs on the keeper and never waits; ``dialogue`` decides, this has the time and the secrets. It must not know what the program
is for. Late part of the kernel.
"""
from ramet.kernel import dialogue, hidden

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict

    from ramet.kernel.loop import Loop, Timer  # noqa: F401  (in type comments)

# How long whoever is asked for a secret may take: a person, a program that asks a server. And what they are told of the
# question.
answer_wait_s = 600.0
question_chars_max = 2000
# A question is one when nothing comes behind it for so long, or it has been there for the longer time: a line of a lecture may
# end like a question for as long as its own end hasn't come.
quiet_s = 0.03
heard_within_s = 0.3
# Of what was said by then, only so much of the end is looked at: rules see less of it, and it may be a flood.
heard_bytes_max = 65536


class Questions(object):
    """The questions of one program.

    Args:
        plan: its own, as ``settling.settled`` gives it. Its secrets become ``Hidden`` ones that are overwritten by ``close``.
        type_it: called with (bytearray) to answer; gives whether that could be done.
        fail: called with (rule) when it can't go on.
        too_late: called when the plan's time is over. The time that somebody is asked for a secret doesn't count.
        on_question: called with (name, attempt, text, answer) for a secret that the plan has as None, when it is asked for;
            it must return at once, and call ``answer(value, why)`` later, from any thread, with a bytearray, or with None and
            why ("": it was refused). None: nobody can be asked.
    """

    def __init__(self, loop, plan, type_it, fail, too_late, on_question):
        # type: (Loop, Dict[str, Any], Callable[[Any], bool], Callable[[Any], Any], Callable[[], Any], Any) -> None
        self.loop = loop
        self.secrets = plan["secrets"] = dict([(name, hidden.of(value)) for name, value in (plan.get("secrets") or {}).items()])
        self.dialogue = dialogue.Dialogue(plan.get("rules") or (), self.secrets)
        self.type_it = type_it
        self.fail = fail
        self.too_late = too_late
        self.on_question = on_question
        self.over = False       # nothing is answered any more
        self.unheard = {}  # type: Dict[str, bytes]     # what was said, and isn't over perhaps
        self.since = self.last = 0.0    # when the first and the last of that came
        self.deadline = loop.now() + plan["timeout_s"]
        self.timer = loop.call_later(plan["timeout_s"], too_late)  # type: Timer

    def heard(self, source, data):
        # type: (str, bytes) -> None
        """The program said something. It is looked at when it says no more for a moment."""
        if self.over:
            return
        self.last = self.loop.now()
        if not self.unheard:
            self.since = self.last
            self.loop.call_later(quiet_s, self._look)
        self.unheard[source] = (self.unheard.get(source, b"") + data)[-heard_bytes_max:]

    def _look(self):
        # type: () -> None
        now = self.loop.now()
        if self.unheard and now - self.last < quiet_s * 0.9 and now - self.since < heard_within_s:
            self.loop.call_later(quiet_s, self._look)
        else:
            self.hear_out()

    def hear_out(self):
        # type: () -> None
        """Look at what was said, now: nothing more will come."""
        unheard, self.unheard = self.unheard, {}
        for source in ("stderr", "output", "tty"):
            if source in unheard and not self.over:
                self._act(self.dialogue.feed(source, unheard[source]))

    def stop(self):
        # type: () -> None
        """Whatever is said from now on isn't a question."""
        self.over = True

    def close(self):
        # type: () -> None
        """It is over: no time is kept, and the secrets are overwritten."""
        self.over = True
        self.timer.cancel()
        for secret in self.secrets.values():
            secret.wipe()
        self.dialogue.close()

    def _act(self, decisions):
        # type: (Any) -> None
        for decision in decisions:
            if self.over:
                return
            if decision.do == "fail":
                self.fail(decision.rule)
            elif decision.do == "ask":
                self._ask(decision)
            else:
                typed = self.type_it(decision.data)
                hidden.wipe(decision.data)
                if not typed:
                    self.fail({"text": "its question could not be answered: the terminal is closed"})

    def _ask(self, decision):
        # type: (dialogue.Decision) -> None
        rule = decision.rule
        if self.on_question is None:
            self.fail(dict(rule, text="it asks for a secret that nobody can be asked for here"))
            return
        left_s = self.deadline - self.loop.now()
        self.timer.cancel()
        self.timer = self.loop.call_later(answer_wait_s, self.fail, dict(
            rule, text="nobody answered its question within %g s" % answer_wait_s,
            remedy="answer sooner, or give the secret beforehand"))
        text = dialogue.to_text(decision.text)[-question_chars_max:]
        self.on_question(rule["secret"], decision.attempt, text, lambda value, why="": self.loop.call_soon(
            self._answered, decision, left_s, value, why))

    def _answered(self, decision, left_s, value, why):
        # type: (dialogue.Decision, float, Any, str) -> None
        if self.over:
            return
        self.timer.cancel()
        self.timer = self.loop.call_later(left_s, self.too_late)
        self.deadline = self.loop.now() + left_s
        rule = decision.rule
        if value is None:
            self.fail(dict(rule, text=why, remedy="see where the secret should come from") if why else rule)
            return
        answer = hidden.Hidden(value)
        if not rule.get("open"):
            self.secrets["%s %d" % (rule["secret"], decision.attempt)] = answer
        self._act(self.dialogue.answer(answer))
