"""The loop by each of the systems' ways to wait. kqueue is played by a model of it on top of ``select``: this is Linux."""
from __future__ import annotations

import errno
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ramet.kernel import loop as loop_module
from ramet.kernel import loop_late
from ramet.kernel.loop import Loop, Select
from support.eventually import HANGS_S


class ModelQueue:
    """What kqueue(2) says of EVFILT_READ (-1) and EVFILT_WRITE (-2), with EV_ADD (1) and EV_DELETE (2)."""

    def __init__(self) -> None:
        self.filters: set[tuple[int, int]] = set()
        self.closed = False

    def control(self, changes: Any, most: int, seconds: float | None = None) -> list[Any]:
        for change in changes or ():
            key = change.ident, change.filter
            if change.flags == 1:
                os.fstat(change.ident)      # EBADF
                self.filters.add(key)
            elif key not in self.filters:
                raise OSError(errno.ENOENT, "no such filter")
            else:
                self.filters.remove(key)
        if not most:
            return []
        while True:     # an interest that another thread changes while this one waits counts at once
            wait = 0.01 if seconds is None else min(seconds, 0.01)
            interest = list(self.filters)
            fds = [[fd for fd, filter in interest if filter == which] for which in (-1, -2)]
            try:
                ready = select.select(fds[0], fds[1], [], wait)
            except OSError:     # EBADF: one was closed meanwhile. A kqueue forgets it with that
                self.filters -= {(fd, filter) for fd, filter in interest if not is_open(fd)}
                continue
            found = [SimpleNamespace(ident=fd, filter=-1) for fd in ready[0]]
            found += [SimpleNamespace(ident=fd, filter=-2) for fd in ready[1]]
            if found or seconds is not None:
                return found[:most]

    def close(self) -> None:
        self.closed = True


def is_open(fd: int) -> bool:
    return os.path.exists(f"/proc/self/fd/{fd}")


def kevent(ident: int, filter: int, flags: int) -> Any:
    return SimpleNamespace(ident=ident, filter=filter, flags=flags)


@pytest.fixture(params=["epoll", "kqueue", "poll", "select"])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Loop]:
    """Makes loops that wait in one way, on a system that has no better one."""
    way = request.param
    if way != "epoll":
        monkeypatch.delattr(select, "epoll")
    if way == "kqueue":
        monkeypatch.setattr(select, "kqueue", ModelQueue, raising=False)
        monkeypatch.setattr(select, "kevent", kevent, raising=False)
    if way == "select":
        monkeypatch.setattr(loop_module, "Poll", Select)

    def made() -> Loop:
        loop = Loop(errors.append)
        loop_late.use_kqueue(loop)
        assert type(loop.poller).__name__ == {"kqueue": "Kqueue", "select": "Select"}.get(way, way)
        assert loop.shareable == (way in ("epoll", "kqueue"))
        return loop
    errors: list[BaseException] = []
    request.addfinalizer(lambda: pytest.fail(f"{errors}") if errors else None)
    return made


@pytest.fixture
def running(make: Callable[[], Loop]) -> Iterator[Loop]:
    loop = make()
    thread = threading.Thread(target=loop.run)
    thread.start()
    yield loop
    loop_late.stop(loop)
    thread.join(HANGS_S)
    assert not thread.is_alive()
    loop_late.close(loop)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_what_can_be_read_is_read(running: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    got: list[bytes] = []
    there = threading.Semaphore(0)

    def read() -> None:
        got.append(ours.recv(100))
        there.release()
    ours, theirs = pair
    running.watch(ours.fileno(), read)
    for word in (b"one", b"two"):
        theirs.send(word)
        assert there.acquire(timeout=HANGS_S)
    running.forget(ours.fileno())
    theirs.send(b"three")
    assert not there.acquire(timeout=0.05)
    assert got == [b"one", b"two"]


def test_a_hang_up_is_seen(running: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    seen = threading.Event()
    ours, theirs = pair

    def read() -> None:
        if not ours.recv(100):
            running.forget(ours.fileno())
            seen.set()
    running.watch(ours.fileno(), read)
    theirs.close()
    assert seen.wait(HANGS_S)


def test_writing_waits_for_room(running: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    full = 0
    try:
        while True:
            full += ours.send(b"x" * 4096)
    except BlockingIOError:
        pass
    room = threading.Event()

    def write() -> None:
        running.watch_write(ours.fileno(), None)
        room.set()
    running.watch(ours.fileno(), lambda: None)
    running.watch_write(ours.fileno(), write)
    assert not room.wait(0.05)
    while full:
        full -= len(theirs.recv(1 << 20))
    assert room.wait(HANGS_S)
    running.forget(ours.fileno())


def test_what_is_forgotten_and_closed_while_the_keeper_turns_to_it(make: Callable[[], Loop]) -> None:
    """Another thread's: between the keeper's look at what to wait for, and its waiting."""
    loop = make()
    ends = os.pipe()
    wait = loop.poller.poll

    def overtaken(limit: float) -> Any:
        loop.poller = poller
        if isinstance(poller, Select):
            left = dict(poller.masks)
            close()
            poller.masks.update(left)       # as it was copied
        else:
            close()
        return wait(limit)

    def close() -> None:
        loop.forget(ends[0])
        os.close(ends[0])
    poller = loop.poller
    loop.watch(ends[0], lambda: None)
    loop.call_later(0, bool)
    loop.poller = SimpleNamespace(poll=overtaken)
    loop.once()
    assert loop.poller is poller
    os.close(ends[1])
    loop_late.close(loop)


def test_a_paused_descriptor_is_left_alone(running: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    there = threading.Semaphore(0)

    def read() -> None:
        ours.recv(100)
        there.release()
    running.watch(ours.fileno(), read)
    running.pause(ours.fileno(), True)
    turned = threading.Event()
    running.call_soon(turned.set)       # poll and select see it only when they are called again
    assert turned.wait(HANGS_S)
    theirs.send(b"for another reader")
    assert not there.acquire(timeout=0.05)
    running.pause(ours.fileno(), False)
    assert there.acquire(timeout=HANGS_S)
    running.forget(ours.fileno())


def test_times_are_kept_in_order(running: Loop) -> None:
    done = threading.Event()
    order: list[str] = []

    def arrange() -> None:      # on the keeper; time stands still, so nothing of it is due before the first is done
        clock, began = running.now, running.now()
        running.now = lambda: began
        running.call_later(0.4, order.append, "third")
        running.call_later(0.2, order.append, "second")
        running.call_later(0.3, order.append, "never").cancel()
        running.call_later(0.6, done.set)
        running.call_soon(order.append, "first")
        running.call_soon(setattr, running, "now", clock)
    running.call_soon(arrange)
    assert done.wait(HANGS_S)
    assert order == ["first", "second", "third"]


def test_kqueue_is_told_of_changes_only(monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]) -> None:
    monkeypatch.setattr(select, "kqueue", ModelQueue, raising=False)
    monkeypatch.setattr(select, "kevent", kevent, raising=False)
    queue = loop_late.Kqueue()
    fd = pair[0].fileno()
    queue.register(fd, 1)
    queue.modify(fd, 5)
    queue.modify(fd, 4)     # a filter that was never added can't be removed: the model would raise
    queue.modify(fd, 4)
    assert queue.poll(0) == [(fd, 4)]
    queue.unregister(fd)
    assert queue.poll(0) == []
    queue.close()
    assert queue.queue.closed


def test_timers_come_in_the_order_of_their_time_and_equal_ones_as_they_were_asked_for(make: Callable[[], Loop]) -> None:
    loop = make()
    now = 0.0
    loop.now = lambda: now
    said: list[int] = []
    delays = [index * 7919 % 50 for index in range(500)]
    timers = [loop.call_later(delay, said.append, index) for index, delay in enumerate(delays)]
    for timer in timers[::7]:
        timer.cancel()
    now = 50.0
    loop.once()
    assert said == sorted((index for index in range(500) if index % 7), key=lambda index: (delays[index], index))
    loop_late.close(loop)


def test_a_timer_among_many_is_put_in_its_place_with_few_looks(make: Callable[[], Loop]) -> None:
    loop = make()
    looks = 0

    class Watched(loop_module.Timer):
        def __getattribute__(self, name: str) -> Any:
            nonlocal looks
            looks += name == "when"
            return super().__getattribute__(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop_module, "Timer", Watched)
        for index in range(10_000):
            loop.call_later(1000 - index % 2 * 500, bool)
        before = looks
        loop.call_later(1, bool)
    assert before < 10_000 * 32 and looks - before < 32     # all of them were looked at each time: 10,000
    assert loop.timers[0].when == min(timer.when for timer in loop.timers)
    loop_late.close(loop)
