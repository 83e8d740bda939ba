"""The peers beside us: Mitogen and execnet, each used as its documentation shows."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import remote

ECHO = "for item in channel: channel.send(item)"


@contextmanager
def mitogen_router() -> Iterator[Any]:
    import mitogen.master

    broker = mitogen.master.Broker()
    try:
        yield mitogen.master.Router(broker)
    finally:
        broker.shutdown()
        broker.join()


def mitogen_local(router: Any) -> Any:
    context = router.local(python_path=sys.executable, connect_timeout=120)
    context.call(remote.nothing)
    return context


def mitogen_end(context: Any) -> None:
    context.shutdown(wait=True)


def ssh_options() -> list[str]:
    """Arguments for ``ssh`` that lead to the benchmark's own sshd; see tools/with_sshd.sh."""
    return os.environ.get("RAMET_DEMO_SSH_ARGS", "").split()


def ssh_host() -> str:
    return os.environ.get("RAMET_DEMO_SSH", "")
