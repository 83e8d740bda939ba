"""For those who write connectors: a check that a node grown by one does all that nodes do.

    from ramet.testing import check_connector

    def test_ssm():
        check_connector(lambda tree: tree.grow("ssm", "i-0abc"))
"""

from __future__ import annotations

import hashlib
import importlib
import operator
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from ramet.kernel.errors import ClosedError, NodeLostError, RemoteError
from ramet.node import Node
from ramet.tree import Tree

_GONE_S = 10.0

_MODULE = '''
import hashlib, os, sys

def digest(data):
    return hashlib.sha256(data).hexdigest()

def fail(path):
    open(path)

def say(text):
    sys.stdout.write(text + "\\n")

def runs(pid):
    try:
        with open("/proc/%d/stat" % pid) as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"     # ended, and only not waited for yet
    except EnvironmentError:
        return False

def whose():
    try:
        return os.readlink("/proc/self/ns/pid"), os.getpid()
    except OSError:
        return "", os.getpid()
'''


def check_connector(grow: Callable[[Tree], Node], timeout_s: float = 60.0) -> None:
    """Grow nodes by a connector and have them do what nodes do: every byte passes both ways, modules and exceptions travel,
    output arrives, children grow, and nothing is left when a node is killed.

    Args:
        grow: grows one node from the tree it is given; called several times.
        timeout_s: how long a single step may take, in seconds.

    Raises:
        AssertionError: something is not as it must be: the text says what.
        ConnectError: it can't be reached at all.
    """
    said: list[str] = []
    with _module() as module, Tree(on_output=lambda node, stream, text: said.append(text)) as tree:
        node = grow(tree).wait(timeout_s)
        _bytes_pass(node, module, timeout_s)
        _exceptions_travel(node, module, timeout_s)
        node.start(module.say, "said there").result(timeout_s)
        child = node.local()
        _expect(child.start(operator.add, 2, 3).result(timeout_s) == 5, "a child of the node doesn't add 2 and 3")
        child.close()
        _killed(grow(tree), node, module, timeout_s)
        _until(lambda: "said there" in said, "what the node prints doesn't arrive here")
    _expect(node.error is not None, "the node doesn't end with its tree")


def _bytes_pass(node: Node, module: ModuleType, timeout_s: float) -> None:
    """What a terminal on the way would change, and more than any pipe holds."""
    data = bytes(range(256)) * 512 + b"\r\n\x03\x04\x11\x13\x1a\x1c\n" * 1000 + os.urandom(1 << 20)
    there = node.start(module.digest, data).result(timeout_s)
    _expect(there == hashlib.sha256(data).hexdigest(), "bytes are changed on their way there")
    _expect(node.start(operator.add, data, b"").result(timeout_s) == data, "bytes are changed on their way back")


def _exceptions_travel(node: Node, module: ModuleType, timeout_s: float) -> None:
    try:
        node.start(module.fail, "/no/such/file").result(timeout_s)
    except RemoteError as error:
        _expect(isinstance(error, OSError), f"an OSError over there arrives as {type(error)!r}")
    else:
        raise AssertionError("a function that fails over there fails to fail here")


def _killed(node: Node, watcher: Node, module: ModuleType, timeout_s: float) -> None:
    """Kill a node in the middle of a call. Another one, grown in the same way, looks whether its process is gone."""
    space, pid = node.start(module.whose).result(timeout_s)
    seen = space and watcher.start(module.whose).result(timeout_s)[0] == space      # else it has other process ids
    call = node.start(time.sleep, 60)
    node.kill()
    try:
        call.result(timeout_s)
    except (ClosedError, NodeLostError):
        pass
    else:
        raise AssertionError("a call in a node that was killed ended well")
    if seen:
        _until(lambda: not watcher.start(module.runs, pid).result(timeout_s), f"process {pid} over there outlives its node")


def _expect(true: bool, otherwise: str) -> None:
    if not true:
        raise AssertionError(otherwise)


def _until(done: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + _GONE_S
    while not done():
        _expect(time.monotonic() < end, f"{otherwise} (within {_GONE_S:g} s)")
        time.sleep(0.02)


@contextmanager
def _module() -> Iterator[ModuleType]:
    """A module that no other interpreter has."""
    name = f"ramet_check_{os.urandom(6).hex()}"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, name + ".py").write_text(_MODULE)
        sys.path.insert(0, folder)
        try:
            importlib.invalidate_caches()
            yield importlib.import_module(name)
        finally:
            sys.path.remove(folder)
            sys.modules.pop(name, None)
