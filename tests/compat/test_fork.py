"""Forks from a template, with every Python: modules are there, nothing else is shared, and they end as nodes do."""
from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import ramet
from support import needs, pythons, remote, remote_async, remote_fork
from support.eventually import all_end, until

PRELOAD = ["support.remote_fork", "json"]
NODES = pythons.labels([python.label for python in pythons.everywhere()])


@pytest.fixture
def tree() -> Iterator[ramet.Tree]:
    with ramet.Tree() as tree:
        yield tree


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
    assert forks[2].call(remote_fork.descriptors) == before and len(forks[3].call(remote_fork.descriptors)) <= len(before)
    pids = [fork.facts["pid"] for fork in (*forks, template)]
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
    assert all(fork.start(remote_fork.count, 1).result(timeout=20) == [1] for fork in forks)
    assert forks[49].start(remote_async.double, 4).result(timeout=20) == 8
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
        call.result(timeout=10)
    assert all_end(pid), "it outlives its template"
    new = tree.fork(preload=PRELOAD)
    assert new.call(remote.add, 1) == 1 and new.parent != old


def test_forks_of_a_node(tree: ramet.Tree) -> None:
    node = tree.local(name="middle")
    fork = node.fork(preload=PRELOAD)
    assert fork.parent is not None and fork.parent.parent == node
    assert fork.call(remote_fork.facts)["id"] == fork.id
    fork.close()
    assert node.fork(preload=PRELOAD).call(remote.add, 1) == 1


def test_what_cannot_be_a_template(tree: ramet.Tree) -> None:
    with pytest.raises(ramet.ConnectError, match="no_such_module") as caught:
        tree.fork(preload=["no_such_module"]).wait(20)
    assert caught.value.stage == "start"
    with pytest.raises(ramet.ConnectError, match=r"2 threads.*one of the preloaded modules starts them"):
        tree.fork(preload=["support.remote_fork_threads"]).wait(20)
    with pytest.raises(TypeError, match="preload= is a list"):
        tree.fork(preload="json")
    with pytest.raises(ValueError):
        tree.fork(name="no/name")
    assert tree.fork().call(remote.add, 1) == 1
