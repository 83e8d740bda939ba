"""Secrets: never shown, got where they are and when they are needed, one question for a declared group."""
from __future__ import annotations

import asyncio
import copy
import json
import logging
import os
import pickle
import pty
import subprocess
import sys
import termios
import threading
import traceback
import types
from typing import Any

import pytest

from ramet import terminal
from ramet.asking import THREADS_MAX, Desk
from ramet.connectors import ssh, sudo
from ramet.kernel.dialogue import Dialogue, mask
from ramet.kernel.hidden import Hidden
from ramet.secret_groups import Group, Question
from ramet.secrets import Secret, checked, secret
from support import eventually
from support.eventually import HANGS_S

TEXT = "tr0ub4dor&3"


# ---------------------------------------------------------------------- never shown


def test_no_way_of_looking_shows_it(caplog: pytest.LogCaptureFixture) -> None:
    one = Secret(TEXT)
    with caplog.at_level(logging.DEBUG):
        logging.warning("%s %r %s", one, one, {"password": one})
    try:
        raise KeyError(one)
    except KeyError as error:
        trace = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    shown = [repr(one), str(one), f"{one}", f"{one!r:>40}", "%s" % one, f"{[one]}", caplog.text, trace]
    shown += [repr(ssh.plan("h", password=one)), repr(Dialogue([], {"pw": one}))]
    assert [text for text in shown if "tr0ub4dor" in text] == []
    assert "tr0ub4dor" not in repr(sudo.plan(password=TEXT))
    assert one.reveal() == TEXT


@pytest.mark.parametrize("serialize", [pickle.dumps, json.dumps])
def test_it_does_not_travel_by_itself(serialize: Any) -> None:
    with pytest.raises(TypeError) as caught:
        serialize(Secret(TEXT))
    assert "tr0ub4dor" not in str(caught.value)


def test_a_copy_is_the_same() -> None:
    one = Secret(TEXT)
    assert copy.copy(one) is one and copy.deepcopy({"a": one})["a"] is one


def test_wiped_means_overwritten() -> None:
    held = bytearray(TEXT.encode())
    one = Hidden(held)
    one.wipe()
    assert held == bytes(len(TEXT)) and not one.known
    other = bytearray(TEXT.encode())
    Hidden(other).__del__()
    assert other == bytes(len(TEXT))


@pytest.mark.parametrize(("wrong", "kind"), [(7, TypeError), (b"x", TypeError), ("a\nb", ValueError), ("a\x03", ValueError)])
def test_what_is_no_secret(wrong: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="password"):
        secret("password", wrong)
    with pytest.raises(kind):
        Secret(wrong)


# ---------------------------------------------------------------------- where it is


def test_from_the_environment_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAMET_TEST_SECRET", raising=False)
    one = Secret.env("RAMET_TEST_SECRET")
    with pytest.raises(ValueError, match="RAMET_TEST_SECRET isn't set"):
        one.reveal()
    monkeypatch.setenv("RAMET_TEST_SECRET", TEXT)
    assert one.reveal() == TEXT
    assert repr(one) == "<Secret.env('RAMET_TEST_SECRET')>"


def test_from_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(ModuleNotFoundError, match="pip install keyring"):
        Secret.keyring("ssh", "me")
    held = {("ssh", "me"): TEXT}
    fake = types.SimpleNamespace(get_password=lambda service, name: held.get((service, name)))
    monkeypatch.setitem(sys.modules, "keyring", fake)
    assert Secret.keyring("ssh", "me").reveal() == TEXT
    with pytest.raises(ValueError, match="keyring set ssh you"):
        Secret.keyring("ssh", "you").reveal()


def test_from_functions() -> None:
    codes = iter(["111111", "222222"])
    one = secret("otp", lambda: next(codes))
    assert one is not None and not one.known
    assert [one.reveal(), one.reveal()] == ["111111", "222222"]

    async def later() -> str:
        await asyncio.sleep(0)
        return TEXT
    assert Secret.call(later).reveal() == TEXT
    assert Secret.call(lambda: Secret(TEXT)).reveal() == TEXT
    with pytest.raises(TypeError, match="must be a text"):
        Secret.call(lambda: 7).reveal()


# ---------------------------------------------------------------------- one question for a group


class Host:
    """One that wants the answer."""

    def __init__(self, group: Group, key: str) -> None:
        self.group = group
        self.key = key
        self.got: list[str | None] = []

    def want(self) -> bool:
        return self.group.want(Question(self.key, self.key, give=self._given))

    def _given(self, value: bytearray | None, why: str) -> None:
        self.got.append(None if value is None else value.decode())

    def ends(self, taken: bool | None) -> bool:
        return self.group.settled(self.key, taken, self.key)


def hosts(group: Group, names: str) -> list[Host]:
    return [Host(group, name) for name in names]


def test_the_user_is_asked_once_and_one_host_tries_it_for_all() -> None:
    group = Group("password", 3, None)
    a, b, c = hosts(group, "abc")
    assert [a.want(), b.want(), c.want()] == [True, False, False]
    assert group.words() == "password (for a)"
    assert not group.answered(bytearray(b"good"))
    assert (a.got, b.got, c.got) == (["good"], [], []), "the others wait until it is seen to be right"
    assert not a.ends(taken=True)
    assert (b.got, c.got) == (["good"], ["good"])
    d = Host(group, "d")
    assert not d.want() and d.got == ["good"]


def test_a_wrong_answer_goes_to_one_host_only_and_is_asked_for_again() -> None:
    group = Group("password", 3, None)
    a, b = hosts(group, "ab")
    assert a.want() and not b.want()
    group.answered(bytearray(b"wrong"))
    assert a.want(), "it asks again, so what it had was refused"
    assert group.words() == "password (a refused the last one)"
    assert not group.answered(bytearray(b"good"))
    assert a.got == ["wrong"] and b.got == ["good"], "who waits longest tries"
    b.ends(taken=True)
    assert a.got == ["wrong", "good"]


def test_the_same_text_is_never_sent_twice_to_a_host() -> None:
    group = Group("password", 3, None)
    a, b = hosts(group, "ab")
    a.want()
    group.answered(bytearray(b"same"))
    a.want()
    b.want()
    group.answered(bytearray(b"same"))
    assert a.got == ["same", None] and b.got == ["same"]
    b.ends(taken=True)
    assert b.want() is False and b.got == ["same", "same"], "a new connection of b"
    assert b.want() is False and b.got[-1] is None, "b refuses what others took: that is b's own affair"


def test_it_is_asked_so_often_and_then_all_fail() -> None:
    group = Group("password", 2, None)
    a, b = hosts(group, "ab")
    assert a.want()
    assert not b.want()
    group.answered(bytearray(b"1"))
    assert a.ends(taken=False)
    assert not group.answered(bytearray(b"2"))
    assert b.got == ["2"]
    assert not b.ends(taken=False)
    c = Host(group, "c")
    assert not c.want() and c.got == [None]
    group.forget()
    assert c.want(), "after wipe() it may be asked again"


def test_who_goes_away_meanwhile_holds_up_nobody() -> None:
    group = Group("password", 3, None)
    a, b, c = hosts(group, "abc")
    a.want(), b.want(), c.want()
    assert not b.ends(taken=None)
    group.answered(bytearray(b"x"))
    a.ends(taken=None)      # its connection broke: nobody knows
    assert (a.got, b.got, c.got) == (["x"], [], ["x"])
    c.ends(taken=None)
    assert not group.wanted()


def test_no_answer_fails_all_that_wait() -> None:
    group = Group("password", 3, None)
    a, b = hosts(group, "ab")
    a.want(), b.want()
    assert not group.answered(None, "there is no terminal")
    assert (a.got, b.got) == ([None], [None])


def test_a_question_in_words() -> None:
    for wrong in ("", " ", 7):
        with pytest.raises(ValueError, match="question"):
            Secret.ask(wrong)  # type: ignore[arg-type]
    for tries in (0, 11, True):
        with pytest.raises(ValueError, match="tries"):
            Secret.ask("x", tries=tries)
    asked = Secret.ask("sudo password")
    assert repr(asked) == "<Secret.ask('sudo password')>" and asked.tries == 3
    with pytest.raises(ValueError, match="asked for when a host asks"):
        asked.reveal()


# ---------------------------------------------------------------------- the dialogue


RULE: dict[str, Any] = {"match": "Password: \\Z", "do": "send", "secret": "pw", "error": "AuthenticationError"}


def test_a_secret_that_is_not_known_is_asked_for_when_its_prompt_is_met() -> None:
    dialogue = Dialogue([RULE], {"pw": None})
    assert dialogue.feed("tty", b"hello\n") == []
    asked, = dialogue.feed("tty", b"Password: ")
    assert (asked.do, asked.attempt, asked.rule["secret"]) == ("ask", 1, "pw")
    assert dialogue.feed("tty", b"\r\n") == []
    sent, = dialogue.answer(Hidden("x"))
    assert (sent.do, sent.data) == ("send", b"x\n")
    assert [d.do for d in dialogue.feed("tty", b"Password: ")] == ["fail"]


def test_an_answer_goes_to_its_own_question_only() -> None:
    """What was said meanwhile is another question, of another rule or of none: the answer isn't typed into it."""
    other = {"match": "Name: \\Z", "do": "send", "send": "me"}
    dialogue = Dialogue([RULE, other], {"pw": None})
    dialogue.feed("tty", b"Password: ")
    assert dialogue.feed("tty", b"\nTimed out.\nName: ") == []
    assert [d.data for d in dialogue.answer(Hidden("x"))] == [b"me\n"]
    assert [d.attempt for d in dialogue.feed("tty", b"Password: ")] == [1], "it wasn't sent, so it may be asked for again"


def test_closed_dialogues_hold_no_secret() -> None:
    dialogue = Dialogue([RULE], {"pw": "hunter2"})
    dialogue.feed("tty", b"Password: ")
    dialogue.close()
    assert not any(one.known for one in [*dialogue._secrets.values(), *dialogue._typed])


# ---------------------------------------------------------------------- the terminal


@pytest.fixture
def tty(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A terminal that stands for /dev/tty: its near end."""
    near, far = pty.openpty()
    name, real = os.ttyname(far), os.open
    monkeypatch.setattr(terminal.os, "open", lambda path, *rest: real(name if path == "/dev/tty" else path, *rest))
    yield near
    os.close(near)
    os.close(far)


def echoes(fd: int) -> bool:
    return bool(termios.tcgetattr(fd)[3] & termios.ECHO)


def until(fd: int, text: bytes) -> bytes:
    said = b""
    while text not in said:
        said += os.read(fd, 1000)
    return said


def test_the_user_is_asked_without_an_echo(tty: int) -> None:
    got: list[bytearray] = []
    thread = threading.Thread(target=lambda: got.append(terminal.ask("the password: ", lambda: True)))
    thread.start()
    said = until(tty, b"the password: ")
    assert not echoes(tty)
    os.write(tty, b"s3cret\n")
    thread.join(HANGS_S)
    assert got == [b"s3cret"] and echoes(tty)
    os.set_blocking(tty, False)
    assert b"s3cret" not in said + os.read(tty, 1000)


def test_a_question_that_nobody_waits_for_is_given_up_and_the_terminal_put_right(tty: int) -> None:
    waits = threading.Event()
    waits.set()
    failed: list[Exception] = []

    def ask() -> None:
        try:
            terminal.ask("the password: ", waits.is_set)
        except terminal.NobodyAnswers as error:
            failed.append(error)
    thread = threading.Thread(target=ask)
    thread.start()
    until(tty, b"the password: ")
    waits.clear()
    thread.join(HANGS_S)
    assert "nobody waits" in str(failed[0]) and echoes(tty)


QUESTION = "the hosts' [bold]password[/] :smile:\n(for web\x1b[2J\x9b1\r\t日本): "
LETTERS = "the hosts' [bold]password[/] :smile:\n(for web[2J1日本): "


def test_a_question_is_shown_by_rich_as_it_was_worded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in it is letters: neither markup for rich nor a command for the terminal."""
    monkeypatch.setenv("TERM", "xterm")
    bold = terminal.shown_as(QUESTION, 20)
    assert bold.startswith("\x1b[1m") and bold.count("\x1b[") == 4     # on and off in each line; nothing is wrapped
    assert bold.replace("\x1b[1m", "").replace("\x1b[0m", "") == LETTERS
    monkeypatch.setenv("TERM", "dumb")
    assert terminal.shown_as(QUESTION, 0) == LETTERS


def test_a_question_is_asked_without_rich_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.prompt", None)
    assert terminal.shown_as(QUESTION, 80) == LETTERS


def test_rich_is_imported_for_a_question_only() -> None:
    program = "import sys, ramet; ramet.Secret.ask('x'); sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> int:
        raise OSError(6, "No such device or address")
    monkeypatch.setattr(terminal.os, "open", missing)
    with pytest.raises(terminal.NobodyAnswers, match=r"no terminal to ask on.*Secret\.env"):
        terminal.ask("x: ", lambda: True)


# ---------------------------------------------------------------------- what can't be typed


def test_a_secret_that_is_no_whole_text_is_refused_without_showing_it() -> None:
    with pytest.raises(ValueError, match="half a character") as caught:
        checked("tr0ub\ud8004dor")
    assert "4dor" not in str(caught.value)


def test_what_gets_secrets_goes_on_whatever_one_of_them_raises() -> None:
    errors: list[BaseException] = []
    desk = Desk(types.SimpleNamespace(loop=types.SimpleNamespace(on_error=errors.append)))     # type: ignore[arg-type]
    for _ in range(THREADS_MAX + 1):
        desk._run(lambda: 1 // 0)
    done = threading.Event()
    desk._run(done.set)
    assert done.wait(HANGS_S) and len(errors) == THREADS_MAX + 1
    eventually.until(lambda: not desk._threads, "its threads don't end when there is nothing to do")


def test_a_secret_that_has_travelled_is_masked() -> None:
    assert mask("su: no tr0ub4dor", [b"tr0ub4dor", None, "x"]) == "su: no ********"
