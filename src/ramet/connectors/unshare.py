"""The connector ``unshare``: an interpreter in namespaces of its own. Pure."""
from __future__ import annotations

import os
from collections.abc import Sequence

from ramet.connectors import CONNECT_TIMEOUT_S, Plan, Python, behind, options, texts
from ramet.connectors.rules import OWN_PROCESS_1, exits

NAMESPACES = ("mount", "uts", "ipc", "net", "pid", "user", "cgroup", "time")


def plan(
    namespaces: Sequence[str] = ("user", "mount"),
    *,
    map_root: bool | None = None,
    unshare_args: Sequence[str] = (),
    unshare_path: str | os.PathLike[str] = "unshare",
    python: Python = None,
    name: str | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> Plan:
    """Start an interpreter that shares less with the growing node: no network, its own mounts or process ids ...

    Args:
        namespaces: which ones are its own: mount, uts, ipc, net, pid, user, cgroup, time.
        map_root: be root in the own user namespace. Default: if there is one.
        unshare_args: more arguments.
        unshare_path: the program.
        python: the interpreter, or a list with its flags. Default: one is looked for.
        name: the node's name. Default: "unshare".
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable.
    """
    unknown = set(texts("namespaces", namespaces)) - set(NAMESPACES)
    if unknown or not namespaces:
        raise ValueError(f"namespaces are some of {', '.join(NAMESPACES)}; not {namespaces!r}")
    flags = {f"--{space}": True for space in namespaces}
    if "pid" in namespaces:
        flags |= {"--fork": True, "--kill-child": True} | ({"--mount-proc": True} if "mount" in namespaces else {})
    flags["--map-root-user"] = "user" in namespaces if map_root is None else map_root
    head = [os.fspath(unshare_path), *options(flags), *texts("unshare_args", unshare_args), "--"]
    if "pid" in namespaces:
        head += OWN_PROCESS_1
    return behind("unshare " + " ".join(namespaces), head, "unshare", name, python, connect_timeout_s, rules=_EXITS)


_EXITS = exits("start", 1, [
    ("AuthenticationError", "Operation not permitted|Permission denied|write failed /proc/self/[ug]id_map",
     "this account may not make such namespaces", "add \"user\" to namespaces=, or grow it from a root node"),
    ("ConnectError", "Invalid argument|No space left|not supported",
     "this system makes no more such namespaces, or none at all", "see /proc/sys/user and the kernel's settings"),
    ("ConnectError", "(invalid|unrecognized) option", "unshare doesn't take its options", "see unshare_args="),
])  # fmt: skip
