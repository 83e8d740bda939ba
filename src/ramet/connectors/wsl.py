"""The connector ``wsl``: an interpreter in a Linux of Windows (``wsl.exe``), from another such Linux. Pure."""
from __future__ import annotations

import os
from collections.abc import Sequence

from ramet.connectors import CONNECT_TIMEOUT_S, Plan, Python, argument, behind, options, texts
from ramet.connectors.rules import exits


def plan(
    distribution: str | None = None,
    *,
    username: str | None = None,
    workdir: str | None = None,
    wsl_args: Sequence[str] = (),
    wsl_path: str | os.PathLike[str] = "wsl.exe",
    python: Python = None,
    name: str | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> Plan:
    """Start an interpreter in a distribution of WSL.

    Args:
        distribution: its name. Default: WSL's own default.
        username: who to be in there.
        workdir: the folder to start in.
        wsl_args: more arguments.
        wsl_path: the program.
        python: the interpreter in there, or a list with its flags. Default: one is looked for.
        name: the node's name. Default: the distribution's.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable.
    """
    which = None if distribution is None else argument("distribution", distribution)
    own = options({"--distribution": which, "--user": username, "--cd": workdir})
    head = [os.fspath(wsl_path), *own, *texts("wsl_args", wsl_args), "--exec"]
    return behind(f"wsl {which or ''}".strip(), head, which or "wsl", name, python, connect_timeout_s, rules=_EXITS)


# Its words are in Windows' language, its codes aren't.
_EXITS = exits("start", None, [
    ("ConnectError", "WSL_E_DISTRO_NOT_FOUND|no distribution with the supplied name", "there is no such distribution",
     "see the names: wsl.exe --list"),
    ("ConnectError", "WSL_E_DEFAULT_DISTRO_NOT_FOUND|no installed distributions", "there is no distribution at all",
     "install one: wsl.exe --install"),
    ("ConnectError", "WSL_E_USER_NOT_FOUND|User not found", "there is no such account in there", "check username="),
    ("PythonNotFoundError", "execvpe[ (][^\n]{1,300}failed",
     "there is no such program in there", "say where an interpreter is: python="),
    ("ConnectError", "WSL_E_WSL_OPTIONAL_COMPONENT_REQUIRED|HCS_E_|WSL_E_VM_MODE", "WSL doesn't run on this Windows",
     "see wsl.exe --status"),
    ("ConnectError", "Invalid command line (argument|option)|E_INVALIDARG", "wsl.exe doesn't take its options",
     "see wsl_args="),
])  # fmt: skip
