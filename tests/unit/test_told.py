"""What nodes say of themselves in answers: why they can't, and how far they came. It may be anything."""
from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

import ramet
from ramet import raw, told
from ramet.calling import Caller
from ramet.kernel import failures, remote_errors, values
from ramet.kernel.errors import ConnectError, NodeLostError, ProtocolError
from ramet.kernel.frames import DEAD, ERROR
from ramet.modules.server import ModuleServer
from ramet.node import State

EVIL = "\x1b]0;owned\x07\x1b[2J"
PARENT: Any = SimpleNamespace(name="gate")
PLAN: Any = {"what": "x"}


def encoded(value: Any) -> bytes:
    return b"".join(values.encode(value))


def answered(body: Any) -> BaseException | None:
    """What a call ends with whose node answers it by a DEAD."""
    call: Any = Future()
    call.node = SimpleNamespace(name="x", _state=State(ModuleServer()))
    call._answered = False
    call._settle = lambda _, error: call.set_exception(error)
    Caller.answer(SimpleNamespace(), call, DEAD, body)  # type: ignore[arg-type]
    error: BaseException | None = call.exception()
    return error


@pytest.mark.parametrize(("begin", "kind"), [("refused: ", ProtocolError), ("it is gone: ", NodeLostError)])
def test_a_reason_that_the_node_itself_gives_is_harmless_and_short(begin: str, kind: type[BaseException]) -> None:
    body = (begin + EVIL).encode() + b"x" * 1_000_000
    for given in body, [body]:      # the latter if it came in parts
        error = answered(given)
        assert type(error) is kind
        assert "\\x1b]0;owned\\x07" in str(error) and "\x1b" not in str(error) and len(str(error)) < 10_000


def test_what_a_node_says_of_one_that_it_couldnt_grow_is_harmless_and_short() -> None:
    error, _ = told.answer_of(PARENT, PLAN, DEAD, EVIL.encode() + b"x" * 1_000_000)
    assert type(error) is ConnectError and "\x1b" not in str(error) and len(str(error)) < 10_000
    made = ConnectError(EVIL, EVIL, "as it was seen" + EVIL)
    made.cause, made.remedy, made.status = EVIL, "y" * 1_000_000, 3
    error, _ = told.answer_of(PARENT, PLAN, ERROR, b"".join(failures.pack(made)))
    assert isinstance(error, ConnectError)
    assert not any("\x1b" in text for text in (str(error), error.stage, error.cause))
    assert len(error.remedy) < 10_000 and error.status == 3 and error.seen == made.seen


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\xdd\xff\xff\xff\xff", encoded([1])[:1]])
@pytest.mark.parametrize("flags", [0, ERROR])
def test_an_answer_that_cant_be_read_is_an_error(flags: int, body: bytes) -> None:
    error, _ = told.answer_of(PARENT, PLAN, flags, body)
    assert isinstance(error, ProtocolError) and "node gate sent an answer that can't be read" in str(error)


@pytest.mark.parametrize("steps", [
    {"start": 10 ** 400}, {"start": float("nan")}, {"start": -1}, {"start": "x"}, ["start"], None,
])  # fmt: skip
def test_odd_times_arent_believed(steps: Any) -> None:
    assert told.steps_in(steps) == {}
    assert told.steps_in({"start": 1, "kernel": 0.5}) == {"start": 1.0, "kernel": 0.5}


class Net:
    """A tree and a node in it, as far as ``raw.start`` knows them: GROW is answered at once."""

    def __init__(self, flags: int, body: bytes) -> None:
        desk = SimpleNamespace(open=lambda _id, _by, plan: plan["what"], settle=lambda *_: None)
        self._gardener = SimpleNamespace(ids=iter([5]), desk=desk, when_known=lambda _parent, send, _lost: send())
        self._core = SimpleNamespace(may_wait=lambda _: None, tell=lambda *_: None,
                                     ask=lambda _by, _handle, _job, then, _flags: then(flags, body))
        self._shipper = SimpleNamespace(kernel_parts=lambda *_: None)
        plan = {"what": "x", "argv": [], "command": "x", "stub": b"x", "python": None, "rules": [], "shape": "pipes"}
        self.node = SimpleNamespace(_state=SimpleNamespace(planned=lambda: plan), parent=SimpleNamespace(id=1, name="gate"))

    def run(self) -> raw.RawCall:
        tree: Any = self
        return raw.start(tree, tree.node, ["true"], b"", None, 1000)


@pytest.mark.parametrize(("flags", "body"), [
    (0, b"\xc1"), (ERROR, b"\xc1"), (0, encoded([float("inf"), b"", b"", False])), (0, encoded(None)), (0, encoded([1])),
    (0, encoded([0, 1 << 60, b"", False])), (0, encoded([0, b"", 5, False])),
])  # fmt: skip
def test_a_commands_result_that_cant_be_read_is_an_error(flags: int, body: bytes) -> None:
    with pytest.raises(ProtocolError, match="can't be read"):
        Net(flags, body).run().result(0)


def test_a_command_for_which_no_part_can_be_read_fails() -> None:
    """Where its parent became known only later, the keeper got the error, and who waited for the command nothing."""
    def fails(*_: Any) -> None:
        raise OSError("Too many open files")
    net = Net(0, b"")
    net._shipper.kernel_parts = fails
    with pytest.raises(ConnectError, match="Too many open files"):
        net.run().result(0)


def test_a_commands_result() -> None:
    assert Net(0, encoded([3, b"a", b"b", False])).run().result(0) == raw.RawResult(3, b"a", b"b")


def description(**odd: Any) -> dict[str, Any]:
    said: dict[str, Any] = values.decode(b"".join(failures.pack(ValueError("x"))))
    return {**said, **odd}


def test_of_a_value_that_can_be_read_there_is_little_text() -> None:
    """It travels beside the value, in case that can't be had: all of it was as much once more."""
    value = OrderedDict.fromkeys(range(100_000))
    said = len(b"".join(map(bytes, failures.pack(KeyError(value)))))
    text = len(str(KeyError(value)))
    assert said - text < len(encoded(value)) + 2 * failures.TEXT_MAX


def test_a_traceback_without_end_is_cut() -> None:
    asked: list[int] = []
    error = remote_errors.unpack(description(frames=[["f.py", n, "f"] for n in range(100_000)]), "x",
                                 lambda _, line: asked.append(line) or "")  # type: ignore[func-returns-value]
    assert isinstance(error, ramet.RemoteError) and len(asked) == 100 and asked[-1] == 99_999


def test_a_line_without_number_is_an_error() -> None:
    assert type(remote_errors.unpack(description(frames=[["f.py", float("inf"), "f"]]), "x")) is ProtocolError
