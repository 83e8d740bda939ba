"""The connector ``sudo``: an interpreter under another account of the same machine. Pure."""
from __future__ import annotations

import os
from collections.abc import Sequence

from ramet.bootstrap import wishes
from ramet.connectors import CONNECT_TIMEOUT_S, Plan, Python, argument, behind, options, python_words, texts
from ramet.connectors.rules import NO_LANGUAGE, NO_PYTHON, account_secrets, exits, password_rules
from ramet.secrets import Given


def plan(
    username: str | None = None,
    *,
    password: Given | None = None,
    second_factor: Given | None = None,
    group: str | None = None,
    login: bool = False,
    set_home: bool = False,
    preserve_env: bool | Sequence[str] = False,
    selinux_role: str | None = None,
    selinux_type: str | None = None,
    terminal: bool = False,
    sudo_args: Sequence[str] = (),
    sudo_path: str | os.PathLike[str] = "sudo",
    python: Python = None,
    name: str | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> Plan:
    """Start an interpreter as another user, by sudo's rules. Works with sudo-rs, too, as far as that has the options.

    Args:
        username: who to be. Default: sudo's own, root.
        password: of the account that asks (or as the machine's sudoers have it). Without one sudo may not ask.
        second_factor: for the question for a verification code, a one-time password or the like.
        group: with which group.
        login: with that account's login shell, folder and environment (``sudo -i``). ``python=`` is "python3" then unless
            given, since sudo would garble the search for one.
        set_home: HOME is that account's.
        preserve_env: keep the environment, or these variables of it, as far as sudoers let that be.
        selinux_role, selinux_type: of the security context.
        terminal: give sudo a controlling terminal, where sudoers require one, though no password is given.
        sudo_args: more arguments.
        sudo_path: the program.
        python: the interpreter, or a list with its flags. Default: one is looked for.
        name: the node's name. Default: the account's.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable. The text of a secret is never in it.
    """
    given = account_secrets(password, second_factor)
    factor = "second_factor" in given
    wish = wishes.find(python_words(python)) if login and python is not None else None
    if wish:
        raise ValueError(f"login=True can't look for Python {wish.words}, since sudo -i garbles a search: name the interpreter")
    variables = None if isinstance(preserve_env, bool) else ",".join(texts("preserve_env", preserve_env))
    head = [os.fspath(sudo_path), *options({
        "-n": not given, "-p": PROMPT if given and not factor else None,
        "-u": None if username is None else argument("username", username),
        "-g": None if group is None else argument("group", group),
        "-i": login, "-H": set_home, "-E": preserve_env is True, "-r": selinux_role, "-t": selinux_type,
    }), *([f"--preserve-env={variables}"] if variables else []), *texts("sudo_args", sudo_args), "--"]  # fmt: skip
    who = username or "root"
    return behind(
        f"sudo {who}", head, who, name, "python3" if login and python is None else python, connect_timeout_s,
        shape="pipes" if not given and not terminal else "pipes+tty",
        rules=password_rules("tty", "password" in given, "sudo", "escalate", factor, not factor) + NO_PYTHON + _EXITS,
        secrets=given, env=NO_LANGUAGE,
    )  # fmt: skip


#: What sudo asks with, whatever sudoers say. It puts these words in place of all of PAM's, a second factor's question
#: included: who has one to give must see PAM's own. Where this is overruled, any language's question is known.
PROMPT = "[sudo] password for %p: "

_EXITS = exits("escalate", 1, [
    ("AuthenticationError", ("password is required|a terminal is required|no askpass program|"
     "interactive authentication is required"),
     "sudo asks for a password, and none was given", "give one (password=), or a rule with NOPASSWD"),
    ("ConnectError", "must have a tty", "sudo wants a terminal", "give terminal=True"),
    ("AuthenticationError", "incorrect password|[Aa]uthentication (failure|failed)|no password was provided|Maximum \\d+ tries",
     "the password was refused", "check the account and the password"),
    ("AuthenticationError", "not in the sudoers file|not allowed to|may not run sudo|I'm sorry [^\n]{1,80}. I'm afraid",
     "the rules of sudo don't allow it", "see what is allowed with sudo -l; add a rule to sudoers"),
    ("ConnectError", "unknown (user|group)|user '?[^\n]{1,80} not found", "there is no such account", "check username="),
    ("AuthenticationError", "account (is locked|has expired|validation failure)|password (has )?expired",
     "the account can't be used now", "log in once by hand and see what it says"),
    ("ConnectError", "setuid root|effective (uid|user ID)|no new privileges|nosuid",
     "sudo can't become another user here", "see that it is setuid root, and that the file system isn't mounted nosuid"),
    ("ConnectError", ("(syntax|parse) error|no valid sudoers|sudoers[^\n]{1,200}(owned by|writable)|unable to (open|"
     "stat)[^\n]{1,80}sudoers"),
     "the rules of sudo are broken", "check them: visudo -c"),
    ("ConnectError", "(invalid|unrecognized|unknown) option|usage: sudo|unexpected argument",
     "sudo doesn't take its options", "see sudo_args= and what this version of it has"),
    ("ConnectError", "unable to resolve host[^\n]{0,300}\\Z|^sudo(-rs)?: ", "sudo failed", "see the last lines"),
])  # fmt: skip
