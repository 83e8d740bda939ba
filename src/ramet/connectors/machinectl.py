"""The connector ``machinectl``: an interpreter in a running container that systemd knows, by systemd-run. Pure.

``machinectl shell`` needs a terminal, changes bytes on it and loses the exit status; ``systemd-run --pipe`` doesn't.
"""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ramet.connectors import CONNECT_TIMEOUT_S, Plan, Python, argument, behind, options, texts, variables
from ramet.connectors.rules import exits


def plan(
    container: str,
    *,
    user: str | None = None,
    group: str | None = None,
    workdir: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    systemd_run_args: Sequence[str] = (),
    systemd_run_path: str | os.PathLike[str] = "systemd-run",
    python: Python = None,
    name: str | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> Plan:
    """Start an interpreter in a machine of ``machinectl list``, as a unit that ends with it.

    Args:
        container: the machine's name; ``.host`` is the host itself.
        user: who to be in there. Default: root.
        group: with which group.
        workdir: the folder in there to start in.
        env: more variables. They show in the arguments of the program: not for secrets.
        systemd_run_args: more arguments, such as ``["--property=MemoryMax=1G"]``.
        systemd_run_path: the program.
        python: the interpreter in there, or a list with its flags. Default: one is looked for.
        name: the node's name. Default: the container's.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable.
    """
    own = options({"--uid": user, "--gid": group, "--working-directory": workdir})
    head = [os.fspath(systemd_run_path), f"--machine={argument('container', container)}", "--pipe", "--quiet", "--collect",
            "--wait", *own, *variables(env, "--setenv"), *texts("systemd_run_args", systemd_run_args), "--"]  # fmt: skip
    return behind(f"machinectl {container}", head, container, name, python, connect_timeout_s, rules=UNIT_EXITS)


# What systemd ends a unit with that it can't start; by then nobody is there to say why.
_STATUS_EXITS = [
    *exits("start", 200, [("ConnectError", "", "the folder can't be entered", "check workdir=")]),
    *exits("find-python", 203, [("PythonNotFoundError", "", "there is no such program in there, or it can't be executed",
                                 "say where an interpreter is: python=")]),
    *exits("start", [216, 217], [("ConnectError", "", "there is no such account or group", "check the names")]),
    *exits("start", list(range(201, 246)), [
        ("ConnectError", "", "systemd can't start the interpreter", "see what the status means: systemd-analyze exit-status")]),
]  # fmt: skip

UNIT_EXITS = [*_STATUS_EXITS, *exits("start", None, [
    ("ConnectError", ("No machine '[^\n]{1,200}' known|Failed to (get|open) machine|Host is down|"
     "via machine transport: (Broken|Connection)|Transport endpoint is not connected"),
     "there is no such machine that runs", "see the names: machinectl list"),
    ("AuthenticationError", "[Ii]nteractive authentication required|Access denied|[Pp]ermission denied|Not authorized",
     "this account may not do that", "grow it from a root node, or let polkit allow it"),
    ("PythonNotFoundError", "Failed to find executable|No such file or directory", "there is no such program in there",
     "say where an interpreter is: python="),
    ("ConnectError", "Failed to connect to bus|System has not been booted with systemd", "systemd can't be reached here",
     "machinectl and run0 need a machine with systemd as its first process"),
    ("ConnectError", "Failed to (determine user credentials|resolve (user|group))|Unknown user",
     "there is no such account", "check user="),
    ("ConnectError", "(invalid|unrecognized) option", "the program doesn't take its options", "see the *_args="),
])]  # fmt: skip
