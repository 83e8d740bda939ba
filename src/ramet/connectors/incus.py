"""The connector ``incus``: an interpreter in a running container or machine of Incus (``incus exec``). Pure."""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ramet.connectors import CONNECT_TIMEOUT_S, Plan, Python, argument, beginning_in, behind, options, texts, variables
from ramet.connectors.lxd import rules


def plan(
    container: str,
    *,
    uid: int | None = None,
    gid: int | None = None,
    workdir: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    project: str | None = None,
    incus_args: Sequence[str] = (),
    incus_path: str | os.PathLike[str] = "incus",
    python: Python = None,
    name: str | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> Plan:
    """Start an interpreter in an instance.

    Args:
        container: the instance's name, possibly with ``REMOTE:`` before it.
        uid, gid: who to be in there. Default: root.
        workdir: the folder in there to start in.
        env: more variables. They show in the arguments of the program: not for secrets.
        project: the project that it is in.
        incus_args: more arguments, behind ``exec``.
        incus_path: the program.
        python: the interpreter in there, or a list with its flags. Default: one is looked for with ``sh``.
        name: the node's name. Default: the container's.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable.
    """
    own = options({"--user": uid, "--group": gid})
    head = [os.fspath(incus_path), *options({"--project": project}), "exec", argument("container", container), "-T", *own,
            *variables(env), *texts("incus_args", incus_args), "--", *beginning_in(workdir)]  # fmt: skip
    return behind(f"incus {container}", head, container.rpartition(":")[2], name, python, connect_timeout_s,
                  rules=rules("incus", "incus"))  # fmt: skip
