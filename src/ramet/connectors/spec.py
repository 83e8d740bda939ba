"""Specs: several connectors in one string, such as ``ssh://user@web1:2222/sudo:root/docker:app``. Pure.

A spec is one step or several, with ``/`` between them; each grows a node from the one before. A step is

    connector[:target][?option=value&option=value]

``ssh://web1`` is the same as ``ssh:web1``. The target is what the connector's first argument is: a host, a user, a
container. For ``ssh`` it is ``[user@]host[:port]``, an IPv6 address in brackets. What holds one of ``/ ? & %`` itself is
written as in a URL: ``%2F``. Passwords don't belong in a spec: shells and ``ps`` would show them.
"""
from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

#: Connector -> the option that its target stands for.
TARGETS = {
    "local": "python", "ssh": "host", "command": "argv", "sudo": "username", "su": "username", "doas": "username",
    "run0": "username", "docker": "container", "podman": "container", "buildah": "container", "kubectl": "pod",
    "lxc": "container", "lxd": "container", "incus": "container", "jail": "container", "machinectl": "container",
    "nspawn": "container", "nsenter": "container", "chroot": "path",
}  # fmt: skip

_NEEDS_A_TARGET = {"ssh", "command", "docker", "podman", "buildah", "kubectl", "lxc", "lxd", "incus", "jail", "machinectl",
                   "nspawn", "nsenter", "chroot"}  # fmt: skip

#: Options that aren't texts.
_INTEGERS = {"port"}
_FLOATS = {"connect_timeout_s", "keepalive"}
_FLAGS = {"compression", "shell", "terminal"}
_LISTS = {"argv", "ssh_args"}
_SECRETS = {"password", "passphrase"}

_SCHEME = re.compile(r"(?<![^/])([A-Za-z0-9_-]+)://")
_STEP = re.compile(r"([A-Za-z0-9_-]+)(?::([^?]*))?(?:\?(.*))?", re.DOTALL)
_SSH = re.compile(r"(?:(?P<username>.*)@)?(?P<host>\[[^\]]*\]|[^:]*)(?::(?P<port>.*))?", re.DOTALL)


def parse(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The steps of a spec: (connector, options) pairs, in order.

    Raises:
        ValueError: the spec can't be understood: the text says where, and how to write it.
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError("a spec is a text such as 'ssh:web1' or 'ssh:web1/local:'; this one is empty")
    steps = _SCHEME.sub(r"\1:", text.strip()).removesuffix("/").split("/")
    return [_step(step, text) for step in steps]


def _step(step: str, spec: str) -> tuple[str, dict[str, Any]]:
    match = _STEP.fullmatch(step)
    if not match:
        raise _error(spec, f"{step!r} is no step: write connector:target")
    connector, target, query = match.groups()
    if connector not in TARGETS:
        hint = f"there are {', '.join(TARGETS)}"
        if target is None:
            hint = f"for a host write 'ssh:{step}'; a '/' inside of a target is written %2F"
        raise _error(spec, f"there is no connector {connector!r}; {hint}")
    options: dict[str, Any] = {}
    if target:
        options.update(_ssh_target(target, spec) if connector == "ssh" else {TARGETS[connector]: unquote(target)})
    for pair in filter(None, (query or "").split("&")):
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise _error(spec, f"{pair!r} is no option: write option=value")
        if key in options:
            raise _error(spec, f"{key} is given twice")
        options[key] = unquote(value)
    if connector in _NEEDS_A_TARGET and TARGETS[connector] not in options:
        raise _error(spec, f"{connector} needs a {TARGETS[connector]}: write '{connector}:{TARGETS[connector].upper()}'")
    return connector, {key: _value(key, value, spec) for key, value in options.items()}


def _ssh_target(target: str, spec: str) -> dict[str, str]:
    match = _SSH.fullmatch(target)
    if not match:
        raise _error(spec, f"{target!r} is no [user@]host[:port]")
    found = {key: unquote(value) for key, value in match.groupdict().items() if value is not None}
    if ":" in found.get("username", ""):
        # what is behind the colon would be a password: it isn't repeated here
        raise ValueError("a password doesn't belong in a spec, where shells and ps show it: give it with password=")
    if ":" in found.get("port", ""):
        raise _error(spec, f"{target!r} has several colons: write an IPv6 address in brackets, 'ssh:[::1]'")
    found["host"] = found["host"].removeprefix("[").removesuffix("]")
    if not found["host"]:
        raise _error(spec, "ssh needs a host: write 'ssh:HOST'")
    return found


def _value(key: str, value: str, spec: str) -> Any:
    """An option's value in its own type."""
    if key in _SECRETS:
        raise ValueError(f"{key} doesn't belong in a spec, where shells and ps show it: give it as {key}=")
    try:
        if key in _INTEGERS:
            return int(value)
        if key in _FLOATS:
            return float(value)
    except ValueError:
        raise _error(spec, f"{key} is a number, not {value!r}")
    if key in _FLAGS:
        if value not in ("yes", "no", "true", "false", "1", "0"):
            raise _error(spec, f"{key} is yes or no, not {value!r}")
        return value in ("yes", "true", "1")
    return value.split() if key in _LISTS else value


def _error(spec: str, text: str) -> ValueError:
    return ValueError(f"in the spec {spec!r}: {text}")
