"""``threading`` knows the main thread, whichever thread imports it first, on every Python."""

from __future__ import annotations

import pytest

from support import kernel_shim, pythons

MODERN = [label for label, _ in pythons.interpreters() if label != "2.7"]

BEGUN = """
import _thread, os, sys
from ramet.kernel import compat, main_thread
sys.modules.pop("threading", None)   # a .pth file of this machine may have imported it
main_thread.look_out()
main_thread.look_out()
done = _thread.allocate_lock()
done.acquire()
found = {}

def elsewhere(fn):
    def run():
        try:
            fn()
        except BaseException as error:
            found["failed"] = repr(error)
        done.release()
    _thread.start_new_thread(run, ())
    done.acquire()
    if "failed" in found:
        sys.exit(found["failed"])
"""

BY_ANOTHER = BEGUN + """
def first():
    import threading
    found["there"] = type(threading.current_thread()).__name__
elsewhere(first)
import threading, time
main = threading.main_thread()
print(main is threading.current_thread(), main.ident == compat.main_thread_id == compat.thread_id(), main.is_alive())
print(getattr(main, "native_id", os.getpid()) == os.getpid(), found["there"], threading.enumerate().count(main))
print(type(threading.__loader__).__module__ != "ramet.kernel.main_thread", threading.__loader__ is threading.__spec__.loader)
time.sleep(0.1)     # the thread that imported it has ended by now

def last():
    threading.main_thread().join()
    time.sleep(0.2)
    sys.stdout.write("joined\\n")
threading.Thread(target=last).start()
"""


@pytest.mark.parametrize("label", MODERN)
def test_another_thread_imports_it(label: str) -> None:
    """The interpreter's end waits for a thread that isn't a daemon, which waits for the main one."""
    said = kernel_shim.run(dict(pythons.interpreters())[label], BY_ANOTHER)
    assert said.splitlines() == ["True True True", "True _DummyThread 1", "True True", "joined"]


BY_MAIN = BEGUN + """
import threading
elsewhere(lambda: None)
print(threading.main_thread() is threading.current_thread(), type(threading.__loader__).__name__ != "MainThreadLoader")
"""


@pytest.mark.parametrize("label", MODERN)
def test_the_main_thread_imports_it(label: str) -> None:
    said = kernel_shim.run(dict(pythons.interpreters())[label], BY_MAIN)
    assert said.split() == ["True", "True"]


NEVER_SEEN_WRONG = BEGUN + """
seen = []

def watch(frame, event, arg):
    module = sys.modules.get("threading")
    if frame.f_code.co_name == "put_right" and not seen:
        seen.append(module.__spec__._initializing)      # so another thread's import waits for the module's lock
    return watch

def first():
    sys.settrace(watch)
    import threading
    sys.settrace(None)
elsewhere(first)
print(seen)
"""


@pytest.mark.parametrize("label", [label for label in MODERN if not label.startswith("pypy")])
def test_nobody_sees_it_before_it_is_put_right(label: str) -> None:
    said = kernel_shim.run(dict(pythons.interpreters())[label], NEVER_SEEN_WRONG)
    assert said.split() == ["[True]"]


FAILS_FIRST = BEGUN + """
class Broken(object):
    times = 0

    def find_spec(self, name, path=None, target=None):
        if name == "functools" and not self.times:
            self.times = 1
            raise ImportError("not now")
sys.meta_path.insert(0, Broken())
for name in "threading", "functools":
    sys.modules.pop(name, None)

def first():
    try:
        import threading
    except ImportError:
        sys.stdout.write("failed ")
    import threading
elsewhere(first)
import threading
print(threading.main_thread() is threading.current_thread())
"""


@pytest.mark.parametrize("label", MODERN)
def test_an_import_that_failed_is_done_again(label: str) -> None:
    said = kernel_shim.run(dict(pythons.interpreters())[label], FAILS_FIRST)
    assert said.split()[-1] == "True"


AFTER_FORK = BEGUN + """
def fork():
    pid = os.fork()
    if not pid:
        import threading
        os._exit(0 if threading.main_thread() is threading.current_thread() else 1)
    found["status"] = os.waitpid(pid, 0)[1]
elsewhere(fork)
print(found["status"])
"""


@pytest.mark.parametrize("label", MODERN)
def test_a_forked_process_has_a_main_thread_of_its_own(label: str) -> None:
    said = kernel_shim.run(dict(pythons.interpreters())[label], AFTER_FORK)
    assert said.split() == ["0"]
