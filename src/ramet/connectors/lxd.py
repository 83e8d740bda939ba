"""The connector ``lxd``: an interpreter in a running container or machine of LXD (``lxc exec``). Pure."""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ramet.connectors import (
    CONNECT_TIMEOUT_S,
    Plan,
    Python,
    argument,
    beginning_in,
    behind,
    options,
    temporary,
    texts,
    variables,
)
from ramet.connectors.rules import NO_FOLDER, Rule, exits


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
    lxd_args: Sequence[str] = (),
    lxd_path: str | os.PathLike[str] = "lxc",
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
        lxd_args: more arguments, behind ``exec``.
        lxd_path: the program.
        python: the interpreter in there, or a list with its flags. Default: one is looked for with ``sh``.
        name: the node's name. Default: the container's.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable.
    """
    client = [os.fspath(lxd_path), *options({"--project": project})]
    own = [*options({"--user": uid, "--group": gid}), *variables(env), *texts("lxd_args", lxd_args)]
    words = ["-T", *own, "--", *beginning_in(workdir)]
    return inside("lxd", client, words, container, image, texts("launch_args", launch_args), name, python, connect_timeout_s)


def inside(
    connector: str,
    client: Sequence[str],
    words: Sequence[str],
    container: str | None,
    image: str | None,
    launch_args: Sequence[str],
    name: str | None,
    python: Python,
    connect_timeout_s: float,
) -> Plan:
    """The plan for an interpreter in an instance that runs, or in one that is made for it; Incus has the same commands.

    Args:
        client: the program and its own options.
        words: what follows the instance's name behind ``exec``.
    """
    if (container is None) == (image is None):
        raise ValueError(f"{connector} needs either a container or an image")
    known = rules(connector, os.path.basename(client[0]))
    if container is not None:
        head = [*client, "exec", argument("container", container), *words]
        return behind(f"{connector} {container}", head, container.rpartition(":")[2], name, python, connect_timeout_s,
                      rules=known)  # fmt: skip
    make = [*client, "launch", "--quiet", "--ephemeral", *launch_args, argument("image", image), "NAME"]
    remove = [*client, "delete", "--force", "NAME"]
    return temporary.one_of_its_own(connector, str(image), make, [*client, "exec", "NAME", *words], remove, name, python,
                                    connect_timeout_s, known)  # fmt: skip


def rules(connector: str, program: str) -> list[Rule]:
    """What it means when the client ends before an interpreter runs; Incus says the same."""
    return [*NO_FOLDER, *exits("start", None, [
        ("PythonNotFoundError", "[Cc]ommand not found|executable file not found",
         "there is no such program in there", "say where an interpreter is: python="),
        ("ConnectError", "unknown (shorthand )?flag", f"{program} doesn't take its options", f"see {connector}_args="),
        ("ConnectError", "[Tt]he remote \"[^\n]{1,300}\" doesn't exist",
         "there is no such remote", f"see the names: {program} remote list"),
        ("ConnectError", "[Ii]mage[^\n]{0,300} not found|[Nn]o such image", "there is no such image",
         f"see the names: {program} image list"),
        ("ConnectError", "[Pp]roject not found", "there is no such project", f"see the names: {program} project list"),
        ("ConnectError", "[Ii]nstance not found|^Error: [Nn]ot [Ff]ound",
         "there is no such instance", f"see the names: {program} list; check project="),
        ("ConnectError", "is not running|is stopped", "the instance doesn't run", f"start it: {program} start"),
        ("ConnectError", "is frozen", "the instance is frozen", f"let it go on: {program} start"),
        ("AuthenticationError", "[Pp]ermission denied|don't have the needed permissions|not authorized",
         "this account may not talk to the daemon", f"grow it from a root node: node.sudo().{connector}(...)"),
        ("ConnectError", "connect: |[Cc]onnection refused|[Ff]ailed to connect|daemon doesn't appear to be started",
         "the daemon can't be reached", "see that it runs"),
    ])]  # fmt: skip
