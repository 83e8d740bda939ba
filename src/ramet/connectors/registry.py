"""All connectors by name: ramet's own, and those that other distributions add by an entry point.

    [project.entry-points."ramet.connectors"]
    ssm = "my_package.ssm:plan"

makes ``node.grow("ssm", ...)`` and ``connect("ssm:...")`` work. Thread-safe.
"""
from __future__ import annotations

import functools
import importlib.metadata
import inspect
from collections.abc import Callable
from typing import Any

from ramet.connectors import Plan

GROUP = "ramet.connectors"

#: Connector -> the option that its target in a spec stands for.
TARGETS = {
    "local": "python", "ssh": "host", "command": "argv", "sudo": "username", "su": "username", "doas": "username",
    "run0": "username", "pkexec": "username", "docker": "container", "podman": "container", "buildah": "container",
    "kubectl": "pod", "lxc": "container", "lxd": "container", "incus": "container", "jail": "container",
    "machinectl": "container", "nspawn": "container", "nsenter": "target", "chroot": "path", "unshare": "namespaces",
    "wsl": "distribution", "attach": "target",
}  # fmt: skip


def names() -> list[str]:
    """All names, ramet's own first."""
    return [*TARGETS, *(name for name in _added() if name not in TARGETS)]


def find(name: str) -> Callable[..., Plan]:
    """The function that makes a connector's plans.

    Raises:
        ValueError: there is no such connector, or what adds it can't be loaded.
    """
    if name in TARGETS:
        function: Callable[..., Plan] = importlib.import_module(f"ramet.connectors.{name}").plan
        return function
    entry = _added().get(name)
    if entry is None:
        raise ValueError(f"there is no connector {name!r}; there are {', '.join(names())}")
    try:
        loaded: Callable[..., Plan] = entry.load()
    except Exception as error:
        raise ValueError(f"the connector {name!r}, {entry.value}, can't be loaded: {error!r}") from error
    return loaded


def option_kinds(name: str) -> dict[str, str]:
    """What each option of a connector is, as its function says: "str | None"; with "=" behind it if it may be left away."""
    parameters = inspect.signature(find(name)).parameters.values()
    return {one.name: _words(one.annotation) + "=" * (one.default is not one.empty)
            for one in parameters if one.kind is not one.VAR_KEYWORD}  # fmt: skip


def _words(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


@functools.cache
def _added() -> dict[str, importlib.metadata.EntryPoint]:
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}
