"""The connector ``jail``: an interpreter in a running jail of FreeBSD (``jexec``). Pure."""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ramet.connectors import CONNECT_TIMEOUT_S, Plan, Python, argument, beginning_in, behind, options, texts
from ramet.connectors.rules import NO_FOLDER, exits


def plan(
    container: str,
    *,
    username: str | None = None,
    workdir: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    login: bool = False,
    jexec_args: Sequence[str] = (),
    jexec_path: str | os.PathLike[str] = "jexec",
    python: Python = None,
    name: str | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> Plan:
    """Start an interpreter in a jail. It needs root.

    Args:
        container: the jail's name or number.
        username: who to be, an account of the jail's. Default: root.
        workdir: the folder in there to start in.
        env: more variables. They show in the arguments of the program: not for secrets.
        login: with a clean environment.
        jexec_args: more arguments.
        jexec_path: the program.
        python: the interpreter in there, or a list with its flags. Default: one is looked for.
        name: the node's name. Default: the jail's.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable.
    """
    head = [os.fspath(jexec_path), *options({"-l": login, "-U": username}), *texts("jexec_args", jexec_args),
            argument("container", container), *beginning_in(workdir, env)]  # fmt: skip
    return behind(f"jail {container}", head, container, name, python, connect_timeout_s, rules=_EXITS)


_EXITS = [*NO_FOLDER, *exits("start", 1, [
    ("ConnectError", "jail \"[^\n]{1,200}\" not found", "there is no such jail that runs", "see the names: jls"),
    ("AuthenticationError", "jail_attach[^\n]{1,60}: Operation not permitted|Operation not permitted",
     "this account may not enter it", "grow it from a root node: node.sudo().jail(...)"),
    ("ConnectError", "no such user|unknown user|getpwnam: ", "there is no such account in there", "check username="),
    ("PythonNotFoundError", "execvp[^\n]{0,300}: (No such file or directory|Permission denied)",
     "there is no such program in there", "say where an interpreter is: python="),
    ("ConnectError", "illegal option|^usage: jexec", "jexec doesn't take its options", "see jexec_args="),
])]  # fmt: skip
