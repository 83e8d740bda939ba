"""Classes that tests send by name: of a module, for nodes of 3.7 and newer."""
import dataclasses
import enum


@dataclasses.dataclass
class Point:
    """A plain one."""

    x: int


class Colour(enum.Enum):
    """Its members travel by name."""

    RED = 1
