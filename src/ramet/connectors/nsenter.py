"""The connector ``nsenter``: an interpreter in the namespaces of a process, or of a container by its name. Pure."""
from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

from ramet.connectors import CONNECT_TIMEOUT_S, Plan, Python, argument, behind, options, texts
from ramet.connectors.rules import exits

# Before its processes, "processes", come its own id and how many there are.
_PID_IN_JSON = "|sed -n 's/^.*\"pid\": *\\([0-9]*\\).*/\\1/p'|sed -n '$p'"

#: Kind of container -> the command that prints the process id of its first process.
FINDERS = {
    "docker": "docker inspect --type container --format '{{{{.State.Pid}}}}' {more} {name}",
    "podman": "podman inspect --type container --format '{{{{.State.Pid}}}}' {more} {name}",
    "lxc": "lxc-info --no-humanize --pid {more} --name {name}",
    "lxd": "lxc query {more} /1.0/instances/{name}/state" + _PID_IN_JSON,
    "incus": "incus query {more} /1.0/instances/{name}/state" + _PID_IN_JSON,
    "machinectl": "machinectl show --property Leader --value {more} {name}",
}

# Finds the process, then becomes nsenter. Its arguments: the container, nsenter's path, and what follows ``--target``.
_ENTER = (
    'p=$(%(find)s) && [ "${p:-0}" -gt 0 ] || { echo no process of %(kind)s "$1" >&2; exit 1; }; '
    'n=$2; shift 2; exec "$n" --target "$p" "$@"'
)

NAMESPACES = ("mount", "uts", "ipc", "net", "pid", "user", "cgroup")


def plan(
    target: int | str,
    *,
    kind: str | None = None,
    namespaces: Sequence[str] = ("mount", "uts", "ipc", "net", "pid"),
    root: bool = True,
    uid: int | None = None,
    gid: int | None = None,
    finder_args: Sequence[str] = (),
    nsenter_args: Sequence[str] = (),
    nsenter_path: str | os.PathLike[str] = "nsenter",
    python: Python = None,
    name: str | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> Plan:
    """Start an interpreter in other namespaces. It needs root, but nothing of the container's own programs.

    Args:
        target: a process id, or a container's name with ``kind``.
        kind: what knows the container: docker, podman, lxc, lxd, incus or machinectl.
        namespaces: which ones: mount, uts, ipc, net, pid, user, cgroup.
        root: with the process's root folder, too.
        uid, gid: who to be in there.
        finder_args: more arguments for the program that knows it, such as ``["-P", "/srv/lxc"]`` for ``lxc-info``.
        nsenter_args: more arguments.
        nsenter_path: the program.
        python: the interpreter in there, or a list with its flags. Default: one is looked for.
        name: the node's name. Default: the target's.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable.
    """
    if kind is not None and kind not in FINDERS:
        raise ValueError(f"kind is one of {', '.join(FINDERS)}; not {kind!r}")
    unknown = set(texts("namespaces", namespaces)) - set(NAMESPACES)
    if unknown:
        raise ValueError(f"there is no namespace {sorted(unknown)[0]!r}, only {', '.join(NAMESPACES)}")
    if kind is None and not ((isinstance(target, int) and target > 0) or (isinstance(target, str) and target.isdigit())):
        raise ValueError(f"nsenter needs a process id, or the name of a container and its kind=; not {target!r}")
    flags = options({f"--{space}": True for space in namespaces} | {"--root": root, "--setuid": uid, "--setgid": gid})
    flags += [*texts("nsenter_args", nsenter_args), "--"]
    what = str(target) if kind is None else f"{kind}:{argument('container', target)}"
    if kind is None:
        head = [os.fspath(nsenter_path), "--target", str(target), *flags]
    else:
        find = FINDERS[kind].format(name="\"$1\"", more=shlex.join(texts("finder_args", finder_args)))
        head = ["sh", "-c", _ENTER % {"find": find, "kind": kind}, "sh", str(target), os.fspath(nsenter_path), *flags]
    return behind(f"nsenter {what}", head, what, name, python, connect_timeout_s, rules=_EXITS)


_EXITS = exits("start", 1, [
    ("AuthenticationError", "Operation not permitted|Permission denied", "this account may not enter the namespaces",
     "grow it from a root node: node.sudo().nsenter(...)"),
    ("ConnectError", "no process of |cannot open /proc/[0-9]+/ns|No such process",
     "there is no such process or container that runs", "check the id or the name, and kind="),
    ("ConnectError", "(invalid|unrecognized) option", "nsenter doesn't take its options", "see nsenter_args="),
])  # fmt: skip
