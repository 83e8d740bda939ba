"""How a node that outlives its link lets that go: what was written to its descriptors 1 and 2 so far goes first.

Between a writer and the node stands the guardian, which reads a pipe, holds as much, and fills another one. So words are said
to it: between two that it has taken, it has passed on what there was. Late part of the kernel. On the keeper.
"""
import struct

from ramet.kernel import ending, guardian

MYPY = False
if MYPY:
    from typing import Any, Callable

# How often it is looked whether all is here, and what is read of each output at a look: so many times 64 KB.
look_s = 0.001
reads_max = 4

# How many words are said: when the last of the former was taken, all is here that nothing held up; of the latter, all that was
# written before the first.
words_min, words_max = 3, 7

# A word that is no process group.
NOTHING = 99999999


class Parting(object):
    """The end of one program's link.

    Args:
        keep_output: called when what is written from then on is for the next program.
    """

    def __init__(self, node, keep_output):
        # type: (Any, Callable[[], Any]) -> None
        self.node = node
        self.keep_output = keep_output
        self.link = node.core.routes.parent
        self.words = 0
        self.read = False   # all that was written?
        node.output.sent -= 1 << 60     # all of it is sent, shown or not

    def look(self):
        # type: () -> None
        """Do what can be done now, and so again until the link is closed."""
        if self.link.dead:
            return      # the program is gone, and the next one may be here
        if not self.read:
            self._read()
        if self.read and not self.link.armed:
            self.link.close("it was let go")
        else:
            self.node.loop.call_later(look_s, self.look)

    def _read(self):
        # type: () -> None
        for n in 0, 1:
            try:
                for _ in range(reads_max):
                    self.node.output.read(n)
            except EnvironmentError:
                pass    # there is no more for now; or that stream has ended
        if unread(guardian.life[1]):
            return
        if self.words == words_max or self.words >= words_min and not (unread(1) or unread(2)):
            self.read = True
            self.keep_output()
            self.link.flush()
        else:
            self.words += 1
            ending.tell_guardian(NOTHING)


def unread(fd):
    # type: (int) -> int
    """How many bytes wait in a pipe; 0 where that can't be told."""
    try:
        import fcntl
        import termios
        return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))[0])
    except (ImportError, EnvironmentError):
        return 0
