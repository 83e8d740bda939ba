"""A link that is lost while something is written to it. Without processes."""

from __future__ import annotations

import os

import pytest

from ramet.kernel import compat, loop_late
from ramet.kernel.links import Link
from ramet.kernel.loop import Loop


def test_a_link_that_is_buried_isnt_watched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who flushed it just then had the keeper watch a descriptor that was closed at once. The next link with that number
    couldn't be watched: ENOENT."""
    errors: list[BaseException] = []
    loop = Loop(errors.append)
    (fd_in, far_out), (far_in, fd_out) = compat.pipe(), compat.pipe()
    lost: list[str] = []
    link = Link(loop, lambda *_: None, lambda _, reason: lost.append(reason))
    link.open(fd_in, fd_out)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(fd_out, b"." * 65536)
    link.send((1, 2, 0), 0, b"more", True)
    forget = loop.forget

    def flushed_meanwhile(fd: int) -> None:
        forget(fd)
        if fd == fd_out:
            link.flush()    # by another thread: `longs.forget`, say
    monkeypatch.setattr(loop, "forget", flushed_meanwhile)
    link.close("it is silent")
    while not lost:
        loop.once()
    os.dup2(far_in, fd_out)     # the number is another one's now
    loop.watch(fd_out, bool)
    assert not errors
    forget(fd_out)
    loop_late.close(loop)
    for fd in far_in, far_out, fd_out:
        os.close(fd)
