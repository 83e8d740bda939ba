"""What ``ramet demo`` ships: counts and hashes files. An ordinary package of a program, fit for Python 2.7 as well.

It isn't part of ``ramet`` (that is never shipped), and no interpreter has it installed: every node gets it over the wire,
together with the first call that needs it.
"""
from .digest import census
from .folders import batches, identity, sees

__all__ = ["batches", "census", "identity", "sees"]
