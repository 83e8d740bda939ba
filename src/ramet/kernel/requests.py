"""One request for a service: who asks, and how its method runs, streams what it yields, and is ended. Late part of the kernel,
and the controller's.

A request is a ``Job`` like a call's: it is interrupted in the same way, it bounds the calls that its method makes, and they end
with it. Two things differ. Several may ask for the same (``askers``): it ends when the last one wants it no more. And who asks
needn't be an ancestor: so what is ended with a request is what its own thread has started since it began, and nothing else; and
the program that grows the tree isn't interrupted at all by what nodes ask of it.

A method that yields is answered with a stream's number. It runs when the asker has given credit, in a thread of its own, or
as a task of the event loop.
"""
import sys
import threading

from ramet.kernel import awaiting, cancelling, circles, compat, compat_late, failures, streams
from ramet.kernel.calls import Interrupt
from ramet.kernel.faults import CallCancelled
from ramet.kernel.jobs import ThreadJob
from ramet.kernel.streams import ENDS, FAILS

MYPY = False
if MYPY:
    from typing import Any, Dict, List, Optional

    from ramet.kernel.core import Message

CHAIN_MAX = 100         # calls and requests that wait for one another, as far as they are believed
LOOK_S = 1.0            # how often it is looked whether the event loop of a coroutine is still there
TIMEOUT_MAX_S = 1e9     # a longer time is none: no timer takes an infinite one
FLOW = 1 << 16          # added to a request's number in a chain: no lane's flow is so large


class Request(ThreadJob):
    """One request that was admitted.

    Args:
        services: of the node.
        served: the service that is asked.
        key: the bytes that name method and arguments: equal ones are the same request.
        options: what the message said of its caller: checked here.

    Attributes:
        askers: the messages that wait for its answer.
        flow: its number in chains.
        begun: its method runs, or has run.
        feed: of the stream that it has become, or None.
        refused: why it isn't run, though it was admitted; or None.
        coroutine: its method's, and ``running`` that one's task, as far as they are known.
    """

    holds_own_only = True       # see ``offspring.of``

    def __init__(self, services, served, method, args, kwargs, options, message, key):
        # type: (Any, Any, str, Any, Any, Any, Message, bytes) -> None
        ThreadJob.__init__(self, services, message, "service %s.%s" % (served.name, method))
        self.services = services
        self.served = served
        self.method = method
        self.args = args
        self.kwargs = kwargs
        self.key = key
        self.options = checked(options)
        if key:     # others may ask for the same, who have more time: it ends with the last one's
            self.options.pop("timeout", None)
        self.askers = [message]  # type: List[Message]
        self.flow = FLOW + next(services.numbers)
        self.arrived = compat.monotonic()
        self.begun = False
        self.feed = self.refused = self.coroutine = self.running = None  # type: Any

    @property
    def interrupts(self):  # type: ignore[override]
        # type: () -> bool
        """See ``Job``."""
        return self.services.interrupts  # type: ignore[no-any-return]

    @property
    def chain(self):
        # type: () -> List[Any]
        """See ``Job``."""
        above = self.options.get("chain", [])  # type: List[Any]
        return above + [[self.calls.core.id, self.flow, self.lane]]

    def heard(self, chain):
        # type: (Any) -> None
        """Who asks for it waits since now, or is itself waited for. Not on a thread that reads a link."""
        told = checked({"chain": chain})
        if len(told.get("chain", ())) > len(self.options.get("chain", ())):
            self.options.update(told)
        circles.pass_on(self)

    def left(self):
        # type: () -> Optional[float]
        """See ``Job``. Its time has begun when it came, not when its method began."""
        seconds = self.options.get("timeout")  # type: Any
        return None if seconds is None else self.arrived + seconds - compat.monotonic()

    def interrupt(self):
        # type: () -> None
        """See ``Job``."""
        if self.interrupts:
            ThreadJob.interrupt(self)

    def leave(self):
        # type: () -> bool
        """See ``Job``. What its coroutine does in other threads doesn't interrupt its own."""
        return compat.thread_id() == self.thread and ThreadJob.leave(self)

    def raise_now(self):
        # type: () -> None
        """See ``Job``."""
        if compat.thread_id() != self.thread:
            raise Interrupt
        ThreadJob.raise_now(self)

    def frames(self):
        # type: () -> List[Any]
        """See ``Job``: what its frames hold may be others', who share the object."""
        return []

    def end(self):
        # type: () -> None
        """End it: nobody wants it any more. Any thread that may block for a moment."""
        if self.interrupts:
            cancelling.end(self)
        elif not self.cancelled:
            self.cancelled = True
            compat_late.call_each(self.enders)

    def run(self):
        # type: () -> Any
        """Run the method, in this thread. Returns its result; raises what it raises."""
        found = self._within(self.served.methods[self.method], self.args, self.kwargs)
        if hasattr(found, "__await__") and hasattr(found, "close") and not hasattr(found, "__next__"):
            return self._awaited(found)
        return found

    def _within(self, fn, args, kwargs):
        # type: (Any, Any, Any) -> Any
        """Run a function where it may be interrupted. Its permit is a new one: a stream does this the second time."""
        self.outside = self.away = False
        return self.enter(fn, args, kwargs, self.options)

    def _awaited(self, coroutine):
        # type: (Any) -> Any
        """Run a coroutine on the event loop, and wait for it."""
        import asyncio
        import concurrent.futures
        try:
            loop, self.coroutine = self.served.loop(), coroutine
            future = awaiting.begin(self, asyncio.run_coroutine_threadsafe, coroutine, loop)
        except BaseException:
            coroutine.close()
            raise
        self.enders.append(future.cancel)
        if self.cancelled:
            future.cancel()
        while not concurrent.futures.wait([future], LOOK_S).done:   # also when it was cancelled: until it has come to its end
            if loop.is_closed():    # and what it hadn't begun is dropped
                coroutine.close()
                raise RuntimeError("the event loop of this service is closed")
            if self.cancelled and not loop.is_running():    # it may never take notice
                raise Interrupt
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            if self.cancelled:
                raise Interrupt
            raise

    # ------------------------------------------------------------------ streams

    def stream(self, iterator):
        # type: (Any) -> int
        """Become a stream of an iterator's items. Returns its number: it begins when the asker gives credit."""
        from ramet.kernel import feeds, producing
        loop = self.served.loop() if is_asynchronous(iterator) else None
        if loop:
            from ramet.kernel import producing_async  # now, for ``begin`` can't wait for it
        ours = streams.of(self.services.core, self.services.codec)
        number = ours.number(True)
        message = self.askers[0]
        self.feed = feed = feeds.Feed(ours, message.src, number, 1 + number % 0xfffe, (0, 0))
        with self.services.changed:
            self.services.streams += 1      # not before: ``over`` counts down what has come so far
        once = [True]

        def begin():
            # type: () -> None
            if once and once.pop():
                feed.on_room = None
                if loop:
                    self._as_task(loop, producing_async.Awaits(
                        producing_async._produce(feed, lambda: iterator, self._context())))
                else:
                    thread = threading.Thread(target=self._in_thread, args=(producing.run, iterator))
                    thread.name = "ramet-service-stream"
                    thread.daemon = True
                    try:
                        thread.start()
                    except Exception:       # there is no room for one
                        self._ended(FAILS, sys.exc_info()[1])
        feed.on_room = begin
        self.enders.append(feed.stop)
        if self.cancelled:
            feed.stop()
        return number

    def _in_thread(self, run, iterator):
        # type: (Any, Any) -> None
        try:
            value = self._within(run, (self.feed, iterator, self._context(), None, self), {})
        except BaseException:
            self._ended(FAILS, sys.exc_info()[1])
        else:
            self._ended(ENDS, value)

    def _as_task(self, loop, work):
        # type: (Any, Any) -> None
        def ended(task):
            # type: (Any) -> None
            error = Interrupt() if task.cancelled() else task.exception()
            if error:
                self._ended(FAILS, error)
            else:
                self._ended(ENDS, None)
        try:
            loop.call_soon_threadsafe(lambda: loop.create_task(work).add_done_callback(ended))
        except RuntimeError:
            self._ended(FAILS, RuntimeError("the event loop of this service is closed"))

    def _context(self):
        # type: () -> Any
        return self.services.context(self.message.src)

    def _ended(self, flags, value):
        # type: (int, Any) -> None
        """The iterator has ended, with its value or an error."""
        feed = self.feed
        try:
            chunks = failures.pack(value) if flags & FAILS else self.services.codec.encode(value, self._context(), "value")
        except Exception:
            flags, chunks = FAILS, failures.pack(sys.exc_info()[1])
        if isinstance(value, Interrupt):
            chunks = failures.pack(CallCancelled("cancelled while it ran"))
        feed.end(flags, chunks)     # harmless where the reader wanted no more
        self.ended = True
        self.services.over(self)


def is_stream(found):
    # type: (Any) -> bool
    """Whether a method's result goes as a stream: it is an iterator, and no channel."""
    portable = sys.modules.get("ramet.kernel.portable")  # type: Any
    if portable and isinstance(found, portable.Reference):
        return False
    return (hasattr(type(found), "__next__") or hasattr(type(found), "next") and hasattr(type(found), "__iter__")
            or is_asynchronous(found))


def is_asynchronous(found):
    # type: (Any) -> bool
    """Whether it is an asynchronous iterator only."""
    return hasattr(type(found), "__anext__") and not hasattr(type(found), "__next__")


def checked(options):
    # type: (Any) -> Dict[str, Any]
    """What is believed of what a request says of its caller. A lie harms the liar only."""
    found = {}  # type: Dict[str, Any]
    if type(options) is not dict:
        return found
    seconds, chain = options.get("timeout"), options.get("chain")  # type: Any, Any
    if type(seconds) in compat.integers + (float,) and 0 < seconds < TIMEOUT_MAX_S:
        found["timeout"] = seconds
    if type(chain) is list and len(chain) <= CHAIN_MAX and all(_is_link(one) for one in chain):
        found["chain"] = chain
    return found


def _is_link(one):
    # type: (Any) -> bool
    return (type(one) is list and len(one) == 3 and all([type(n) in compat.integers and 0 <= n < 1 << 32 for n in one[:2]])
            and isinstance(one[2], (str, compat.text)) and len(one[2]) <= 1000)


def ends_of(body):
    # type: (Any) -> int
    """Where the arguments of a request end, and what it says of its caller begins: equal requests are equal up to there."""
    at = 1
    for _ in range(4):
        at = streams.skip(body, at)
    return at
