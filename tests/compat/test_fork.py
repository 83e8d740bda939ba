"""Forks from a template, with every Python: modules are there, nothing else is shared, and they end as nodes do."""
from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ramet
from support import leaks, needs, pythons, remote, remote_async, remote_bulk, remote_fork, remote_small
from support.eventually import all_end, until

MB = 1_000_000
PRELOAD = ["support.remote_fork", "json"]
NODES = pythons.labels([python.label for python in pythons.everywhere()])


@pytest.fixture
def tree() -> Iterator[ramet.Tree]:
    with ramet.Tree(keepalive_s=None) as tree:      # whose parts would come to templates at any time
        yield tree


class Waiting:
    """Finds the spare of a template."""

    def __init__(self, fork: ramet.Node) -> None:
        assert fork.parent is not None
        fork.call(remote.add, 1)    # no more modules come to the template then, by which its spare would be stale
        self.template = fork.parent
        self.pid = self.template.facts["pid"]
        self.known = {*self.template.call(remote_fork.relatives), fork.facts["pid"]}

    def children(self, of: int) -> set[int]:
        return {process.pid for process in leaks.processes() if process.parent == of and process.state != "Z"}

    def spare(self) -> tuple[int, int]:
        """The process ids of a spare that wasn't there before, and of its guardian."""
        found: list[tuple[int, int]] = []

        def look() -> object:
            found.extend((spare, guardian) for spare in self.children(self.pid) - self.known
                         for guardian in self.children(spare))
            return found
        until(look, "no spare")
        self.known.add(found[0][0])
        return found[0]


@pytest.mark.parametrize("label", NODES)
def test_forks_have_the_modules_and_share_nothing_else(tree: ramet.Tree, label: str) -> None:
    where = needs.python_anywhere(label)
    python = where.path
    grower = tree.command(where.before, python=python) if where.before else tree
    forks = [grower.fork(preload=PRELOAD, python=python, name=f"one{n}") for n in range(3)]
    template = forks[0].parent
    assert template is not None and [fork.parent for fork in forks] == [template] * 3
    for number, fork in enumerate(forks):
        assert fork.call(remote_fork.count, number) == [number]
        facts = fork.call(remote_fork.facts)
        assert facts["loaded in"] == facts["ppid"] == template.facts["pid"] != facts["pid"]
        assert facts["pid"] == facts["pgid"] == facts["sid"] == fork.facts["pid"]
        assert (facts["id"], facts["name"], facts["parent"]) == (fork.id, f"one{number}", template.id)
        assert facts["main"] == "_MainThread"
    assert forks[0].call(remote_fork.late) == 42
    assert forks[0].options(lane="work").call(remote_fork.count, 7) == [0, 7]
    child = forks[1].local(python=python)
    assert child.call(remote.add, 1, 2) == 3
    child.close()
    before = forks[2].call(remote_fork.descriptors)
    forks.append(grower.fork(preload=PRELOAD, python=python))
    forks[3].wait()
    assert forks[0].call(remote_fork.chance) != forks[3].call(remote_fork.chance)
    assert forks[2].call(remote_fork.descriptors) == before and len(forks[3].call(remote_fork.descriptors)) <= len(before)
    waiting = Waiting(forks[0])
    waiting.known.update(fork.facts["pid"] for fork in forks)
    spare, _ = waiting.spare()
    forks.append(grower.fork(preload=PRELOAD, python=python, name="spared"))
    assert forks[4].call(remote_fork.facts) == facts | {
        "pid": spare, "pgid": spare, "sid": spare, "id": forks[4].id, "name": "spared"}
    assert len(forks[4].call(remote_fork.descriptors)) <= len(before)
    assert forks[4].call(remote_fork.late) == 42 and forks[4].call(remote_fork.count, 1) == [1]
    pids = [fork.facts["pid"] for fork in (*forks, template)]
    pids += waiting.spare()
    tree.close()
    assert all_end(*pids)


def test_output_and_logs_of_forks_are_their_own(caplog: pytest.LogCaptureFixture) -> None:
    lines: list[tuple[str, str]] = []
    with caplog.at_level(logging.WARNING), ramet.Tree(on_output=lambda node, _, text: lines.append((node.name, text))) as tree:
        for name in "ab":
            fork = tree.fork(preload=[*PRELOAD, "logging"], name=name)
            fork.call(remote.say, f"said by {name}\n")
            fork.call(remote_fork.log, f"logged by {name}")
            until(lambda name=name: (name, f"said by {name}") in lines, f"{lines}")  # type: ignore[misc]
            until(lambda name=name: (f"ramet.node.{name}", f"logged by {name}") in  # type: ignore[misc]
                  [(record.name, record.getMessage()) for record in caplog.records], "no record")


def test_fifty_forks(tree: ramet.Tree) -> None:
    forks = [tree.fork(preload=PRELOAD) for _ in range(50)]
    assert len({outcome.value for _, outcome in tree.each(forks, os.getpid)}) == 50
    assert all(fork.call(remote_fork.count, 1) == [1] for fork in forks)
    assert forks[49].call(remote_async.double, 4) == 8
    assert len(tree.nodes) == 51


def test_a_fork_dies_alone_and_a_template_with_its_forks(tree: ramet.Tree) -> None:
    one, other = tree.fork(preload=PRELOAD), tree.fork(preload=PRELOAD)
    assert one.parent == other.parent and one.parent is not None
    with pytest.raises(ramet.NodeLostError, match="signal 9"):
        one.call(remote.die)
    assert other.call(remote.add, 1) == 1
    until(lambda: not Path(f"/proc/{one._state.facts['pid']}").exists(), "nobody waited for it")
    call, pid, old = other.start(remote_fork.sleep), other.facts["pid"], one.parent
    os.kill(old.facts["pid"], signal.SIGKILL)
    with pytest.raises(ramet.NodeLostError):
        call.result()
    assert all_end(pid), "it outlives its template"
    new = tree.fork(preload=PRELOAD)
    assert new.call(remote.add, 1) == 1 and new.parent != old


def test_nothing_is_kept_of_templates_that_are_gone(tree: ramet.Tree) -> None:
    for _ in range(3):
        with tree.local() as node:
            assert node.fork().call(remote.add, 1) == 1
        until(lambda: all(one._state.ended for one, _ in tree._templates.made.values()), "a template outlives its grower")
    assert len(tree._templates.made) == 1


def test_forks_of_a_node(tree: ramet.Tree) -> None:
    node = tree.local(name="middle")
    fork = node.fork(preload=PRELOAD)
    assert fork.parent is not None and fork.parent.parent == node
    assert fork.call(remote_fork.facts)["id"] == fork.id
    fork.close()
    assert node.fork(preload=PRELOAD).call(remote.add, 1) == 1


def test_what_cannot_be_a_template(tree: ramet.Tree) -> None:
    with pytest.raises(ramet.ConnectError, match="no_such_module") as caught:
        tree.fork(preload=["no_such_module"]).wait()
    assert caught.value.stage == "start"
    with pytest.raises(ramet.ConnectError, match=r"2 threads.*one of the preloaded modules starts them"):
        tree.fork(preload=["support.remote_fork_threads"]).wait()
    with pytest.raises(TypeError, match="preload= is a list"):
        tree.fork(preload="json")
    with pytest.raises(ValueError):
        tree.fork(name="no/name")
    assert tree.fork().call(remote.add, 1) == 1


def test_what_the_template_has_done_since_reaches_forks(tree: ramet.Tree) -> None:
    """A call in it, and modules that it got: a spare that was forked before is not given to anybody."""
    waiting = Waiting(tree.fork(preload=PRELOAD))
    stale, _ = waiting.spare()
    assert waiting.template.call(remote_fork.count, 5) == [5]
    fork = tree.fork(preload=PRELOAD)
    assert fork.call(remote_fork.count, 6) == [5, 6] and fork.facts["pid"] != stale
    waiting.known.add(fork.facts["pid"])
    stale, _ = waiting.spare()
    tree._shipper.for_call(waiting.template, remote_small.__name__)
    fork = tree.fork(preload=PRELOAD)
    assert fork.call(remote_small.echo, 1) == 1 and fork.facts["pid"] != stale
    assert all_end(stale)


def test_neither_a_template_nor_its_spare_keeps_a_call_that_has_ended(tree: ramet.Tree) -> None:
    waiting = Waiting(tree.fork(preload=PRELOAD))
    waiting.template.call(remote_bulk.size_of, b"x")    # its module is there then
    waiting.spare()

    def small(pid: int) -> bool:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() < 60 * MB
    assert waiting.template.call(remote_bulk.size_of, b"p" * (100 * MB)) == 100 * MB
    assert small(waiting.spare()[0])
    until(lambda: small(waiting.pid), "it has the argument still")
    assert len(waiting.template.call(remote_bulk.made, 100 * MB)) == 100 * MB
    assert small(waiting.spare()[0])
    until(lambda: small(waiting.pid), "it has the result still")


@pytest.mark.parametrize("victims", ["spare", "guardian", "both"])
def test_a_spare_that_is_killed_while_it_waits(tree: ramet.Tree, victims: str) -> None:
    waiting = Waiting(tree.fork(preload=PRELOAD))
    spare, guardian = waiting.spare()
    for pid in {"spare": [spare], "guardian": [guardian], "both": [guardian, spare]}[victims]:
        with contextlib.suppress(ProcessLookupError):       # the one goes with the other
            os.kill(pid, signal.SIGKILL)
    assert all_end(spare, guardian)
    fork = tree.fork(preload=PRELOAD)
    assert fork.call(remote.add, 1) == 1
    waiting.known.add(fork.facts["pid"])
    assert waiting.spare()


@pytest.mark.parametrize("end", [ramet.Node.close, ramet.Node.kill, lambda node: os.kill(node.facts["pid"], signal.SIGKILL)],
                         ids=["closed", "killed", "SIGKILL"])
def test_a_spare_goes_with_its_template(tree: ramet.Tree, end: Callable[[ramet.Node], None]) -> None:
    waiting = Waiting(tree.fork(preload=PRELOAD))
    pids = waiting.spare()
    end(waiting.template)
    assert all_end(*pids)


def test_a_spare_goes_with_the_program() -> None:
    """It is killed, and its template with it: neither tells anybody."""
    before = leaks.processes()
    program = ("import os, signal, ramet\ntree = ramet.Tree()\nfork = tree.fork()\nprint(fork.call(os.getppid), flush=True)\n"
               "signal.pause()")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        template = int(process.stdout.readline())
        until(lambda: len([one for one in leaks.processes() if one.parent == template]) == 3, "guardian, fork, spare")
        process.kill()
        with contextlib.suppress(ProcessLookupError):       # it goes by itself, after a while
            os.kill(template, signal.SIGKILL)
    until(lambda: not leaks.processes() - before, "something is left")


def test_a_fork_that_is_closed_at_once_is_gone(tree: ramet.Tree) -> None:
    waiting = Waiting(tree.fork(preload=PRELOAD))
    for _ in range(5):
        tree.fork(preload=PRELOAD).close()
    until(lambda: len(tree.nodes) == 2, "nodes are left")
    until(lambda: len(waiting.children(waiting.pid) - waiting.known) == 1, "processes other than the spare are left")


def test_calls_that_are_sent_ahead_to_a_spare(tree: ramet.Tree) -> None:
    """More of them than its socket takes at once."""
    Waiting(tree.fork(preload=PRELOAD)).spare()
    fork = tree.fork(preload=PRELOAD)
    sizes = [7000] * 300 + [3_000_000, 20_000_000]
    calls = [fork.start(len, b"x" * size) for size in sizes]
    assert [call.result() for call in calls] == sizes


def test_a_fork_whose_template_s_node_was_closed_meanwhile_says_so(tree: ramet.Tree, tmp_path: Path) -> None:
    """It said that its template can't be made, as if something were wrong."""
    hangs = tmp_path / "python"
    hangs.write_text("#!/bin/sh\nexec sleep 1000\n")
    hangs.chmod(0o755)
    node = tree.local()
    node.call(remote.add, 1, 2)
    fork = node.fork(python=str(hangs))
    call = fork.start(remote.add, 1, 2)
    node.close()
    with pytest.raises(ramet.ClosedError):
        call.result()
    assert isinstance(fork.error, ramet.ClosedError)
