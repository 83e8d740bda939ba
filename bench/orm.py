"""A function whose module imports a large library, which the nodes of the benchmark ``django`` don't have."""

from __future__ import annotations

import sys

import django.db.models


def modules() -> int:
    assert django.db.models.Model
    return sum(name.partition(".")[0] == "django" for name in sys.modules)
