"""Whatever Hypothesis makes up comes back from every other Python as it was sent: equal, and of the same type.

A Python that lacks a type refuses it, and that only.
"""
from __future__ import annotations

import collections
import datetime
import ipaddress
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from ramet.kernel import values
from support import needs, pythons
from support.any_value import everything, same
from support.eventually import HANGS_S

CORPUS = Path(__file__).parent.parent / "support" / "values_corpus.py"
LABELS = pythons.labels([label for label, _ in pythons.interpreters()])


class Echo:
    """Another interpreter, that sends back what it gets."""

    def __init__(self, python: str) -> None:
        env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
        self.process = subprocess.Popen([python, str(CORPUS), "echo"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=env)

    def __call__(self, data: bytes) -> bytes | str:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(data.hex() + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline().strip()
        return line if line.startswith("refused") else bytes.fromhex(line)

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(HANGS_S) == 0


@pytest.fixture(params=LABELS)
def echo(request: pytest.FixtureRequest) -> Iterator[tuple[str, Echo]]:
    other = Echo(needs.python(request.param))
    yield request.param, other
    other.close()


def parts(value: Any) -> Iterator[Any]:
    """A value and all that is in it."""
    yield value
    inner: Any = ()
    if isinstance(value, dict):
        inner = [*value, *value.values()]
    elif isinstance(value, list | tuple | set | frozenset | collections.deque):
        inner = value
    for one in inner:
        yield from parts(one)


def may_refuse(label: str, value: Any) -> bool:
    """Does this value hold anything that a Python of that version has no type for?"""
    for one in parts(value):
        zone = getattr(one, "tzinfo", None)
        if zone is not None and (label in ("3.6", "3.7", "3.8") or label == "2.7"):
            return True     # ZoneInfo came with 3.9, timezone with 3
        if label == "2.7" and (type(one).__module__ == ipaddress.__name__ or getattr(one, "fold", 0)):
            return True
    return False


def unordered(value: Any) -> Any:
    """The same with dicts in one order: 2.7 keeps none."""
    if type(value) in (dict, collections.OrderedDict):
        pairs = [(key, unordered(content)) for key, content in value.items()]
        return type(value)(pairs if type(value) is not dict else sorted(pairs, key=lambda pair: ascii(pair[0])))
    if type(value) in (list, tuple):
        return type(value)(map(unordered, value))
    return collections.deque(map(unordered, value)) if type(value) is collections.deque else value


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(everything)
def test_what_is_sent_comes_back(echo: tuple[str, Echo], value: Any) -> None:
    label, other = echo
    answer = other(b"".join(values.encode(value)))
    if isinstance(answer, str):
        assert may_refuse(label, value), answer
        return
    back = values.decode(answer, values.Context(True))
    if label == "2.7":
        back, value = unordered(back), unordered(value)
    assert same(back, value), (back, value)


def test_the_types_that_old_pythons_lack_are_refused(echo: tuple[str, Echo]) -> None:
    label, other = echo
    answer = other(b"".join(values.encode([datetime.timezone.utc])))
    assert isinstance(answer, str) == (label == "2.7")
    answer = other(b"".join(values.encode({ipaddress.ip_address("::1")})))
    assert isinstance(answer, str) == (label == "2.7")
