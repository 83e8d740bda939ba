"""What is asked of a node with each Python, however it was reached."""
from __future__ import annotations

import pytest

from ramet import Node
from support import remote_small


def check_python(node: Node, label: str) -> None:
    """It has that Python, runs a module of ours, gets and gives all bytes, and grows a child of the same kind.

    Args:
        label: a version as ``support.pythons`` has it ("2.7", "pypy3.11"), and maybe more words behind it.
    """
    version = label.partition(" ")[0]
    facts = node.wait(120).facts
    assert facts["implementation"] == ("PyPy" if version.startswith("pypy") else "CPython"), node.name
    assert facts["version"].startswith(version.removeprefix("pypy") + "."), (node.name, facts["version"])
    assert node.call(remote_small.work) == 42
    assert node.call(remote_small.echo, bytes(range(256)) * 1000) == bytes(range(256)) * 1000
    child = node.local()
    assert child.call(remote_small.work) == 42 and child.facts["version"] == facts["version"]
    with pytest.raises(KeyError, match="missing"):
        child.call(remote_small.fail)
