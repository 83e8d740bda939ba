"""Keepalive: finds neighbours from which nothing comes, since they are stopped, hang, or the way to them is gone.

Late part of the kernel, in every node and in the controller. One timer a node compares how many bytes have come over each link,
so nothing is done for a call, and a tree with traffic asks nobody. Must not know what a neighbour does. On the keeper.

========  =================================================  ==========================================================
looks     without a byte since the one before                what is done
========  =================================================  ==========================================================
1         it may just be idle                                it is asked: any answer is a sign of life, a refusal, too
2         it doesn't answer                                  it is *silent*; who wants to know is told, also when it is over
more      ``lost_after_s`` without any sign of life          the link is closed, and it is lost like any other
========  =================================================  ==========================================================

Signs of life that aren't bytes on the link are what a guardian writes for a node that can't answer, and for a process of this
machine that it runs. Looks are counted, not time: whoever was stopped or suspended himself takes nobody for dead.
"""
import os
import sys

from ramet.kernel.core import KEEPALIVE
from ramet.kernel.frames import CONTROL
from ramet.kernel.handles import SILENT

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, Iterator, Tuple

    from ramet.kernel.core import Core, Message

    Neighbour = Tuple[int, Any, Callable[[], Any]]

# A reply handle for answers of which nothing is wanted but that they come.
NOBODY = 0xffffffff


class Watch(object):
    """Looks after the links of one node, from now on and as long as its loop runs.

    Args:
        neighbours: gives (id, open link, a function whose result is another one after each other sign of life).
        on_silent: called with (id, True) when one is silent, and with (id, False) when it no longer is.
    """

    def __init__(self, core, keepalive_s, lost_after_s, neighbours, on_silent):
        # type: (Core, float, float, Callable[[], Iterator[Neighbour]], Callable[[int, bool], Any]) -> None
        self.core = core
        self.keepalive_s = keepalive_s
        self.lost_after_s = lost_after_s
        self.neighbours = neighbours
        self.on_silent = on_silent
        self.over = False       # set when nobody is to be looked after any more
        self.seen = {}  # type: Dict[int, Any]   # id -> [link, its bytes, other signs, looks without bytes, without any sign]
        core.loop.call_later(keepalive_s, self.look)

    def look(self):
        # type: () -> None
        """Look at each link once."""
        if self.over:
            return
        self.core.loop.call_later(self.keepalive_s, self.look)
        before, self.seen = self.seen, {}
        for id, link, signs in self.neighbours():
            seen = self.seen[id] = before.get(id) or [link, -1, 0, 0, 0]
            if seen[0] is not link or seen[1] != link.bytes_in:
                was = seen[3]
                seen[:2] = link, link.bytes_in
                seen[3:] = 0, 0
                if was > 1:
                    self.on_silent(id, False)
            else:
                self._silent(id, seen, signs)

    def _silent(self, id, seen, signs):
        # type: (int, Any, Callable[[], Any]) -> None
        """Nothing has come from one since the last look."""
        sign = signs()
        seen[3] += 1
        seen[4] += 1
        if sign and sign != seen[2]:     # 0: there is none, which isn't one, though it may be new
            seen[2] = sign
            seen[4] = 0
        if seen[4] * self.keepalive_s >= self.lost_after_s:
            seen[0].close("nothing has come over its link for %g s, and no answer: it is stopped, or the way to it is gone "
                          "(keepalive)" % self.lost_after_s)
            return
        self.core.send(id, KEEPALIVE, [], NOBODY, CONTROL)
        if seen[3] == 2:
            self.on_silent(id, True)


def children_of(nursery):
    # type: (Any) -> Iterator[Neighbour]
    """The children that are up, as ``Watch`` takes them."""
    for child in list(nursery.children.values()):
        if child.process and child.link.fd_in >= 0:
            yield child.id, child.link, lambda process=child.process: _signs(process)  # type: ignore[misc]


def _signs(process):
    # type: (Any) -> Any
    """What changes with each sign of life of a child's process: its guardian's word, or that a fork of ours runs."""
    vouched = getattr(process, "vouched", None)
    return vouched if vouched is not None else runs(process.pid)


def runs(pid):
    # type: (int) -> Any
    """Something new each time, if a process of this machine runs; 0 if it is stopped, gone, or that can't be known."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as stat:     # its name may be no text
            return 0 if stat.read().rpartition(b")")[2].split()[0] in (b"T", b"Z", b"X") else object()
    except EnvironmentError:
        return 0


def take(_, message):
    # type: (Any, Message) -> None
    """An ancestor has sent this part, and says so: look after the neighbours, as CONFIG tells."""
    begin(sys.modules["ramet.kernel.start"].node, lambda: runs(os.getppid()))


def begin(node, parent_runs):
    # type: (Any, Callable[[], Any]) -> None
    """Look after the neighbours of a node, unless that is done already. ``parent_runs``: as ``runs``, of the process above."""
    settings = node.config.get("keepalive")
    if not settings or getattr(node, "watch", None):
        return

    def neighbours():
        # type: () -> Iterator[Neighbour]
        # A parent on this machine can be seen to be busy. Of another one nothing but its bytes is known.
        yield node.core.routes.ancestors[0], node.core.routes.parent, lambda: settings[2] and parent_runs()
        if node.nursery:
            for child in children_of(node.nursery):
                yield child

    def on_silent(id, silent):
        # type: (int, bool) -> None
        if id != node.core.routes.ancestors[0]:
            node.core.tell(0, SILENT, [id, silent])
    node.watch = Watch(node.core, settings[0], settings[1], neighbours, on_silent)
