"""The connector ``chroot``: an interpreter that sees another root folder. Pure."""
from __future__ import annotations

import os
from collections.abc import Sequence

from ramet.connectors import CONNECT_TIMEOUT_S, Plan, Python, argument, behind, options, texts
from ramet.connectors.rules import exits


def plan(
    path: str | os.PathLike[str],
    *,
    userspec: str | None = None,
    chroot_args: Sequence[str] = (),
    chroot_path: str | os.PathLike[str] = "chroot",
    python: Python = None,
    name: str | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> Plan:
    """Start an interpreter in another root folder. It needs root.

    Without /proc in there a node still works; its subprocesses are then ended less surely.

    Args:
        path: the folder.
        userspec: who to be: ``user[:group]``, names of that folder's own accounts.
        chroot_args: more arguments.
        chroot_path: the program.
        python: the interpreter in there, or a list with its flags. Default: one is looked for.
        name: the node's name. Default: the folder's.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable.
    """
    folder = argument("path", os.fspath(path))
    head = [os.fspath(chroot_path), *options({"--userspec": userspec}), *texts("chroot_args", chroot_args), folder]
    return behind(f"chroot {folder}", head, os.path.basename(folder.rstrip("/")) or "chroot", name, python, connect_timeout_s,
                  rules=_EXITS)  # fmt: skip


_EXITS = exits("start", [1, 125], [
    ("ConnectError", "cannot change root directory[^\n]{0,300}(No such file|Not a directory)",
     "there is no such folder", "check path="),
    ("AuthenticationError", "Operation not permitted|Permission denied", "this account may not change its root folder",
     "grow it from a root node: node.sudo().chroot(...)"),
    ("ConnectError", "invalid (user|group|userspec)", "there is no such account in there", "check userspec="),
    ("ConnectError", "(invalid|unrecognized) option", "chroot doesn't take its options", "see chroot_args="),
])  # fmt: skip
