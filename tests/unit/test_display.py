"""What nodes print and log: cut into lines, made harmless, reduced to what is fit."""
from __future__ import annotations

import logging
import signal
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from ramet import codec
from ramet.display import MESSAGE_BYTES, TOLD_BYTES, Display, harmless, in_parts
from ramet.kernel.core import LOG, OUTPUT, Message
from ramet.kernel.errors import Error, ProtocolError
from support.eventually import HANGS_S, until


def a_display(errors: list[BaseException], show: Any = None, tell: Any = lambda *_: None) -> Display:
    nodes: Any = {7: SimpleNamespace(id=7, name="web\x1b[2J")}
    return Display(nodes, show, errors.append, tell)


def shown(display: Display, message: Message) -> None:
    """Have a message shown."""
    display.take(message)
    display.finish()


def message(handle: int, value: Any) -> Message:
    return Message(7, 7, handle, 0, 0, None, b"".join(codec.encode(value)))


def test_what_steers_a_terminal_is_made_visible() -> None:
    assert harmless("plain text, é密") == "plain text, é密"
    assert harmless("\x1b[2J\x9b\x08\u202e\r\n\t") == r"\x1b[2J\x9b\x08\u202e\r\n" + "\t"
    assert harmless("a\nb\x07", "\n") == "a\nb\\x07"
    assert harmless("\ud800") == "\\ud800"


def test_output_and_names_are_shown_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    shown(a_display([]), message(OUTPUT, [1, b"one\x1b[2J\ntwo"]))
    assert capsys.readouterr().out == "[web\\x1b[2J] one\\x1b[2J\n"


@pytest.mark.parametrize("character", ["x", "ä", "€", "\U0001f331"])
def test_long_lines_are_cut_between_characters(character: str) -> None:
    for before in range(4):
        seen: list[str] = []
        display = a_display([], lambda node, stream, text, seen=seen: seen.append(text))
        text = "x" * before + character * 70_000
        data = text.encode()
        for at in range(0, len(data), 60_001):
            display.take(message(OUTPUT, [1, data[at:at + 60_001]]))
        shown(display, message(OUTPUT, [1, b"\n"]))
        assert len(seen) > 1 and "".join(seen) == text


def test_what_is_cut_of_a_long_line() -> None:
    size = 65536
    assert in_parts(b"") == ([], b"") and in_parts(b"x" * size) == ([], b"x" * size)
    assert in_parts(b"x" * (size * 2 + 1)) == ([b"x" * size] * 2, b"x")
    for junk in b"\x80", b"\xff", b"\xf0\x80":       # no UTF-8: nothing is lost, and no part is too long
        data = junk * (size * 2)
        parts, rest = in_parts(data)
        assert b"".join(parts) + rest == data and max(map(len, parts)) <= size >= len(rest)
        told = "".join(part.decode("utf-8", "backslashreplace") for part in [*parts, rest])
        assert told == data.decode("utf-8", "backslashreplace")


def test_what_was_shown_is_told_again_when_it_could_not_be() -> None:
    """There was no descriptor just then: nothing of any node was shown from then on."""
    told: list[list[int]] = []
    fails = [OSError("Too many open files")]

    def tell(node: Any, *shown: int) -> None:
        if fails:
            raise fails.pop()
        told.append(list(shown))
    lines: list[str] = []
    nodes: Any = {7: SimpleNamespace(id=7, name="web")}
    display = Display(nodes, lambda *line: lines.append(line[2]), pytest.fail, tell)
    for text in b"x" * TOLD_BYTES + b"\n", b"two\n":
        display.take(message(OUTPUT, [1, text]))
    display.finish()
    assert "".join(lines) == "x" * TOLD_BYTES + "two"
    assert told == [[TOLD_BYTES + 5 + 2 * MESSAGE_BYTES, 0]]


def test_what_was_shown_is_told_though_nothing_more_comes() -> None:
    """A node has no more under way than what it was told of: it had nothing more to send, and waited for ever."""
    told: list[list[int]] = []
    fails = [OSError("Too many open files")] * 3

    def tell(node: Any, *shown: int) -> None:
        if fails:
            raise fails.pop()
        told.append(list(shown))
    nodes: Any = {7: SimpleNamespace(id=7, name="web")}
    display = Display(nodes, lambda *_: None, pytest.fail, tell)
    display.take(message(OUTPUT, [1, b"x" * TOLD_BYTES + b"\n"]))
    until(lambda: told, "it isn't told")
    display.finish()
    assert told == [[TOLD_BYTES + 1 + MESSAGE_BYTES, 0]] and not display.untold


def test_what_was_shown_is_told_though_others_print_without_end() -> None:
    told: list[Any] = []
    fails = [OSError("Too many open files")]
    nodes: Any = {id: SimpleNamespace(id=id, name=str(id)) for id in (7, 8)}

    def tell(node: Any, *_: int) -> None:
        if fails:
            raise fails.pop()
        told.append(node.id)

    def show(node: Any, *_: Any) -> None:
        if node.id == 8 and 7 not in told and time.monotonic() < end:
            display.take(more)
    end = time.monotonic() + HANGS_S
    display = Display(nodes, show, pytest.fail, tell)
    lines = b"".join(codec.encode([1, b"x\n"])), b"".join(codec.encode([1, b"x" * TOLD_BYTES + b"\n"]))
    more, much = Message(8, 8, OUTPUT, 0, 0, None, lines[0]), Message(7, 7, OUTPUT, 0, 0, None, lines[1])
    display.take(much)
    display.take(more)
    until(lambda: 7 in told, "it isn't told", HANGS_S / 2)
    display.finish()


def test_what_the_programs_own_function_raises_is_not_blamed_on_the_node() -> None:
    errors: list[BaseException] = []

    def fails(*_: Any) -> None:
        raise ValueError("mine")
    shown(a_display(errors, fails), message(OUTPUT, [1, b"one\n"]))
    assert [str(error) for error in errors] == ["mine"]


def test_who_sends_more_than_it_was_told_to_is_blamed_before_it_is_refused() -> None:
    """It is shown slowly here: what has come waits."""
    may_show = threading.Event()
    display = a_display([], lambda *_: may_show.wait())
    blamed: list[tuple[int, int, int]] = []
    link = SimpleNamespace()
    link.watcher = SimpleNamespace(blame=lambda link, src, authority, size: blamed.append((src, authority, size)))
    said = Message(7, 7, OUTPUT, 0, 0, link, b"".join(codec.encode([1, b"x" * 65_000 + b"\n"])))
    try:
        for _ in range((1 << 18) // 65_000 + 2):    # its window, and a bit
            display.take(said)
        assert blamed == []
        for _ in range(40):
            display.take(said)
        assert 0 < len(blamed) < 40 and set(blamed) == {(7, 7, len(said.body))}
    finally:
        may_show.set()
        display.finish()


def test_log_records_have_what_logging_takes(caplog: pytest.LogCaptureFixture) -> None:
    good = {"levelno": 30, "levelname": "WARNING", "name": "theirs", "msg": "%s \x1b[2J\n\tnext", "lineno": 7, "created": 12.5,
            "own": "x", "count": 3, "taskName": None, "thread": 1 << 46}
    odd = {"args": [1], "exc_info": True, "getMessage": 1, "__class__": 2, "msecs": "no", "process": "x", "stack_info": 5,
           "relativeCreated": 1e300, "pathname": 3, "nested": {"a": 1}, "filename": b"x", 7: "x"}
    display = a_display([])
    shown(display, message(LOG, {**good, **odd}))
    record, = caplog.records
    found = vars(record)
    assert record.getMessage() == "%s \\x1b[2J\n\tnext" and found["own"] == "x" and found["count"] == 3
    assert (record.lineno, record.created, record.remote_name) == (7, 12.5, "theirs")  # type: ignore[attr-defined]
    assert not record.args and record.exc_info is None and record.stack_info is None and "nested" not in found
    logging.Formatter("%(asctime)s %(msecs)d %(process)s %(pathname)s %(relativeCreated)d %(thread)d").format(record)
    for bad in ([], {"msg": "no level"}, {"levelno": True}, {"levelno": "30"}, {"levelno": -(1 << 9000)}):
        with pytest.raises(ProtocolError):
            display.take(message(LOG, bad))


def test_large_numbers_in_log_records_stumble_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Python makes no text of one of thousands of digits: formatters raise, and logging shows a traceback for each record."""
    huge = 10 ** 5000
    errors: list[BaseException] = []
    display = a_display(errors)
    for msg in huge, [huge], {"a": 1}:
        display.take(message(LOG, {"levelno": 30, "msg": msg, "lineno": huge, "process": -huge, "own": huge, "created": huge}))
    shown(display, message(LOG, {"levelno": 30, "msg": 1 << 62}))
    assert not errors and [record.getMessage() for record in caplog.records] == ["(no text)"] * 3 + [str(1 << 62)]
    for record in caplog.records:
        assert huge not in vars(record).values()
        logging.Formatter("%(lineno)s %(process)s %(created)s").format(record)


def test_levels_of_log_records_are_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    """A logger keeps its answer for each level that it is asked for, and is never freed."""
    logger = logging.getLogger("ramet.node.web\x1b[2J")
    known = len(getattr(logger, "_cache", ()))
    display = a_display([])
    for n in range(300):
        display.take(message(LOG, {"levelno": 1000 + n, "msg": "shown"}))
        display.take(message(LOG, {"levelno": -n, "msg": "not shown"}))
    display.finish()
    assert {record.getMessage() for record in caplog.records} == {"shown"} and len(caplog.records) == 300
    assert len(getattr(logger, "_cache", ())) - known < 10
    disabled = logging.root.manager.disable
    try:
        logging.disable(5000)
        display = a_display([])
        shown(display, message(LOG, {"levelno": 5000, "msg": "not shown"}))
    finally:
        logging.disable(disabled)
    assert len(caplog.records) == 300


def test_who_sends_more_than_it_may_is_refused() -> None:
    display = a_display([], lambda *_: may_end.wait())
    may_end = threading.Event()
    try:
        with pytest.raises(ProtocolError, match="more than it was told"):
            for _ in range(1000):
                display.take(message(OUTPUT, [1, b"x" * 65000 + b"\n"]))
    finally:
        may_end.set()
        display.finish()
    assert not display.held and not display.waiting


def test_a_refused_record_counts_as_shown() -> None:
    # Else a node that is only mistaken would wait for that for ever, whatever it logs.
    told: list[int] = []
    errors: list[BaseException] = []
    display = a_display(errors, tell=lambda node, output, records: told.append(records))
    refused = [message(LOG, {"levelno": kind, "msg": "x" * TOLD_BYTES}) for kind in (True, None)]
    refused.append(message(LOG, {"levelno": 30, "by": signal.SIGTERM, "msg": "x" * TOLD_BYTES}))
    for one in refused:
        with pytest.raises(Error):
            display.take(one)
    display.finish()
    assert told == [len(one.body) for one in refused] and not display.lines and not errors
