"""The connector ``buildah``: an interpreter in a working container of Buildah. Pure."""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ramet.bootstrap import first_stage
from ramet.connectors import (
    CONNECT_TIMEOUT_S,
    Plan,
    Python,
    argument,
    behind,
    options,
    python_words,
    temporary,
    texts,
    variables,
)
from ramet.connectors.oci import EACH_ITS_OWN, NOT_YOURS
from ramet.connectors.rules import OWN_PROCESS_1, exits


def plan(
    container: str | None = None,
    *,
    image: str | None = None,
    user: str | None = None,
    workdir: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    isolation: str | None = None,
    from_args: Sequence[str] = (),
    buildah_args: Sequence[str] = (),
    buildah_path: str | os.PathLike[str] = "buildah",
    python: Python = None,
    name: str | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> Plan:
    """Start an interpreter in a working container.

    Args:
        container: its name or id, as ``buildah from`` gives it.
        image: instead: make a working container from this image, which is removed when the node ends.
        user: in the container, ``name[:group]`` or ids.
        workdir: the folder in there to start in; it is made if it isn't there.
        env: more variables. They show in the arguments of the program: not for secrets.
        isolation: oci, rootless or chroot.
        from_args: more arguments for making one from an image, such as ``["--pull-never"]``.
        buildah_args: more arguments, behind ``run``.
        buildah_path: the program.
        python: the interpreter in there, or a list with its flags. Default: one is looked for with ``sh``.
        name: the node's name. Default: the container's.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable.
    """
    if (container is None) == (image is None):
        raise ValueError("buildah needs either a container or an image")
    program = os.fspath(buildah_path)
    own = options({"--user": user, "--workingdir": workdir, "--isolation": isolation})
    use = [program, "run", *own, *variables(env), *texts("buildah_args", buildah_args), "--"]
    first = OWN_PROCESS_1 if first_stage.command(python_words(python), "")[0] == "sh" else []     # else it may have no shell
    if image is not None:
        make = [program, "from", "--quiet", "--name", "NAME", *texts("from_args", from_args), argument("image", image)]
        return temporary.one_of_its_own("buildah", image, make, [*use, "NAME", *first], [program, "rm", "NAME"], name, python,
                                        connect_timeout_s, _EXITS)  # fmt: skip
    head = [*use, argument("container", container), *first]
    return behind(f"buildah {container}", head, str(container), name, python, connect_timeout_s, rules=_EXITS)


_EXITS = [*exits("start", None, [
    ("ConnectError", "container not known|no container with (name|ID)|no such container|could not find",
     "there is no such container", f"see the names: buildah containers{EACH_ITS_OWN['buildah']}"),
    ("ConnectError", ("image not known|[Ii]nitializing source|short-name|manifest unknown|repository does not exist|"
     "pull access denied"),
     "there is no such image, here or where it would come from", "see the names: buildah images"),
    ("PythonNotFoundError", "executable file[^\n]{1,300}not found|exec: |[Nn]o such file or directory",
     "there is no such program in there", "say where an interpreter is: python="),
    ("ConnectError", "unable to find user|no matching entries in passwd|unknown user",
     "there is no such account in there", "check user="),
    ("ConnectError", "unrecognized isolation type|set --network other than host", "it can't be isolated in that way",
     "check isolation="),
    ("ConnectError", "unknown (shorthand )?flag", "buildah doesn't take its options", "see buildah_args="),
]), *NOT_YOURS["buildah"]]  # fmt: skip
