"""The connector ``incus``: an interpreter in a running container or machine of Incus (``incus exec``). Pure."""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ramet.connectors import CONNECT_TIMEOUT_S, Plan, Python, beginning_in, options, texts, variables
from ramet.connectors.lxd import inside


def plan(
    container: str | None = None,
    *,
    image: str | None = None,
    uid: int | None = None,
    gid: int | None = None,
    workdir: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    project: str | None = None,
    launch_args: Sequence[str] = (),
    incus_args: Sequence[str] = (),
    incus_path: str | os.PathLike[str] = "incus",
    python: Python = None,
    name: str | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> Plan:
    """Start an interpreter in an instance.

    Args:
        container: the instance's name, possibly with ``REMOTE:`` before it.
        image: instead: start an instance from this image, which is removed when the node ends.
        uid, gid: who to be in there. Default: root.
        workdir: the folder in there to start in.
        env: more variables. They show in the arguments of the program: not for secrets.
        project: the project that it is in.
        launch_args: more arguments for starting one from an image, such as ``["--profile", "small"]``.
        incus_args: more arguments, behind ``exec``.
        incus_path: the program.
        python: the interpreter in there, or a list with its flags. Default: one is looked for with ``sh``.
        name: the node's name. Default: the container's.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable.
    """
    client = [os.fspath(incus_path), *options({"--project": project})]
    own = [*options({"--user": uid, "--group": gid}), *variables(env), *texts("incus_args", incus_args)]
    words = ["-T", *own, "--", *beginning_in(workdir)]
    return inside("incus", client, words, container, image, texts("launch_args", launch_args), name, python, connect_timeout_s)
