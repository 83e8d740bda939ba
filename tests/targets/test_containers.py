"""Podman, Docker, LXC, LXD, Incus and Buildah for real, and what needs no daemon: chroot, unshare, nsenter, nspawn.

Each: grow, call, own module, a chain through it, no Python there, gone in mid-call, nothing left behind.
"""
from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ramet import AuthenticationError, ClosedError, ConnectError, NodeLostError, PythonNotFoundError, Tree
from ramet.testing import check_connector
from support import leaks, needs, remote
from support.eventually import until
from targets.containers import busybox_root, gone, nodes_in, run
from targets.ending import check_ending
from targets.kinds import PYTHON, TARGETS, Kind, ordinary

# Of a program: its node is in C code, with the GIL.
HANG = ("import re\ncall = node.start(re.match, '(a+)+$', 'a' * 100 + 'b')\n"
        "while not node.stats()['unresponsive']: time.sleep(0.01)\n")


@pytest.fixture(scope="module")
def kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    with TARGETS[request.param]() as target:
        yield Kind(request.param, target)


every_kind = pytest.mark.parametrize("kind", list(TARGETS), indirect=True, scope="module")
with_processes = pytest.mark.parametrize("kind", [name for name in TARGETS if name != "buildah"], indirect=True, scope="module")
with_images = pytest.mark.parametrize("kind", [name for name in TARGETS if name != "lxc"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A root folder with the host's /usr mounted in it, where that is possible."""
    needs.root()
    place = Path(tempfile.mkdtemp(prefix="rmt", dir="/var/tmp"))    # every account may pass through
    place.chmod(0o755)
    folder = busybox_root(place / "root")
    os.mknod(folder / "dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    (folder / "dev/null").chmod(0o666)
    if subprocess.run(["mount", "--bind", "-o", "ro", "/usr", str(folder / "usr")], capture_output=True).returncode:
        needs.lacking("the right to mount")
    yield folder
    run("umount", str(folder / "usr"))
    shutil.rmtree(place)


@every_kind
def test_a_node_in_a_container(tree: Tree, kind: Kind) -> None:
    node = kind.grow(tree)
    assert node.name == "full"
    assert node.call(remote.from_own_module) == remote.from_own_module()
    check_connector(kind.grow)


@every_kind
def test_the_search_for_a_python(tree: Tree, kind: Kind) -> None:
    """PATH of the container counts: busybox's shell searches along it."""
    assert kind.grow(tree, python=None).call(remote.add, 1, 1) == 2


@every_kind
def test_no_such_container(tree: Tree, kind: Kind) -> None:
    with pytest.raises(ConnectError, match="no such (container|instance)") as caught:
        kind.grow(tree, "nothing").wait(60)
    assert caught.value.stage == "start"
    assert "remedy" in str(caught.value)


@every_kind
@pytest.mark.parametrize("python", ["/no/such/python", None])
def test_no_python_in_there(tree: Tree, kind: Kind, python: str | None) -> None:
    with pytest.raises(PythonNotFoundError) as caught:
        kind.grow(tree, "bare", python=python).wait(60)
    assert caught.value.stage in ("start", "find-python")
    assert "python=" in str(caught.value)


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that every account may pass through to."""
    with tempfile.TemporaryDirectory(prefix="rmt", dir="/var/tmp") as folder:
        yield Path(folder)


@every_kind
def test_an_account_that_may_not(tree: Tree, kind: Kind, home: Path) -> None:
    """It can't enter what is there, nor have one made; the tree lives on."""
    node = ordinary(tree, home, **kind.env)
    options = [{"container": "full"}] + [{"container": None, **kind.own()}] * (kind.name in ("docker", "lxd", "incus"))
    for more in options:
        with pytest.raises(AuthenticationError, match="this account may not") as caught:
            kind.grow(node, **more).wait(60)
        assert caught.value.stage == "start"
        assert f"grow it from a root node: node.sudo().{kind.name}(...)" in caught.value.remedy
    assert node.call(remote.add, 2, 3) == 5


@every_kind
def test_a_chain_through_it(tree: Tree, kind: Kind) -> None:
    """From a node here into the container, and from there on."""
    child = kind.grow(kind.grower(tree)).local(name="within")
    further = child.local()
    assert further.call(os.path.exists, "/bin/busybox")
    assert further.call(remote.from_own_module) == remote.from_own_module()
    assert [node.name for node in (further.parent, further.parent.parent)] == ["within", "full"]


@every_kind
def test_killed_in_mid_call(tree: Tree, kind: Kind) -> None:
    """Nothing is left in there: the guardian in the container ends the node when its link is cut."""
    node = kind.grow(tree)
    space = node.call(os.readlink, "/proc/self/ns/pid")
    call = node.start(time.sleep, 60)
    node.kill()
    with pytest.raises((ClosedError, NodeLostError)):
        call.result(60)
    assert gone(lambda: nodes_in(space))


@every_kind
def test_ended_from_outside(tree: Tree, kind: Kind) -> None:
    check_ending(lambda **more: kind.grow(tree, **more))


@with_processes
def test_gone_in_mid_call(kind: Kind, leak_check: Any) -> None:
    """The container ends, with all that runs in it."""
    with Tree() as tree:
        node = kind.grow(tree).wait(60)
        call = node.start(time.sleep, 600)
        kind.end("full")
        with pytest.raises(NodeLostError):
            call.result(60)
        with pytest.raises(ConnectError, match="run") as caught:
            kind.grow(tree).wait(60)
        assert caught.value.stage == "start"
        assert "start" in str(caught.value).partition("remedy: ")[2]
    left = leaks.leaked(leak_check.before)
    assert not left, left.describe()
    kind.begin("full")
    leak_check.accept()
    with Tree() as tree:
        assert kind.grow(tree).call(remote.add, 2, 3) == 5


@every_kind
def test_options(tree: Tree, kind: Kind) -> None:
    by_number = kind.name in ("lxc", "lxd", "incus")
    who: dict[str, Any] = {"uid": 65534, "gid": 65534} if by_number else {"user": "nobody"}
    node = kind.grow(tree, workdir="/tmp", env={"RMT": "yes and no"}, **who)
    assert node.call(os.getuid) == node.call(os.getgid) == 65534
    assert node.call(os.getcwd) == "/tmp"
    assert node.call(os.getenv, "RMT") == "yes and no"
    if not by_number:
        with pytest.raises(ConnectError, match="no such account"):
            kind.grow(tree, user="rmtnobody").wait(60)
    if kind.name != "buildah":      # makes it
        with pytest.raises(ConnectError, match="folder"):
            kind.grow(tree, workdir="/no/such/folder").wait(60)
    with pytest.raises(ConnectError, match="doesn't take its options"):
        kind.grow(tree, **{f"{kind.name}_args": ["--no-such-option"]}).wait(60)


@pytest.mark.parametrize("kind", ["lxd", "incus"], indirect=True, scope="module")
def test_what_an_instance_may_lack(tree: Tree, kind: Kind) -> None:
    with pytest.raises(ConnectError, match="no such remote"):
        kind.grow(tree, "far:full").wait(60)
    with pytest.raises(ConnectError, match="no such (project|instance)"):     # LXD 5.0 says only "Instance not found"
        kind.grow(tree, project="nothing").wait(60)
    elsewhere = tree.local(env={**kind.env, kind.target.folder_variable: str(kind.target.folder)})
    with pytest.raises(ConnectError, match="daemon can't be reached") as caught:
        kind.grow(elsewhere).wait(60)
    assert "see that it runs" in str(caught.value)


@with_images
def test_a_container_of_its_own(tree: Tree, kind: Kind) -> None:
    """Made from an image for the node, and gone with it."""
    before = kind.all()
    for python in (PYTHON, None):
        node = kind.grow(tree, None, python=python, **kind.own())
        assert node.call(remote.add, 2, 3) == 5
        assert len(kind.all() - before) == 1
        assert node.local().call(remote.from_own_module) == remote.from_own_module()
        node.close()
        assert gone(lambda: kind.all() - before)
    killed = kind.grow(tree, None, **kind.own())
    call = killed.wait(60).start(time.sleep, 600)
    killed.kill()
    with pytest.raises((ClosedError, NodeLostError)):
        call.result(30)
    assert gone(lambda: kind.all() - before)
    with pytest.raises(ConnectError, match="no such image") as caught:
        nothing = "rmt-nothing" if kind.name in ("lxd", "incus") else "localhost/rmt-nothing"
        kind.grow(tree, None, **{**kind.own(), "image": nothing}).wait(60)
    assert caught.value.stage == "start"
    with pytest.raises(PythonNotFoundError):
        kind.grow(tree, None, **{**kind.own(), "python": "/no/such/python"}).wait(60)
    assert gone(lambda: kind.all() - before)


@with_images
@pytest.mark.parametrize("hangs", [False, True], ids=["sleeping", "hanging in C"])
def test_the_controller_of_a_container_is_killed(kind: Kind, hangs: bool) -> None:
    """With SIGKILL, so that it can do nothing for it."""
    before = kind.all()
    host = {"host": kind.target.host} if kind.name == "docker" else {}
    options = {"python": None if hangs else PYTHON, **host, **kind.own()}
    program = (f"import ramet, time\ntree = ramet.Tree(keepalive_s=0.2)\nnode = tree.{kind.name}(**{options!r})\n"
               "node.wait(60)\n" + (HANG if hangs else "call = node.start(time.sleep, 1000)\n")
               + "print('ready', flush=True)\ntime.sleep(1000)\n")
    controller = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env={**os.environ, **kind.env})
    assert controller.stdout
    with controller.stdout:
        assert controller.stdout.readline() == b"ready\n"
    assert len(kind.all() - before) == 1
    controller.kill()
    controller.wait()
    assert gone(lambda: kind.all() - before)


@with_processes
def test_nsenter_by_name(tree: Tree, kind: Kind) -> None:
    more = ["-P", str(kind.target.path)] if kind.name == "lxc" else []
    grower = tree.local(env=kind.env)
    check_connector(lambda own: own.local(env=kind.env).nsenter("full", kind=kind.name, finder_args=more, python=PYTHON))
    node = grower.nsenter("full", kind=kind.name, finder_args=more, python=PYTHON)
    there = kind.grow(tree)
    for space in ("mnt", "net", "pid"):
        assert node.call(os.readlink, f"/proc/self/ns/{space}") == there.call(os.readlink, f"/proc/self/ns/{space}")
    assert node.local().call(remote.from_own_module) == remote.from_own_module()
    with pytest.raises(ConnectError, match="no such process or container"):
        grower.nsenter("nothing", kind=kind.name, finder_args=more).wait(30)
    with pytest.raises(PythonNotFoundError):
        grower.nsenter("bare", kind=kind.name, finder_args=more).wait(30)


def test_no_daemon(tree: Tree, tmp_path: Path) -> None:
    needs.program("docker")
    with pytest.raises(ConnectError, match="daemon can't be reached") as caught:
        tree.docker("any", host=f"unix://{tmp_path}/sock").wait(30)
    assert "see that it runs" in str(caught.value)


# ---------------------------------------------------------------------- without a daemon


@pytest.mark.parametrize("how", ["chroot", "unshare", "nsenter", "nspawn"])
def test_ended_from_outside_without_a_daemon(tree: Tree, root: Path, how: str) -> None:
    needs.program({"nspawn": "systemd-nspawn"}.get(how, how))
    ways: dict[str, Any] = {
        "chroot": lambda **more: tree.chroot(root, python=PYTHON, **more),
        "unshare": lambda **more: tree.unshare(["mount", "uts", "pid", "net"], python=PYTHON, **more),
        "nsenter": lambda **more: tree.nsenter(os.getpid(), namespaces=["uts", "net"], root=False, python=PYTHON, **more),
        "nspawn": lambda **more: tree.nspawn(root, nspawn_args=["--bind-ro=/usr", "--keep-unit"], python=PYTHON, **more),
    }
    check_ending(ways[how])


def test_who_is_not_root(tree: Tree, root: Path, home: Path) -> None:
    """An ordinary account may not do any of these."""
    node = ordinary(tree, home)
    attempts = [("chroot", node.chroot(root)), ("nsenter", node.nsenter(os.getpid())), ("unshare", node.unshare(["net"]))]
    if shutil.which("systemd-nspawn"):
        attempts.append(("nspawn", node.nspawn(root)))
    for name, attempt in attempts:
        with pytest.raises(AuthenticationError, match="this account may not") as caught:
            attempt.wait(60)
        assert caught.value.stage == "start", name
        assert "root node" in caught.value.remedy
    assert node.call(remote.add, 2, 3) == 5


def test_chroot(tree: Tree, root: Path) -> None:
    check_connector(lambda own: own.chroot(root, python=PYTHON))
    node = tree.chroot(root, python=PYTHON)
    assert sorted(node.call(os.listdir, "/")) == sorted(os.listdir(root))
    assert tree.chroot(root, userspec="nobody").call(os.getuid) == 65534
    with pytest.raises(ConnectError, match="no such folder"):
        tree.chroot(root / "nothing").wait(30)
    with pytest.raises(PythonNotFoundError):
        tree.chroot(root, python="/no/such/python").wait(30)


def test_unshare(tree: Tree) -> None:
    needs.root()
    needs.program("unshare")
    check_connector(lambda own: own.unshare(["mount", "uts", "pid", "net"], python=PYTHON))
    node = tree.unshare(["mount", "uts", "pid", "net"], python=PYTHON)
    assert node.call(os.readlink, "/proc/self/ns/net") != os.readlink("/proc/self/ns/net")
    assert len([name for name in node.call(os.listdir, "/proc") if name.isdigit()]) < 8     # its own, few
    with pytest.raises(PythonNotFoundError):
        tree.unshare(["uts"], python="/no/such/python").wait(30)


def test_a_node_that_hangs_in_process_ids_of_its_own_ends_with_its_program() -> None:
    """Where it was process 1 there, its guardian couldn't kill it."""
    needs.root()
    needs.program("unshare")
    program = ("import ramet, os, time\ntree = ramet.Tree(keepalive_s=0.2)\n"
               f"node = tree.unshare(['mount', 'pid'], python={PYTHON!r})\n"
               "print(node.call(os.readlink, '/proc/self/ns/pid'), flush=True)\n"
               f"{HANG}print('hangs', flush=True)\ntime.sleep(1000)\n")
    controller = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert controller.stdout
    with controller.stdout:
        space = controller.stdout.readline().strip()
        assert controller.stdout.readline() == "hangs\n"
    controller.kill()
    controller.wait()
    try:
        until(lambda: not inside(space), "it outlives its program")
    finally:
        for pid in inside(space):
            os.kill(pid, signal.SIGKILL)


def inside(space: str) -> list[int]:
    """The processes of a namespace of process ids."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{name}/ns/pid") == space:
                found.append(int(name))
    return found


def test_nsenter_by_pid(tree: Tree) -> None:
    needs.root()
    needs.program("nsenter")
    there = tree.unshare(["uts", "net"], python=PYTHON)
    check_connector(lambda own: own.nsenter(os.getpid(), namespaces=["uts", "net"], root=False, python=PYTHON))
    with pytest.raises(PythonNotFoundError, match="python="):
        tree.nsenter(os.getpid(), namespaces=["uts"], root=False, python="/no/such/python").wait(30)
    node = tree.nsenter(there.call(os.getpid), namespaces=["uts", "net"], root=False, python=PYTHON)
    assert node.call(remote.add, 2, 3) == 5
    assert node.call(os.readlink, "/proc/self/ns/net") == there.call(os.readlink, "/proc/self/ns/net")
    with pytest.raises(ConnectError, match="no such process"):
        tree.nsenter(2**22 - 3).wait(30)


def test_nspawn(tree: Tree, root: Path) -> None:
    needs.program("systemd-nspawn")
    options = {"nspawn_args": ["--bind-ro=/usr", "--keep-unit"], "python": PYTHON}
    node = tree.nspawn(root, **options)
    try:
        node.wait(30)
    except ConnectError as error:
        if "cgroup" in error.seen or "Operation not permitted" in error.seen:
            needs.lacking("systemd-nspawn's cgroups: " + error.seen[-200:])
        raise
    data = bytes(range(256)) * 4000
    assert node.call(remote.echo, data) == data
    assert node.local().call(remote.add, 2, 3) == 5
    assert node.call(remote.from_own_module) == remote.from_own_module()
    with pytest.raises(ConnectError, match="in use"):
        tree.nspawn(root, **options).wait(30)
    with pytest.raises(ConnectError, match="no such container"):
        tree.nspawn(root / "nothing").wait(30)


def test_nspawn_killed_in_mid_call(tree: Tree, root: Path) -> None:
    """Nothing is left: the folder can be used again at once, and no process of the container's is there."""
    needs.program("systemd-nspawn")
    for _ in range(2):
        node = tree.nspawn(root, nspawn_args=["--bind-ro=/usr", "--keep-unit"], python=PYTHON)
        space = node.call(os.readlink, "/proc/self/ns/pid")
        call = node.start(time.sleep, 600)
        node.kill()
        with pytest.raises((ClosedError, NodeLostError)):
            call.result(60)
        assert gone(lambda space=space: nodes_in(space))  # type: ignore[misc]
        assert gone(lambda: [line for line in run("ps", "-eo", "args").splitlines()
                             if "systemd-nspawn" in line.partition(" ")[0] and str(root) in line])


@pytest.mark.parametrize("python", ["/no/such/python", None])
def test_nspawn_without_a_python(tree: Tree, root: Path, python: str | None) -> None:
    needs.program("systemd-nspawn")
    with pytest.raises(PythonNotFoundError, match="python="):
        tree.nspawn(root, nspawn_args=["--tmpfs=/usr", "--keep-unit"], python=python).wait(60)
