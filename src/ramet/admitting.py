"""Letting other programs of the same account ask services of a running tree: ``admit`` of the tree and every node.

Must not know how guests are kept apart (``kernel/doors.py``), nor how they come (``ramet.attach``). Thread-safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ramet.bootstrap import packing
from ramet.kernel import doors
from ramet.kernel.errors import Error

if TYPE_CHECKING:
    from ramet.grower import Grower
    from ramet.node import Node

# How many services one door is for.
SERVICES_MAX = 256

Services = Iterable[str] | Mapping[str, Any]


def admit(grower: Grower, name: str, services: Services, options: dict[str, Any]) -> Node:
    """See ``Grower.admit``."""
    if not isinstance(name, str):
        raise TypeError(f"name must be text, not {name!r}")
    ids = _ids_of(grower, services)
    door = grower.local(**{"name": name.rpartition("/")[2], **options})
    try:
        door.call(doors.begin, name, ids, packing.version())
    except BaseException:
        door.close()
        raise
    return door


def _ids_of(grower: Grower, services: Services) -> dict[str, int]:
    """Which node has each service."""
    if isinstance(services, str):
        raise TypeError(f"services must be a list of names, not a text: [{services!r}]")
    found: dict[str, int] = {}
    for name in services:
        whose: Any = services[name] if isinstance(services, Mapping) else grower._tree
        if not isinstance(name, str) or not name:
            raise ValueError(f"{name!r} isn't the name of a service")
        if getattr(whose, "_tree", None) is not grower._tree:
            raise ValueError(f"the service {name} must be this program's, or a node's of the same tree, not {whose!r}'s")
        if whose is not grower._tree and whose._state.ended:
            raise Error(f"the service {name} can't be asked for: {whose._state.failure(whose.name)}")
        found[name] = 0 if whose is grower._tree else whose.id
    if not 1 <= len(found) <= SERVICES_MAX:
        raise ValueError(f"services must name 1 to {SERVICES_MAX} services, not {len(found)}")
    return found
