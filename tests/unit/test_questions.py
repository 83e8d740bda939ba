"""The questions of a program that connects, by an injected clock: who thinks doesn't use up the connection's time; nothing
waits for ever; secrets are gone at the end."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ramet.kernel import raw
from ramet.kernel.questions import Questions, answer_wait_s, heard_bytes_max, heard_within_s, quiet_s

RULE: dict[str, Any] = {"match": "Password: \\Z", "do": "send", "secret": "pw", "text": "refused"}


class Clock:
    """A loop without threads: time moves when it is told to."""

    def __init__(self) -> None:
        self.time = 100.0
        self.timers: list[Any] = []

    def now(self) -> float:
        return self.time

    def call_soon(self, fn: Callable[..., Any], *args: Any) -> None:
        fn(*args)

    def call_later(self, seconds: float, fn: Callable[..., Any], *args: Any) -> Any:
        class Timer:
            def cancel(timer) -> None:
                self.timers = [one for one in self.timers if one[1] is not timer]
        timer = Timer()
        self.timers.append((self.time + seconds, timer, fn, args))
        return timer

    def passes(self, seconds: float) -> None:
        self.time += seconds
        for due, timer, fn, args in list(self.timers):
            if due <= self.time:
                timer.cancel()
                fn(*args)


class Program:
    """One program with its questions."""

    def __init__(self, secrets: dict[str, Any], asked: bool = True) -> None:
        self.clock = Clock()
        self.typed: list[bytes] = []
        self.failed: list[Any] = []
        self.asked: list[Any] = []
        plan: dict[str, Any] = {"rules": [dict(RULE, max=2)], "secrets": secrets, "timeout_s": 10.0}
        self.questions = Questions(self.clock, plan, self._type, self.failed.append, lambda: self.failed.append("too late"),
                                   (lambda *question: self.asked.append(question)) if asked else None)

    def _type(self, data: bytearray) -> bool:
        self.typed.append(bytes(data))
        return True

    def hears(self, data: bytes) -> None:
        self.questions.heard("tty", data)
        self.clock.passes(quiet_s)


def test_the_time_that_somebody_thinks_is_not_the_connections() -> None:
    program = Program({"pw": None})
    program.clock.passes(6)
    program.hears(b"Password: ")
    program.clock.passes(300)
    assert program.failed == []
    program.asked[0][3](bytearray(b"x"), "")
    assert program.typed == [b"x\n"]
    program.clock.passes(3.9)
    assert program.failed == []
    program.clock.passes(0.2)
    assert program.failed == ["too late"]


def test_nobody_waits_for_ever() -> None:
    program = Program({"pw": None})
    program.hears(b"Password: ")
    program.clock.passes(answer_wait_s)
    assert "nobody answered" in program.failed[0]["text"]


def test_no_answer_fails_with_the_reason() -> None:
    for why, text in (("no terminal", "no terminal"), ("", "refused")):
        program = Program({"pw": None})
        program.hears(b"Password: ")
        program.asked[0][3](None, why)
        assert program.failed[0]["text"] == text and program.typed == []
    program = Program({"pw": None}, asked=False)
    program.hears(b"Password: ")
    assert "nobody can be asked" in program.failed[0]["text"]


def test_a_second_answer_is_asked_for_with_its_number() -> None:
    program = Program({"pw": None})
    for text in (b"a", b"b"):
        program.hears(b"Password: ")
        program.asked[-1][3](bytearray(text), "")
    assert program.typed == [b"a\n", b"b\n"] and [asked[:2] for asked in program.asked] == [("pw", 1), ("pw", 2)]
    program.hears(b"Password: ")
    assert program.failed[0]["text"] == "refused" and len(program.asked) == 2


def test_what_comes_too_late_is_not_typed_and_secrets_are_gone() -> None:
    program = Program({"pw": None, "other": "hunter2"})
    program.hears(b"Password: ")
    program.questions.close()
    program.asked[0][3](bytearray(b"x"), "")
    program.hears(b"Password: ")
    assert program.typed == [] and program.clock.timers == []
    assert not any(secret.known for secret in program.questions.secrets.values())


def test_of_a_flood_only_the_end_is_looked_at() -> None:
    program = Program({"pw": "right"})
    feed, sizes = program.questions.dialogue.feed, []

    def fed(source: str, data: bytes) -> Any:
        sizes.append(len(data))
        return feed(source, data)
    program.questions.dialogue.feed = fed   # type: ignore[method-assign]
    for _ in range(100):
        program.questions.heard("stderr", b"\1a" * 32768)
    program.questions.heard("tty", b"x" * 100_000)
    program.hears(b"\nPassword: ")
    assert program.typed == [b"right\n"] and max(sizes) <= heard_bytes_max


def test_a_line_that_ends_like_a_question_is_none_when_it_goes_on() -> None:
    program = Program({"pw": "right"})
    program.questions.heard("tty", b"We trust you know your Password: ")
    program.clock.passes(quiet_s / 2)
    assert not program.typed
    program.questions.heard("tty", b" three things\nPassword: ")
    program.clock.passes(quiet_s / 2)
    assert not program.typed
    program.clock.passes(quiet_s)
    assert program.typed == [b"right\n"]


def test_who_never_pauses_is_listened_to_nevertheless() -> None:
    program = Program({"pw": "right"})
    for _ in range(int(heard_within_s / quiet_s * 4)):
        program.questions.heard("tty", b"dots\n")
        program.clock.passes(quiet_s / 2)
        if program.typed:
            break
        program.questions.heard("tty", b"Password: ")
        program.clock.passes(quiet_s / 2)
    assert program.typed


def test_what_was_said_last_is_heard_before_the_end_is_judged() -> None:
    program = Program({"pw": "right"})
    program.questions.heard("tty", b"Password: ")
    program.questions.hear_out()
    assert program.typed == [b"right\n"]
    program.clock.passes(quiet_s)
    assert program.typed == [b"right\n"]


def test_a_command_may_run_for_longer_than_the_system_waits_at_once() -> None:
    clock, over = Clock(), []
    run = raw.RawRun(clock, {}, b"", 2.5 * 86400, 0, over.append, None)     # type: ignore[arg-type]
    run._took_too_long = lambda: over.append(clock.time)    # type: ignore[method-assign]
    run._wait(run.timeout_s or 0)
    for _ in range(5):
        (due, *_), = clock.timers
        assert due - clock.time <= 86400
        assert not over
        clock.passes(43200)
    assert len(over) == 1 and not clock.timers
