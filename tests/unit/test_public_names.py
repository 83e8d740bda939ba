"""Pins what ``import ramet`` offers. A name is added here on purpose, and never taken away."""
from __future__ import annotations

import ramet
from ramet.kernel import errors

NAMES = [
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


def test_public_names_are_these() -> None:
    assert sorted(ramet.__all__) == NAMES


def test_every_public_name_is_there() -> None:
    assert [name for name in NAMES if not hasattr(ramet, name)] == []


def test_every_error_is_public_and_below_error() -> None:
    classes = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
    assert set(classes) <= set(NAMES)
    assert {cls.__module__ for cls in classes.values() if issubclass(cls, ramet.Error)} == {"ramet"}, "as tracebacks name it"
    assert all(issubclass(value, ramet.Error) for value in classes.values())
