"""However a program ends, and whatever it does with its children: programs of their own, of which nothing may be left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.source import TOP

LONG_S = 120

HEAD = """
import asyncio, atexit, gc, os, signal, subprocess, sys, threading, time, weakref
{before}
import ramet
from support import remote

def main():
"""


def program(tmp_path: Path, body: str, before: str = "") -> tuple[int, str, str]:
    """Run a main function: (status, stdout, stderr)."""
    script = tmp_path / "program.py"
    lines = "".join(f"    {line}\n" for line in body.strip("\n").splitlines())
    script.write_text(HEAD.format(before=before) + lines + "\nif __name__ == '__main__':\n    main()\n")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TOP / "src"), str(TOP / "tests")])}
    done = subprocess.run([sys.executable, str(script)], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=LONG_S)
    return done.returncode, done.stdout, done.stderr


GROW = "tree = ramet.Tree(); node = tree.local(); below = node.local(); print(below.call(remote.add, 1, 2), flush=True)\n"

QUIET = {
    "a global tree that nobody closes": "global tree, node\n" + GROW,
    "exit handlers of its own that use the tree": "atexit.register(lambda: print(node.call(remote.add, 2, 2)))\n" + GROW,
    "a daemon thread that calls until the end":
        GROW + "def work():\n    while True:\n        try:\n"
        "            node.start(remote.add, 1).exception()\n        except ramet.ClosedError:\n            pass\n"
        "threading.Thread(target=work, daemon=True).start()\nnode.call(remote.add, 1)",
    "a daemon thread that waits for a reply":
        GROW + "waiting = threading.Thread(target=lambda: node.start(remote.sleep, 1000).exception(), daemon=True)\n"
        "waiting.start(); time.sleep(0.1)",
    "a generator that is never ended":
        "def growing():\n    with ramet.Tree() as tree:\n        node = tree.local()\n        while True:\n"
        "            yield node.call(remote.add, 1, 2)\n"
        "global held; held = growing(); print(next(held))",
    "a generator that is dropped":
        "def growing():\n    with ramet.Tree() as tree:\n        node = tree.local()\n        while True:\n"
        "            yield node.call(remote.add, 1, 2)\n"
        "held = growing(); print(next(held)); del held; gc.collect()",
    "a tree that is dropped": GROW + "del tree, node, below; gc.collect(); time.sleep(0.1)",
    "a tree that is in a cycle, and a stream":
        GROW + "tree.me = [tree, node.stream(range, 100000)]; next(tree.me[1]); del tree",
    "a finalizer that closes it": GROW + "weakref.finalize(node, tree.close)",
    "closed by a callback": GROW + "node.start(remote.add, 1).add_done_callback(lambda _: tree.close()); time.sleep(0.5)",
    "closed twice, by two threads":
        GROW + "threads = [threading.Thread(target=tree.close) for _ in range(4)]\n[t.start() for t in threads]; tree.close()",
    "a thread that ends after the main one":
        GROW + "def work():\n    time.sleep(0.3)\n    node.call(remote.add, 1)\nthreading.Thread(target=work).start()",
    "tasks that are left in an event loop":
        "async def work():\n    tree = ramet.Tree()\n    node = await tree.local()\n"
        "    task = asyncio.ensure_future(asyncio.wrap_future(node.start(remote.sleep, 1000)))\n"
        "    print(await node.options(lane=ramet.ANY).start(remote.add, 1, 2))\nasyncio.run(work())",
}  # fmt: skip


@pytest.mark.parametrize("way", QUIET)
def test_a_program_ends_quietly_and_leaves_nothing(way: str, tmp_path: Path) -> None:
    status, said, errors = program(tmp_path, QUIET[way])
    assert (status, said.splitlines()[0], errors) == (0, "3", "")


def test_an_exit_handler_that_runs_behind_ours_is_told(tmp_path: Path) -> None:
    before = """atexit.register(lambda: late())
def late():
    try:
        node.call(len, 'a')
    except ramet.ClosedError as error:
        print(error)"""
    assert program(tmp_path, "global node\n" + GROW, before) == (0, "3\nthe tree is closed\n", "")


CLOSED_IN_A_HANDLER = """
signal.signal(signal.SIGTERM, lambda *_: tree.close())
threading.Timer(0.2, os.kill, (os.getpid(), 15)).start()
"""
CLOSED_IN_A_CALLBACK = """
go = os.path.join(os.path.dirname(__file__), "go")
call = node.start(subprocess.check_call, ["sh", "-c", 'until [ -e "$0" ]; do sleep 0.01; done', go])
call.add_done_callback(lambda _: tree.close())
threading.Timer(0.2, lambda: open(go, "w").close()).start()
"""


@pytest.mark.parametrize("begin", [CLOSED_IN_A_HANDLER, CLOSED_IN_A_CALLBACK], ids=["handler", "callback"])
def test_a_tree_that_is_closed_by_the_thread_that_reads(begin: str, tmp_path: Path) -> None:
    """It hung: it waited for what it would have read itself. Those that it is to wait for take far longer than it may."""
    body = """
tree = ramet.Tree(close_grace_s=1000); node = tree.local(); print(node.call(remote.add, 1, 2), flush=True)
""" + begin + """
try:
    node.options(lane="other").call(remote.sleep, 1000)
except ramet.ClosedError:
    print("closed")
"""
    assert program(tmp_path, body) == (0, "3\nclosed\n", "")


def test_a_handler_of_the_program_s_own_signal_may_use_nodes(tmp_path: Path) -> None:
    """It comes while its thread writes to a link, and waits until that is done."""
    body = GROW + """
said = []
def handler(*_):
    node.cast(abs, -1)
    said.append(node.call(abs, -2))
link = tree._core.routes.link_to(node.id)
for number in signal.SIGUSR1, signal.SIGUSR2:
    signal.signal(number, handler)
    def write(fd, data):
        link.write = os.write
        os.kill(os.getpid(), number)
        return os.write(fd, data)
    link.write = write
    said.append(node.call(abs, -3))
print(said)
tree.close()
"""
    assert program(tmp_path, body) == (0, "3\n[2, 3, 2, 3]\n", "")


WAIT_FOR_TERM = """signal.signal(signal.SIGTERM, lambda *_: sys.exit(8))
    threading.Timer(0.2, os.kill, (os.getpid(), 15)).start()
    node.call(remote.sleep, 1000)"""
WAIT_FOR_ALARM = """list(node.stream(iter, [1]))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(9)); signal.setitimer(signal.ITIMER_REAL, 0.2)
    node.call(remote.sleep, 1000)"""


@pytest.mark.parametrize(("ends", "status"), [
    ("sys.exit(5)", 5), ("raise SystemExit", 0), ("os._exit(6)", 6), ("sys.exit('a reason')", 1), ("os.abort()", -6),
    ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(100)", -15),
    ("signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); os.kill(os.getpid(), signal.SIGTERM); time.sleep(100)", 7),
    (WAIT_FOR_TERM, 8), (WAIT_FOR_ALARM, 9),
])
def test_ends_inside_the_block(ends: str, status: int, tmp_path: Path) -> None:
    body = "with ramet.Tree() as tree:\n    node = tree.local()\n    print(node.local().call(remote.add, 1, 2), flush=True)\n"
    body += "    " + ends
    got, said, errors = program(tmp_path, body)
    assert (got, said) == (status, "3\n")
    assert errors.strip() == ("a reason" if "reason" in ends else "") or status == -6


def test_what_callbacks_raise_harms_nobody(tmp_path: Path) -> None:
    body = """
def fail(*_):
    raise ZeroDivisionError
def leave(*_):
    sys.exit(1)
for callback in fail, leave:
    with ramet.Tree(on_output=callback) as tree:
        node = tree.local()
        node.call(remote.say, "line\\n")
        go = os.path.join(os.path.dirname(__file__), "go " + callback.__name__)
        call = node.start(subprocess.check_call, ["sh", "-c", 'until [ -e "$0" ]; do sleep 0.01; done', go])
        call.add_done_callback(callback)    # were the call over, it would be called here, and what it raises be the program's
        open(go, "w").close()
        call.result()
        tree.connect_all(["one", "two"], "local", on_progress=callback).result()
        print([node.call(remote.add, 1, n) for n in range(50)] == list(range(1, 51)), flush=True)
"""
    status, said, errors = program(tmp_path, body)
    assert (status, said) == (0, "True\nTrue\n"), errors
    assert "ZeroDivisionError" in errors


def test_an_excepthook_that_leaves_ends_no_thread_of_the_tree_s(tmp_path: Path) -> None:
    body = """
def hook(kind, error, trace):
    os.write(1, b"hook %s\\n" % kind.__name__.encode())
    sys.exit(1)
sys.excepthook = hook
def fail(*_):
    raise ZeroDivisionError
with ramet.Tree(on_output=fail) as tree:
    node = tree.local()
    node.call(remote.say, "line\\nanother\\n")
    tree._loop.call_soon(fail)
    tree._loop.call_soon(fail)
    node.options(timeout=0.01).start(remote.sleep, 1000).exception()      # which needs the keeper
"""
    status, said, errors = program(tmp_path, body)
    assert (status, said) == (0, "hook ZeroDivisionError\n" * 4), errors
    assert "SystemExit" in errors


def test_who_interrupts_the_end_again_and_again_leaves_nothing_undone(tmp_path: Path) -> None:
    """A thread that waits for a channel kept the program from ending."""
    body = """
tree = ramet.Tree(close_grace_s=1000)
channel = tree.channel()
def receive():
    try:
        channel.receive()
    except ramet.ClosedError:
        os.write(1, b"closed\\n")
thread = threading.Thread(target=receive); thread.start()
wait = threading.Event.wait
def interrupt(*_):
    threading.Event.wait = wait
    raise KeyboardInterrupt
threading.Event.wait = interrupt
try:
    tree.close()
except KeyboardInterrupt:
    os.write(1, b"interrupted\\n")
thread.join()
tree._keeper.join()
"""
    status, said, errors = program(tmp_path, body)
    assert (status, sorted(said.splitlines()), errors) == (0, ["closed", "interrupted"], "")


# ---------------------------------------------------------------------- the program's children

CHILDREN = """
def work(expected=None):
    with ramet.Tree() as tree:
        nodes = [tree.local(), tree.command(["env"], python=[sys.executable])]
        nodes.append(nodes[0].local())
        print([node.call(remote.add, 1, 2) for node in nodes], [node.run(["sh", "-c", "exit 3"]).returncode for node in nodes])
        try:
            tree.command(["sh", "-c", "exit 9"], python=[sys.executable]).wait()
        except ramet.ConnectError:
            print("no node")
        nodes[2].kill(); nodes[0].close()
        tree.fork().call(remote.pid)
work()
"""
SAID = "[3, 3, 3] [3, 3, 3]\nno node\n"


@pytest.mark.parametrize("way", ["a thread that reaps all", "a handler that reaps all", "ignored"])
def test_a_program_that_reaps_all_children(way: str, tmp_path: Path) -> None:
    before = {
        "a thread that reaps all": "def reap():\n    while True:\n        try:\n            os.waitpid(-1, 0)\n"
                                   "        except OSError:\n            time.sleep(0.001)\n"
                                   "threading.Thread(target=reap, daemon=True).start()",
        "a handler that reaps all": "def reap(*_):\n    try:\n        while os.waitpid(-1, os.WNOHANG)[0]:\n            pass\n"
                                    "    except OSError:\n        pass\nsignal.signal(signal.SIGCHLD, reap)",
        "ignored": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    }[way]
    assert program(tmp_path, CHILDREN, before) == (0, SAID, "")


def test_the_program_s_children_are_left_to_it(tmp_path: Path) -> None:
    """Their ends are seen by its handler, and their statuses are there when it asks."""
    body = """
seen = []
signal.signal(signal.SIGCHLD, lambda *_: seen.append(1))
pids = [os.spawnlp(os.P_NOWAIT, "sh", "sh", "-c", "exit %d" % n) for n in range(20)]
others = [subprocess.Popen(["sh", "-c", "exit %d" % n]) for n in range(20)]
""" + CHILDREN + """
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == list(range(20)))
print([other.wait() for other in others] == list(range(20)), bool(seen))
"""
    assert program(tmp_path, body) == (0, SAID + "True\nTrue True\n", "")


def test_a_program_that_was_started_with_ctrl_c_ignored(tmp_path: Path) -> None:
    """As a background job of a shell: what a node is told to end with reaches it all the same."""
    before = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    body = GROW + """
try:
    node.options(timeout=0.5).call(remote.sleep, 1000)
except ramet.CallTimeout:
    print("ended")
print(node.call(remote.add, 1, 1))
"""
    assert program(tmp_path, body, before) == (0, "3\nended\n2\n", "")


