"""A child that speaks frames by hand does what is forbidden; docs/security.md has a row for each case.

Whatever it does: nothing of it runs anywhere; its parent, a sibling and the controller go on and stay small; what is refused
is counted, and said in the log a few times, not once for each.
"""
from __future__ import annotations

import datetime
import gc
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import ramet
from ramet.kernel import limits_late, refusing
from ramet.kernel.errors import ClosedError, NodeLostError, ProtocolError
from support import hostile_child, remote, remote_hostile

pytestmark = pytest.mark.timeout(600)       # who is read slowly takes a multiple of what this machine takes

#: What a parent or the controller may grow by; a case sends up to 40 MB of lies, and announces many GB.
GROWTH_BYTES_MAX = 150 << 20

#: The link ends with these: bytes that are no frames can't be skipped.
ENDS_THE_LINK = {"huge_length", "no_frames"}
#: And so does this, when too much waits for it.
NEVER_ENDS = {"asks_and_never_reads"}
#: Nothing to be refused in these: it is only too much, or too slow; or the answer is that there is no such node.
NOTHING_REFUSED = {"slow_loris", "never_reads", "floods_of_logs_and_output", "floods_of_stderr", "classes_and_code",
                   "odd_log_records", "huge_length", "no_frames", "forged_destination"}
#: These never answer.
SILENT = {"slow_loris", "never_reads"}
ALL = sorted(set(hostile_child.CASES) - ENDS_THE_LINK - NEVER_ENDS - SILENT)


TODAY = datetime.date.today()

#: What a terminal would obey, or show otherwise than it is.
STEERS = {chr(n) for n in (*range(32), *range(127, 160), 0x202E)} - set("\t\n")
FORMATTER = logging.Formatter(
    "%(name)s %(levelname)s %(message)s %(pathname)s %(funcName)s %(threadName)s %(module)s %(asctime)s %(lineno)d")


def as_logged(record: logging.LogRecord) -> str:
    """As handlers write it."""
    return FORMATTER.format(record) + str(getattr(record, "remote_name", ""))


def memory_bytes() -> int:
    """What this process has in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Scene:
    """A tree with a hostile node in it, and honest ones.

    Attributes:
        parent: of the hostile one; None: the controller.
        sibling: an honest child of the same parent.
    """

    def __init__(self, tree: ramet.Tree, where: str, marker: Path) -> None:
        self.tree, self.marker = tree, marker
        self.parent = tree.local() if where == "below a node" else None
        self.above: ramet.Tree | ramet.Node = self.parent or tree
        self.sibling = self.above.local()
        self.honest = [node for node in (self.parent, self.sibling) if node]
        for node in self.honest:
            assert node.call(remote.echo, TODAY) == TODAY      # has what reads values of others' kinds
            assert node.options(lane="another").call(remote_hostile.uses_itself)
        self.before = memory_bytes(), {node: node.call(remote_hostile.state) for node in self.honest}

    def grow(self, case: str) -> ramet.Node:
        return self.above.command([sys.executable, hostile_child.__file__, case, str(self.marker)], name="hostile")

    def refused(self) -> int:
        """By all who aren't hostile."""
        return self.tree.stats()["refused"] + sum(
            node.call(remote_hostile.state)[0] - self.before[1][node][0] for node in self.honest)

    def check(self) -> None:
        """All is well with everybody else."""
        for node in self.honest:
            assert node.options(timeout=120).call(remote.add, 2) == 2
            grown = node.call(remote_hostile.state)[1] - self.before[1][node][1]
            assert grown < GROWTH_BYTES_MAX, f"{node.name} has grown by {grown} bytes"
            assert node.call(remote_hostile.imports, hostile_child.UNUSED) == hostile_child.UNUSED
            assert node.call(remote_hostile.remembered) < 100
            assert node.call(remote_hostile.unfinished_bytes) <= limits_late.untold_bytes_max
        partial = self.tree._core.longs().assembler.partial.values()
        assert sum(one.total for one in partial) <= limits_late.untold_bytes_max
        assert self.above.local().call(remote.add, 3) == 3, "another child can be grown"
        assert not self.marker.exists(), "something of the child's was run"
        gc.collect()
        assert memory_bytes() - self.before[0] < GROWTH_BYTES_MAX


@pytest.fixture(params=["below the controller", "below a node"])
def scene(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str],
          caplog: pytest.LogCaptureFixture) -> Iterator[Scene]:
    with ramet.Tree(remember=False) as tree:
        yield Scene(tree, request.param, tmp_path / "marker")
    out, said = capsys.readouterr()
    unforeseen = "Traceback" in said
    assert not unforeseen, f"a handler failed in a way that wasn't foreseen: {said[:3000]}"
    shown = set(out + said + "".join(map(as_logged, caplog.get_records("call"))))
    assert not shown & STEERS, "it could steer a terminal"


@pytest.mark.parametrize("case", ALL)
def test_what_is_forbidden_is_refused(scene: Scene, case: str, caplog: pytest.LogCaptureFixture) -> None:
    over = f"{scene.marker}.over"
    pending = scene.sibling.options(lane="waits").start(remote_hostile.until, over)
    hostile = scene.grow(case)
    answers = []
    for _ in range(2000):   # who has this answer has taken all that was sent before
        try:
            answers.append(hostile.options(timeout=300).call(os.getpid))
        except (ramet.RemoteError, ProtocolError, ramet.ValueNotPortableError, NodeLostError) as error:
            answers.append(repr(error)[:200])
        if answers[-1] == hostile_child.ANSWER:
            break
    assert answers[-1] == hostile_child.ANSWER, answers
    if case == "classes_and_code":
        assert all("PortableError" in answer or "ProtocolError" in answer for answer in answers[:-1]), answers
    assert not pending.done()
    Path(over).touch()
    assert pending.result(120) == over
    scene.check()
    refused = scene.refused()
    assert refused or case in NOTHING_REFUSED
    said = [record for record in caplog.records if record.name == "ramet.refused"]
    assert len(said) <= (2 if scene.parent else 1) * (1 + refused.bit_length())
    assert len([record for record in caplog.records if "is stuck" in record.msg]) <= 1 + (3002).bit_length()
    assert not any("Traceback" in record.exc_text for record in said if record.exc_text), "a handler stumbled"
    by_parent = scene.parent.call(remote_hostile.state)[0] - scene.before[1][scene.parent][0] if scene.parent else 0
    assert bool(said) == bool(scene.tree.stats()["refused"] + by_parent), "whoever refused it"
    if by_parent:
        assert any(f"refused by node {scene.parent.name} from node hostile" in record.getMessage() for record in said)
    assert {scene.sibling} <= set(scene.tree.nodes), "it can't end others"


@pytest.mark.parametrize("case", sorted(ENDS_THE_LINK))
def test_what_is_no_frame_ends_the_link(scene: Scene, case: str) -> None:
    hostile = scene.grow(case)
    with pytest.raises((NodeLostError, ramet.ConnectError)):    # the latter if HELLO came in the same read
        hostile.options(timeout=120).call(os.getpid)
    scene.check()


def test_who_goes_on_with_what_is_refused_is_read_slowly_and_nobody_else(
        scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it sends is for the controller, which refuses it; and it is the hostile one's parent that slows it down."""
    monkeypatch.setattr(refusing, "forgiven_max", 1000)
    monkeypatch.setattr(refusing, "forgiven_per_s", 0)      # however slow this machine is
    if scene.parent:
        scene.parent.call(remote_hostile.forgive_no_more)
    hostile = scene.grow("news_of_refusals")
    assert hostile.options(timeout=300).call(os.getpid) == hostile_child.ANSWER
    assert scene.tree.stats()["refused"] > refusing.forgiven_max
    children = scene.tree._nursery.children.values()
    slow = [child.id for child in children if child.link.watcher.slow]
    if scene.parent:
        assert (slow, scene.parent.call(remote_hostile.slow_children)) == ([], [hostile.id])
    else:
        assert slow == [hostile.id]
    scene.check()


@pytest.mark.parametrize("scene", ["below the controller"], indirect=True)
def test_who_asks_and_does_not_read_the_answers_is_shown_the_door(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusing, "unread_bytes_max", 1 << 20)      # 16 MiB take a while, all the more on a slow link
    monkeypatch.setattr(refusing, "forgiven_max", 1 << 30)
    hostile = scene.grow("asks_and_never_reads")
    with pytest.raises((NodeLostError, ramet.ConnectError), match="doesn't read the answers"):
        hostile.call(os.getpid)
    scene.check()


@pytest.mark.parametrize("case", sorted(SILENT))
def test_who_is_silent_holds_up_nobody_else(scene: Scene, case: str) -> None:
    hostile = scene.grow(case)
    hostile.wait(120)
    load = os.urandom(20 << 20)     # more than any pipe and window: who sends more than that waits in ``call`` itself
    ends: list[BaseException] = []

    def send() -> None:
        try:
            hostile.call(remote_hostile.size, load)
        except (ClosedError, NodeLostError) as error:
            ends.append(error)
    stuck = [threading.Thread(target=send) for _ in range(3)]
    for thread in stuck:
        thread.start()
    scene.check()
    hostile.kill()
    for thread in stuck:
        thread.join(120)
    assert len(ends) == 3
    scene.check()
