"""What several of the unit tests are given."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ramet.kernel import loop_late
from ramet.kernel.core import Core
from ramet.kernel.loop import Loop


@pytest.fixture
def core() -> Iterator[Core]:
    """A program's core without any link."""
    loop = Loop(lambda error: None)
    yield Core(0, [], loop)
    loop_late.close(loop)
