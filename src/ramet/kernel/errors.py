"""Every error that ramet raises: one tree under ``Error``.

The class tells the cause, the text names the stage and the remedy, attributes hold what was seen. Plain classes: they
load on every Python, so a node's code can catch them. Late part of the kernel: its core has those in ``faults``.
"""
from ramet.kernel import compat
from ramet.kernel.faults import CallCancelled as CallCancelled
from ramet.kernel.faults import Error as Error
from ramet.kernel.faults import ProtocolError as ProtocolError
from ramet.kernel.faults import ValueNotPortableError as ValueNotPortableError

MYPY = False
if MYPY:
    from typing import Any


class ConnectError(Error):
    """A node could not be started or reached.

    Attributes:
        stage: where it failed: "resolve", "start", "authenticate", "escalate", "find-python" or "bootstrap".
        command: what was started there, as one would type it, without secrets; "" if nothing was.
        status: how that ended: its exit status, negative for a signal; None if it didn't, or that isn't known.
        seen: the last lines that the other side said, as text (may be empty).
        cause: the likely cause, in words.
        remedy: what to do about it (may be empty).
        again: it may pass by itself, so that another try may help (``retry=``).
    """
    stage, seen = "start", ""
    command = cause = remedy = ""
    status = None  # type: Any
    again = False

    def __init__(self, message="", stage="start", seen=""):
        # type: (str, str, str) -> None
        Error.__init__(self, message)
        self.stage = stage
        self.seen = seen

    def __reduce__(self):
        # type: () -> Any
        return type(self), self.args, self.__dict__


class AuthenticationError(ConnectError):
    """The other side refused who we are: a wrong or a missing password or key."""


class HostKeyError(ConnectError):
    """The host isn't known, or is another than it was: its key differs from the one on record."""


class PythonNotFoundError(ConnectError):
    """There is no usable Python interpreter over there, at least not where it was looked for."""


class NodeLostError(Error):
    """The node is gone, or the way to it, by no doing of this program. Compare ``ClosedError``."""


class ClosedError(Error):
    """Your own program closed the tree or the node. Compare ``NodeLostError``."""


class RemoteError(Error):
    """A function over there raised an exception.

    It is also of that exception's own type, where that is builtin, ramet's or the program's, so ``except FileNotFoundError``
    works.

    Attributes:
        type_name: the exception's class over there, as "module.qualname".
        node_name: where it was raised.
        traceback_text: the remote traceback as text.
    """

    type_name = ""
    node_name = ""
    traceback_text = ""


class CallTimeout(Error):
    """The work took longer than its ``options(timeout=)`` allowed, and was ended or given up.

    Attributes:
        stuck: as of ``CallCancelled``.
    """

    stuck = ""


class BusyError(Error):
    """Too much waits to be sent to a node, and the thread that makes a call can't wait for that: it runs an event loop, say."""


class DeadlockError(Error):
    """A call would wait for itself: it goes to a lane that waits for the call's own caller. The text names the cycle. Or a
    thread would wait for what it reads itself, in a callback.
    """


class ModuleNotShippedError(Error, compat.ModuleMissing):
    """A module that is needed over there can't be sent: its text says why and what to do."""


class ServiceError(Error, LookupError):
    """A service isn't there, not for the node that asked, or can't take a request now."""


for _error in list(vars().values()):
    if isinstance(_error, type) and issubclass(_error, Error):
        _error.__module__ = "ramet"     # where users know it, and tracebacks name it
del _error
