"""Output and log records on their way: whole, in order, bounded, whoever doesn't take them; and nothing else waits for it."""
from __future__ import annotations

import collections
import logging
import threading
from collections.abc import Callable, Iterator

import pytest

import ramet
from ramet.kernel import limits
from support import eventually, pythons, remote_lanes, remote_output

# What is under way at most: the window, what was read at once, what lies in the node's own pipes and the guardian.
BOUND = limits.output_bytes_max + 65536 + 4 * 65536 + 65536
LINES = 30_000


class Gate:
    """An ``on_output`` that shows nothing until it may."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.lines: dict[tuple[str, int], list[str]] = collections.defaultdict(list)

    def __call__(self, node: ramet.Node, stream: int, line: str) -> None:
        self.entered.set()
        self.open.wait()
        self.lines[node.name, stream].append(line)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open.set()


def until(ready: Callable[[], object]) -> None:
    """Calls, one after the other, until something is so. With a pause between them: their replies count as what has come."""
    eventually.until(ready, "it never is", 150)


@pytest.mark.parametrize("python", [pytest.param(path, id=label) for label, path in pythons.interpreters()])
def test_a_flood_that_nobody_shows_waits_and_nothing_else_does(gate: Gate, python: str) -> None:
    with ramet.Tree(on_output=gate) as tree:
        middle = tree.local()
        leaf = middle.local(python=python)
        assert leaf.call(remote_output.nothing) is None
        before = tree.stats()["bytes_in"]
        call = leaf.options(lane="flood").start(remote_output.write_lines, LINES)
        until(lambda: leaf.call(remote_output.waits))
        assert middle.call(remote_output.nothing) is None
        assert not call.done() and gate.entered.wait(eventually.HANGS_S)
        sent, shown = leaf.call(remote_output.output_counts)
        assert shown == 0 and sent <= limits.output_bytes_max + 65536 + 200
        assert tree.stats()["bytes_in"] - before < BOUND
        gate.open.set()
        assert call.result() == LINES
        until(lambda: len(gate.lines[leaf.name, 1]) == LINES)
    assert gate.lines[leaf.name, 1] == [remote_output.line(n) for n in range(LINES)]


@pytest.mark.parametrize("python", [pytest.param(path, id=label) for label, path in pythons.interpreters()])
def test_who_logs_more_than_is_shown_waits(gate: Gate, python: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ramet.node"), ramet.Tree(on_output=gate) as tree:
        leaf = tree.local().local(python=python)
        leaf.call(remote_output.say, "held up by this line\n")
        assert gate.entered.wait(eventually.HANGS_S)
        call = leaf.options(lane="flood").start(remote_output.log_lines, 3000)
        until(lambda: leaf.call(remote_output.log_waits))
        sent, shown = leaf.call(remote_output.log_counts)
        assert not call.done() and shown == 0 and sent < limits.output_bytes_max + 2000
        gate.open.set()
        assert call.result() == 3000
        until(lambda: len(caplog.records) >= 3000)
    found = [record.getMessage() for record in caplog.records if record.name == "ramet.node." + leaf.name]
    assert found == [remote_output.line(n) for n in range(3000)]


@pytest.mark.parametrize("lane", ["main", "named"])
def test_a_call_that_waits_to_log_can_be_cancelled(gate: Gate, lane: str) -> None:
    with ramet.Tree(on_output=gate) as tree:
        node = tree.local()
        node.call(remote_output.say, "held up by this line\n")
        assert gate.entered.wait(eventually.HANGS_S)
        call = (node if lane == "main" else node.options(lane=lane)).start(remote_output.log_lines, 1_000_000)
        until(lambda: node.options(lane="other").call(remote_output.log_waits))
        call.cancel()
        with pytest.raises(ramet.CallCancelled):
            call.result()
        until(lambda: not node.options(lane="other").call(remote_output.log_waits))
        assert node.call(remote_output.nothing) is None
        gate.open.set()


def test_levels_travel_down(caplog: pytest.LogCaptureFixture) -> None:
    said: list[tuple[str, str]] = []

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append((record.node, record.getMessage()))  # type: ignore[attr-defined]

    heard = Heard()
    logger = logging.getLogger("ramet.node")
    logger.addHandler(heard)
    before = logger.level
    logger.setLevel(1)
    try:
        with ramet.Tree() as tree:
            first, second = tree.local(), tree.local()
            below = first.local()
            assert below.call(remote_output.level_of, "") == logging.INFO
            first.set_log_level("DEBUG")
            second.set_log_level(logging.ERROR, "noisy.library")
            until(lambda: below.call(remote_output.level_of, "") == logging.DEBUG)
            until(lambda: second.call(remote_output.level_of, "noisy.library") == logging.ERROR)
            later = first.local()
            assert later.call(remote_output.level_of, "") == logging.DEBUG
            assert second.call(remote_output.level_of, "") == logging.INFO
            deeper = second.local()
            until(lambda: deeper.call(remote_output.level_of, "noisy.library") == logging.ERROR)
            for node in (first, below, later, second, deeper):
                node.call(remote_output.log_at, logging.DEBUG, "noisy.library", "fine print")
                node.call(remote_output.log_at, logging.ERROR, "noisy.library", "an error")
            tree.set_log_level(logging.CRITICAL)
            until(lambda: second.call(remote_output.level_of, "") == logging.CRITICAL)
            names = [node.name for node in (first, below, later, second, deeper)]
            for wrong in ("NO SUCH LEVEL", None, 1.5):
                with pytest.raises((ValueError, TypeError)):
                    tree.set_log_level(wrong)  # type: ignore[arg-type]
    finally:
        logger.setLevel(before)
        logger.removeHandler(heard)
    assert sorted(said) == sorted([(name, "fine print") for name in names[:3]] + [(name, "an error") for name in names])


@pytest.mark.parametrize("python", [pytest.param(path, id=label) for label, path in pythons.interpreters()])
def test_lines_of_lanes_are_not_mixed(python: str) -> None:
    lines: list[str] = []
    with ramet.Tree(on_output=lambda _node, _stream, line: lines.append(line)) as tree:
        node = tree.local(python=python)
        call = node.options(lane="one").start(remote_output.say_in_two)
        until(lambda: node.call(remote_output.holds))
        node.call(remote_output.say, "main\n")
        node.options(lane="two").call(remote_output.say, "lane two\n")
        node.call(remote_output.leave)
        call.result()
        node.call(remote_output.leave_a_part)
        node.call(remote_output.say, "last\n")
    assert lines == ["main", "lane two", "one line", "last", "no end"]


@pytest.mark.parametrize("python", [pytest.param(path, id=label) for label, path in pythons.interpreters()])
def test_what_isnt_a_line_yet_is_given_away_at_its_calls_end_while_calls_wait_for_the_main_lane(python: str) -> None:
    """It stayed with its thread, till the node's end."""
    lines: list[str] = []
    with ramet.Tree(on_output=lambda _node, _stream, line: lines.append(line)) as tree:
        node = tree.local(python=python)
        held = node.start(remote_lanes.hold)
        waiting = node.start(remote_output.nothing)
        watch = node.options(lane="watch")
        until(lambda: watch.call(remote_lanes.held) and watch.call(remote_output.calls_wait))
        for lane in "one", "two", ramet.ANY:
            node.options(lane=lane).call(remote_output.leave_it, lane)
        watch.call(remote_output.say, ".\n")
        watch.call(remote_lanes.open_gate)
        held.result()
        waiting.result()
    assert lines == ["onetwo*."]


@pytest.mark.parametrize("python", [pytest.param(path, id=label) for label, path in pythons.interpreters()])
def test_a_call_behind_a_change_of_levels_finds_it_made(python: str) -> None:
    with ramet.Tree() as tree:
        node = tree.local(python=python)
        below = node.local(python=python)
        for name in "", "some.library":
            assert below.call(remote_output.level_of, "") in (logging.INFO, logging.DEBUG)
            for level in [logging.ERROR, logging.DEBUG] * 10:
                node.set_log_level(level, name)
                assert below.call(remote_output.level_of, name) == level


@pytest.mark.parametrize("python", [pytest.param(path, id=label) for label, path in pythons.interpreters()])
def test_levels_are_not_waited_for_by_who_reads_the_link(python: str) -> None:
    """``logging``'s lock may be held, and a logger's class may be the program's."""
    with ramet.Tree() as tree:
        node, other = tree.local(python=python), tree.local(python=python)
        call = node.options(lane="holder").start(remote_output.hold_the_lock)
        until(lambda: node.call(remote_output.holds))
        node.set_log_level(logging.ERROR)
        node.call(remote_output.nothing)
        node.call(remote_output.leave)
        call.result()
        until(lambda: node.call(remote_output.level_of, "") == logging.ERROR)
        other.call(remote_output.make_loggers_of_our_own)
        other.set_log_level(logging.ERROR, "not.seen.before")
        until(lambda: other.call(remote_output.holds))
        other.call(remote_output.leave)
        until(lambda: other.call(remote_output.level_of, "not.seen.before") == logging.ERROR)


def test_on_output_may_use_nodes_and_fail(capsys: pytest.CaptureFixture[str]) -> None:
    found: list[object] = []

    def on_output(node: ramet.Node, stream: int, line: str) -> None:
        found.append(node.call(remote_output.nothing))
        if line == "bad":
            raise ValueError("it can't be shown")

    with ramet.Tree(on_output=on_output) as tree:
        node = tree.local()
        node.call(remote_output.say, "one\nbad\nthree\n")
        until(lambda: len(found) == 3)
    assert found == [None] * 3
    assert capsys.readouterr().err.count("ValueError: it can't be shown") == 1


def test_what_has_come_is_shown_before_the_end(gate: Gate) -> None:
    with ramet.Tree(on_output=gate) as tree:
        node = tree.local()
        node.call(remote_output.write_lines, 2000)
        until(lambda: node.call(remote_output.output_counts)[0] > 200_000)
        gate.open.set()
    assert gate.lines["local", 1] == [remote_output.line(n) for n in range(2000)]


SOME = [pytest.param(path, id=label) for label, path in pythons.interpreters()]
SOME = [one for one in SOME[:-1] if one.id in ("2.7", "3.6")] + SOME[-1:]


@pytest.mark.parametrize("python", SOME)
def test_a_close_right_after_a_flood_brings_all_of_it(python: str) -> None:
    """From a node below one, of which both are closed while as much is under way as can be. Its grace is for a busy machine."""
    lines: dict[str, list[str]] = collections.defaultdict(list)
    count = 5000

    def on_output(node: ramet.Node, stream: int, text: str) -> None:
        lines[node.name].append(text)

    with ramet.Tree(on_output=on_output, close_grace_s=300) as tree:
        top = tree.local(python=python)
        below = top.local()
        calls = [node.start(remote_output.print_lines, count) for node in (top, below)]
        for call in calls:
            call.result()
        below.call(remote_output.say, "the last words, without an end")
        below.close()
    expected = [remote_output.line(n) for n in range(count)]
    assert lines[top.name] == expected
    assert lines[below.name] == [*expected, "the last words, without an end"]


@pytest.mark.parametrize("python", SOME)
def test_a_close_brings_what_waited_for_its_reader(gate: Gate, python: str) -> None:
    """More than may be under way, so that the rest lies in pipes over there when the node is closed."""
    count = (limits.output_bytes_max + 65536 + 32768) // len(remote_output.line(0) + "\n")
    with ramet.Tree(on_output=gate, close_grace_s=300) as tree:
        node = tree.local().local(python=python)
        assert node.call(remote_output.print_lines, count) == count
        until(lambda: node.call(remote_output.waits))
        node.call(remote_output.say, "the last words, without an end")
        node.close()
        until(lambda: node.error is not None)
        gate.open.set()
    assert gate.lines[node.name, 1] == [remote_output.line(n) for n in range(count)] + ["the last words, without an end"]


@pytest.mark.parametrize("how", ["print", "stderr", "raw"])
@pytest.mark.parametrize("python", SOME)
def test_a_main_lane_that_waits_to_print_can_be_ended(gate: Gate, python: str, how: str) -> None:
    """The reader is away, and the node lives: its main lane goes on with the next call."""
    with ramet.Tree(on_output=gate, close_grace_s=300) as tree:
        node = tree.local(python=python)
        call = node.start(remote_output.print_without_end, how)
        until(lambda: node.options(lane="other").call(remote_output.is_held_up))
        assert call.cancel()
        until(lambda: node.stats()["ending"] == 0)      # it has come to its end over there
        assert node.call(remote_output.nothing) is None
        late = node.options(timeout=0.05).start(remote_output.print_without_end, how)
        with pytest.raises(ramet.CallTimeout):
            late.result()
        until(lambda: node.stats()["ending"] == 0)
        assert node.call(remote_output.nothing) is None
        gate.open.set()


@pytest.mark.parametrize("python", SOME)
def test_calls_do_not_wait_for_a_lane_that_waits_to_print(gate: Gate, python: str) -> None:
    """Whoever prints nothing has nothing to flush behind it."""
    with ramet.Tree(on_output=gate, close_grace_s=300) as tree:
        node = tree.local(python=python)
        call = node.options(lane="flood").start(remote_output.print_lines, LINES)
        until(lambda: node.options(lane="other").call(remote_output.is_held_up))
        assert node.call(remote_output.nothing) is None and not call.done()
        gate.open.set()
        assert call.result() == LINES


@pytest.mark.parametrize("python", SOME)
def test_a_call_whose_last_words_wait_for_room_does_not_keep_the_node_from_hearing_of_it(gate: Gate, python: str) -> None:
    """The main lane borrowed the link, and then waited to write what isn't a line yet: for ever."""
    with ramet.Tree(on_output=gate, close_grace_s=300) as tree:
        node = tree.local(python=python)
        other = node.options(lane="other")
        flood = node.options(lane="flood").start(remote_output.print_lines, LINES)
        until(lambda: other.call(remote_output.is_held_up))
        call = node.start(remote_output.leave_it, "the last words")
        until(lambda: other.call(remote_output.is_main_lane_at_an_end) or call.done())
        assert not call.done()
        gate.open.set()
        assert call.result() is None and flood.result() == LINES
    assert "".join(gate.lines["local", 1]).count("the last words") == 1


def test_only_the_controller_says_what_was_shown() -> None:
    with ramet.Tree() as tree:
        one, other = tree.local(), tree.local()
        other.call(remote_output.nothing)
        assert one.call(remote_output.claim_shown, other.id)
        until(lambda: other.call(remote_output.refused))
        assert other.call(remote_output.output_counts)[1] == 0
