"""The connector ``lxc``: an interpreter in a running container of LXC (``lxc-attach``). Pure."""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ramet.connectors import CONNECT_TIMEOUT_S, Plan, Python, argument, beginning_in, behind, options, texts
from ramet.connectors.rules import NO_FOLDER, exits


def plan(
    container: str,
    *,
    uid: int | None = None,
    gid: int | None = None,
    workdir: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    keep_env: bool = False,
    lxcpath: str | os.PathLike[str] | None = None,
    lxc_args: Sequence[str] = (),
    lxc_path: str | os.PathLike[str] = "lxc-attach",
    python: Python = None,
    name: str | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> Plan:
    """Start an interpreter in a container.

    Args:
        container: its name.
        uid, gid: who to be in there. Default: root.
        workdir: the folder in there to start in.
        env: more variables. They show in the arguments of the program: not for secrets.
        keep_env: hand on the growing node's environment; else it is cleared.
        lxcpath: the folder of the containers.
        lxc_args: more arguments.
        lxc_path: the program.
        python: the interpreter in there, or a list with its flags. Default: one is looked for with ``sh``.
        name: the node's name. Default: the container's.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable.
    """
    head = [os.fspath(lxc_path), *options({"-n": argument("container", container), "-P": lxcpath, "-u": uid, "-g": gid,
                                           "--clear-env": not keep_env}), *texts("lxc_args", lxc_args), "--",
            *beginning_in(workdir, env)]  # fmt: skip
    return behind(f"lxc {container}", head, container, name, python, connect_timeout_s, rules=_EXITS)


_EXITS = [*NO_FOLDER, *exits("start", None, [
    ("ConnectError", "[Ff]ailed to get (the )?init pid|is not running|[Cc]onnection refused|Failed to get the container",
     "there is no such container that runs", "see the names and what runs: lxc-ls --fancy; start it: lxc-start"),
    ("AuthenticationError", "[Pp]ermission denied|[Oo]peration not permitted|Insufficent privileges|Insufficient privileges",
     "this account may not enter it", "grow it from a root node: node.sudo().lxc(...)"),
    ("PythonNotFoundError", "[Nn]o such file or directory[^\n]{0,300}[Ff]ailed to exec|[Ff]ailed to exec",
     "there is no such program in there", "say where an interpreter is: python="),
    ("ConnectError", "(invalid|unrecognized) option", "lxc-attach doesn't take its options", "see lxc_args="),
])]  # fmt: skip
