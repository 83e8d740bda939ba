"""Looks, all the while that something goes on, whether a secret is in any process's arguments or environment.

    with Watch([password]) as watch:
        ...
    assert watch.found == []
"""
from __future__ import annotations

import os
import threading
from collections.abc import Sequence


class Watch:
    """A thread that reads all of /proc again and again.

    Attributes:
        found: (pid, "cmdline" or "environ") where a secret was seen.
        rounds: how often everything was read.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = [secret.encode() for secret in secrets]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.found: list[tuple[int, str]] = []
        self.rounds = 0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            self._look()
            self.rounds += 1

    def _look(self) -> None:
        for pid in filter(str.isdigit, os.listdir("/proc")):
            for what in ("cmdline", "environ"):
                try:
                    with open(f"/proc/{pid}/{what}", "rb") as file:
                        data = file.read()
                except OSError:
                    continue        # it has ended, or is another user's
                if any(secret in data for secret in self._secrets):
                    self.found.append((int(pid), what))
