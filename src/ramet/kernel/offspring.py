"""The subprocesses of a call, and of these, so that they can be ended with it. Late part of the kernel.

Which ones are a call's own is told, from the surest to the least:

1. by its frames: ``subprocess.Popen`` and its like among their variables, or in lists and such there;
2. by what its thread waits for in the system just now: /proc/self/task/ID/syscall: a process's end; or a pipe whose other end
   is held by a process that was started since the call began, a moment before at most: ``os.popen(...).read()``, say;
3. by Linux, where it was built so: /proc/self/task/ID/children, as far as they were started since the call began;
4. for the main lane, by /proc: this process's children that were started since the call began, if no other lane has run a
   call in that time.

Times in /proc are in steps of 10 ms, so by 3 and 4 nothing is found that was started in a call's first moment: it might be what
the call before has left. By 2 it is: what is waited for is this call's. Of a request for a service, whose asker needn't be an
ancestor, nothing is taken that was there before it. What is one of ramet's own processes (guardian, children of the node) is
never a call's.
Any thread; reads /proc and sends signals, nothing else.
"""
import os
import stat
import sys
import time

from ramet.kernel import compat, guardian

MYPY = False
if MYPY:
    from typing import Any, Dict, Iterable, List, Optional, Set, Tuple

    from ramet.kernel.jobs import Job

    Stat = Tuple[int, int]      # its parent's id, and when it was started, in ticks: an id may be another process's later

# What stands for a process: the module and the name of its class.
CLASSES = (("subprocess", "Popen"), ("asyncio.subprocess", "Process"), ("multiprocessing.process", "BaseProcess"))

PROC = "/proc"

# Of how many items of a list among a frame's variables it is looked what they are.
HELD_MAX = 1000

# Machine -> number of a system call that waits for a process -> which of its arguments is the process id.
WAITS = {"x86_64": {61: 0, 247: 1}, "aarch64": {260: 0, 95: 1}, "riscv64": {260: 0, 95: 1}, "i686": {7: 0, 114: 0, 284: 1},
         "armv7l": {114: 0, 280: 1}, "ppc64le": {114: 0, 272: 1}, "s390x": {114: 0, 281: 1}}  # type: Dict[str, Dict[int, int]]

# Machine -> numbers of ``read`` and ``write``, whose first argument is a descriptor.
READS = {"x86_64": (0, 1), "aarch64": (63, 64), "riscv64": (63, 64), "i686": (3, 4), "armv7l": (3, 4), "ppc64le": (3, 4),
         "s390x": (3, 4)}   # type: Dict[str, Tuple[int, int]]


def of(job):
    # type: (Job) -> Dict[int, int]
    """A call's subprocesses and all below them, at this moment: process id -> when it was started (0: not known)."""
    table = _table()
    found = _in_frames(job)
    born = _ticks(compat.monotonic() - job.began) + 1
    found.update(_waited_for(job.task, _since(table, born - 2)))    # /proc/uptime may be a step behind: see ``_ticks``
    mine = _of_task(job.task)
    if mine is None and not job.lane and not _others_since(job):
        mine = list(table)
    found.update(set(mine or ()).intersection(_since(table, born)))
    if job.holds_own_only:
        found = set([pid for pid in found if pid in table and table[pid][1] >= born - 1])
    own = _of_ramet()
    return _with_descendants(table, [pid for pid in found - own if not table or table.get(pid, (0, 0))[0] == os.getpid()])


def own_task():
    # type: () -> int
    """The number by which the system knows the calling thread; 0 where neither Python tells, from 3.8 on, nor Linux."""
    told = getattr(sys.modules.get("_thread"), "get_native_id", None)
    try:
        return int(told() if told else os.readlink(PROC + "/thread-self").rpartition("/")[2])
    except (OSError, ValueError):
        return 0


def again(processes):
    # type: (Dict[int, int]) -> Dict[int, int]
    """These processes, as far as they are still there, and all below them."""
    table = _table()
    if not table:
        return processes
    return _with_descendants(table, [pid for pid, started in processes.items() if pid in table and table[pid][1] == started])


def signal(processes, number):
    # type: (Dict[int, int], int) -> None
    """Send each a signal, unless it has ended."""
    for pid, started in processes.items():
        stat = _stat(str(pid))
        if started and (not stat or stat[1] != started):
            continue
        try:
            os.kill(pid, number)
        except OSError:
            pass    # it has ended; or it is another user's, whom sudo has made it


def _with_descendants(table, pids):
    # type: (Dict[int, Stat], Iterable[int]) -> Dict[int, int]
    found = dict([(pid, table.get(pid, (0, 0))[1]) for pid in pids])
    more = True
    while more:
        more = False
        for pid, (parent, started) in table.items():
            if parent in found and pid not in found:
                found[pid] = started
                more = True
    return found


def _since(table, ticks):
    # type: (Dict[int, Stat], int) -> List[int]
    """This process's children that were started then or later."""
    return [pid for pid, (parent, started) in table.items() if parent == os.getpid() and started >= ticks]


def _stat(name):
    # type: (str) -> Optional[Stat]
    try:
        with open("%s/%s/stat" % (PROC, name), "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return int(fields[1]), int(fields[19])
    except (EnvironmentError, IndexError, ValueError):
        return None     # it has ended; there is no /proc


def _table():
    # type: () -> Dict[int, Stat]
    """All processes that can be seen; none where there is no /proc."""
    table = {}  # type: Dict[int, Stat]
    try:
        names = [name for name in os.listdir(PROC) if name.isdigit()]
    except OSError:
        return table
    for name in names:
        stat = _stat(name)
        if stat:
            table[int(name)] = stat
    return table


def _ticks(age_s):
    # type: (float) -> int
    """What /proc says of a process that was started so many seconds ago."""
    try:
        now = time.clock_gettime(7)     # CLOCK_BOOTTIME
    except (AttributeError, OSError):
        try:
            with open(PROC + "/uptime") as file:
                now = float(file.read().split()[0]) + 0.01      # it may be up to a step later than it says
        except (EnvironmentError, ValueError, IndexError):
            return 0
    return int((now - age_s) * os.sysconf("SC_CLK_TCK"))


def _of_task(task):
    # type: (int) -> Optional[List[int]]
    """The children that a thread of this process has started; None if the system doesn't tell."""
    try:
        with open("%s/self/task/%d/children" % (PROC, task)) as file:
            return [int(word) for word in file.read().split()]
    except (EnvironmentError, ValueError):
        return None


def _others_since(job):
    # type: (Job) -> bool
    """Whether another lane has run a call since this one began."""
    lanes = job.calls.lanes
    return bool(lanes and (lanes.running or lanes.last_end >= job.began))


def _in_frames(job):
    # type: (Job) -> Set[int]
    """The processes that a call's frames hold and that haven't ended."""
    classes = [getattr(sys.modules.get(module), name, None) for module, name in CLASSES]    # some are just being imported
    kinds = tuple([kind for kind in classes if isinstance(kind, type)])
    found = set()  # type: Set[Any]
    for frame in job.frames():
        for held in list(frame.f_locals.values()):
            inside = list(held.values()) if type(held) is dict else list(held) if type(held) in (list, tuple, set) else [held]
            for value in inside[:HELD_MAX]:
                try:
                    if isinstance(value, kinds) and getattr(value, "returncode", None) is None:
                        found.add(value.pid)  # type: ignore[attr-defined]
                except Exception:
                    pass    # it isn't what it says that it is
    return found - set([None])


def _waited_for(task, new):
    # type: (int, List[int]) -> List[int]
    """The processes for whose end, or whose input or output, a thread of this process waits in the system.

    Args:
        new: this process's children that were started since the call began, or a moment before.
    """
    try:
        with open("%s/self/task/%d/syscall" % (PROC, task)) as file:
            words = file.read().split()
        number, machine = int(words[0]), os.uname()[4]
        if number in WAITS[machine]:
            return [int(words[1 + WAITS[machine][number]], 16)]
        way = READS[machine].index(number)
        pipe = os.readlink("%s/self/fd/%d" % (PROC, int(words[1], 16)))
        return [pid for pid in new if pipe.startswith("pipe:") and pipe in _ends(pid, (stat.S_IWUSR, stat.S_IRUSR)[way])]
    except (EnvironmentError, ValueError, KeyError, IndexError):
        pass        # it waits for something else, or runs; this system doesn't tell
    return []


def _ends(pid, mode):
    # type: (int, int) -> List[str]
    """What a process has open to write, or to read, as /proc names it."""
    found = []
    folder = "%s/%d/fd/" % (PROC, pid)
    try:
        for name in os.listdir(folder):
            if os.lstat(folder + name).st_mode & mode:
                found.append(os.readlink(folder + name))
    except OSError:
        pass        # it has ended, or has closed that meanwhile; or it is another user's
    return found


def _of_ramet():
    # type: () -> Set[int]
    """The processes that belong to the node, not to a call: its guardian, its children."""
    found = set(guardian.life[2:3])
    node = getattr(sys.modules.get("ramet.kernel.start"), "node", None)
    for child in list(node.nursery.children.values()) if node and node.nursery else ():
        process = child.process or getattr(child.growth, "process", None)
        if process:
            found.add(process.pid)
    return found
