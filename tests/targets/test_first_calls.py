"""What the very first call of a node may do, before the node has had a moment for itself."""
from __future__ import annotations

import time

import ramet
from support import remote_logging


def test_the_first_call_may_import_logging() -> None:
    with ramet.Tree() as tree:
        node = tree.local()
        pid = node.call(remote_logging.pid)
        time.sleep(0.2)     # now the node does what could wait
        assert node.call(remote_logging.pid) == pid
