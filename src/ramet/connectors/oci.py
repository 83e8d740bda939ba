"""What Docker and Podman have in common: how a command is run in a container, and what it says when that fails. Data."""
from __future__ import annotations

from collections.abc import Sequence

from ramet.bootstrap import first_stage
from ramet.connectors import Plan, Python, argument, behind, python_words
from ramet.connectors.rules import OWN_PROCESS_1, Rule, exits

#: Programs without a daemon: whoever runs them has containers of his own, and sees no others.
EACH_ITS_OWN = {
    program: f"; each account has its own: root's are entered from a root node, node.sudo().{program}(...)"
    for program in ("podman", "buildah")
}
NOT_YOURS = {
    program: exits("start", None, [
        ("AuthenticationError", "level=error msg=[^\n]{1,600}: permission denied|^Error: [^\n]{1,600}: permission denied",
         "this account may not use these containers", f"grow it from a root node: node.sudo().{program}(...)"),
    ]) for program in ("podman", "buildah")
}


def inside(
    program: str,
    head: Sequence[str],
    more: Sequence[str],
    container: str | None,
    image: str | None,
    name: str | None,
    python: Python,
    connect_timeout_s: float,
) -> Plan:
    """The plan for an interpreter in a container that runs, or in one that is started for it and removed at its end.

    Args:
        program: "docker" or "podman", for people.
        head: the program and its own options.
        more: options for ``exec`` or ``run``.
    """
    if (container is None) == (image is None):
        raise ValueError(f"{program} needs either a container or an image")
    if container is not None:
        words = [*head, "exec", "-i", *more, argument("container", container)]
        return behind(f"{program} {container}", words, container, name, python, connect_timeout_s, rules=rules(program))
    # What the image runs by itself isn't wanted: the first word of ours takes its place.
    first = first_stage.command(python_words(python), "")[0]
    words = [*head, "run", "--rm", "-i", *more, "--entrypoint", first, argument("image", str(image))]
    if first == "sh":       # see OWN_PROCESS_1; without it, the image may have no shell
        words += OWN_PROCESS_1[1:]
    made = behind(f"{program} image {image}", words, str(image), name, python, connect_timeout_s, rules=rules(program))
    if first != "sh":
        del made["argv"][len(words)]
    return made


def rules(program: str) -> list[Rule]:
    """What it means when it ends before an interpreter runs."""
    return exits("start", None, [
        ("ConnectError", "[Nn]o such container|no container with (name or )?ID",
         "there is no such container", f"see the names: {program} ps{EACH_ITS_OWN.get(program, '')}"),
        ("ConnectError", "is not running|container state improper|can only create exec sessions on running",
         "the container doesn't run", f"start it: {program} start; or start one from an image: image="),
        ("ConnectError", "is paused", "the container is paused", f"let it go on: {program} unpause"),
        ("ConnectError", ("[Nn]o such image|image not known|pull access denied|repository does not exist|manifest unknown|"
         "[Ii]nitializing source|short-name"),
         "there is no such image, here or where it would come from", f"see the names: {program} images"),
        ("AuthenticationError", "[Pp]ermission denied[^\n]{0,300}(daemon|docker\\.sock|podman\\.sock)",
         "this account may not talk to the daemon",
         f"let it into the daemon's group, or grow it from a root node: node.sudo().{program}(...)"),
        ("ConnectError", ("Cannot connect to |[Ii]s the docker daemon running|unable to connect to Podman|"
         "[Cc]onnection[^\n]{1,200}not found|context \"?[^\n]{1,200}(not found|does not exist)|error during connect"),
         "the daemon can't be reached", "see that it runs, and which one is meant"),
        ("ConnectError", "unable to find (user|group)|no matching entries in (passwd|group) file",
         "there is no such account in there", "check user="),
        ("ConnectError", ("chdir to cwd|(cwd|working directory|workdir)[^\n]{0,300}(no such file or directory|not a directory|"
         "absolute|does not exist)"),
         "the folder isn't there", "check workdir="),
        ("PythonNotFoundError", ("executable file[^\n]{1,300}not found|exec: \"[^\n]{1,300}\": |"
         "OCI runtime (attempted to invoke a command that was not found|[^\n]{1,300}not found)"),
         "there is no such program in there: no Python, or no sh to look for one", "say where an interpreter is: python="),
        ("ConnectError", "unknown (shorthand )?flag|unknown option",
         f"{program} doesn't take its options", f"see {program}_args="),
    ]) + NOT_YOURS.get(program, [])
