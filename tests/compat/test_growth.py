"""Nodes of every Python grow children: the same plans, carried out by each interpreter of this machine."""
from __future__ import annotations

from typing import Any

import pytest

from ramet.connectors import command, local
from support import pythons
from targets.growing import grow_elsewhere

ASKS = 'printf "Password: " >/dev/tty; read answer </dev/tty; [ "$answer" = "s3cret é" ] || exit 5; exec "$@"'
ASKS_AGAIN = 'while :; do printf "Password: " >/dev/tty; read answer </dev/tty; done'
RULES = [{"match": "Password: $", "do": "send", "secret": "pw", "error": "AuthenticationError", "stage": "escalate",
          "text": "refused"}]  # fmt: skip


def plans() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Plans, and what must become of each."""
    up = {"echo": "hello", "status": 0}
    return [
        (local.plan(name="n.1"), up),
        (local.plan(python="python3", env={"É": "é", "HOME": None}, cwd="/"), up),
        (command.plan(["env", "A=é"]), up),
        (command.plan(["sh", "-c", ASKS, "sh"], terminal=True, rules=RULES, secrets={"pw": "s3cret é"}), up),
        (command.plan(["sh", "-c", ASKS, "sh"], terminal=True, rules=RULES, secrets={"pw": "wrong"}),
         {"error": "ConnectError", "stage": "bootstrap"}),
        (command.plan(["sh", "-c", ASKS_AGAIN], terminal=True, rules=RULES, secrets={"pw": "s3cret é"}),
         {"error": "AuthenticationError", "stage": "escalate"}),
        (local.plan(python="nopythön"), {"error": "PythonNotFoundError", "stage": "find-python"}),
        (local.plan(cwd="/nowhere"), {"error": "ConnectError", "stage": "start"}),
        (command.plan(["env"], python="nopython"), {"error": "PythonNotFoundError", "stage": "find-python"}),
        (command.plan(["no-such-program"]), {"error": "ConnectError", "stage": "start"}),
        (command.plan(["sleep", "60"], connect_timeout_s=0.3), {"error": "ConnectError", "stage": "bootstrap"}),
        (command.plan(["sh", "-c", "echo garbage; kill -9 $$"]), {"error": "ConnectError", "stage": "bootstrap"}),
    ]  # fmt: skip


@pytest.mark.parametrize("less", [False, True], ids=["whole", "minimal"])
@pytest.mark.parametrize(("label", "python"), pythons.interpreters(), ids=[label for label, _ in pythons.interpreters()])
def test_a_node_of_this_python_grows_children(label: str, python: str, less: bool) -> None:
    wanted = plans()
    became = grow_elsewhere(python, [plan for plan, _ in wanted], less)
    for record, (plan, expected) in zip(became, wanted * 2, strict=True):
        assert {key: record.get(key) for key in expected} == expected, (plan["what"], record)
    forms = {"source"} if label == "2.7" or label.startswith("pypy") else {"cp" + label.replace(".", "")}
    assert {became[0]["form"]} == forms
