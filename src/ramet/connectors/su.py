"""The connector ``su``: an interpreter under another account, whose password is known, or as root for any. Pure."""
from __future__ import annotations

import os
from collections.abc import Sequence

from ramet.connectors import CONNECT_TIMEOUT_S, Plan, Python, argument, behind, options, texts
from ramet.connectors.rules import NO_LANGUAGE, account_secrets, exits, password_rules
from ramet.secrets import Given


def plan(
    username: str = "root",
    *,
    password: Given | None = None,
    second_factor: Given | None = None,
    login: bool = False,
    shell: str | os.PathLike[str] | None = None,
    su_args: Sequence[str] = (),
    su_path: str | os.PathLike[str] = "su",
    python: Python = None,
    name: str | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> Plan:
    """Start an interpreter as another user with su. Root needs no password.

    Args:
        username: who to be.
        password: of that account.
        second_factor: for the question for a verification code, a one-time password or the like.
        login: with that account's folder and environment (``su -``).
        shell: instead of that account's login shell.
        su_args: more arguments.
        su_path: the program.
        python: the interpreter, or a list with its flags. Default: one is looked for.
        name: the node's name. Default: the account's.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable. The text of a secret is never in it.
    """
    given = account_secrets(password, second_factor)
    head = [os.fspath(su_path), *options({"-l": login, "-s": shell}), *texts("su_args", su_args),
            argument("username", username), "-c"]  # fmt: skip
    # Without a terminal of its own su asks on stderr and reads from stdin, which is the link: nothing else is on it yet.
    questions = [password_rules(source, "password" in given, "su", "escalate", "second_factor" in given)
                 for source in ("stderr", "output")]
    return behind(
        f"su {username}", head, username, name, python, connect_timeout_s, shell=True,
        rules=[*questions[0], *questions[1], *_EXITS],
        secrets=given, env=NO_LANGUAGE,
    )  # fmt: skip


_EXITS = exits("escalate", 1, [
    ("AuthenticationError", "[Aa]uthentication (failure|failed|token)|incorrect password|Permission denied|Sorry",
     "su refused it: a wrong password, or none, or an account that isn't allowed to", "check username and password"),
    ("ConnectError", "does not exist|[Uu]nknown (id|user)|No passwd entry", "there is no such account", "check username="),
    ("AuthenticationError", "account (is currently )?not available|nologin|This account",
     "the account has no login shell", "give another one: shell=\"/bin/sh\""),
    ("ConnectError", "setuid|must be (run|suid)|[Cc]annot set (user|group) ?id|Operation not permitted",
     "su can't become another user here", "see that it is setuid root, and that the file system isn't mounted nosuid"),
    ("ConnectError", "(invalid|unrecognized) option", "su doesn't take its options", "see su_args="),
]) + exits("escalate", [126, 127], [
    ("ConnectError", "^su: failed to execute ", "the account's shell can't be run", "give another one: shell=\"/bin/sh\""),
])  # fmt: skip
