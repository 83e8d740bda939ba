"""Shelter: keeps Ctrl-C, and whatever else a signal handler raises, out of the places where it would do harm.

Python runs signal handlers on the main thread, between any two of its instructions. What they raise there, KeyboardInterrupt
say, may come between a write to a link and the note that it was written: then the bytes go out twice, and the link is broken.
Or between a lock and its release. So where the main thread does such things, in a *section*, these signals' handlers are
replaced by one that remembers the signal; behind it the program's own is called. While the main thread waits, a signal is
handled at once, as ever.

No program's handler is lost or changed by it, whichever it has and whenever it sets one. A signal that comes once more when one
has been remembered for a second isn't held back: whoever goes on pressing Ctrl-C means it.

Must not know what is sheltered. Other threads pass through: no handler runs there.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import signal
import sys
import threading
import time
from _signal import getsignal  # type: ignore[import-not-found]    # without what `signal` does besides
from _signal import signal as set_signal
from _thread import get_ident, start_new_thread
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from ramet.kernel import compat, limits, spinning
from ramet.kernel.channels import Channel
from ramet.kernel.core import Core
from ramet.kernel.ends import End
from ramet.kernel.errors import ClosedError, DeadlockError
from ramet.kernel.keepalive import NOBODY
from ramet.kernel.limits_late import wait_s_max
from ramet.kernel.links import Link, Waiter
from ramet.kernel.loop import IN, Loop, Poll, Timer
from ramet.kernel.spinning import Spinner
from ramet.loans import Loan
from ramet.waiting import NO_PIPE, PatientWaiter

P = ParamSpec("P")
R = TypeVar("R")

# Those by which programs are told to end, that something takes too long, or what they mean by them.
SIGNALS = tuple(int(number) for number in (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2))

_main = threading.main_thread().ident or 0
_theirs: dict[int, Any] = {}    # signal -> the program's handler, when it was last replaced
_held: dict[int, float] = {}    # signals that came meanwhile, and when
_inside = False

# When a signal comes again after so long and is still held back, it goes through.
PATIENCE_S = 1.0

# From how many timers on it is looked which of them were cancelled.
SWEPT_FROM = 1000


def sheltered(fn: Callable[P, R], destructor: bool = False) -> Callable[P, R]:
    """A function that nothing interrupts on the main thread, but where it waits for messages.

    Args:
        destructor: what is raised in it is lost. So what comes meanwhile is sent again when it is over.
    """
    @functools.wraps(fn)
    def section(*args: P.args, **kwargs: P.kwargs) -> R:
        global _inside
        if _inside or get_ident() != _main:
            return fn(*args, **kwargs)
        replaced = []
        try:
            for number in SIGNALS:
                handler = getsignal(number)
                if callable(handler) and handler is not _hold:
                    _theirs[number] = handler
                    replaced.append(number)
                    set_signal(number, _hold)
            _inside = True
            return fn(*args, **kwargs)
        finally:
            _inside = False
            for number in replaced:
                if getsignal(number) is _hold:      # else somebody has set another one since
                    set_signal(number, _theirs[number])
            while _held:
                number, _ = _held.popitem()
                if destructor:
                    start_new_thread(_again, (number,))
                else:
                    _theirs[number](number, sys._getframe(1))
    return section


class SteppedBack(Exception):
    """A signal's handler has waited, too, and given back what the wait below it reads: that one begins anew."""


class ShelteredWaiter(PatientWaiter):
    """Doesn't wait while a signal is held back that came just before.

    Attributes:
        waits: its thread is waiting for messages. A signal's handler may do so once more meanwhile, see ``nested``.
        gave: how often such a handler's wait has given back what its thread had borrowed.
    """

    waits = False
    gave = 0

    def wait(self, seconds: float | None) -> list[int]:
        """As ever, behind the program's handlers of signals that were held back.

        Raises SteppedBack: a link that is in the poller may be another thread's by now.
        """
        gave = self.gave    # here no signal is handled at once, even at the first instruction: none is missed
        ready = self._wait(seconds)
        if gave != self.gave:
            raise SteppedBack
        return ready

    def _wait(self, seconds: float | None) -> list[int]:
        """From here on a signal is handled at once."""
        while _held and get_ident() == _main:
            number, _ = _held.popitem()
            _theirs[number](number, sys._getframe(1))
        try:
            return PatientWaiter.wait(self, seconds)
        except BlockingIOError:
            return []       # a handler has waited, too, and read what this wait was woken by

    @contextlib.contextmanager
    def nested(self) -> Iterator[None]:
        """While a signal's handler waits, which came while its thread waited. Behind it that one looks anew: it may be the
        handler that has read what it waits for.
        """
        poller, self.poller = self.poller, Spinner(Poll())
        had_pipe = self.fds != NO_PIPE
        try:
            if had_pipe:
                self.poller.register(self.fds[0], IN)
            yield
        finally:
            self.poller = poller
            if not had_pipe and self.fds != NO_PIPE:
                poller.register(self.fds[0], IN)
            with contextlib.suppress(OSError, IndexError):
                os.write(self.fds[1], b"!")


# Where the main thread waits for messages: there a signal is handled at once.
_WAITS = {fn.__code__ for fn in (
    ShelteredWaiter._wait, PatientWaiter.wait, Waiter.wait, Spinner.poll, Spinner.spin, Spinner.sleep)}


def _again(number: int) -> None:
    time.sleep(0.001)
    signal.pthread_kill(_main, number)


class ShelteredLoop(Loop):
    """A loop whose keeper is woken whatever comes meanwhile; at least once a day: no system waits for years."""

    def __init__(self, on_error: Callable[[BaseException], Any]) -> None:
        super().__init__(on_error)
        self._sweep_at = SWEPT_FROM
        self._daily()

    call_soon = sheltered(Loop.call_soon)

    @sheltered
    def call_later(self, seconds: float, fn: Callable[..., Any], *args: Any) -> Timer:
        """As ever. Those of calls that were answered would stay until they are due: they are swept when there are many."""
        timer = super().call_later(seconds, fn, *args)
        if len(self.timers) > self._sweep_at:
            self._sweep_at = sys.maxsize    # until it is done
            self.call_soon(self._sweep)
        return timer

    def _sweep(self) -> None:
        """Drop the timers that were cancelled. On the keeper, which alone takes any out."""
        with self.lock:
            self.timers[:] = [timer for timer in self.timers if timer.fn]
        self._sweep_at = max(SWEPT_FROM, 2 * len(self.timers))

    def _daily(self) -> None:
        self.call_later(wait_s_max, self._daily)

    def once(self) -> None:
        """As ever, and as in nodes, it goes on when there is no memory: see ``kernel.later.outlast``."""
        try:
            super().once()
        except MemoryError:
            time.sleep(0.001)

    def _do(self, fn: Callable[..., Any] | None, args: Any = ()) -> None:
        """Whatever a callback of the program raises, SystemExit, say: the keeper goes on."""
        try:
            super()._do(fn, args)
        except BaseException as error:
            self.on_error(error)


class Threads(compat.thread_local):
    """What a core knows of each thread. What is looked up for every call has a default: else that takes half a microsecond."""

    job: Any = None         # a method of a service of this program that it runs
    apart: Any = None
    loan: Loan | None = None


class ShelteredCore(Core):
    """A core whose sending and waiting nothing interrupts, and that loses no frame by what the program's callbacks raise."""

    send = sheltered(Core.send)
    ask = sheltered(Core.ask)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.threads = Threads()
        # A program may send more requests than there are numbers: then it begins anew with those that are free. All of it in C.
        numbers = itertools.chain.from_iterable(itertools.repeat(range(limits.first_free_handle, NOBODY)))
        self.handles = itertools.filterfalse(self.pending.__contains__, numbers)    # type: ignore[assignment]
        self.lent: dict[Link, Loan] = {}
        self.forgotten = False      # this process is a fork of the one that made the tree

    @sheltered
    def wait(self, ready: Callable[[], Any], link: Link | None, seconds: float | None = None, lends: bool = True) -> Any:
        """As ever; a thread that waits for a link again and again keeps it meanwhile, if the link ``lends``.

        Raises DeadlockError: this thread is the one that reads what it would wait for.
        """
        self.may_wait(link)
        waiter = self.waiter()
        end = None if seconds is None else self.loop.now() + seconds
        if end != end:
            raise ValueError(f"that is no number of seconds: {seconds}")
        before, waiter.waits = waiter.waits, True
        try:
            while True:
                try:
                    if before:
                        with waiter.nested():
                            return super().wait(ready, link, seconds)
                    return (self._wait if lends else super().wait)(ready, link, seconds)
                except SteppedBack:
                    seconds = None if end is None else end - self.loop.now()
        finally:
            waiter.waits = before

    def may_wait(self, link: Link | None) -> None:
        """Make sure that the calling thread may wait for what comes over a link; None: over any, and it waits by other means.

        In a signal's handler, the keeper reads from here on what the wait below it has borrowed.

        Raises:
            DeadlockError: it is the thread that reads. ClosedError: nobody reads in this process.
        """
        self.check_here()
        if not self.can_wait(link):
            raise DeadlockError(
                "it would wait for itself: this is the thread that reads what comes from nodes, at a callback of a call that "
                "is done, say. There, start() further calls and give them callbacks; or wait in a thread of your own")

    def check_here(self) -> None:
        """Raises ClosedError: this process only has a copy."""
        if self.forgotten:
            raise ClosedError("this process was forked from the one that grew the tree: the tree stays with that one. "
                              "Make a Tree of its own")

    def can_wait(self, link: Link | None = None) -> bool:
        """As ``may_wait``; raises nothing."""
        thread = get_ident()
        if link is None:
            reads = any(one.parsing == thread for one in list(self.routes.down.values()))
        else:
            reads = link.parsing == thread
        if reads or thread == self.loop.thread:
            return False
        waiter = getattr(self.threads, "waiter", None)
        if waiter is not None and waiter.waits:
            self._step_back(waiter)
        return True

    def _step_back(self, waiter: ShelteredWaiter) -> None:
        """Let the keeper read what the calling thread has borrowed, but for that whose frames it is just handling."""
        waiter.gave += 1
        for link in list(self.routes.down.values()):
            if link.borrower is waiter and link.parsing != waiter.thread:
                loan = self.lent.get(link)
                if loan is not None:
                    loan.end(True)
                else:
                    link.give_back(waiter)

    def _wait(self, ready: Callable[[], Any], link: Link | None, seconds: float | None) -> Any:
        if not isinstance(link, Link):
            return super().wait(ready, link, seconds)
        loan = self.threads.loan
        if loan is None or loan.link is not link:
            if loan is not None:
                loan.end()
            loan = self.threads.loan = Loan(self, link, self.lent)
        return loan.wait(ready, seconds)

    def waiter(self) -> ShelteredWaiter:
        """The calling thread's own. It can wait without descriptors, too."""
        try:
            return self.threads.waiter  # type: ignore[no-any-return]
        except AttributeError:
            waiter = self.threads.waiter = ShelteredWaiter()    # not in a list as in nodes: no fork of ours closes it
            return waiter

    def let_go(self) -> None:
        """Give back what threads have waited with, when all links are closed and the keeper has ended.

        A thread may be waiting just now, or about to see that it needn't any longer: it keeps its own until then.
        """
        self.threads = Threads()
        self.lent.clear()

    def on_raised(self, error: BaseException) -> None:
        """Something was raised while a frame was delivered. Those behind it in what was read must not be lost."""
        if isinstance(error, KeyboardInterrupt):
            _held[signal.SIGINT] = time.monotonic()     # it came through at last: it goes on at the section's end
        else:
            self.loop.on_error(error)

    def on_frame(self, link: Any, header: Any, frame: bytes) -> None:
        """Deliver a frame, as ever."""
        try:
            Core.on_frame(self, link, header, frame)
        except BaseException as error:
            self.on_raised(error)


class ShelteredEnd(End):
    """The program's end of a channel that a node holds."""

    __del__ = sheltered(End.__del__, destructor=True)
    on_room = sheltered(End.on_room)


class ShelteredChannel(Channel):
    """A channel in the program: a lock that is held for good, or an item that is lost, is so for all nodes that use it."""

    made_end = ShelteredEnd
    _put = sheltered(Channel._put)
    _take = sheltered(Channel._take)
    close = sheltered(Channel.close)
    look = sheltered(Channel.look)
    offer = sheltered(Channel.offer)

    def __next__(self) -> Any:
        """The next item."""
        try:
            return Channel.__next__(self)
        except StopIteration:
            self._check_here()      # a process that only has a copy doesn't know whether it is the end
            raise

    def _use(self) -> Any:
        if self._channels.core.forgotten:   # type: ignore[attr-defined]
            self._check_here()
        return self._end or Channel._use(self)

    def _check_here(self) -> None:
        core: Any = self._channels.core
        core.check_here()


def _hold(number: int, frame: FrameType | None) -> Any:
    """Stands for the program's handlers in a section."""
    if not _inside:     # a section was entered or left in part only, since another signal's handler raised something
        if getsignal(number) is _hold:
            set_signal(number, _theirs[number])
    elif frame is not None and frame.f_code not in _WAITS:
        now = time.monotonic()
        if now - _held.setdefault(number, now) < PATIENCE_S:
            return None
        _held.pop(number)
    return _theirs[number](number, frame)


def _after_fork() -> None:
    """In a forked child: the thread that forked is the main one, and in no section."""
    global _main, _inside
    _main, _inside = get_ident(), False
    _held.clear()
    for number in SIGNALS:
        if getsignal(number) is _hold:
            set_signal(number, _theirs[number])
    spinning.waiting.clear()


os.register_at_fork(after_in_child=_after_fork)
