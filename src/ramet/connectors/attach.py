"""The connector ``attach``: a node that runs already, and waits under a name for a program. Pure."""
from __future__ import annotations

from ramet.bootstrap import packing
from ramet.connectors import CONNECT_TIMEOUT_S, Plan, argument, make, name_from, shown
from ramet.kernel import coming_back  # noqa: F401  (the nursery imports it when the node has begun: it must not fail then)


def plan(target: str, *, name: str | None = None, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> Plan:
    """Come back to a node that was detached, or kept, on the machine of the node that this one shall be a child of.

    Args:
        target: the name that it was given, or the absolute path of its socket.
        name: what it is called now. Default: made of the target.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable.
    """
    argument("target", target)
    words = ["attach", target]
    return make(" ".join(words), name_from(target.rpartition("/")[2]) if name is None else name, None, connect_timeout_s,
                argv=[target, packing.version()], command=shown(words).removesuffix(" …"), shape="kept")
