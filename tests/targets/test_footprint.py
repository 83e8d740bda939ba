"""What a node leaves on its machine while it lives, and after: a name in ``ps``, no files; a bounded process."""
from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ramet
from support import leaks, needs, pythons, remote, remote_small
from support.eventually import until
from targets.sshd import HOST, Sshd

CALLS = ("open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,symlink,symlinkat,link,linkat,rename,renameat,renameat2,unlink,"
         "unlinkat,rmdir,truncate,ftruncate,chmod,fchmodat,memfd_create,mkfifo")  # fmt: skip

#: What may be opened for writing: no files.
DEVICES = ("/dev/null", "/dev/tty", "/dev/pts/", "/dev/ptmx", "/proc/self/")

THREADS_MAX = 4
DESCRIPTORS_MAX = 18


@pytest.fixture
def tree() -> Iterator[ramet.Tree]:
    with ramet.Tree(on_output=lambda node, stream, text: None) as tree:
        yield tree


def mine(name: str) -> list[leaks.Process]:
    """Every process in whose command line a node's name is."""
    return [process for process in leaks.processes() if name in process.command]


# ---------------------------------------------------------------------- ps


@pytest.mark.parametrize(("way", "label"), [
    *(("local", label) for label, _ in pythons.interpreters()), ("command", "2.7"), ("command", "3.13"), ("grandchild", "2.7"),
    ("grandchild", "3.13"),
])  # fmt: skip
def test_ps_shows_the_name_and_no_code(way: str, label: str, tree: ramet.Tree) -> None:
    python = needs.python(label)
    if way == "local":
        node = tree.local(python=python, name="seen")
    elif way == "command":
        node = tree.command(["env", "A=b"], python=python, name="seen")
    else:
        node = tree.local(python=python, name="above").local(name="seen")
    node.call(remote.from_own_module)
    ps = needs.program("ps")
    pids = ",".join(str(process.pid) for process in mine("seen"))
    lines = subprocess.run([ps, "-ww", "-o", "args=", "-p", pids], capture_output=True, text=True).stdout.splitlines()
    assert len(lines) == 2      # the node and its guardian
    for line in lines:
        assert re.fullmatch(r"\S*python\S*\(ramet:seen\) -B", line.strip()), line
    assert node.call(remote.interpreter)[2] == [""]


def test_ps_over_ssh(tree: ramet.Tree) -> None:
    with Sshd() as sshd:
        node = tree.ssh(HOST, name="seen", **sshd.by_key())
        pid = node.call(remote.pid)
        lines = [process.command for process in mine("seen") if not process.command.startswith("ssh ")]
        assert lines and all(re.fullmatch(r"\S*python\S*\(ramet:seen\) -B", line) for line in lines), lines
        assert Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:] == [b"-B", b""]
        client = next(process.command for process in mine("seen") if process.command.startswith("ssh "))
        assert "import zlib" not in client and len(client) < 1500
        node.close()
        tree.close()


# ---------------------------------------------------------------------- files


def traced(log: Path) -> list[str]:
    """Wrapper words that trace what follows, and all that it starts."""
    strace = needs.program("strace")
    if subprocess.run([strace, "-o", "/dev/null", "true"], capture_output=True).returncode:
        needs.lacking("ptrace")
    known = [call for call in CALLS.split(",") if not subprocess.run(
        [strace, "-e", f"trace={call}", "-o", "/dev/null", "true"], capture_output=True).returncode]
    return [strace, "-f", "-qq", "-e", "trace=" + ",".join(known), "-e", "signal=none", "-o", str(log)]


def written(log: Path) -> list[str]:
    """The system calls that made, changed or removed a file."""
    found = []
    for line in log.read_text(errors="replace").splitlines():
        call = re.match(r"\d+ +(\w+)\((.*)", line)
        if not call:
            continue        # the end of one that was interrupted, or an exit
        name, rest = call.groups()
        if re.search(r"= -1 E\w+", rest):
            continue        # looked for, not there
        path = re.search(r'"([^"]*)"', rest)
        is_open = name in ("open", "openat", "openat2")
        if is_open and not re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC|APPEND|TMPFILE)", rest):
            continue
        if path and path[1].startswith(DEVICES):
            continue
        found.append(line)
    return found


def live(node: ramet.Node) -> None:
    """A whole life: bootstrap, modules, failures, output, logs, lanes, a subprocess, a child."""
    assert node.call(remote.from_own_module) == 42
    with pytest.raises(ValueError):
        node.call(remote.fail, "traceback")
    node.call(remote.say, "h\xe9\n")
    node.call(remote.log, 30, "logged")
    assert node.call(remote.echo, b"x" * 1_000_000) == b"x" * 1_000_000
    assert node.options(lane="lane").call(remote.add, 1) == 1
    assert node.call(remote.shout_from_subprocess, "from below") == 0
    child = node.local()
    assert child.call(remote.from_own_module) == 42
    child.close()
    with pytest.raises(ramet.ConnectError):
        node.local(python="/no/such/python").wait()
    node.close()


@pytest.mark.parametrize("label", ["2.7", "3.6", "3.13"])
@pytest.mark.parametrize("env", [{}, {"PYTHONDONTWRITEBYTECODE": None}], ids=["as-it-is", "bytecode-allowed"])
def test_no_file_is_written(label: str, env: dict[str, None], tree: ramet.Tree, tmp_path: Path) -> None:
    log = tmp_path / "trace"
    wrapper = traced(log)
    node = tree.command(wrapper, python=needs.python(label), env={**env, "TMPDIR": str(tmp_path)})
    live(node)
    tree.close()
    assert "exit_group" not in CALLS and log.stat().st_size > 1000, "nothing was traced"
    assert written(log) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trace"]


def test_a_file_would_be_seen(tree: ramet.Tree, tmp_path: Path) -> None:
    node = tree.command(traced(tmp_path / "trace"))
    assert node.call(remote_small.can_write, str(tmp_path)) is None
    tree.close()
    found = written(tmp_path / "trace")
    assert [line.partition("(")[0].split()[1] for line in found] == ["openat", "unlink"]
    assert all(str(tmp_path) in line for line in found)


def test_no_file_is_written_behind_ssh(tree: ramet.Tree, tmp_path: Path) -> None:
    log = tmp_path / "trace"
    wrapper = traced(log)
    needs.root()        # the account must be able to write the log
    log.touch()
    for path in (log, *[parent for parent in log.parents if str(parent).startswith("/tmp/")]):
        path.chmod(path.stat().st_mode | (0o666 if path is log else 0o111))
    with Sshd() as sshd:
        node = tree.ssh(HOST, **sshd.by_key(python=[*wrapper, "/usr/bin/env", "python3"]))
        live(node)
        tree.close()
        assert sshd.home is not None and list(sshd.home.iterdir()) == []
    assert log.stat().st_size > 1000, "nothing was traced"
    assert written(log) == []


# ---------------------------------------------------------------------- an idle node


@pytest.mark.parametrize("label", ["2.7", "3.6", "3.13", "pypy"])
def test_an_idle_node_is_small_and_still(label: str, tree: ramet.Tree) -> None:
    """Threads and descriptors are bounded, there is one more process, and none of them wakes up."""
    node = tree.local(python=needs.python(label), name="idle")
    pid = node.call(remote.pid)
    for _ in range(50):
        node.call(remote.add, 1)
    processes = mine("idle")
    assert len(processes) == 2, processes
    until(lambda: len(os.listdir(f"/proc/{pid}/task")) <= THREADS_MAX, "it has more threads")
    for process in processes:
        assert len(os.listdir(f"/proc/{process.pid}/task")) <= THREADS_MAX
        assert len(os.listdir(f"/proc/{process.pid}/fd")) <= DESCRIPTORS_MAX
        what = "node" if process.pid == pid else "guardian"     # memory is measured by the bench; here it is only said
        print(f"{what} of Python {label}: {private(process.pid):.2f} MB of its own")
    woken: dict[int, int] = {}

    def is_still() -> bool:     # for some second: what is left to do after the calls may take its time
        before = {process.pid: switches(process.pid) for process in processes}
        time.sleep(1)
        woken.update({pid: switches(pid) - before[pid] for pid in before})
        return max(woken.values()) <= 3
    until(is_still, lambda: f"an idle node woke up {woken} times in a second")


def private(pid: int) -> float:
    """Memory that goes when a process ends, in MB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kilobytes) for kilobytes in re.findall(r"^Private_\w+: +(\d+) kB", text, re.MULTILINE)) / 1024


def switches(pid: int) -> int:
    """How often the threads of a process have waited."""
    count = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        text = Path(f"/proc/{pid}/task/{thread}/status").read_text()
        count += int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.MULTILINE)[0])
    return count


def test_ended_calls_and_children_leave_nothing_in_a_node(tree: ramet.Tree) -> None:
    node = tree.local(name="tidy")
    pid = node.call(remote.pid)
    node.local().call(remote.pid)       # the first child brings the parts that grow
    counts: list[int] = []

    def open_there() -> int:
        return len(os.listdir(f"/proc/{pid}/fd"))

    def no_more() -> bool:      # than after the first round; those of a child that is gone are closed a moment later
        return not counts or open_there() <= counts[0]
    for _ in range(3):
        for _ in range(5):
            child = node.local()
            child.call(remote.pid)
            child.close()
        with pytest.raises(ramet.ConnectError):
            node.local(python="/bin/false").wait()
        for _ in range(20):
            node.options(lane=ramet.ANY).start(remote.add, 1)
        node.call(remote.add, 1)
        until(lambda: len(mine("tidy")) + len([p for p in leaks.processes() if p.parent == pid]) <= 4, "a process stays")

        time.sleep(0.3)
        until(no_more, lambda: f"descriptors of a node after each round: {counts}, then {open_there()}")
        counts.append(open_there())
