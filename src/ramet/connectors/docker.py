"""The connector ``docker``: an interpreter in a container of Docker, one that runs or one of its own. Pure."""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ramet.connectors import CONNECT_TIMEOUT_S, Plan, Python, options, texts, variables
from ramet.connectors.oci import inside


def plan(
    container: str | None = None,
    *,
    image: str | None = None,
    user: str | None = None,
    workdir: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    privileged: bool = False,
    context: str | None = None,
    host: str | None = None,
    docker_args: Sequence[str] = (),
    docker_path: str | os.PathLike[str] = "docker",
    python: Python = None,
    name: str | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> Plan:
    """Start an interpreter in a container.

    Args:
        container: name or id of one that runs.
        image: instead: start a container from this image, which is removed when the node ends.
        user: in the container, ``name[:group]`` or ids.
        workdir: the folder in there to start in.
        env: more variables. They show in the arguments of the program: not for secrets.
        privileged: with all rights.
        context: one of Docker's contexts.
        host: the daemon's address, such as ``unix:///run/docker.sock`` or ``ssh://web1``.
        docker_args: more arguments, behind ``exec`` or ``run``.
        docker_path: the program.
        python: the interpreter in there, or a list with its flags. Default: one is looked for with ``sh``.
        name: the node's name. Default: the container's.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable.
    """
    head = [os.fspath(docker_path), *options({"--context": context, "--host": host})]
    more = [*options({"--user": user, "--workdir": workdir, "--privileged": privileged}), *variables(env),
            *texts("docker_args", docker_args)]  # fmt: skip
    return inside("docker", head, more, container, image, name, python, connect_timeout_s)
