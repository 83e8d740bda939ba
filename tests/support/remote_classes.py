"""Classes that tests send by name: of a module, for nodes of 3.7 and newer."""
import dataclasses


@dataclasses.dataclass
class Point:
    """A plain one."""

    x: int
