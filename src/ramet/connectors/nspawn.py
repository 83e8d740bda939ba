"""The connector ``nspawn``: an interpreter in a container of its own, made of a folder by systemd-nspawn. Pure."""
from __future__ import annotations

import os
from collections.abc import Sequence

from ramet.connectors import CONNECT_TIMEOUT_S, Plan, Python, argument, behind, options, texts
from ramet.connectors.rules import exits


def plan(
    container: str | os.PathLike[str],
    *,
    user: str | None = None,
    ephemeral: bool = False,
    read_only: bool = False,
    nspawn_args: Sequence[str] = (),
    nspawn_path: str | os.PathLike[str] = "systemd-nspawn",
    python: Python = None,
    name: str | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> Plan:
    """Start a container for one interpreter. It needs root. For one that runs already there is ``machinectl``.

    Args:
        container: a folder with a system in it; without a slash, the name of one in /var/lib/machines.
        user: who to be in there.
        ephemeral: on a copy of the folder that is removed at the end.
        read_only: the folder can't be changed from in there.
        nspawn_args: more arguments.
        nspawn_path: the program.
        python: the interpreter in there, or a list with its flags. Default: one is looked for.
        name: the node's name. Default: the container's.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable.
    """
    text = argument("container", os.fspath(container))
    where = {"--directory" if "/" in text else "--machine": text}
    own = options({**where, "--user": user, "--ephemeral": ephemeral, "--read-only": read_only})
    head = [os.fspath(nspawn_path), "--quiet", "--pipe", "--as-pid2", "--register=no", "--keep-unit", *own,
            *texts("nspawn_args", nspawn_args), "--"]  # fmt: skip
    default = os.path.basename(text.rstrip("/"))
    return behind(f"nspawn {text}", head, default, name, python, connect_timeout_s, rules=_EXITS)


_EXITS = exits("start", 1, [
    ("ConnectError", "No image for machine|does not exist|Failed to resolve path|Not a directory",
     "there is no such container", "check the name or the folder"),
    ("ConnectError", "currently busy|already in use|is already",
     "the container is in use", "give ephemeral=True, or enter it: machinectl"),
    ("AuthenticationError", "Need to be root|Operation not permitted|Permission denied", "this account may not make containers",
     "grow it from a root node: node.sudo().nspawn(...)"),
    ("PythonNotFoundError", "execv\\([^\n]{1,300}\\) failed",
     "there is no such program in there", "say where an interpreter is: python="),
    ("ConnectError", "(invalid|unrecognized) option", "systemd-nspawn doesn't take its options", "see nspawn_args="),
])  # fmt: skip
