"""What grows ends just as it asks for a secret."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import ramet
from ramet.asking import Desk


def test_a_question_that_comes_just_as_its_node_is_settled_holds_up_nobody() -> None:
    """It got the answer on trial, and nobody said what came of it: all others waited until their time was up."""
    desk, secret = Desk(SimpleNamespace()), ramet.Secret.ask("password?", how=lambda _: "abc")  # type: ignore[arg-type]
    group: Any = secret._group
    want = group.want
    plan = {"what": "ssh web", "name": "web", "secrets": {"p": secret}, "rules": [{"secret": "p"}]}

    def settled_just_then(question: Any) -> Any:
        group.want = want
        desk.settle(1)
        return want(question)
    group.want = settled_just_then
    for id in 1, 2:
        desk.open(id, 0, plan)
    got: list[Any] = []
    for id in 1, 2:
        desk.asker(id)("p", 1, "", lambda value, why, id=id: got.append((id, value)))    # type: ignore[misc]
        for thread in list(desk._threads):
            thread.join()
    assert (2, bytearray(b"abc")) in got
