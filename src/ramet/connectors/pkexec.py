"""The connector ``pkexec``: an interpreter under another account, by the rules of polkit. Pure."""
from __future__ import annotations

import os
from collections.abc import Sequence

from ramet.connectors import CONNECT_TIMEOUT_S, Plan, Python, argument, behind, options, texts
from ramet.connectors.rules import NO_LANGUAGE, exits


def plan(
    username: str | None = None,
    *,
    pkexec_args: Sequence[str] = (),
    pkexec_path: str | os.PathLike[str] = "pkexec",
    python: Python = None,
    name: str | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> Plan:
    """Start an interpreter as another user with pkexec, as far as polkit allows it or an agent of the desktop asks.

    Args:
        username: who to be. Default: root.
        pkexec_args: more arguments.
        pkexec_path: the program.
        python: the interpreter, or a list with its flags. Default: one is looked for.
        name: the node's name. Default: the account's.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable.
    """
    who = "root" if username is None else argument("username", username)
    head = [os.fspath(pkexec_path), "--disable-internal-agent", *options({"--user": username}),
            *texts("pkexec_args", pkexec_args)]  # fmt: skip
    return behind(f"pkexec {who}", head, who, name, python, connect_timeout_s, rules=_EXITS, env=NO_LANGUAGE)


_EXITS = exits("find-python", [126, 127, 1], [
    ("PythonNotFoundError", "Cannot run program [^\n]{1,300}: No such file",
     "there is no such program over there", "say where a Python is: python="),
    ("PythonNotFoundError", "Error accessing [^\n]{1,300}: Permission denied",
     "the account that calls pkexec may not run the interpreter, and pkexec looks at it as that one",
     "name one that it may run, or a program in front of it: python=['env', PATH]"),
]) + exits("escalate", [126, 127, 1], [
    ("AuthenticationError", "Not authorized|dismissed|No authentication agent", "polkit doesn't allow it without a question",
     "add a rule for org.freedesktop.policykit.exec, or use sudo"),
    ("ConnectError", "value for the SHELL variable was not found",
     "pkexec wants the variable SHELL to name a shell of /etc/shells", "grow it from a node with such a one"),
    ("ConnectError", "Unknown user|^User [^\n]{1,200} does not exist|not found in password|getpwnam",
     "there is no such account", "check username="),
    ("ConnectError", "setuid root|pkexec must be", "pkexec can't become another user here", "see that it is setuid root"),
    ("ConnectError", "polkit|PolicyKit|D-?Bus|StartServiceByName|Error getting authority",
     "polkit can't be reached", "see that its daemon and the system bus run"),
])  # fmt: skip
