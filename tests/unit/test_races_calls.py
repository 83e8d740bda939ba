"""Calls that meet something else at the one moment at which that did harm."""

from __future__ import annotations

import asyncio
import errno
import threading
from types import SimpleNamespace
from typing import Any

import pytest

import ramet
from ramet.call import Call
from ramet.connectors import local
from ramet.kernel import (
    calls,
    cancelling,
    compat,
    ending,
    jobs,
    lanes,
    later,
    offspring,
    start,
)
from ramet.kernel.core import CALL, CANCEL, Core, Message
from ramet.kernel.errors import CallCancelled
from ramet.kernel.frames import DEAD, MAGIC, pack_header
from ramet.kernel.peer_calls import ITSELF, Loopback, PeerCall
from support import remote_lanes
from support.eventually import HANGS_S, until

# ---------------------------------------------------------------------- attributes that are made on demand

def test_who_looks_at_a_call_may_meet_a_destructor_that_ends_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Garbage is collected while the attribute is made. One lock stopped all calls for good."""
    node: Any = None
    one: Any = ramet.Call(node, abs)
    other: Any = ramet.Call(node, abs)
    monkeypatch.setattr(vars(ramet.Call)["_condition"], "make", lambda: (other._settle(1), threading.Condition())[1])
    said: list[bool] = []
    thread = threading.Thread(target=lambda: said.append(one.done()), daemon=True)
    thread.start()
    thread.join(HANGS_S)
    assert said == [False] and other.result() == 1


# ---------------------------------------------------------------------- who borrows a link for a call

def test_who_waits_for_a_call_that_another_thread_sends_reads_the_link_himself() -> None:
    """The keeper, which sends what was held back, borrowed it for him: nobody read it ever after. So it was with the call to a
    node's 33rd child that connects, whose turn to be grown comes on the keeper.
    """
    tree: Any
    with ramet.Tree(remember=False, connecting_max=1) as tree:
        parent = tree.local().wait()
        gates = tree._gardener.gates
        gates.enter(parent.id, -1, bool)    # somebody else, who holds up the child
        child = parent.local()

        def leave() -> None:
            until(lambda: any(size for _, size in child._state.held), "the call isn't held back")
            gates.leave(parent.id, -1)
        thread = threading.Thread(target=leave)
        thread.start()
        assert child.options(timeout=HANGS_S).call(abs, -3) == 3
        thread.join()


def test_who_cannot_send_a_call_gives_back_the_link_that_he_has_borrowed_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """There was no memory: nobody but that thread could read it ever after, and others waited for ever."""
    tree: Any
    with ramet.Tree(remember=False) as tree:
        node = tree.local().wait()
        link, ask, borrow = tree._core.routes.link_to(node.id), Core.ask, ramet.Call._borrow
        borrowed: list[Any] = []

        def note(call: ramet.Call[Any]) -> None:
            borrow(call)
            borrowed[:] = [call._link] if call._link else []    # the keeper may just be reading

        def no_memory(*args: Any) -> Any:
            if not borrowed:
                return ask(*args)
            raise MemoryError
        monkeypatch.setattr(ramet.Call, "_borrow", note)
        monkeypatch.setattr(Core, "ask", no_memory)
        with pytest.raises(MemoryError):
            while True:
                until(lambda: link.borrower is None, "a link that was lent is never given back")
                node.call(abs, 1)
        until(lambda: link.borrower is None, "nobody gives it back")
        monkeypatch.undo()
        assert node.call(abs, -1) == 1


# ---------------------------------------------------------------------- a call's callback asks for its result

def test_a_callback_of_a_call_has_its_result_whoever_reads_it() -> None:
    """It waited for ever in a thread that reads the reply while it waits for another call's."""
    core = SimpleNamespace(threads=SimpleNamespace(), loop=SimpleNamespace(thread=0), waiter=lambda: SimpleNamespace(thread=1),
                           routes=SimpleNamespace(link_to=lambda _: None), wait=lambda *_: pytest.fail("it waits"))
    call: ramet.Call[int] = ramet.Call(SimpleNamespace(id=1, name="n", _tree=SimpleNamespace(_core=core)), abs)  # type: ignore[arg-type]
    got: list[Any] = []
    call.add_done_callback(lambda done: got.extend([done.result(), done.exception(), call.outcome().value]))
    assert call._settle(7)
    assert got == [7, None, 7]


# ---------------------------------------------------------------------- a call ends when nobody iterates any more

def test_a_call_that_ends_behind_its_event_loop_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A traceback was logged: the event loop is closed."""
    with ramet.Tree(remember=False) as tree:
        node = tree._gardener._new(None, local.plan())
        each = tree.each([node, node], abs, 1)
        each._calls[0]._settle(1)

        async def take_one() -> None:
            async for _ in each:
                break
        asyncio.run(take_one())
        each._calls[1]._settle(1)
    assert not caplog.records


class Looked(Call[Any]):
    """A call; ``between`` is called once, when somebody has just looked whether a thread waits for it."""

    place: Any = None
    between: Any = None

    @property
    def _waiter(self) -> Any:
        place, between, self.between = self.place, self.between, None
        if between:
            between()
        return place

    @_waiter.setter
    def _waiter(self, place: Any) -> None:
        self.place = place


def test_two_threads_that_begin_to_wait_for_a_call_at_once_are_both_woken() -> None:
    """Both took the same place. The first one in it slept on, if a third one read the link."""
    with ramet.Tree() as tree:
        node = tree.local()
        gate = node.options(lane="gate")
        gate.call(abs, -1)
        reads = threading.Thread(target=node.options(lane="long").start(remote_lanes.hold).result)
        reads.start()
        until(lambda: (link := node._tree._core.routes.link_to(node.id)) is not None and link.borrower, "nobody reads")
        call = node.options(lane="short").start(remote_lanes.wait_for_gate)
        call.__class__ = Looked
        other = threading.Thread(target=call.result, daemon=True)

        def begin() -> None:
            other.start()
            other.join(0.3)     # it has begun to wait, or waits until it may
        call.between = begin  # type: ignore[attr-defined]
        opening = threading.Timer(0.6, lambda: gate.start(remote_lanes.open_gate))
        opening.start()
        assert call.result()
        other.join(HANGS_S)
        assert not other.is_alive()
        reads.join()
        opening.join()


# ---------------------------------------------------------------------- several threads wait for one call of a node's code

@pytest.mark.parametrize("how", ["answered", "cancelled"])
def test_all_who_wait_for_a_call_are_woken(how: str) -> None:
    """The first one, awake, took itself out of the list through which the others were woken: the next one slept on."""
    call = PeerCall.__new__(PeerCall)
    woken: list[int] = []

    def wait(n: int) -> Any:
        def wake() -> None:
            woken.append(n)
            call._waiters.remove(waiter)
        waiter = SimpleNamespace(wake=wake)
        return waiter
    call._answer, call._waiters, call._handle = [], [wait(1), wait(2), wait(3)], 1000
    call._core, call._job = SimpleNamespace(tell=lambda *_: None), None
    call.peer = SimpleNamespace(name="n", _address=lambda: 9)  # type: ignore[assignment]
    if how == "answered":
        call._done(0, b"")
    else:
        call._stop("cancelled", CallCancelled("it was"))
    assert woken == [1, 2, 3]


# ---------------------------------------------------------------------- what is known of the main lane's call

def calls_with(message: Message) -> Any:
    return SimpleNamespace(current=message, options={}, began=0.0, waiter=None, pid=1, running=True)


def test_a_call_has_one_job_whoever_asks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who cancelled it had another one than the function's thread: the calls that this waited for weren't ended, nor it."""
    message = Message(0, 0, CALL, 1, 0, None, b"")
    calls = calls_with(message)
    found: list[Any] = []

    class Slow(jobs.MainJob):
        def __init__(self, *args: Any) -> None:
            if not found:
                found.append(None)
                found[0] = cancelling.main_job(calls, message)      # by another thread, meanwhile
            super().__init__(*args)
    monkeypatch.setattr(jobs, "MainJob", Slow)
    assert cancelling.main_job(calls, message) is found[0]
    assert cancelling.main_job(calls, message) is calls.job is found[0]


def test_a_cancel_that_comes_late_leaves_the_next_calls_job_alone() -> None:
    before, message = Message(0, 0, CALL, 1, 0, None, b""), Message(0, 0, CALL, 2, 0, None, b"")
    calls = calls_with(message)
    job = cancelling.main_job(calls, message)
    cancelling.main_job(calls, before)
    assert cancelling.main_job(calls, message) is calls.job is job


def test_a_job_that_is_asked_for_early_has_its_own_calls_options() -> None:
    """By a log record of a module that is imported for it: it had those of the call before, its time and who waits for that."""
    message = Message(0, 0, CALL, 2, 0, None, b"")
    core = SimpleNamespace(id=7)
    before = {"timeout": 5.0, "chain": [[7, 3, "a"]]}
    calls: Any = SimpleNamespace(current=message, options=before, began=0.0, waiter=None, pid=1,
                                 running=False, core=core)
    job = cancelling.main_job(calls, message)
    assert job.left() is None
    calls.options, calls.running = {"lane": ""}, True
    assert job.left() is None and job.chain == [[7, 0, ""]]
    calls.options = {"timeout": 1.0}    # of the next one
    calls.current = None
    assert job.left() is None


# ---------------------------------------------------------------------- a cancelled call makes another one

@pytest.mark.parametrize(("before", "told"), [(False, [(9, CANCEL, [1000])]), (True, [])])
def test_a_call_that_is_made_while_its_caller_is_cancelled_ends_with_it(
        monkeypatch: pytest.MonkeyPatch, before: bool, told: list[Any]) -> None:
    """It was sent, and not yet noted: it went on. One that is made to clean up, afterwards, goes on."""
    said: list[Any] = []
    core = SimpleNamespace(tell=lambda *what: said.append(what), loop=SimpleNamespace(call_later=lambda *_: None))
    job: Any = SimpleNamespace(leave=lambda: True, back=lambda _: None, nested={}, cancelled=before, waiter=None, enders=[],
                               interrupt=lambda: None, calls=SimpleNamespace(core=core))

    def ask(*_: Any) -> int:
        cancelling.end(job)     # by another thread, while this one writes
        return 1000
    core.ask = ask  # type: ignore[attr-defined]
    monkeypatch.setattr(offspring, "of", lambda _: {})
    monkeypatch.setattr(cancelling, "current_job", lambda _: job)
    peer: Any = SimpleNamespace(_node=SimpleNamespace(core=core, calls=None), _address=lambda: 9)
    PeerCall(peer, [b""])
    assert said == told and job.nested == {1000: 9}


def test_a_call_that_is_answered_while_it_is_noted_isnt_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be as long as the function runs that has made it."""
    answers: list[Any] = []

    class Noted(dict[int, int]):
        def __setitem__(self, handle: int, node: int) -> None:
            answers[0](0, b"")      # by the thread that reads the link
            super().__setitem__(handle, node)
    job: Any = SimpleNamespace(leave=lambda: True, back=lambda _: None, nested=Noted(), cancelled=False)
    core = SimpleNamespace(ask=lambda *said: answers.append(said[3]) or 1000)  # type: ignore[func-returns-value]
    monkeypatch.setattr(cancelling, "current_job", lambda _: job)
    peer: Any = SimpleNamespace(_node=SimpleNamespace(core=core, calls=None), _address=lambda: 9)
    assert PeerCall(peer, [b""]).done() and not job.nested


# ---------------------------------------------------------------------- what else ends with a call

class Enders(list[Any]):
    """Another thread takes the last one out as soon as this one has looked whether there is one."""

    def __bool__(self) -> bool:
        found = len(self) > 0
        self.clear()
        return found

    def __contains__(self, one: object) -> bool:
        found = super().__contains__(one)
        self.clear()
        return found

    def remove(self, one: Any) -> None:
        self.clear()
        super().remove(one)


def job_of(core: Any) -> Any:
    return SimpleNamespace(calls=SimpleNamespace(core=core), nested={}, interrupt=bool, waiter=None, enders=Enders([bool]),
                           cancelled=False)


def test_who_ends_a_call_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """IndexError: it was never interrupted again, nor its subprocesses killed."""
    later: list[Any] = []
    monkeypatch.setattr(offspring, "of", lambda _: {})
    cancelling.Ending(job_of(SimpleNamespace(loop=SimpleNamespace(call_later=lambda *what: later.append(what))))).begin()
    assert later


def test_a_call_that_cannot_be_interrupted_now_is_ended_as_far_as_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """What interrupts couldn't be loaded, for want of a descriptor: nothing else was done, and it was never tried again."""
    later: list[Any] = []
    errors: list[Any] = []
    loop = SimpleNamespace(call_later=lambda _, call: later.append(call), on_error=errors.append)
    job = job_of(SimpleNamespace(loop=loop))
    ended: list[bool] = []
    job.enders = [lambda: ended.append(True)]
    monkeypatch.setattr(offspring, "of", lambda _: {})
    interrupted: list[bool] = []

    def lack() -> None:
        raise OSError(errno.EMFILE, "Too many open files")
    job.interrupt, job.is_over = lack, lambda: False
    job.importing = False
    cancelling.Ending(job).begin()
    assert ended and len(later) == len(errors) == 1
    later.pop()()
    assert len(later) == 1 and len(errors) == 2
    job.interrupt = lambda: interrupted.append(True)
    later.pop()()
    assert interrupted and len(later) == 1


def test_who_takes_back_what_was_called_meanwhile_is_content() -> None:
    """ValueError came out of the function, in place of what it had said."""
    job = job_of(None)
    take_back = cancelling.register(job, print)
    take_back()
    assert not list(job.enders)


def test_what_is_registered_when_a_call_has_just_been_ended_is_called() -> None:
    """It never was: what a generator had to send waited for credit, where nothing else ends a wait, for ever."""
    job = job_of(None)
    job.enders = []
    called: list[str] = []
    cancelling.register(job, lambda: called.append("before"))
    job.cancelled = True
    cancelling.compat_late.call_each(job.enders)
    cancelling.register(job, lambda: called.append("after"))()
    assert called == ["before", "after"]


# ---------------------------------------------------------------------- a node is ended while its main lane takes the next call

def test_a_node_that_ends_leaves_the_call_that_is_taken_just_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """IndexError: the line was emptied between the look and the grip. Or the call began, and nothing interrupted it."""
    ours = calls.Calls.__new__(calls.Calls)
    ours.lock = compat.new_lock()
    ours.lanes = ours.current = ours.interrupted = None
    ours.running = ours.closing = False
    ours.began = 0.0
    link = SimpleNamespace(give_back=lambda _: None, borrower=None, flush=lambda: None)
    ours.core = SimpleNamespace(routes=SimpleNamespace(parent=link))  # type: ignore[assignment]
    ours.waiter = SimpleNamespace(wake=lambda: None)  # type: ignore[assignment]
    node: Any = SimpleNamespace(config={}, nursery=None, calls=ours, loop=SimpleNamespace(call_later=lambda *_: None))
    keeper = threading.Thread(target=later.end, args=(node,))
    ran: list[Any] = []
    monkeypatch.setattr(ending, "wake_guardian", lambda: None)
    monkeypatch.setattr(compat, "start_thread", lambda *_: None)
    monkeypatch.setattr(ours, "finish", lambda *_: None)

    class Waiting(compat.deque):  # type: ignore[misc,name-defined]
        def popleft(self) -> Any:
            keeper.start()
            keeper.join(0.3)    # it is through, or waits
            return super().popleft()

    def run(message: Message) -> None:
        keeper.join()
        ran.append(ours.interrupted is message)
    monkeypatch.setattr(ours, "run", run)
    ours.waiting = Waiting([Message(0, 0, CALL, 1, 0, None, b"")])
    ours.serve()
    assert ran == [True], "it is interrupted when its function begins: see `Calls.enter`"


# ---------------------------------------------------------------------- the first idle moment

def test_a_node_gives_its_link_back_before_it_imports_its_second_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """2.7 has one lock for imports: another lane held it, and waited for a module that only the main lane could have read."""
    done: list[str] = []
    node = start.Self.__new__(start.Self)
    parent = SimpleNamespace(give_back=lambda waiter: done.append(f"gave back {waiter}"))
    node.calls = SimpleNamespace(on_idle=None, waiter="the link")  # type: ignore[assignment]
    node.core = SimpleNamespace(wait=lambda *_: done.append("waited"))  # type: ignore[assignment]
    monkeypatch.setattr(later, "begin", lambda _: done.append("began"))
    node.on_idle(parent)
    assert done == ["waited", "gave back the link", "began"]


# ---------------------------------------------------------------------- a node calls itself

def test_a_node_is_told_by_itself_that_there_is_no_answer() -> None:
    """What a lane says that has no memory for its answer was taken for one."""
    told: list[Any] = []
    core = SimpleNamespace(id=7, handlers={}, resolve=lambda *reply: told.append(reply))
    text = b"refused: MemoryError()"
    Loopback(core).send(None, DEAD, pack_header(MAGIC, DEAD, 0, ITSELF, 7, 7, 1000, 0, len(text)) + text)
    assert told == [(1000, DEAD, text)]


# ---------------------------------------------------------------------- two threads lay calls in line at once

class Crowded(compat.deque[Message]):
    """A line in which two threads have put something before either goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.both = threading.Barrier(2, timeout=HANGS_S)

    def append(self, message: Message) -> None:
        super().append(message)
        self.both.wait()


@pytest.mark.parametrize("flow", [0, 5])
def test_one_of_two_threads_that_call_their_own_node_at_once_wakes_it(monkeypatch: pytest.MonkeyPatch, flow: int) -> None:
    """Each took the other's for the first, for which the lane had been woken. It slept, and so for all that followed."""
    woken: list[bool] = []
    taken: list[bool] = []
    core: Any = SimpleNamespace(id=7, refused=0, routes=SimpleNamespace(commands=bool), handlers={})
    lane = calls.Calls.__new__(calls.Calls)
    lane.core, lane.early, lane.lanes, lane.waiting, lane.aside = core, (), None, Crowded(), Crowded()
    lane.waiter = SimpleNamespace(wake=lambda: woken.append(True))      # type: ignore[assignment]
    monkeypatch.setattr(lanes, "made", lambda _: SimpleNamespace(drain=lambda: taken.append(True)))
    core.handlers[CALL] = lane.arrive
    frame = pack_header(MAGIC, 0, flow, ITSELF, 7, 7, CALL, 1000, 0)
    threads = [threading.Thread(target=Loopback(core).send, args=(None, 0, frame)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken if flow else woken
