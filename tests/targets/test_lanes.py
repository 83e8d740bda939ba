"""Lanes other than the main one, on a node of this machine."""
from __future__ import annotations

import os

import pytest

import ramet
from support import remote_async


def test_a_coroutine_function_that_cannot_be_called_so_fails() -> None:
    with ramet.Tree() as tree:
        node = tree.local()
        with pytest.raises(TypeError, match="argument"):
            node.start(remote_async.double, 1, 2, 3).result(timeout=10)
        with pytest.raises(TypeError, match="coroutine"):
            node.options(lane="asyncio").start(os.getpid).result(timeout=10)
        assert node.start(remote_async.double, 1).result(timeout=10) == 2
