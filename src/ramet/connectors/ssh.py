"""The connector ``ssh``: an interpreter on another host, reached with the OpenSSH program. Pure.

The user's own configuration, agent, known hosts, jump hosts and hardware keys are ssh's business and all work. Without a
password or passphrase ssh runs in batch mode; with one it gets a terminal of its own, on which the rules below answer.
"""
from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence

from ramet.bootstrap import first_stage
from ramet.connectors import CONNECT_TIMEOUT_S, Plan, Python, make, name_from, python_words, shown, texts
from ramet.connectors.ssh_rules import exit_rules, question_rules
from ramet.kernel.settling import NAME_HERE
from ramet.secrets import Given, Secret, secret

#: host_key_policy -> StrictHostKeyChecking
HOST_KEY_POLICIES = {
    "strict": "yes", "yes": "yes", "accept-new": "accept-new", "ask": "ask", "ignore": "no", "no": "no", "off": "no",
}  # fmt: skip

# A fingerprint as ssh shows it; since 8.0 it takes one for an answer, too.
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}=?")

# ssh hands host and user to a shell where the configuration says so (ProxyCommand, Match exec). OpenSSH itself refuses
# these characters only since 9.6.
_UNSAFE = re.compile(r"[\s\x00-\x1f\x7f`'\"$\\;&<>|(){}]")

# Arguments that lead through another host, which would ask on the same terminal.
_JUMPS = re.compile(r"(?im)^(-J|(-o)?Proxy(Jump|Command)[= \t])")


def plan(
    host: str,
    *,
    port: int | None = None,
    username: str | None = None,
    identity_file: str | os.PathLike[str] | Sequence[str] | None = None,
    password: Given | None = None,
    passphrase: Given | None = None,
    second_factor: Given | None = None,
    host_key_policy: str | Callable[[str], bool] | None = None,
    ssh_args: Sequence[str] = (),
    ssh_path: str | os.PathLike[str] = "ssh",
    compression: bool | None = None,
    keepalive: float | None = None,
    python: Python = None,
    name: str | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> Plan:
    """Start an interpreter on another host. What isn't given is as the user's ssh configuration has it.

    Args:
        host: a host's name, address, or alias of the ssh configuration; ``user@host`` works, too.
        port: 1 to 65535.
        username: who to log in as.
        identity_file: a private key's file, or several, on the machine of the growing node. Besides, only those are tried
            that ssh's configuration names, and none of an agent's.
        password: for the host's password question, also if it comes as keyboard-interactive. A text, a function that gives
            one, or a ``ramet.Secret``; the same goes for what is secret below.
        passphrase: for the identity file.
        second_factor: for the question for a verification code, a one-time password or the like.
        host_key_policy: "strict": the host must be known. "accept-new": an unknown one is noted, a changed one refused.
            "ignore": no check at all. "ask": the user is shown the fingerprint of an unknown one, and decides. A function
            is given that question's text, and decides, by a thread where it may block. A fingerprint ("SHA256:..."): an
            unknown host must have it (OpenSSH 8.0). Default: the user's configuration; where that says "ask", an unknown one
            is refused.
        ssh_args: more arguments, put before the host.
        ssh_path: the program.
        compression: on or off.
        keepalive: seconds between ssh's own signs of life.
        python: the interpreter there, or a list with its flags. Default: one is looked for.
        name: the node's name. Default: the host's.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable. The text of a secret is never in it.
    """
    _check("host", host)
    words = python_words(python)
    policy, host_key = _policy(host_key_policy)
    secrets = {"password": secret("password", password), "passphrase": secret("passphrase", passphrase),
               "second_factor": secret("second_factor", second_factor), "host key": host_key}  # fmt: skip
    given = {key: value for key, value in secrets.items() if value is not None}
    files = [identity_file] if isinstance(identity_file, str | os.PathLike) else list(identity_file or ())
    head = _words(port, username, files)
    more = _settings(given, bool(files), policy, compression, keepalive, connect_timeout_s)
    # The user's arguments come first: of an option given twice, ssh takes the first.
    argv = [os.fspath(ssh_path), *head, *texts("ssh_args", ssh_args), *more, "--", host]
    alone = host if _JUMPS.search("\n".join(argv)) else None
    return make(
        f"ssh {host}", name_from(host.rpartition("@")[2]) if name is None else name, words, connect_timeout_s,
        # `exec`: dash would stay as a process of its own, with the first stage in its arguments for all to see.
        argv=[*argv, "exec " + first_stage.shell_command(words, NAME_HERE, brief=True)],
        command=shown([*argv, *(words or ["python"])]),
        shape="pipes+tty" if given else "pipes", rules=question_rules(given, alone) + exit_rules(host, port, given),
        secrets=given, env={"SSH_ASKPASS": None, "SSH_ASKPASS_REQUIRE": None} if given else None,
    )  # fmt: skip


def _words(port: int | None, username: str | None, files: Sequence[str | os.PathLike[str]]) -> list[str]:
    """ssh's options of one letter."""
    words = ["-T", "-e", "none"]
    if port is not None:
        words += ["-p", str(_at_least(1, "port", port, 65535))]
    if username is not None:
        words += ["-l", _check("username", username)]
    for file in files:
        words += ["-i", os.fspath(file)]
    return words


def _settings(
    given: Mapping[str, Secret], own_keys: bool, policy: str | None, compression: bool | None, keepalive: float | None,
    timeout_s: float,
) -> list[str]:  # fmt: skip
    """Settings of ssh's configuration, as far as they aren't left to the user's own.

    Args:
        given: the secrets that there are for its questions; without any it asks nothing.
    """
    settings = {
        "IdentitiesOnly": "yes" if own_keys else None,
        "BatchMode": None if given else "yes",
        "NumberOfPasswordPrompts": str(max(value.tries for value in given.values())) if given else None,
        "StrictHostKeyChecking": policy,
        "UserKnownHostsFile": "/dev/null" if policy == "no" else None,
        "Compression": None if compression is None else "yes" if compression else "no",
        "ServerAliveInterval": None if keepalive is None else str(_at_least(1, "keepalive", keepalive)),
        "ConnectTimeout": str(max(1, int(timeout_s * 0.9))) if 0 < timeout_s < 1e9 else None,
    }
    return [word for key, value in settings.items() if value is not None for word in ("-o", f"{key}={value}")]


def _check(what: str, text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{what} is a text, not {text!r}")
    if not text or text.startswith("-") or _UNSAFE.search(text):
        raise ValueError(f"{text!r} can't be a {what} for ssh: it is empty, begins with '-', or has unsafe characters")
    return text


def _policy(policy: str | Callable[[str], bool] | None) -> tuple[str | None, Secret | None]:
    """What ssh is told, and what answers its question, if that is to be answered."""
    if policy is None:
        return None, None
    if callable(policy):
        return "ask", Secret.decide(policy)
    if isinstance(policy, str) and _FINGERPRINT.fullmatch(policy):
        return "ask", Secret(policy.rstrip("="))
    if policy not in HOST_KEY_POLICIES:
        raise ValueError(f"host_key_policy is one of {', '.join(HOST_KEY_POLICIES)}, a fingerprint such as "
                         f"'SHA256:...', or a function; not {policy!r}")
    return HOST_KEY_POLICIES[policy], Secret.decide(None) if policy == "ask" else None


def _at_least(least: int, what: str, value: float, most: float = 1 << 30) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError(f"{what} is a number from {least} to {most}, not {value!r}")
    return int(value)
