"""Threads, links, files and processes that two threads are at, or for which there is no room just then."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import ramet
from ramet import codec
from ramet.asking import THREADS_MAX, Desk
from ramet.display import Display
from ramet.inputs import Pulled
from ramet.kernel import askers, compat, guardian, importer, installed, loop_late, native, running, staged, template, values
from ramet.kernel.calls import Interrupt
from ramet.kernel.core import OUTPUT, Message
from ramet.kernel.held import HeldNode
from ramet.kernel.importer import ModuleCache
from ramet.kernel.links import Link, Waiter
from ramet.kernel.loop import IN, Loop, Timer
from ramet.kernel.streams import FAILS
from ramet.shelter import ShelteredCore
from support.eventually import HANGS_S, until


def raise_it(error: BaseException) -> None:
    raise error


# ---------------------------------------------------------------------- there is no room for a thread just then

def start_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")
    monkeypatch.setattr(threading.Thread, "start", fail)


@pytest.mark.parametrize("at_the_end", [False, True])
def test_output_is_shown_though_its_thread_could_not_be_started(monkeypatch: pytest.MonkeyPatch, at_the_end: bool) -> None:
    """None was shown ever after, and who wrote more than 256 KiB over there waited for ever."""
    lines: list[str] = []
    nodes: Any = {7: SimpleNamespace(id=7, name="web")}
    display = Display(nodes, lambda *line: lines.append(line[2]), raise_it, lambda *_: None)
    one, two = (Message(7, 7, OUTPUT, 0, 0, None, b"".join(codec.encode([1, text]))) for text in (b"one\n", b"two\nrest"))
    with monkeypatch.context() as patched:
        start_fails(patched)
        display.take(one)
        if at_the_end:      # as from Python 3.12.0 to 3.12.2, when a program's end has begun
            display.take(two)
            display.flush(nodes[7])
            display.finish()
    if not at_the_end:
        display.take(two)
        display.flush(nodes[7])
        display.finish()
    assert lines == ["one", "two", "rest"]


def test_a_node_that_has_asked_is_lost_when_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else is to be told of the loss wasn't; and its requests went on."""
    later: list[Any] = []
    asked: Any = askers.Askers.__new__(askers.Askers)
    asked.core = SimpleNamespace(loop=SimpleNamespace(call_later=lambda seconds, fn: later.append(fn)))
    asked.changed, asked.watches, asked.asked = threading.Condition(), {}, {(7, 1): "asked", (8, 1): "asked"}
    given_up: list[Any] = []
    done = threading.Event()
    asked.give_up = lambda key: (given_up.append(key), done.set())
    with monkeypatch.context() as patched:
        patched.setattr(compat, "start_thread", lambda *_: raise_it(RuntimeError("can't start new thread")))
        asked._lost(7)
    assert not given_up
    for fn in later:
        fn()
    assert done.wait(HANGS_S) and given_up == [(7, 1)]


def test_who_answers_without_memory_for_it_goes_on_meanwhile() -> None:
    """It may be the thread that reads a link, and writes: it waited for memory that only itself could have freed."""
    tries: list[Any] = []
    later: list[Any] = []

    def reply(*said: Any) -> None:
        tries.append(said)
        if len(tries) < 3:
            raise MemoryError("for now")

    def call_later(_: float, fn: Any, *args: Any) -> None:
        if not refused:
            refused.append(True)
            raise MemoryError("not even for that")
        later.append((fn, args))
    refused: list[bool] = []
    asked: Any = askers.Askers.__new__(askers.Askers)
    asked.core = SimpleNamespace(reply=reply, loop=SimpleNamespace(call_later=call_later))
    asked._fail(None, MemoryError())
    assert len(tries) == 1, "it tried again before others had their turn"
    while later:
        assert len(later) == 1
        fn, args = later.pop()
        fn(*args)
    assert len(tries) == 3


def test_secrets_are_got_though_threads_could_not_be_started_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked waited for ten minutes, as did all who wanted that secret. Or after eight such failures nobody was asked."""
    later: list[Callable[[], None]] = []
    core: Any = SimpleNamespace(loop=SimpleNamespace(call_later=lambda _, fn: later.append(fn)))
    desk, together, asked = Desk(core), threading.Barrier(THREADS_MAX), threading.Event()
    with monkeypatch.context() as patched:
        start_fails(patched)
        for _ in range(THREADS_MAX):
            desk._run(lambda: together.wait(HANGS_S))
        later.pop()()
        assert len(later) == 1 and not desk._threads
    desk._run(asked.set)
    later.pop()()
    assert asked.wait(HANGS_S), "one job waits for another"
    until(lambda: not desk._threads, "its threads don't end when there is nothing to do")
    assert not later


def test_an_iterator_that_gets_no_thread_fails_over_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked for its first item waited for ever."""
    ended: list[Any] = []
    pulled: Any = Pulled.__new__(Pulled)
    pulled.loop, pulled.lock, pulled.begun = None, threading.Lock(), False
    pulled.feed = SimpleNamespace(end=lambda how, _: ended.append(how))
    start_fails(monkeypatch)
    pulled._begin()
    assert ended == [FAILS]


# ---------------------------------------------------------------------- a tree is closed while a thread waits

def test_who_waits_while_a_tree_lets_go_keeps_what_he_waits_with() -> None:
    """Its pipe was closed under it: IndexError in place of ClosedError, or another's descriptor."""
    loop = Loop(raise_it)
    core = ShelteredCore(0, [], loop)
    looked, go_on = threading.Event(), threading.Event()
    answers, found, waiters = [False, True, True], list[bool](), list[Any]()

    def ready() -> bool:
        if not looked.is_set():
            waiters.append(core.waiter())
        looked.set()
        go_on.wait()
        return answers.pop(0)
    thread = threading.Thread(target=lambda: found.append(core.wait(ready, None)))
    thread.start()
    looked.wait()
    loop_late.close(loop)
    core.let_go()
    waiters.pop().wake()
    go_on.set()
    thread.join()
    assert found == [True] and not answers


def test_threads_that_come_and_go_leave_nothing() -> None:
    """A program with a thread for each request kept something of each that had ever waited."""
    loop = Loop(raise_it)
    core = ShelteredCore(0, [], loop)
    for _ in range(20):
        thread = threading.Thread(target=core.waiter)
        thread.start()
        thread.join()
    assert len(core.waiters) < 5
    loop_late.close(loop)


def test_a_loop_that_is_closed_writes_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop(raise_it)
    loop_late.close(loop)
    written: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr("ramet.kernel.loop.os.write", lambda fd, _: written.append(fd))
        loop.call_soon(bool)
    assert written == [-1]


def test_a_keeper_that_takes_its_time_gives_back_what_it_waits_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """``close`` waits a second for it; the rest stayed open for good."""
    held = threading.Event()
    stop = loop_late.stop

    def stop_later(loop: Loop) -> None:
        loop.call_soon(held.wait)
        stop(loop)
    monkeypatch.setattr(loop_late, "stop", stop_later)
    tree = ramet.Tree()
    tree.close()
    assert tree._loop.wake_r >= 0
    held.set()
    tree._keeper.join()
    assert tree._loop.wake_r == -1


def test_a_tree_that_is_closed_on_its_keeper_ends_it() -> None:
    """By a call's callback, say: the keeper and its descriptors stayed for good."""
    tree: Any = ramet.Tree(remember=False)
    tree.local().wait()
    tree._loop.call_soon(tree.close)
    tree._keeper.join(HANGS_S)
    assert not tree._keeper.is_alive() and tree._loop.wake_r == -1 and not tree.nodes


# ---------------------------------------------------------------------- a link changes hands

def test_who_borrows_a_link_that_is_just_given_back_is_left_alone_with_it() -> None:
    """Who gave it back told the keeper to read when another one had it already: the keeper woke for all that came, in vain."""
    loop = Loop(raise_it)
    (fd_in, far_out), (far_in, fd_out) = compat.pipe(), compat.pipe()
    link = Link(loop, lambda *_: None, lambda *_: None)
    link.open(fd_in, fd_out)
    one, other = Waiter(), Waiter()

    class Reading:
        """As soon as it is free, another thread has it."""

        lock = threading.Lock()
        free = staticmethod(lambda: link.borrow(other))

        def acquire(self, blocking: bool) -> bool:
            return self.lock.acquire(blocking)

        def release(self) -> None:
            self.lock.release()
            free, self.free = self.free, bool
            free()
    link.reading = Reading()
    assert link.borrow(one)
    link.give_back(one)
    assert link.borrower is other and not loop.masks[fd_in] & IN
    link.give_back(other)
    assert link.borrower is None and loop.masks[fd_in] & IN
    for fd in fd_in, fd_out:
        loop.forget(fd)
    loop_late.close(loop)
    for fd in fd_in, far_out, far_in, fd_out:
        os.close(fd)


# ---------------------------------------------------------------------- a link is lost while something is written to it

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


# ---------------------------------------------------------------------- a program's group has ended

def test_the_guardian_is_told_once_that_a_group_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program's thread and the keeper looked at the same time. The second word meant that the group is to be killed with the
    node, whoever has its number then."""
    told: list[int] = []
    looks = [running.look_after]

    def gone(_: int) -> bool:
        """Another thread does the same just here."""
        if looks:
            looks.pop()()
        return False
    monkeypatch.setattr(running, "is_there", gone)
    monkeypatch.setattr(running, "LEFT", {4711})
    monkeypatch.setattr(running.ending, "tell_guardian", told.append)
    running.look_after()
    assert told == [4711] and not running.LEFT


def test_one_look_at_what_was_left_follows_however_many_programs_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each program that ended while something was left began a row of looks of its own, which went on as long as that."""
    timers: list[Timer] = []

    def call_later(seconds: float, fn: Any) -> Timer:
        timers.append(Timer(seconds, fn, ()))
        return timers[-1]
    monkeypatch.setattr(running, "_node", lambda: SimpleNamespace(loop=SimpleNamespace(call_later=call_later)))
    monkeypatch.setattr(running, "LEFT", {4711})
    monkeypatch.setattr(running, "LOOKS", [])
    monkeypatch.setattr(running, "is_there", lambda _: True)
    for _ in range(3):
        running.look_after()
    assert [timer.fn for timer in timers] == [None, None, running.look_after]


def test_the_keeper_does_not_wait_for_a_program_that_could_not_be_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs in the system doesn't end by SIGKILL: the keeper stood still as long, and the node was taken for lost."""
    calls: list[Any] = []

    def call_later(seconds: float, fn: Any) -> Timer:
        calls.append(fn)
        return Timer(seconds, fn, ())
    loop = SimpleNamespace(call_soon=calls.append, call_later=call_later)
    monkeypatch.setattr(running, "_node", lambda: SimpleNamespace(loop=loop))
    monkeypatch.setattr(running, "LEFT", set())
    monkeypatch.setattr(running, "LOOKS", [])
    run = running.Run(4711, ["cat"], None)
    process = run.process
    polled, process.poll = process.poll, lambda: None
    del run
    for _ in range(3):
        calls.pop(0)()
        assert calls, "it waited until it has ended"
    process.wait()
    process.poll = polled
    calls.pop(0)()
    assert not calls and process.stdout.closed and running._has_ended(4711)


# ---------------------------------------------------------------------- a package couldn't be written

def test_a_package_that_couldnt_be_written_spoils_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its folder was there then, and the next one should have had the same: FileExistsError, for all packages, for good."""
    files: dict[str, Any] = {"full": [["../full.py", b"", None, ""]], "good": [["good.py", b"WORD = 1", None, ""]]}
    finder = importer.Finder(ModuleCache(), pytest.fail, False)  # type: ignore[arg-type]
    for name, its in files.items():
        data = b"".join(map(bytes, values.encode(its)))
        finder.cache.records[native.NATIVE_FORM, staged.STAGED + name] = [name, 0, "", data]
    monkeypatch.setattr("sys.meta_path", [*sys.meta_path, finder])
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.setattr(staged, "_home", [str(tmp_path)])
    monkeypatch.setattr(staged, "_folders", {})
    for _ in range(2):
        with pytest.raises(ramet.ModuleNotShippedError, match="can't be written here"):
            staged.put("full", False, 1)
    assert staged.put("good", False, 1).origin.endswith("/good.py")


def test_a_module_that_a_third_thread_imports_anew_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread's import fails while this one waits for it, and before it looks, a third thread has begun the next."""
    name = "imported_by_three"
    half, whole = ModuleType(name), ModuleType(name)
    whole.thing = "whole"  # type: ignore[attr-defined]
    steps = iter([half])

    def waits(path: str) -> None:
        monkeypatch.setitem(sys.modules, path, next(steps, whole))
    monkeypatch.setattr(importer, "__import__", waits, raising=False)
    assert importer.find_class(name, "thing") == "whole"
    known: dict[str, Any] = {}
    steps = iter([half])
    monkeypatch.delitem(sys.modules, name)
    assert importer.find_class(name, "thing", known) == "whole" and known == {name: whole}


def test_a_module_that_was_found_whole_is_asked_for_again_when_another_has_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    name, known, asked = "replaced_after_a_call", {}, []  # type: ignore[var-annotated]
    for version in 1, 2:
        module = ModuleType(name)
        module.thing = version  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(importer, "__import__", asked.append, raising=False)
        for _ in range(3):
            assert importer.find_class(name, "thing", known) == version
        assert asked == [name] * version        # it is asked once for each
        module.thing = -version  # type: ignore[attr-defined]
        assert importer.find_class(name, "thing", known) == -version        # what is in it is looked up each time


# ---------------------------------------------------------------------- who is there is told once, to each program

def test_a_thread_that_tells_what_is_installed_while_the_program_is_forgotten_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """IndexError came out of an import, in a kept node's own thread."""
    class Telling(list[Any]):
        def append(self, one: Any) -> None:
            super().append(one)
            installed.forget()      # by the main thread, which waits for the next program
    telling = Telling()
    monkeypatch.setattr(installed, "_telling", telling)
    installed.tell()
    assert [told for _, told in telling] == [True] and installed._telling == []


def test_what_is_installed_is_told_by_the_next_one_if_who_tells_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was never told, and each later import that asks waited a second for that."""
    telling: list[Any] = []
    said: list[list[str]] = []
    monkeypatch.setattr(installed, "_telling", telling)
    monkeypatch.setattr(installed, "names", lambda: raise_it(Interrupt()))
    core = SimpleNamespace(tell=lambda *told: said.append(told[2]))
    monkeypatch.setattr("ramet.kernel.start.node", SimpleNamespace(config={}, core=core))
    with pytest.raises(Interrupt):
        installed.tell()
    assert [told for _, told in telling] == [True], "who waits for it goes on"
    monkeypatch.setattr(installed, "names", lambda: ["some"])
    installed.tell()
    installed.tell()
    assert said == [["some"]]


def test_a_kept_node_whose_program_goes_while_logging_is_imported_waits_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its calls were never ended then: it told all who came that it settles, for ever."""
    done: list[str] = []
    core = SimpleNamespace(handlers={}, pending={})
    calls = SimpleNamespace(lock=threading.Lock(), end=lambda: done.append("calls"))
    node = HeldNode.__new__(HeldNode)
    node.node = SimpleNamespace(core=core, calls=calls, nursery=None, log_hook=SimpleNamespace(core=core, level=20))
    node.leash = SimpleNamespace(hang_up=bool)  # type: ignore[assignment]
    node.lock, node.over = threading.Lock(), False
    monkeypatch.setattr(node, "keep_output", lambda: done.append("output"))
    monkeypatch.setattr(compat, "start_thread", lambda *_: done.append("cancelling"))
    node.on_lost(None, "its program was killed")
    assert done == ["output", "calls", "cancelling"]


# ---------------------------------------------------------------------- a keeper takes its time

def test_a_templates_keeper_that_takes_its_time_ends_nevertheless(monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten seconds the main thread was the keeper, too: both read and took from the same lines."""
    loop, held = Loop(raise_it), threading.Event()

    def run() -> None:
        with contextlib.suppress(SystemExit):       # as `_thread` does, by which a node starts it
            loop.run()
    keeper = threading.Thread(target=run, daemon=True)
    keeper.start()
    loop.call_soon(held.wait)
    calls = SimpleNamespace(on_idle=None, waiter=None, closing=True)
    node = SimpleNamespace(calls=calls, loop=loop, core=SimpleNamespace(
        routes=SimpleNamespace(parent=SimpleNamespace(give_back=lambda _: None))))
    monkeypatch.setattr(template, "alone_within_s", 0)
    monkeypatch.setattr(template, "serving", [])
    monkeypatch.setattr(template, "time", SimpleNamespace(sleep=lambda _: held.set()))
    monkeypatch.setattr(template.spare, "Spare", lambda *_: SimpleNamespace(give_back=bool, end=bool))
    monkeypatch.setattr(template.compat, "start_thread", lambda *_: None)
    monkeypatch.setattr(gc, "freeze", bool)
    template.serve(node)
    held.set()
    keeper.join(HANGS_S)
    ended = not keeper.is_alive()
    loop_late.stop(loop)
    keeper.join()
    loop_late.close(loop)
    assert ended


# ---------------------------------------------------------------------- a program ends just as its node is kept

def test_a_guardian_forgets_a_link_that_has_hung_up_just_before_its_node_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended the node when its grace was over, with the next program that had come to it."""
    node, link, words, now = 4711, 20, 35, [0.0]
    said = [b"100000000 ", b""]
    polls: list[list[int]] = []
    killed: list[int] = []

    class Poll:
        """In turn: the link hangs up, the word comes, the grace would be over, the node ends."""

        def __init__(self) -> None:
            self.fds: list[int] = []

        def register(self, fd: int, _: int) -> None:
            self.fds.append(fd)

        def poll(self, _: float | None) -> list[tuple[int, int]]:
            polls.append(self.fds)
            now[0] += 0.1 if len(polls) < 3 else 100
            return [[(link, 16)], [(words, 1)], [], [(words, 1)]][len(polls) - 1]

    def read(fd: int, _: int) -> bytes:
        if fd == words:
            return said.pop(0)
        raise BlockingIOError
    monkeypatch.setattr(guardian, "Poll", Poll)
    monkeypatch.setattr(guardian, "gc", SimpleNamespace(disable=bool))
    monkeypatch.setattr(guardian, "compat", SimpleNamespace(
        monotonic=lambda: now[0], signal=SimpleNamespace(signal=lambda *_: None, SIG_IGN=None)))
    monkeypatch.setattr(guardian, "os", SimpleNamespace(
        setsid=bool, closerange=lambda *_: None, fstat=bool, getppid=lambda: node, read=read,
        kill=lambda pid, number: killed.append(pid)))
    guardian.guard(node, 1.0, link, [(30 + n, 40 + n) for n in range(6)], None)
    assert len(polls) == 4 and link not in polls[2] and -node in killed
