"""Who may interrupt a call in a thread, and when: the permit. The interpreter's own way of raising it is replaced."""

from __future__ import annotations

import sys
import threading
import time
from types import FrameType, SimpleNamespace

import pytest

from ramet.kernel import importer, installed, jobs, lanes, raising, start, unforeseen
from ramet.kernel.calls import Interrupt
from support import kernel_shim, pythons

#: Those that can raise an exception in another thread.
LABELS = [label for label, _ in pythons.interpreters() if not label.startswith("pypy")]


class Raised:
    """What was raised in threads: True for the interrupt, False where one was taken back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[bool] = []
        monkeypatch.setattr(raising, "raiser", lambda: self)

    def __call__(self, thread: int, error: type[BaseException] | None, frame: FrameType | None = None) -> bool:
        assert thread == threading.get_ident() and frame is not sys._getframe()
        self.done.append(error is Interrupt)
        return True


def a_job() -> jobs.ThreadJob:
    core = SimpleNamespace(threads=threading.local())
    return jobs.ThreadJob(SimpleNamespace(core=core), None, "*")  # type: ignore[arg-type]


def test_what_has_not_begun_and_what_has_ended_is_not_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread is at something else then: the next call, or ramet's own code, with its locks."""
    raised = Raised(monkeypatch)
    job = a_job()
    job.interrupt()
    assert job.enter(lambda: 5, [], {}, {}) == 5
    job.interrupt()
    assert raised.done == [] and not job.interrupted


def test_who_was_interrupted_in_a_wait_meanwhile_is_not_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits in ramet's own code, and sees that it is cancelled just when the other thread is about to take its permit."""
    job = a_job()
    raised = Raised(monkeypatch)

    def fn() -> None:
        left = job.leave()

        def meanwhile() -> Raised:
            with pytest.raises(Interrupt):
                job.raise_now()
            job.back(left)
            return raised
        monkeypatch.setattr(raising, "raiser", meanwhile)
        job.interrupt()
    job.enter(fn, [], {}, {})
    job.interrupt()
    assert job.interrupted and raised.done == []


def test_what_is_in_code_of_ramet_is_interrupted_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    raised = Raised(monkeypatch)
    job = a_job()

    def fn() -> None:
        left = job.leave()
        assert left and not job.leave(), "who has left needn't once more"
        job.interrupt()
        assert raised.done == []
        job.back(left)
        job.interrupt()
        assert raised.done == [True]
        job.interrupt()
    job.enter(fn, [], {}, {})
    assert raised.done == [True, False], "sent once; what hadn't been raised when the function returned is taken back"


def test_who_waits_for_a_module_that_is_coming_is_interrupted_when_it_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads the link meanwhile, where it was raised: messages that had come with others were lost, and their calls hung."""
    raised, job, cache = Raised(monkeypatch), a_job(), importer.ModuleCache()
    finder = importer.Finder(cache, lambda name, _: cache.refuse(name, unforeseen.COMING), False)
    seen: list[str] = []

    def at(where: str) -> None:
        job.interrupt()
        seen.append(where)
        assert raised.done == []

    def wait(*_: object) -> None:
        at("reads")
        cache.add(finder.form, [["some", 0, "ramet:/some.py", b""]], {})
    core = job.calls.core
    core.routes, core.wait = SimpleNamespace(parent=SimpleNamespace(parsing=0, dead=False)), wait  # type: ignore[misc,assignment]
    monkeypatch.setattr(start, "node", SimpleNamespace(core=core, loop=SimpleNamespace(thread=0)))
    monkeypatch.setattr("sys.meta_path", [finder])
    monkeypatch.setattr(installed, "tell", lambda: at("writes"))
    monkeypatch.setattr(unforeseen, "_ask", unforeseen._ask)
    lanes._protect(job.calls)

    def fn() -> None:
        assert unforeseen._ask(finder, "some", "some")
        job.interrupt()
    job.enter(fn, [], {}, {})
    assert seen == ["writes", "reads"] and raised.done == [True, False]


def test_a_thread_that_leaves_too_late_waits_until_it_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be raised behind it: in ramet's own code, or in the next call."""
    raised = Raised(monkeypatch)
    job = a_job()
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        if not job.sent and len(waits) == 3:
            raised(job.thread, Interrupt)   # the other thread, which has the permit, goes on
            job.interrupted = job.sent = True
        waits.append(seconds)
    monkeypatch.setattr(time, "sleep", sleep)

    def fn() -> None:
        job.cancelled = True
        job.permit.pop()    # the other thread is about to send it
    job.enter(fn, [], {}, {})
    assert len(waits) == 6 and raised.done == [True, False]


def test_a_thread_that_leaves_takes_the_permit_that_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other thread has found it importing, and sends nothing: to wait for that would be to wait for ever."""
    raised = Raised(monkeypatch)
    job = a_job()
    monkeypatch.setattr(time, "sleep", lambda _: job.permit.append(True))

    def fn() -> None:
        job.cancelled = True
        job.permit.pop()    # the other thread looks
    job.enter(fn, [], {}, {})
    assert raised.done == [] and not job.interrupted


ONE_FRAME = """
import sys, threading
from ramet.kernel import raising
begun, go, caught = threading.Event(), threading.Event(), []

class Raised(BaseException):
    pass

def other():
    try:
        begun.set()
        go.wait()
        while True:
            pass
    except Raised:
        caught.append(True)
thread = threading.Thread(target=other)
thread.start()
begun.wait()
send, number = raising.raiser(), thread.ident
while sys._current_frames()[number].f_code is other.__code__:
    pass        # until it waits: deeper in that than in its own frame
print(send(number, Raised, sys._getframe()))
print(send(12345, Raised, sys._getframe()))
go.set()
sent = False
while not sent:
    frame = sys._current_frames()[number]
    # not while it leaves what it has waited in: before 3.2 that may fail by itself then, a lock released that isn't held
    sent = frame.f_code is other.__code__ and send(number, Raised, frame)
thread.join()
print(caught == [True])
print(send(number, Raised, sys._getframe()))
"""


@pytest.mark.parametrize("label", LABELS)
def test_it_is_sent_to_one_frame_only(label: str) -> None:
    """What a thread was seen in, it may have left: another frame isn't meant, nor is another thread, nor one that has ended."""
    said = kernel_shim.run(dict(pythons.interpreters())[label], ONE_FRAME)
    assert said.split() == ["False", "False", "True", "False"]


IMPORTING = """
import sys, threading
from types import ModuleType
from ramet.kernel import jobs
from ramet.kernel.calls import Interrupt
from _frozen_importlib import ModuleSpec
begun, go, caught = threading.Event(), threading.Event(), []

class Held(object):
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name == "held" else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        begun.set()
        go.wait()
sys.meta_path.insert(0, Held())

def first():
    import held

def second():
    import held
    while True:
        pass

def call():
    try:
        job.enter(second, (), {}, {})
    except Interrupt:
        caught.append(True)

class Of(object):
    pass
Of.core = Of.threads = Of
job = jobs.ThreadJob(Of, None, "*")
one, other = threading.Thread(target=first), threading.Thread(target=call)
one.start()
begun.wait()
other.daemon = True
other.start()

def waits():
    frame = sys._current_frames().get(other.ident)
    return frame and frame.f_code.co_name == "acquire" and "_bootstrap" in frame.f_code.co_filename
while not waits():
    pass
job.cancelled = True
job.interrupt()
print(job.interrupted, job.permit)
go.set()
while not job.interrupted:
    job.interrupt()
one.join()
other.join()
print(caught)
import held
"""


@pytest.mark.parametrize("label", [label for label in LABELS if label != "2.7"])
def test_a_thread_that_waits_for_an_import_is_not_interrupted_in_that(label: str) -> None:
    """It would leave the import system with a lock held, or with a note that it waits; in 2.7 that is no Python code."""
    said = kernel_shim.run(dict(pythons.interpreters())[label], IMPORTING)
    assert said.splitlines() == ["False [True]", "[True]"]
