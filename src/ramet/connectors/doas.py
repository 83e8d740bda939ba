"""The connector ``doas``: an interpreter under another account, by the rules of doas.conf. Pure."""
from __future__ import annotations

import os
from collections.abc import Sequence

from ramet.connectors import CONNECT_TIMEOUT_S, Plan, Python, argument, behind, options, texts
from ramet.connectors.rules import NO_PYTHON, account_secrets, exits, password_rules
from ramet.secrets import Given


def plan(
    username: str | None = None,
    *,
    password: Given | None = None,
    second_factor: Given | None = None,
    doas_args: Sequence[str] = (),
    doas_path: str | os.PathLike[str] = "doas",
    python: Python = None,
    name: str | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> Plan:
    """Start an interpreter as another user with doas.

    Args:
        username: who to be. Default: root.
        password: of the account that asks. Without one doas may not ask.
        second_factor: for the question for a verification code, a one-time password or the like.
        doas_args: more arguments.
        doas_path: the program.
        python: the interpreter, or a list with its flags. Default: one is looked for.
        name: the node's name. Default: the account's.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable. The text of a secret is never in it.
    """
    given = account_secrets(password, second_factor)
    who = "root" if username is None else argument("username", username)
    head = [os.fspath(doas_path), *options({"-n": not given, "-u": username}), *texts("doas_args", doas_args), "--"]
    return behind(
        f"doas {who}", head, who, name, python, connect_timeout_s,
        shape="pipes" if not given else "pipes+tty",
        rules=password_rules("tty", "password" in given, "doas", "escalate", "second_factor" in given) + NO_PYTHON + _EXITS,
        secrets=given,
    )  # fmt: skip


_EXITS = exits("escalate", 1, [
    ("AuthenticationError", "[Aa]uthentication (is )?required|a tty is required",
     "doas asks for a password, and none was given", "give one (password=), or a rule with nopass"),
    ("AuthenticationError", "required to change your password|password has expired",
     "the password has expired", "log in once by hand and set a new one"),
    ("AuthenticationError", "[Aa]uthentication failed|[Aa]uthorization failed",
     "the password was refused", "check the account and the password"),
    ("AuthenticationError", "Operation not permitted|not permitted",
     "the rules of doas don't allow it", "add a rule to doas.conf"),
    ("ConnectError", "unknown user", "there is no such account", "check username="),
    ("ConnectError", "not enabled|doas\\.conf",
     "doas has no rules that it can use", "see that /etc/doas.conf is there, right (doas -C), and root's alone"),
    ("ConnectError", "not installed setuid|setuid",
     "doas can't become another user here", "see that it is setuid root, and that the file system isn't mounted nosuid"),
])  # fmt: skip
