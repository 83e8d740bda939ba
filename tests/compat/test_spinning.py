"""The main lanes of nodes of every Python spin, and so do those of forks."""

from __future__ import annotations

import pytest

import ramet
from support import needs, pythons, remote_spinning
from support.eventually import until

NODES = pythons.labels([python.label for python in pythons.everywhere()])


@pytest.mark.parametrize("label", NODES)
def test_a_node_s_main_lane_spins(label: str) -> None:
    where = needs.python_anywhere(label)
    with ramet.Tree() as tree:
        grower = tree.command(where.before, python=where.path) if where.before else tree
        fork = grower.fork(python=where.path)
        for node in grower.local(python=where.path), fork:
            until(lambda node=node: node.call(remote_spinning.poller)[:2] == ["Spinner", True], "it never waited so")  # type: ignore[misc]
            assert node.call(remote_spinning.poller)[2] == 0
