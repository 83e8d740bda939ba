"""Grows one node with a stand-in for the kernel: it writes the second marker and then echoes what comes.

So what is tested is everything up to the kernel: connectors, dialogue, processes, markers, errors.
"""
from __future__ import annotations

import json
import os
import subprocess
import threading
import time
import zlib
from pathlib import Path
from typing import Any

from ramet.kernel import loop_late, stub
from ramet.kernel.grow import Growth
from ramet.kernel.loop import Loop
from support.eventually import HANGS_S

_ECHO = rb"""
os.write(1, b"\nRAMET2\n")
data = d.unused_data
while data:
    while data:
        data = data[os.write(1, data):]
    data = os.read(9, 65536)
os._exit(0)
"""


def payload(form: str) -> bytes:
    """Head and loader of the stand-in. It is the same in all forms."""
    return stub.HEAD + zlib.compress(_ECHO)


class Keeper:
    """A loop in a thread of its own, for ``with``. Errors of callbacks are raised at its end."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.loop = Loop(self.errors.append)
        self.thread = threading.Thread(target=self.loop.run)

    def __enter__(self) -> Keeper:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        loop_late.stop(self.loop)
        self.thread.join()
        loop_late.close(self.loop)
        for error in self.errors:
            raise error


class Outcome:
    """What becomes of one growth."""

    def __init__(self, loop: Loop, plan: dict[str, Any], behind: bytes = b"hello", payload: Any = payload) -> None:
        self.loop = loop
        self.behind = behind
        self.form: str | None = None
        self.process: Any = None
        self.fds: set[int] = set()
        self.data = b""
        self.error: Any = None
        self.calls = 0
        self.over = threading.Event()
        self.exited = threading.Event()
        self.took_s = -time.monotonic()
        self.growth = Growth(loop, plan, payload, self._started, self._up, self._failed)
        self.growth.start()

    def _started(self, form: str) -> bytes:
        self.form = form
        return self.behind

    def _up(self, process: Any, fd_in: int, fd_out: int, data: bytes) -> None:
        self.process, self.fds, self.data = process, {fd_in, fd_out}, data
        self.fd_in, self.fd_out = fd_in, fd_out
        self._over()

    def _failed(self, error: Any) -> None:
        self.error = error
        self._over()

    def _over(self) -> None:
        self.calls += 1
        self.took_s += time.monotonic()
        self.over.set()

    def wait(self, seconds: float = 150) -> Outcome:
        assert self.over.wait(seconds), "neither up nor failed"
        return self

    def echo(self) -> bytes:
        """What the stand-in sends back of what followed it."""
        data = self.data
        for fd in self.fds:
            os.set_blocking(fd, True)
        while len(data) < len(self.behind):
            got = os.read(self.fd_in, 65536)
            assert got, "the stand-in is gone"
            data += got
        return data

    def close(self) -> int:
        """Close the link, and wait for the program to end by itself. Gives its exit status."""
        status: list[int] = []
        for fd in self.fds:
            os.close(fd)
        self.process.on_exit(lambda code: (status.append(code), self.exited.set()))
        assert self.exited.wait(HANGS_S), "it runs on"
        return status[0]


def grow_elsewhere(python: str, plans: list[dict[str, Any]], less: bool = False) -> list[dict[str, Any]]:
    """Carry out plans on another interpreter, one after the other, then all at once. See ``compat/grow_here.py``.

    Args:
        less: without the modules that the smallest Pythons lack.

    Returns:
        What became of each, twice as many as there are plans.
    """
    script = Path(__file__).parent.parent / "compat" / "grow_here.py"
    job = {"plans": plans, "payload": payload("source").decode("latin-1")}
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    env["LC_ALL"] = "C"
    argv = [python, str(script), *(["less"] if less else [])]
    sent = json.dumps(job, default=lambda secret: secret.reveal()).encode()
    done = subprocess.run(argv, input=sent, env=env, capture_output=True, timeout=150)
    assert done.returncode == 0, done.stderr.decode()
    *became, last = json.loads(done.stdout)
    assert last == {"fds": 0}
    assert [record for record in became if isinstance(record, str)] == []
    assert len(became) == 2 * len(plans)
    return became


def grow(plan: dict[str, Any], **options: Any) -> Outcome:
    """Grow one, look whether the stand-in works, and end it."""
    with Keeper() as keeper:
        outcome = Outcome(keeper.loop, plan, **options).wait()
        if outcome.error is None:
            assert outcome.echo() == outcome.behind
            outcome.close()
        assert outcome.calls == 1
    return outcome
