"""What the very first call of a node may do, before the node has had a moment for itself."""
from __future__ import annotations

import time

import pytest

import ramet
from ramet.modules.closure import ClosureFinder
from support import remote_logging, remote_part, remote_small


def test_the_first_call_may_import_logging() -> None:
    with ramet.Tree() as tree:
        node = tree.local()
        pid = node.call(remote_logging.pid)
        time.sleep(0.2)     # now the node does what could wait
        assert node.call(remote_logging.pid) == pid


def test_a_module_that_cannot_be_shipped_for_an_unforeseen_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call to a node that is still growing is sent by the keeper: its caller must hear of a failure there, too."""
    with ramet.Tree() as tree:
        up = tree.local()
        up.wait()
        with monkeypatch.context() as broken:
            broken.setattr(ClosureFinder, "_close", lambda self, name: {}[name])
            growing = tree.local()
            growing.cast(remote_small.work)
            pending = growing.start(remote_small.work)
            for call in (lambda: up.call(remote_small.work), lambda: pending.result(60)):
                with pytest.raises(KeyError):
                    call()
            growing.wait(60)
        assert (up.call(remote_part.answer), growing.call(remote_part.answer)) == (42, 42)
