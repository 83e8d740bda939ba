"""ramet: a program grows itself onto other machines, accounts and containers.

The public names, nothing else. In a node ``import ramet`` gives ``kernel.facade`` instead.
"""

from ramet.call import Call, Outcome
from ramet.kernel.channels import Channel
from ramet.kernel.errors import (
    AuthenticationError,
    BusyError,
    CallCancelled,
    CallTimeout,
    ClosedError,
    ConnectError,
    DeadlockError,
    Error,
    HostKeyError,
    ModuleNotShippedError,
    NodeLostError,
    ProtocolError,
    PythonNotFoundError,
    RemoteError,
    ServiceError,
    ValueNotPortableError,
)
from ramet.kernel.facade import ANY, here, register
from ramet.lasting import attach
from ramet.node import Node
from ramet.retrying import Retry
from ramet.secrets import Secret
from ramet.stream import Stream
from ramet.tree import Tree

__version__ = "0.1.0"

__all__ = [
    "ANY",
    "AuthenticationError",
    "BusyError",
    "Call",
    "CallCancelled",
    "CallTimeout",
    "Channel",
    "ClosedError",
    "ConnectError",
    "DeadlockError",
    "Error",
    "HostKeyError",
    "ModuleNotShippedError",
    "Node",
    "NodeLostError",
    "Outcome",
    "ProtocolError",
    "PythonNotFoundError",
    "RemoteError",
    "Retry",
    "Secret",
    "ServiceError",
    "Stream",
    "Tree",
    "ValueNotPortableError",
    "attach",
    "here",
    "register",
]
