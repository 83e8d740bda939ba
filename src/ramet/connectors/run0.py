"""The connector ``run0``: an interpreter under another account, as a unit of systemd (256 or newer). Pure."""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ramet.connectors import CONNECT_TIMEOUT_S, Plan, Python, argument, behind, options, texts, variables
from ramet.connectors.machinectl import UNIT_EXITS


def plan(
    username: str | None = None,
    *,
    group: str | None = None,
    workdir: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    run0_args: Sequence[str] = (),
    run0_path: str | os.PathLike[str] = "run0",
    python: Python = None,
    name: str | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> Plan:
    """Start an interpreter as another user with run0, as far as polkit lets this account do so without a question.

    Args:
        username: who to be. Default: root.
        group: with which group.
        workdir: the folder to start in.
        env: more variables. They show in the arguments of the program: not for secrets.
        run0_args: more arguments.
        run0_path: the program.
        python: the interpreter, or a list with its flags. Default: one is looked for.
        name: the node's name. Default: the account's.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable.
    """
    who = "root" if username is None else argument("username", username)
    own = options({"--user": username, "--group": group, "--chdir": workdir})
    head = [os.fspath(run0_path), "--pipe", "--no-ask-password", *own, *variables(env, "--setenv"),
            *texts("run0_args", run0_args), "--"]  # fmt: skip
    rules = [rule if rule["stage"] == "find-python" else {**rule, "stage": "escalate"} for rule in UNIT_EXITS]
    return behind(f"run0 {who}", head, who, name, python, connect_timeout_s, rules=rules)
