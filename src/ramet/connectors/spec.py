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

from ramet.connectors import registry

SECRETS = {"password", "passphrase", "second_factor"}

_FLAGS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}

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
    for at, step in enumerate(steps):   # first: no error of another step or option may repeat a password
        _check_secrets(step, steps[at + 1:])
    return [_step(step, text) for step in steps]


def _check_secrets(step: str, behind: list[str]) -> None:
    head, _, query = step.partition("?")
    connector, _, target = head.partition(":")
    apart = "a password doesn't belong in a spec, where shells and ps show it: give it with password="
    if connector == "ssh" and ":" in unquote(target.rpartition("@")[0]):
        raise ValueError(apart)
    # "ssh:ann:one/two@web1": a password may hold a "/". Behind a port there are other steps.
    strange = any("@" in more and re.split("[:?]", more)[0] not in registry.names() for more in behind)
    strange = strange or ("@" in query and not target.rpartition(":")[2].isdigit())      # "ssh:ann:one?two@web1"
    if connector == "ssh" and strange and ":" in unquote(target.rpartition("]")[2]):
        raise ValueError(apart + "; and each further host is a step of its own, '/ssh:user@host'")
    for key in SECRETS.intersection(pair.partition("=")[0] for pair in query.split("&")):
        raise ValueError(f"{key} doesn't belong in a spec, where shells and ps show it: give it as {key}=")


def _step(step: str, spec: str) -> tuple[str, dict[str, Any]]:
    match = _STEP.fullmatch(step)
    if not match:
        raise _error(spec, f"{step!r} is no step: write connector:target")
    connector, target, query = match.groups()
    if connector not in registry.names():
        hint = f"there are {', '.join(registry.names())}"
        if target is None:
            hint = f"for a host write 'ssh:{step}'; a '/' inside of a target is written %2F"
        raise _error(spec, f"there is no connector {connector!r}; {hint}")
    try:
        kinds = registry.option_kinds(connector)
    except ValueError as error:
        raise _error(spec, str(error)) from error
    first = registry.TARGETS.get(connector) or next(iter(kinds), "")
    kinds = {**kinds, "retry": "int="}      # of all connectors
    options: dict[str, Any] = {}
    if target:
        options.update(_ssh_target(target, spec) if connector == "ssh" else {first: unquote(target)})
    for pair in filter(None, (query or "").split("&")):
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise _error(spec, f"{pair!r} is no option: write option=value")
        if key in options:
            raise _error(spec, f"{key} is given twice")
        options[key] = unquote(value)
    for needed, kind in kinds.items():
        if needed == first and needed not in options and "=" not in kind:
            raise _error(spec, f"{connector} needs a {first}: write '{connector}:{first.upper()}'")
    return connector, {key: _value(key, value, kinds.get(key, ""), spec) for key, value in options.items()}


def _ssh_target(target: str, spec: str) -> dict[str, str]:
    match = _SSH.fullmatch(target)
    if not match:
        raise _error(spec, f"{target!r} is no [user@]host[:port]")
    found = {key: unquote(value) for key, value in match.groupdict().items() if value is not None}
    if ":" in found.get("port", ""):
        raise _error(spec, f"{target!r} has several colons: write an IPv6 address in brackets, 'ssh:[::1]'")
    found["host"] = found["host"].removeprefix("[").removesuffix("]")
    if not found["host"]:
        raise _error(spec, "ssh needs a host: write 'ssh:HOST'")
    return found


def _value(key: str, value: str, kind: str, spec: str) -> Any:
    """An option's value in its own type, which ``kind`` says in Python's words; a text if it may be one."""
    alternatives = set(re.sub(r"\[.*?\]", "", kind).replace(" ", "").removesuffix("=").split("|"))
    if "bool" in alternatives and (value in _FLAGS or "Sequence" not in alternatives):
        if value not in _FLAGS:
            raise _error(spec, f"{key} is yes or no, not {value!r}")
        return _FLAGS[value]
    if "str" in alternatives:
        return value
    for number in (int, float):
        if number.__name__ in alternatives:
            try:
                return number(value)
            except ValueError:
                raise _error(spec, f"{key} is a number, not {value!r}") from None
    return value.split() if "Sequence" in alternatives else value


def _error(spec: str, text: str) -> ValueError:
    return ValueError(f"in the spec {spec!r}: {text}")
