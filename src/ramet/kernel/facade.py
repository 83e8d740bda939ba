"""What ``import ramet`` gives to code that runs in a node, on every Python; the controller's package offers part of it, too.

The controller's own classes are placeholders here: a script that is shipped to a node may import their names at its top.
"""
import sys

from ramet.kernel import errors
from ramet.kernel.errors import *  # noqa: F403
from ramet.kernel.faults import Error

MYPY = False
if MYPY:
    from typing import Any, Callable

ANY = "*"       # options(lane=ANY): a thread of its own for each call


def here():
    # type: () -> Any
    """The node in which this code runs.

    Returns:
        A ``peers.Here``: its id, name, parent, controller, ``peer(id)``, and connectors that grow children from it.

    Raises:
        Error: this interpreter isn't a node: it is the controller, or runs without ramet.

    Thread-safety: any thread.
    """
    node = getattr(sys.modules.get("ramet.kernel.start"), "node", None)
    if node is None:
        raise Error("ramet.here() is for code that runs in a node; this is the program that grows the tree")
    from ramet.kernel import peers
    return peers.Here(node)


def register(cls, pack, unpack):
    # type: (type, Callable[[Any], Any], Callable[[Any], Any]) -> None
    """Let instances of a class travel as values.

    Args:
        cls: the class itself; subclasses aren't meant.
        pack: makes a portable value of an instance.
        unpack: makes an instance of that value. It is called for what comes from an ancestor and, since you registered it,
            for what comes from below, too: it must be safe with any portable value.

    Thread-safety: any thread; call it where the class is defined, so that every node that has the class knows it.
    """
    from ramet.kernel import portable
    portable.register(cls, pack, unpack)


class Missing(object):
    """Stands for a class that only the controller has."""

    def __init__(self, *_, **__):
        # type: (*Any, **Any) -> None
        frame = sys._getframe()  # type: Any
        main = getattr(sys.modules.get("__main__"), "__dict__", None)
        while frame and not (frame.f_globals is main and frame.f_code.co_name == "<module>"):
            frame = frame.f_back
        if frame:
            raise Error("the program's main module makes a tree while a node imports it. Put what starts the "
                               'program behind this line:\nif __name__ == "__main__":')
        raise Error("no tree can be made in a node. ramet.here() grows children from it")


class NoSecret(Missing):
    """Secrets belong to the program. A module that makes some at its top can be loaded in a node, but has none there."""

    def __init__(self, *_, **__):
        # type: (*Any, **Any) -> None
        pass

    env = keyring = call = ask = classmethod(lambda cls, *_, **__: cls())

    def reveal(self):
        # type: () -> Any
        raise Error("secrets stay in the program that grows the tree: a node has none of them")


Secret = NoSecret
# What all channels are: the class itself is in ``channels``, which is loaded when there is one.
Channel = type("Channel", (object,), {"__module__": "ramet"})  # type: Any

Tree, Node, Call, Outcome = [type(_name, (Missing,), {"__module__": "ramet"}) for _name in ("Tree", "Node", "Call", "Outcome")]

__all__ = ["ANY", "Channel", "here", "register", "Tree", "Node", "Call", "Outcome", "Secret"]
__all__ += [_name for _name in dir(errors) if isinstance(getattr(errors, _name), type)]
