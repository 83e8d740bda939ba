"""Many nodes in one go: so many at a time, tried again, through one another; and what fails spoils nothing."""
from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from concurrent.futures import TimeoutError as WaitTimeout
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import ramet
from ramet.connectors import Plan, behind
from support import remote, remote_branch, remote_limit
from support.eventually import HANGS_S, in_time, until

#: What is seen of a program that says that it was started, and then becomes what it is told when the file "go" is there.
GATED = 'echo >> "$0/started"; while [ ! -e "$0/go" ]; do sleep 0.02; done; exec "$@"'
#: A program that can't be reached for so many times.
MOODY = 'echo >> "$0/tries"; [ $(wc -l < "$0/tries") -gt $1 ] || exit 7; shift; exec "$@"'

PASSING = [{"on": "exit", "status": 7, "text": "it isn't in the mood", "stage": "start", "again": True}]


def gated(folder: Path) -> Plan:
    return behind("gated", ["sh", "-c", GATED, str(folder)], "gated", None, sys.executable, 60.0)


def moody(folder: Path, times: int, rules: Any = PASSING, timeout_s: float = HANGS_S) -> Plan:
    return behind("moody", ["sh", "-c", MOODY, str(folder), str(times)], "moody", None, sys.executable, timeout_s, rules=rules)


def lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


QUICK = ramet.Retry(5, first_s=0.01, most_s=0.05)


# ---------------------------------------------------------------------- so many at a time


def test_no_more_connect_at_a_time_than_allowed_and_calls_are_held(tmp_path: Path) -> None:
    with ramet.Tree(connecting_max=3) as tree:
        nodes = [tree.grow(gated(tmp_path)) for _ in range(8)]
        calls = [node.start(os.getpid) for node in nodes]
        until(lambda: lines(tmp_path / "started") == 3, "not so many are started")
        stats = tree.stats()
        assert (stats["connecting"], stats["waiting"]) == (3, 5)
        assert tree.local(name="behind-them") in tree.nodes     # nothing blocks
        (tmp_path / "go").touch()
        assert len({call.result(HANGS_S) for call in calls}) == 8
        assert tree.nodes[-1].call(remote.add, 1, 2) == 3
        stats = tree.stats()
        assert (stats["connecting"], stats["waiting"]) == (0, 0)
    assert lines(tmp_path / "started") == 8


def test_the_bound_is_each_growing_node_s_own(tmp_path: Path) -> None:
    with ramet.Tree(connecting_max=2) as tree:
        gates = [tree.local(), tree.local()]
        nodes = [gate.grow(gated(tmp_path)) for gate in gates for _ in range(4)]
        until(lambda: lines(tmp_path / "started") == 4, "not so many are started")
        assert tree.local().call(remote.add, 1, 1) == 2     # those don't count here
        assert tree.stats()["waiting"] == 4
        (tmp_path / "go").touch()
        assert len({node.call(os.getpid) for node in nodes}) == 8


def test_those_that_hang_hold_their_places_until_their_time_is_up() -> None:
    with ramet.Tree(connecting_max=2) as tree:
        hanging = [tree.command(["sh", "-c", "exec sleep 60"], connect_timeout_s=1) for _ in range(4)]
        quick = [tree.local() for _ in range(4)]
        assert [node.call(remote.add, n, 1) for n, node in enumerate(quick)] == [1, 2, 3, 4]
        for node in hanging:    # each had a second of its own, those too that waited for a second before
            with pytest.raises(ramet.ConnectError, match="within 1 s"):
                node.wait(HANGS_S)


def test_closing_who_waits_in_line(tmp_path: Path) -> None:
    with ramet.Tree(connecting_max=1) as tree:
        first = tree.grow(gated(tmp_path))
        waiting, last = tree.local(), tree.local()
        child = waiting.local()
        calls = [waiting.start(os.getpid), child.start(os.getpid)]
        waiting.close()
        for call in calls:
            with pytest.raises(ramet.ClosedError):
                call.result(HANGS_S)
        with pytest.raises(ramet.ClosedError):
            waiting.wait(HANGS_S)
        (tmp_path / "go").touch()
        assert first.call(remote.add, 1, 1) + last.call(remote.add, 1, 1) == 4
        assert tree.nodes == [first, last]


def test_closing_the_tree_ends_those_in_line_and_their_calls(tmp_path: Path) -> None:
    with ramet.Tree(connecting_max=1) as tree:
        nodes = [tree.grow(gated(tmp_path)) for _ in range(4)]
        nodes.append(nodes[-1].local())
        calls = [node.start(os.getpid) for node in nodes]
        together = tree.spread([sys.executable] * 3, "local", fanout=2)
        until(lambda: lines(tmp_path / "started") == 1, "not so many are started")
    for call in calls:
        with pytest.raises(ramet.ClosedError):
            call.result(HANGS_S)
    assert together.result(HANGS_S) == []
    assert lines(tmp_path / "started") == 1     # nobody came in when the first went


@pytest.mark.parametrize("wrong", [0, -1, True, "3", 2.5])
def test_connecting_max_is_a_number(wrong: Any) -> None:
    with pytest.raises(ValueError, match="connecting_max"):
        ramet.Tree(connecting_max=wrong)


@pytest.mark.parametrize(("count", "limit"), [(300, 1024), (80, 64)])
def test_few_descriptors(count: int, limit: int) -> None:
    """Who doesn't fit is told so; all that fit work, modules that come later included, and so does the program itself."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, remote_limit.__file__, str(count), str(limit)], env=environment, capture_output=True,
                          text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    good, *failed = done.stdout.splitlines()
    assert len(failed) == count - int(good.split()[1])
    assert (len(failed) == 0) is (limit > count)
    assert int(good.split()[1]) >= min(count, limit // 4)
    for line in failed:
        assert line.startswith("failed ConnectError")
        assert f"its limit is {limit}, of which 8 are kept" in line
        assert "ulimit -n" in line


# ---------------------------------------------------------------------- trying again


@pytest.mark.parametrize("through", [False, True], ids=["from here", "through a node"])
def test_a_node_is_tried_again_and_its_calls_wait(through: bool, tmp_path: Path) -> None:
    with ramet.Tree() as tree:
        grower = tree.local() if through else tree
        node = grower.grow(moody(tmp_path, 2), retry=QUICK)
        child = node.local()
        call = node.start(remote.from_own_module)
        assert call.result(HANGS_S) == 42
        assert child.call(remote.add, 1, 2) == 3
        assert lines(tmp_path / "tries") == 3
        assert node.error is None
        assert tree.stats()["refused"] == 0


@pytest.mark.parametrize("through", [False, True], ids=["from here", "through a node"])
def test_it_is_tried_as_often_as_was_asked_for(through: bool, tmp_path: Path) -> None:
    with ramet.Tree() as tree:
        grower = tree.local() if through else tree
        node = grower.grow(moody(tmp_path, 99), retry=ramet.Retry(2, 0.01, 0.01))
        child = node.local()
        for waiting in (node.start(os.getpid), child.start(os.getpid)):
            with pytest.raises(ramet.ConnectError, match="it isn't in the mood"):
                waiting.result(HANGS_S)
        assert lines(tmp_path / "tries") == 3
        assert grower.grow(moody(tmp_path, 0)).call(remote.add, 1, 1) == 2      # without retry=: at once
        with pytest.raises(ramet.ConnectError, match="in the mood"):
            grower.grow(moody(tmp_path, 99)).wait(HANGS_S)
        assert lines(tmp_path / "tries") == 5


def test_what_won_t_pass_is_not_tried_again(tmp_path: Path) -> None:
    lasting = [{**PASSING[0], "again": False, "error": "AuthenticationError", "stage": "authenticate"}]
    with ramet.Tree() as tree:
        for grower in (tree, tree.local()):
            with pytest.raises(ramet.AuthenticationError):
                grower.grow(moody(tmp_path, 99, lasting), retry=QUICK).wait(HANGS_S)
            with pytest.raises(ramet.PythonNotFoundError):
                grower.local(python="no-such-python", retry=QUICK).wait(HANGS_S)
    assert lines(tmp_path / "tries") == 2


def test_one_that_hangs_is_tried_again(tmp_path: Path) -> None:
    script = 'echo >> "$0/tries"; [ $(wc -l < "$0/tries") -gt 1 ] || exec sleep 60; exec "$@"'
    plan = behind("hanging", ["sh", "-c", script, str(tmp_path)], "hanging", None, sys.executable, 1.0)
    plan["timeout_s"] = 1.5
    with ramet.Tree() as tree:
        node = tree.grow(plan, retry=ramet.Retry(50, first_s=0.01, most_s=0.05))
        assert node.call(remote.add, 1, 1) == 2
    assert lines(tmp_path / "tries") == 1 + node._state.tried >= 2      # more on a machine where a node takes longer than that


def test_closing_between_two_tries(tmp_path: Path) -> None:
    with ramet.Tree() as tree:
        nodes = [grower.grow(moody(tmp_path, 99), retry=ramet.Retry(5, 1000, 1000)) for grower in (tree, tree.local())]
        calls = [node.start(os.getpid) for node in nodes]
        until(lambda: lines(tmp_path / "tries") == 2 and all(node._state.waits for node in nodes)
              and tree.stats()["connecting"] == 0, "they aren't between two tries")
        nodes[0].close()
        with pytest.raises(ramet.ClosedError):
            calls[0].result(HANGS_S)
    with pytest.raises(ramet.ClosedError):
        calls[1].result(HANGS_S)
    assert lines(tmp_path / "tries") == 2


def test_retry_in_a_spec_and_wrong_ones(tmp_path: Path) -> None:
    with ramet.Tree() as tree:
        assert tree.connect("local:?retry=2").call(remote.add, 1, 1) == 2
        with pytest.raises(ValueError, match="retry is a number"):
            tree.connect("local:?retry=often")
        with pytest.raises(TypeError, match="retry="):
            tree.local(retry="often")


# ---------------------------------------------------------------------- all of them


def test_connect_all_gives_them_as_they_connect(tmp_path: Path) -> None:
    progress: list[tuple[int, int, str, bool]] = []
    with ramet.Tree() as tree:
        together = tree.connect_all(
            [sys.executable, "no-such-python", sys.executable], "local",
            on_progress=lambda done, total, node, error: progress.append((done, total, node.name, error is None)))
        calls = [node.start(os.getpid) for node in together.nodes]      # at once
        settled = dict(together)
        assert list(settled) == [node for node, _ in together]      # as often as one likes
        assert [outcome.ok for outcome in (settled[node] for node in together.nodes)] == [True, False, True]
        assert all(outcome.value is node for node, outcome in settled.items() if outcome.ok)
        assert together.result() == [together.nodes[0], together.nodes[2]]
        assert list(together.errors) == [together.nodes[1]]
        assert isinstance(together.errors[together.nodes[1]], ramet.PythonNotFoundError)
        assert [call.outcome().ok for call in calls] == [True, False, True]
        assert [(done, total) for done, total, _, _ in progress] == [(1, 3), (2, 3), (3, 3)]
        assert sorted(good for _, _, _, good in progress) == [False, True, True]
        assert tree.connect_all([]).result() == []
        named = tree.connect_all(["local:", "local:?name=own"], None, local={"name": "given"}).nodes
        assert [node.name for node in named] == ["given", "own"]


def test_connect_all_with_async_for_and_await() -> None:
    async def main(tree: ramet.Tree) -> None:
        together = tree.connect_all(["local:", "local:/local:", "command:false"], None)
        found = {node: outcome async for node, outcome in together}
        assert sorted(outcome.ok for outcome in found.values()) == [False, True, True]
        assert [node async for node, _ in together] == list(found)
        connected = await together
        assert connected == [together.nodes[0], together.nodes[1]]
        assert await connected[1].start(remote.add, 1, 2) == 3
    with ramet.Tree() as tree:
        asyncio.run(main(tree))


def test_connect_all_grows_nothing_if_a_target_is_wrong() -> None:
    with ramet.Tree() as tree:
        for targets, connector, options in [
            (["local:", "nonsense:"], None, {}), (["local:/local:?nonsense=1"], None, {}), (["web1", "-x"], "ssh", {}),
            (["ssh:web1"], "ssh", {}), (["web1"], "nonsense", {}),
        ]:
            with pytest.raises(ValueError):
                tree.connect_all(targets, connector, **options)
        with pytest.raises(TypeError, match="nonsense"):
            tree.connect_all(["web1"], nonsense=1)
        for options in ({"python": "python3"}, {"local": "python3"}, {"nonsense": {}}):
            with pytest.raises(TypeError, match="by connector"):
                tree.connect_all(["local:"], None, **options)
        with pytest.raises(ValueError, match="timeout"):
            tree.connect_all(["local:"], None, timeout=0)
        for fanout in (1, 0, True, "3"):
            with pytest.raises(ValueError, match="fanout"):
                tree.spread([sys.executable], "local", fanout=fanout)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="one step"):
            tree.spread(["local:/local:"], None)
        assert tree.nodes == []


def test_the_time_of_all_is_bounded(tmp_path: Path) -> None:
    with ramet.Tree(connecting_max=2) as tree:
        targets = [["sh", "-c", GATED, str(tmp_path)] for _ in range(3)]
        together = tree.connect_all(targets, "command", timeout=1)  # type: ignore[arg-type]
        assert together.result(HANGS_S) == []
        texts = [str(together.errors[node]) for node in together.nodes]
        assert all("within the 1 s" in text for text in texts)
        assert ["never its turn" in text for text in texts] == [False, False, True]
        until(lambda: tree.stats()["connecting"] == 0, "they go on connecting")
        again = tree.grow(moody(tmp_path, 99), retry=ramet.Retry(5, 1000, 1000))

        def said(seconds: float) -> str:
            together = tree.connect_all([{"never": "used"}], lambda _: moody(tmp_path, 99),  # type: ignore[list-item]
                                        timeout=seconds, retry=ramet.Retry(5, 1000, 1000))
            assert together.result(2 * HANGS_S) == []
            return str(together.errors[together.nodes[0]])
        why = "the last try failed: moody: it isn't in the mood"
        assert why in in_time(said, lambda text: why in text, 2)
        again.close()
    with ramet.Tree() as tree:
        together = tree.connect_all(targets[:1], "command", timeout=1000)  # type: ignore[arg-type]
        with pytest.raises(WaitTimeout):
            together.result(0.01)


def test_a_progress_callback_that_fails_spoils_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: seen.append(error))

    def bad(*_: object) -> None:
        raise RuntimeError("a bar that is broken")
    with ramet.Tree() as tree:
        assert len(tree.connect_all([sys.executable] * 2, "local", on_progress=bad).result(HANGS_S)) == 2
    assert [str(error) for error in seen] == ["a bar that is broken"] * 2


# ---------------------------------------------------------------------- through one another


def test_spread_grows_nodes_through_one_another() -> None:
    with ramet.Tree() as tree:
        together = tree.spread([sys.executable] * 14, "local", fanout=2)
        nodes = together.result(HANGS_S)
        assert len(nodes) == 14
        assert together.nodes == nodes
        children = [sum(one.parent == node for one in nodes) for node in [None, *nodes]]
        assert max(children) == 2
        assert children[0] == 2
        assert len({node.call(os.getpid) for node in nodes}) == 14


def test_spread_through_given_nodes_and_specs(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"""#!/bin/sh\nexec sh -c '{GATED}' {tmp_path} {sys.executable} "$@"\n""")
    python.chmod(0o700)
    with ramet.Tree() as tree:
        gate = tree.local(name="gate")
        dead = tree.command(["false"], name="dead")
        slow = f"local:?python={quote(str(python), safe='')}"
        together = tree.spread([slow] * 5, None, via=[dead, gate, "local:?name=other"], fanout=10)
        # None of them is there, and takes of the others, before both have taken theirs.
        until(lambda: lines(tmp_path / "started") == 5, "not so many are started")
        (tmp_path / "go").touch()
        nodes = together.result(HANGS_S)
        assert len(nodes) == 5
        assert {node.parent.name for node in nodes if node.parent} == {"gate", "other"}
        other = ramet.Tree()
        with other, pytest.raises(ValueError, match="this tree"):
            tree.spread(["local:"], None, via=[other.local()])


def test_a_spread_tells_of_each_node_once() -> None:
    """Also when the tree is closed, which looks for those that it hasn't told of."""
    progress: list[tuple[int, int]] = []
    with ramet.Tree() as tree:
        together = tree.spread([sys.executable] * 3, "local", fanout=2,
                               on_progress=lambda done, total, *_: progress.append((done, total)))
        assert len(together.result(HANGS_S)) == 3
    assert progress == [(1, 3), (2, 3), (3, 3)]


def test_spread_when_nobody_is_there_to_grow_them() -> None:
    with ramet.Tree() as tree:
        together = tree.spread(["local:"] * 3, None, via=[tree.command(["false"], name="dead")])
        assert together.result(HANGS_S) == []
        assert all("no node that was to grow it" in str(error) for error in together.errors.values())
        assert len(together.errors) == 3


def test_dead_hosts_hold_up_nobody_in_a_spread() -> None:
    with ramet.Tree() as tree:
        targets = ["no-such-python", "no-such-python", *[sys.executable] * 10, "no-such-python"]
        together = tree.spread(targets, "local", fanout=2)
        settled = dict(together)
        assert [settled[node].ok for node in together.nodes] == [target == sys.executable for target in targets]


def test_a_lost_branch_s_hosts_are_grown_through_another(tmp_path: Path) -> None:
    with ramet.Tree() as tree:
        branches = [tree.local(name="one").wait(HANGS_S), tree.local(name="two").wait(HANGS_S)]
        together = tree.spread([{"n": n} for n in range(6)], lambda _: gated(tmp_path), via=branches,  # type: ignore[misc]
                               fanout=10)
        until(lambda: lines(tmp_path / "started") == 6, "not so many are started")
        branches[0].cast(os._exit, 1)
        until(lambda: branches[0].error is not None, "it isn't lost")
        (tmp_path / "go").touch()
        nodes = together.result(HANGS_S)
        assert len(nodes) == 6
        assert {node.parent for node in nodes} == {branches[1]}
        assert not together.errors
        assert lines(tmp_path / "started") == 9


def test_who_was_connected_through_a_lost_branch_is_lost() -> None:
    with ramet.Tree() as tree:
        gate = tree.local(name="gate")
        nodes = tree.spread(["local:"] * 2, None, via=[gate]).result(HANGS_S)
        gate.cast(os._exit, 1)
        until(lambda: gate.error is not None, "it isn't lost")     # else it may still pass a call on
        for node in nodes:
            with pytest.raises(ramet.NodeLostError, match="node gate"):
                node.call(remote.add, 1, 1)


def test_kernel_and_modules_pass_each_link_once() -> None:
    with ramet.Tree(remember=False) as tree:
        gate = tree.local(name="gate").wait(HANGS_S)
        assert gate.call(remote.add, 1, 1) == 2

        def sent(nodes: list[ramet.Node]) -> tuple[int, int]:
            """Records and bytes that went to the gate for one call on each of these."""
            before = tree.stats()
            calls = [node.start(remote.from_own_module) for node in nodes]
            assert [call.result(HANGS_S) for call in calls] == [42] * len(nodes)
            after = tree.stats()
            return after["modules_sent"] - before["modules_sent"], after["bytes_out"] - before["bytes_out"]

        def grown(count: int) -> tuple[list[ramet.Node], int, int]:
            before = tree.stats()
            nodes = tree.spread([sys.executable] * count, "local", via=[gate]).result(HANGS_S)
            assert sent(nodes)[0] == 0      # the gate itself has used that module
            after = tree.stats()
            return nodes, after["bytes_out"] - before["bytes_out"], after["modules_sent"] - before["modules_sent"]
        _, size, parts = grown(1)
        assert parts > 0    # what a node needs to grow others
        more, more_size, more_parts = grown(4)
        assert more_parts == 0
        assert more_size / 4 < 2_500 < 10_000 < size     # names and calls only: the kernel isn't sent again
        links = gate.call(remote_branch.bytes_to_children)
        assert len(links) == 5
        assert all(link > 15_000 for link in links)     # each link below has had it, once
        assert max(links) < 1.5 * min(links)
        assert sent(more)[0] == 0
        again = gate.call(remote_branch.bytes_to_children)
        assert all(after - before < 1_000 for before, after in zip(links, again, strict=True))
