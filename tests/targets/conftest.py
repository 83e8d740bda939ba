"""What most of these tests begin with. A module that wants it otherwise has a fixture of the same name."""
from __future__ import annotations

from collections.abc import Iterator

import pytest

from ramet import Tree
from targets.accounts import Accounts
from targets.sshd import Sshd


@pytest.fixture
def tree() -> Iterator[Tree]:
    with Tree() as grown:
        yield grown


@pytest.fixture(scope="module")
def accounts() -> Iterator[Accounts]:
    with Accounts() as made:
        yield made


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    with Sshd() as server:
        yield server
