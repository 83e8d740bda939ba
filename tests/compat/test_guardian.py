"""The guardian, beside a process that stands for a node: in every interpreter, with real signals."""
from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from support import booting, kernel_shim, pythons
from support.eventually import HANGS_S, all_end, is_gone

pytestmark = pytest.mark.parametrize(
    "python", [pytest.param(path, id=label) for label, path in pythons.interpreters()])

# A node: its link is descriptor 0 or what is named, it tells things on descriptor 3, and does as the code says.
NODE = """
import os, sys, time
from ramet.kernel import compat, ending, guardian, loop, loop_late, output
link, tell, grace, keepalive = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), eval(sys.argv[4])
guardian.stall_s = 1
BEFORE
fds = guardian.start(link, grace, keepalive)
def say(text):
    os.write(tell, (text + "\\n").encode())
say("%d %d" % (os.getpid(), guardian.life[2]))
"""
HANG_IN_C = "import re; re.match('(a?){28}a{28}', 'a' * 28); re.match('(a*)*b', 'a' * 64)\n"


class Pretender:
    """A running node, its guardian, and our ends of its link and of the pipe on which it tells things."""

    def __init__(self, python: str, code: str, grace_s: float, pipe: bool, keepalive: object, merged: bool,
                 before: str) -> None:
        if pipe:
            theirs, ours = os.pipe()
        else:
            near, far = socket.socketpair()
            theirs, ours = far.detach(), near.detach()
        told, tell = os.pipe()
        argv = [python, kernel_shim.__file__, "-c", NODE.replace("BEFORE", before) + code, str(theirs), str(tell), str(grace_s),
                repr(keepalive)]
        if merged:
            argv = ["sh", "-c", 'exec "$@" >&2', "sh", *argv]
        self.process = subprocess.Popen(argv, pass_fds=(theirs, tell), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        env=booting.environment())  # fmt: skip
        os.close(theirs)
        os.close(tell)
        self.link: int | None = ours
        self.told = open(told)
        first = self.line()
        assert first, self.process.communicate()[1].decode()
        self.pid, self.guardian = map(int, first.split())
        with contextlib.suppress(FileNotFoundError, PermissionError):    # it is over already, or a zombie of an ordinary user
            while len(os.listdir(f"/proc/{self.guardian}/fd")) > 8:     # it closes what it doesn't need; and then the rest
                time.sleep(0.001)

    def line(self) -> str:
        """The next thing that the node tells."""
        return self.told.readline().strip()

    def hang_up(self) -> None:
        if self.link is not None:
            os.close(self.link)
        self.link = None

    def gone(self, *pids: int) -> None:
        """Wait until the node, its guardian and these are gone."""
        self.process.wait(HANGS_S)
        all_end(self.guardian, *pids)


@contextlib.contextmanager
def node(python: str, code: str, grace_s: float = 0.3, pipe: bool = False, keepalive: object = None,
         merged: bool = False, before: str = "") -> Iterator[Pretender]:
    made = Pretender(python, code, grace_s, pipe, keepalive, merged, before)
    try:
        yield made
    finally:
        made.hang_up()
        for pid in (made.pid, made.guardian):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        made.process.wait()
        made.told.close()
        assert made.process.stderr
        made.process.stderr.close()


SUBPROCESSES = """
import subprocess
others = [subprocess.Popen(["sleep", "100"]), subprocess.Popen(["sh", "-c", "trap '' TERM HUP INT; sleep 100 & wait"])]
time.sleep(0.2)
say(" ".join(str(other.pid) for other in others))
"""


@pytest.mark.parametrize("pipe", [False, True], ids=["socket", "pipe"])
def test_hang_up_ends_a_node_that_does_nothing(python: str, pipe: bool) -> None:
    with node(python, SUBPROCESSES + "time.sleep(100)", pipe=pipe) as it:
        others = list(map(int, it.line().split()))
        began = time.monotonic()
        it.hang_up()
        it.gone(*others)
        assert time.monotonic() - began >= 0.3, "it had no time to go by itself"
        assert it.process.returncode == -9


def test_half_a_hang_up_counts(python: str) -> None:
    with node(python, "time.sleep(100)") as it:
        assert it.link is not None
        with socket.socket(fileno=os.dup(it.link)) as link:
            link.shutdown(socket.SHUT_WR)
        it.gone()


def test_what_comes_on_the_link_is_left_to_the_node(python: str) -> None:
    with node(python, "time.sleep(.5); say(repr(os.read(link, 99))); time.sleep(100)") as it:
        assert it.link is not None
        os.write(it.link, b"hello")
        assert it.line().endswith("'hello'")
        assert not is_gone(it.guardian)


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGSEGV], ids=["SIGKILL", "SIGSEGV"])
def test_dead_node_takes_its_subprocesses_along(python: str, way: int) -> None:
    with node(python, SUBPROCESSES + "time.sleep(100)", grace_s=1000) as it:
        others = list(map(int, it.line().split()))
        os.kill(it.pid, way)
        it.gone(*others)


def test_dead_node_with_forked_children(python: str) -> None:
    """They inherit what os.fork gives them; where that can't be changed, it takes the guardian up to two seconds."""
    code = "pid = os.fork()\nif pid: say(str(pid))\ntime.sleep(1000)"
    with node(python, code, grace_s=1000) as it:
        child = int(it.line())
        os.kill(it.pid, signal.SIGKILL)
        it.gone(child)


def test_stopped_node(python: str) -> None:
    with node(python, SUBPROCESSES + "time.sleep(100)") as it:
        others = list(map(int, it.line().split()))
        os.killpg(it.pid, signal.SIGSTOP)
        it.hang_up()
        it.gone(*others)


def test_node_that_holds_the_gil(python: str) -> None:
    with node(python, "say('begin'); " + HANG_IN_C) as it:
        it.line()
        it.hang_up()
        it.gone()


def test_signals_to_the_group_do_not_reach_the_guardian(python: str) -> None:
    code = "import signal\nfor n in (1, 2, 3, 15): signal.signal(n, signal.SIG_IGN)\nsay('ready')\ntime.sleep(100)"
    with node(python, code) as it:
        it.line()
        assert os.getsid(it.guardian) == it.guardian != os.getsid(it.pid) and os.getpgid(it.pid) == it.pid
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
            os.killpg(it.pid, number)
            os.kill(it.guardian, number)
        time.sleep(0.1)
        assert not is_gone(it.pid) and not is_gone(it.guardian)


def test_node_leaves_by_itself(python: str) -> None:
    """Nothing is left then, no zombie of the guardian's either; subprocesses end before the node does."""
    code = SUBPROCESSES + """
ending.sweep_group()
statuses = [other.wait() for other in others]
ending.leave()
try:
    os.waitpid(-1, 0)
except OSError:
    say(str(statuses))
os._exit(7)
"""
    with node(python, code) as it:
        others = list(map(int, it.line().split()))
        assert it.line() == "[-9, -9]"
        it.gone(*others)
        assert it.process.returncode == 7


@pytest.mark.parametrize("how", ["killed", "leaves"])
def test_process_groups_that_were_told_of_end_with_the_node(python: str, how: str) -> None:
    """And not those that were told of twice."""
    code = """
import subprocess
sessions = [subprocess.Popen(["sleep", "1000"], preexec_fn=os.setsid) for _ in range(3)]
for other in sessions + sessions[2:]:
    ending.tell_guardian(other.pid)
say(" ".join(str(other.pid) for other in sessions))
sys.stdin.readline()
""" + {"killed": "time.sleep(1000)", "leaves": "ending.sweep_group(); ending.leave(); os._exit(0)"}[how]
    with node(python, code) as it:
        *ended, kept = map(int, it.line().split())
        if how == "killed":
            os.kill(it.pid, signal.SIGKILL)
        it.gone(*ended)
        assert not is_gone(kept)
        os.kill(kept, signal.SIGKILL)


def test_guardian_holds_only_what_it_needs(python: str) -> None:
    with node(python, "say('ready'); time.sleep(100)", pipe=True) as it:
        it.line()
        kept = {int(fd): os.readlink(f"/proc/{it.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{it.pid}/fd")}
        assert kept[0] == "/dev/null" and kept[1].startswith("pipe:") and kept[2].startswith("pipe:") and kept[1] != kept[2]
        assert len(kept) == 3 + 2 + 4, kept     # 0-2, link and tell, life, words and the two relays


def test_subprocesses_inherit_nothing_of_it(python: str) -> None:
    code = """
import subprocess
say(str(sorted(int(n) for n in subprocess.check_output(["ls", "/proc/self/fd"], close_fds=False).split())))
time.sleep(100)"""
    with node(python, code) as it:
        seen = eval(it.line())
        assert len(set(seen) - {0, 1, 2}) <= 3, seen    # link and tell are the test's own doing, one is ls's


# ---------------------------------------------------------------------- output

FORWARD = """
got = {1: [], 2: []}
the_loop = loop.Loop(lambda error: say("error %r" % (error,)))
def take(stream, data):
    got[stream].append(data)
    forwarder.shown = forwarder.sent
forwarder = output.Forwarder(the_loop, fds, take)
ended = []
def run():
    the_loop.run()
    ended.append(1)
compat.start_thread(run, ())
output.replace_standard_streams()
def tell_all():
    ending.finish(forwarder, compat.monotonic() + 1000)
    for n in (1, 2):
        say(repr(b"".join(got[n]).decode("utf-8")).lstrip("u"))
    ending.leave()
    os._exit(0)
"""


def told(it: Pretender) -> list[Any]:
    return [eval(it.line()) for _ in (1, 2)]


def test_output_of_all_kinds(python: str) -> None:
    code = FORWARD + """
import subprocess
print("a print"); sys.stderr.write("an error\\n")
os.system("echo a system; echo its error >&2")
subprocess.call(["echo", "a subprocess"])
os.write(1, b"raw")
tell_all()
"""
    with node(python, code) as it:
        assert told(it) == ["a print\na system\na subprocess\nraw", "an error\nits error\n"]
        it.gone()


def test_any_text_can_be_printed(python: str) -> None:
    code = FORWARD + """
print(u"\\xe9\\u20ac\\ud800"); sys.stdout.write(u"no newline \\u2713")
if sys.version_info[0] == 2:
    print("\\xc3\\xa9 bytes"); sys.stdout.writelines([u"x", "y\\n"])
else:
    print("\\xe9 bytes"); sys.stdout.writelines(["x", "y\\n"])
say(sys.stdout.encoding)
tell_all()
"""
    with node(python, code) as it:
        assert it.line().lower() == "utf-8"
        text, errors = told(it)
        # 2.7's own UTF-8 takes lone surrogates
        assert text.replace("\ud800", "\\ud800") == "\xe9\u20ac\\ud800\nno newline \u2713\xe9 bytes\nxy\n" and not errors


def test_a_line_is_sent_when_it_is_complete(python: str) -> None:
    code = FORWARD + """
sys.stdout.write("whole\\n"); sys.stdout.write("part")
while not got[1]: time.sleep(.01)
time.sleep(.05)
say(repr(b"".join(got[1]).decode()).lstrip("u"))
tell_all()
"""
    with node(python, code) as it:
        assert eval(it.line()) == "whole\n"
        assert told(it) == ["whole\npart", ""]


def test_much_output_is_complete_and_in_order(python: str) -> None:
    code = FORWARD + """
for n in range(40000): print("line %d" % n)
tell_all()
"""
    with node(python, code) as it:
        assert told(it)[0] == "".join(f"line {n}\n" for n in range(40000))


# A clock that the test sets, also for the guardian; and how much lies in a pipe.
CLOCK = """
import mmap, struct
clock = mmap.mmap(-1, 8)
compat.monotonic = lambda: struct.unpack("d", clock[:8])[0]
"""
PIPES = """
import array, fcntl, threading
def lies_in(fd):
    count = array.array("i", [0])
    fcntl.ioctl(fd, 0x541B, count)      # FIONREAD
    return count[0]
"""


def test_a_writer_waits_for_a_reader(python: str) -> None:
    """Not reading for a shorter time than ``stall_s`` loses nothing and lets the writer wait, in bounded memory."""
    code = PIPES + """
sizes = []
def write():
    for _ in range(100): sizes.append(os.write(1, b"x" * 10000))
writer = threading.Thread(target=write)
writer.start()
while lies_in(1) < 60000 or lies_in(fds[0]) < 60000: time.sleep(.001)
clock[:8] = struct.pack("d", 0.9)
time.sleep(.2)
held = sum(sizes)
seen = b""
while writer.is_alive() or len(seen) < sum(sizes):      # a write may be a short one
    try: seen += os.read(fds[0], 65536)
    except OSError: time.sleep(.001)
say("%d %d" % (held, sum(sizes) - len(seen)))
time.sleep(100)
"""
    with node(python, code, before=CLOCK) as it:
        held, missing = map(int, it.line().split())
        assert held < 300_000 and missing == 0


def test_nothing_is_dropped_while_the_node_says_that_it_waits(python: str) -> None:
    """By a clock that the test sets: it passes ``stall_s`` many times, and never between two words."""
    code = PIPES + """
sizes = []
def write():
    for _ in range(100): sizes.append(os.write(1, b"x" * 10000))
writer = threading.Thread(target=write)
writer.start()
while lies_in(1) < 60000 or lies_in(fds[0]) < 60000: time.sleep(.001)
for n in range(20):
    os.write(guardian.life[1], b"99999999 ")
    while lies_in(guardian.life[1]): time.sleep(.001)
    clock[:8] = struct.pack("d", (n + 1) * 0.7)
seen = b""
while b"[" not in seen and (writer.is_alive() or len(seen) < sum(sizes)):
    try: seen += os.read(fds[0], 65536)
    except OSError: time.sleep(.001)
say("%d %r" % (sum(sizes) - len(seen), b"[" in seen))
time.sleep(100)
"""
    with node(python, code, before=CLOCK) as it:
        assert it.line() == "0 False"


def test_a_write_under_the_gil_ends(python: str) -> None:
    """More output than the pipes hold, while nobody can read it: it is dropped after a while, and counted."""
    code = FORWARD + """
loop_late.stop(the_loop)
while not ended: time.sleep(.001)
start = compat.monotonic()
wrote = sum([os.write(1, b"y" * 10000) for _ in range(100)])    # nobody reads: as if the GIL were held all the time
took = compat.monotonic() - start
the_loop.running = True
compat.start_thread(run, ())
while b"]" not in b"".join(got[1]): time.sleep(.001)
os.write(1, b"after")
ending.finish(forwarder, compat.monotonic() + 1000)
text = b"".join(got[1]).decode()
for note in re.findall(r"\\[.*?\\]", text): say(note)      # more than one, if the guardian took its time
say("%d %d %s" % (took, wrote - re.sub(r"\\[.*?\\]", "", text).count("y"), text[-5:]))
ending.leave()
os._exit(0)
"""
    with node(python, "import re\n" + code) as it:
        dropped = 0
        while (line := it.line()).startswith("["):
            count = int(line.split()[1])
            assert line == f"[ramet: {count} bytes of output dropped]"
            dropped += count
        took, missing, last = line.split()
        assert int(took) >= 1 and last == "after"
        assert dropped == int(missing) > 500_000


def test_a_killed_guardian_hinders_nobody(python: str) -> None:
    with node(python, "os.read(link, 1); ending.sweep_group(); ending.leave(); os._exit(5)") as it:
        assert it.link is not None
        os.kill(it.guardian, signal.SIGKILL)
        all_end(it.guardian)
        os.write(it.link, b"!")
        it.gone()
        assert it.process.returncode == 5


def test_finish_does_not_wait_for_what_runs_on(python: str) -> None:
    code = FORWARD + """
import subprocess
other = subprocess.Popen(["sh", "-c", "echo started; sleep 1000"])
while not got[1]: time.sleep(.01)
ending.finish(forwarder, compat.monotonic() + 1000)
say(str(other.wait()))
ending.leave()
os._exit(0)
"""
    with node(python, code) as it:
        assert it.line() == "-9"


def test_nothing_is_written_to_a_file(python: str) -> None:
    with node(python, FORWARD + "print('x'); say('ready'); time.sleep(100)") as it:
        it.line()
        for pid in (it.pid, it.guardian):
            targets = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            assert all(t == "/dev/null" or t.split(":")[0] in ("pipe", "socket", "anon_inode") for t in targets), targets


def test_guardian_is_small(python: str) -> None:
    """What of its memory is its own, in KiB. The rest is the node's, shared for as long as the node doesn't change it."""
    with node(python, FORWARD + "import gc; gc.collect(); say('ready'); time.sleep(100)") as it:
        it.line()
        with open(f"/proc/{it.guardian}/smaps_rollup") as file:
            sizes = {line.split()[0]: int(line.split()[1]) for line in file.readlines()[1:]}
        if "pypy" in python:    # its memory for new objects alone is 4 MB or more
            assert sizes["Private_Dirty:"] < 30000, sizes
        else:
            assert sizes["Private_Dirty:"] < (3500 if python.endswith(("2.7", "3.6")) else 2000), sizes


# ---------------------------------------------------------------------- keepalive


def test_it_vouches_for_a_node_that_does_not_read_but_runs(python: str) -> None:
    with node(python, HANG_IN_C, pipe=True, keepalive=(0.1, 1000)) as it:
        assert it.link is not None and it.process.stderr is not None
        os.write(it.link, b"are you there?")
        assert it.process.stderr.read(3) == b"\0\0\0"
        assert not is_gone(it.pid)


def test_it_does_not_vouch_for_a_node_that_reads(python: str) -> None:
    """Twenty looks are more than enough to see it wrongly."""
    with node(python, "time.sleep(1); say('over'); time.sleep(100)", pipe=True, keepalive=(0.05, 1000)) as it:
        assert it.process.stderr is not None
        assert it.line() == "over"
        os.kill(it.pid, signal.SIGKILL)
        it.gone()
        assert it.process.stderr.read() == b""


def test_it_does_not_vouch_for_a_node_that_is_stopped_and_ends_it(python: str) -> None:
    """Though its link is up."""
    with node(python, SUBPROCESSES + "os.kill(os.getpid(), 19)", pipe=True, keepalive=(0.05, 0.5)) as it:
        assert it.link is not None and it.process.stderr is not None
        others = list(map(int, it.line().split()))
        os.waitid(os.P_PID, it.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(BrokenPipeError):      # it has been ended meanwhile
            os.write(it.link, b"are you there?")
        it.gone(*others)
        assert it.process.returncode == -signal.SIGKILL
        assert it.process.stderr.read() == b""


def test_it_does_not_vouch_where_stderr_is_the_link(python: str) -> None:
    with node(python, "time.sleep(1); say('over'); time.sleep(100)", pipe=True, keepalive=(0.05, 1000), merged=True) as it:
        assert it.link is not None and it.process.stderr is not None
        os.write(it.link, b"are you there?")
        assert it.line() == "over"
        it.hang_up()
        it.gone()
        assert it.process.stderr.read() == b""
