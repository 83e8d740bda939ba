"""A node that was taken over asks over its real link for what there isn't, in forms that there aren't, and without end."""
from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

import ramet
from ramet import shipping
from support import remote, remote_requests


@pytest.fixture
def node(tree: ramet.Tree) -> ramet.Node:
    return tree.local(python=sys.executable)


BODIES: list[Any] = [
    b"", b"\xc1", 7, None, [], {}, ["source"], ["source", ["json"]], ["source", ["json"], -1], ["source", ["json"], "1"],
    ["source", ["json"], 1 << 80], ["source", "json", 1], ["source", {"json": 1}, 1], [None, ["json"], 1],
    [["source"], ["json"], 1],
    ["cp3\u00b2", ["support.remote"], 1], ["cp3" + "9" * 5000, ["support.remote"], 1], ["cp299", ["support.remote"], 1],
    ["native", ["/bin/ls", None, [], "lib/../../x"], 1], ["data", ["support:../../etc/passwd", 1, {}], 1],
    ["dist", ["../x:", "*", ":", [1]], 1], ["source", [["x"], {"a": {}}, None, b"x", "/etc/passwd"], 1],
]  # fmt: skip


def test_each_odd_request_is_answered_and_brings_nothing(tree: ramet.Tree, node: ramet.Node) -> None:
    assert node.call(remote.add, 1) == 1
    answered, brought = node.options(timeout=90).call(remote_requests.send, BODIES)
    assert (answered, brought) == (len(BODIES), [])
    assert node.call(remote.add, 2) == 2 and tree.local().call(remote.add, 3) == 3


def test_the_account_of_what_a_node_has_is_bounded(
        tree: ramet.Tree, node: ramet.Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "ABSENT_MAX", 300)
    asked = [["source", [f"nobody_has_{n}_{i}" for i in range(50)], 1] for n in range(20)]
    assert node.options(timeout=90).call(remote_requests.send, asked)[0] == len(asked)
    lists = [["dist", [f"*:{n}"], 1] for n in range(200)]
    assert node.options(timeout=90).call(remote_requests.send, lists)[0] == len(lists)
    forms = [[f"cp{n}", ["support.remote"], 1] for n in range(2000, 2200)]
    assert node.options(timeout=90).call(remote_requests.send, forms) == [len(forms), []]
    assert len(node._state.has) < 500
    assert node.call(remote_requests.try_import, "nobody_has_19_49") == "ModuleNotFoundError", "it is told again"


def test_a_flood_does_not_keep_others_waiting(tree: ramet.Tree, node: ramet.Node) -> None:
    """What it may cost others is bounded by how many of one node may wait."""
    other = tree.local()
    assert other.call(remote.add, 1) == 1
    flood = node.start(remote_requests.flood, 5_000)
    done = threading.Event()
    answered = 0
    while not done.is_set():
        assert other.call(remote.add, 2) == 2
        answered += 1
        if flood.done():
            done.set()
    assert flood.result() == 5_000
    assert answered > 2     # some thousand; one, if it waited for the end of the flood
    assert len(node._state.requests) <= shipping.WAITING_MAX
    assert node.options(timeout=90).call(remote.add, 3) == 3
