"""A machine with systemd as its first process: run0, machinectl, nsenter, sudo and su in there, for real."""
from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ramet import AuthenticationError, ClosedError, ConnectError, Node, NodeLostError, PythonNotFoundError, Tree
from ramet.testing import check_connector
from support import needs, pythons, remote
from targets.booted import INNER, NAME, USER, WITHIN, Booted
from targets.containers import gone, nodes_in
from targets.ending import check_ending
from targets.every import check_python

PYTHON = "/usr/bin/python3"


@pytest.fixture(scope="module")
def machine() -> Iterator[Booted]:
    with Booted() as booted:
        booted.begin_inner()
        yield booted


def within(tree: Tree, machine: Booted) -> Node:
    """A node in the outer machine, as root."""
    spaces = ["mount", "uts", "ipc", "net", "pid", "cgroup"]
    return tree.nsenter(machine.leader, namespaces=spaces, python=PYTHON, name="within")


#: The ways to another account or machine from there: connector, its arguments, who one is then, and where.
WAYS: list[tuple[str, tuple[Any, ...], dict[str, Any], str, str]] = [
    ("run0", (), {}, "root", NAME),
    ("run0", (USER,), {}, USER, NAME),
    ("sudo", (USER,), {}, USER, NAME),
    ("su", (USER,), {}, USER, NAME),
    ("machinectl", (".host",), {}, "root", NAME),
    ("machinectl", (INNER,), {}, "root", INNER),
    ("machinectl", (INNER,), {"user": USER}, USER, INNER),
    ("nsenter", (INNER,), {"kind": "machinectl"}, "root", INNER),
]
each_way = pytest.mark.parametrize(("connector", "target", "options", "who", "where"), WAYS,
                                   ids=[" ".join([way[0], *way[1], *way[2].values()]) for way in WAYS])  # fmt: skip


@each_way
def test_every_way_there(
    tree: Tree, machine: Booted, connector: str, target: tuple[Any, ...], options: dict[str, Any], who: str, where: str,
) -> None:  # fmt: skip
    check_connector(lambda own: getattr(within(own, machine), connector)(*target, **options))
    node = getattr(within(tree, machine), connector)(*target, **options)
    assert node.call(remote.whoami) == who
    assert node.call(os.uname)[1] == where
    assert node.local().call(remote.from_own_module) == remote.from_own_module()


#: Those that a complete machine has in its roots, by what they are called here.
INSIDE = {f"{label} of {root.name}": (root, path) for label, root, path in pythons.in_roots()}


@pytest.mark.long
@pytest.mark.parametrize("which", INSIDE or ["roots"])
@pytest.mark.parametrize(("connector", "target"), [("run0", ()), ("machinectl", (INNER,)), ("machinectl", (".host",))],
                         ids=["run0", "machinectl", "machinectl .host"])  # fmt: skip
def test_every_python(tree: Tree, machine: Booted, connector: str, target: tuple[str, ...], which: str) -> None:
    """Of the machine itself, and of the systems whose roots it has."""
    if which not in INSIDE:
        needs.lacking(f"roots of other systems in {pythons.ROOTS} (make targets makes them)")
    root, path = INSIDE[which]
    words = [path] if root == machine.base else [*pythons.entering(WITHIN / root.name), path]
    node = getattr(within(tree, machine), connector)(*target, python=words)
    check_python(node, which)
    assert node.call(os.getuid) == 0


def test_from_an_account_by_a_rule_of_polkit(tree: Tree, machine: Booted) -> None:
    user = within(tree, machine).su(USER)
    assert user.run0().call(remote.whoami) == "root"
    assert user.sudo().call(remote.whoami) == "root"
    nobody = within(tree, machine).sudo("nobody")
    for attempt in (nobody.run0, lambda: nobody.machinectl(INNER)):
        with pytest.raises(AuthenticationError, match="may not do that") as caught:
            attempt().wait(60)
        assert "polkit" in str(caught.value)
        assert caught.value.stage == ("escalate" if attempt == nobody.run0 else "start")


@pytest.mark.parametrize(("connector", "target"), [("run0", ()), ("machinectl", (INNER,))])
def test_options(tree: Tree, machine: Booted, connector: str, target: tuple[str, ...]) -> None:
    start = getattr(within(tree, machine), connector)
    node = start(*target, workdir="/tmp", env={"RMT": "yes and no"}, group=USER)
    assert node.call(os.getcwd) == "/tmp"
    assert node.call(os.getenv, "RMT") == "yes and no"
    assert node.call(os.getgid) == 1000
    option = {"run0": "run0_args", "machinectl": "systemd_run_args"}[connector]
    for options, cause in (({"workdir": "/no/such/folder"}, "folder"), ({"group": "rmtnothing"}, "no such account or group"),
                           ({option: ["--no-such-option"]}, "doesn't take its options")):  # fmt: skip
        with pytest.raises(ConnectError, match=cause) as caught:
            start(*target, **options).wait(60)
        assert caught.value.stage == ("escalate" if connector == "run0" else "start")
        assert "remedy: " in str(caught.value)


def test_what_is_not_there(tree: Tree, machine: Booted) -> None:
    node = within(tree, machine)
    for connector, target, kind, cause in (
        ("run0", "rmtnobody", ConnectError, "no such account"), ("machinectl", "nothing", ConnectError, "no such machine"),
    ):  # fmt: skip
        with pytest.raises(kind, match=cause):
            getattr(node, connector)(target).wait(60)
    with pytest.raises(ConnectError, match="no such account"):
        node.machinectl(INNER, user="rmtnobody").wait(60)
    with pytest.raises(ConnectError, match="no such process or container"):
        node.nsenter("nothing", kind="machinectl").wait(60)
    for attempt in (node.run0(python="/no/such"), node.machinectl(INNER, python="/no/such")):
        with pytest.raises(PythonNotFoundError, match="python="):
            attempt.wait(60)


@pytest.mark.parametrize("connector", ["run0", "machinectl"])
def test_killed_in_mid_call(tree: Tree, machine: Booted, connector: str) -> None:
    """Nothing is left in there, not even a unit that failed."""
    node = getattr(within(tree, machine), connector)(*([INNER] if connector == "machinectl" else []))
    space = node.call(os.readlink, "/proc/self/ns/pid")
    call = node.start(time.sleep, 600)
    node.kill()
    with pytest.raises((ClosedError, NodeLostError)):
        call.result(60)
    assert gone(lambda: [line for line in nodes_in(space) if "(ramet:within)" not in line])
    assert gone(machine.units)


@pytest.mark.parametrize("connector", ["run0", "machinectl"])
def test_ended_from_outside(tree: Tree, machine: Booted, connector: str) -> None:
    start = getattr(within(tree, machine), connector)
    check_ending(lambda **more: start(*([INNER] if connector == "machinectl" else []), **more))
    assert gone(machine.units)


def test_gone_in_mid_call(machine: Booted, leak_check: Any) -> None:
    with Tree() as tree:
        outer = within(tree, machine)
        node = outer.machinectl(INNER).wait(60)
        call = node.start(time.sleep, 600)
        machine.end_inner()
        with pytest.raises(NodeLostError):
            call.result(60)
        assert gone(lambda: INNER in machine.inside("machinectl", "list", "--no-legend"))
        with pytest.raises(ConnectError, match="no such machine that runs"):
            outer.machinectl(INNER).wait(60)
        assert outer.call(remote.add, 2, 3) == 5
    machine.begin_inner()
    leak_check.accept()
