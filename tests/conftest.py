"""What every test gets: the leak check, a random generator whose seed is printed, skips that can be made failures."""
from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from support import leaks, pythons

#: A skip whose reason starts so says that the machine lacks something. Any other skip fails under --strict-skips.
NOT_HERE = "not on this machine:"

_SEED_NAME = "RAMET_TEST_SEED"
_ORDER = ("unit", "sim", "fuzz", "compat", "targets")


def pytest_addoption(parser: pytest.Parser) -> None:
    explained = f"a skip is a failure, unless its reason starts with '{NOT_HERE}'"
    parser.addoption("--strict-skips", action="store_true", help=explained)
    parser.addoption("--shuffle", action="store_true", help="random order, by the random seed; files below targets/ stay whole")


def pytest_configure(config: pytest.Config) -> None:
    # pytest-xdist's processes inherit it
    os.environ.setdefault(_SEED_NAME, str(random.SystemRandom().randrange(1 << 32)))
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # else numpy starts threads, in whichever test first imports it
    os.environ["PWD"] = os.getcwd()     # who started us may have left another one, which a shell on the way would mend
    leaks.mark()
    # By the clock it would fail what is slow, which on a busy machine is anything.
    unhurried = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
    hypothesis.settings.register_profile("ramet", unhurried)
    hypothesis.settings.load_profile("ramet")


def pytest_report_header(config: pytest.Config) -> list[str]:
    here = ", ".join(label for label, _ in pythons.interpreters())
    lines = [f"random seed: {os.environ[_SEED_NAME]} (repeat with {_SEED_NAME}=...)", f"interpreters: {here}"]
    if pythons.missing():
        lines.append(f"interpreters {NOT_HERE} {', '.join(pythons.missing())}")
    return lines


@pytest.hookimpl(tryfirst=True)     # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Quick tests first. A file below targets/ stays in one process: its servers are started once. So do all tests of a group
    of their own, whatever file they are in: there is one of what they need (doas.conf), and who waited for it would be out of
    time."""
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(here).parts[0] if item.path.is_relative_to(here) else ""
        return _ORDER.index(folder) if folder in _ORDER else len(_ORDER)

    if config.getoption("--shuffle"):
        _shuffle(items, lambda item: str(item.path) if place(item) == _ORDER.index("targets") else item.nodeid)
    else:
        items.sort(key=place)
    for item in items:
        if place(item) == _ORDER.index("targets") and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(str(item.path)))


def _shuffle(items: list[pytest.Item], group: Callable[[pytest.Item], str]) -> None:
    """All groups in random order, and what is in each: the same for the same seed."""
    rng = random.Random(f"{os.environ[_SEED_NAME]}:order")
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(group(item), []).append(item)
    order = sorted(groups)
    rng.shuffle(order)
    for members in groups.values():
        rng.shuffle(members)
    items[:] = [item for name in order for item in groups[name]]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.config.getoption("--strict-skips"):
        _forbid_skip(report)
    if report.failed:
        report.sections.append(("random seed", f"{_SEED_NAME}={os.environ[_SEED_NAME]} repeats this run"))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    if report.skipped and collector.config.getoption("--strict-skips"):
        _forbid_skip(report)
    return report


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not reason.startswith(NOT_HERE):
        report.outcome = "failed"
        report.longrepr = f"--strict-skips: skipped for a reason that doesn't start with {NOT_HERE!r}: {reason}"


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """A random generator of the test's own: the same for the same seed and test, whatever else runs."""
    return random.Random(f"{os.environ[_SEED_NAME]}:{request.node.nodeid}")


@pytest.fixture(autouse=True)
def leak_check(request: pytest.FixtureRequest) -> Iterator[LeakCheck]:
    """Fail a test that leaves a descriptor, thread or process behind.

    What session- and module-wide fixtures hold doesn't count, when they are set up before the test starts. One that is
    asked for in the middle of a test calls ``leak_check.accept()`` when it is up.
    """
    check = LeakCheck()
    yield check
    if request.node.get_closest_marker("no_leak_check"):
        return
    left = leaks.leaked(check.before)
    if left:
        leaks.end(left)
        pytest.fail(f"left behind, {leaks.SETTLE_S} s after the test's end:\n{left.describe()}", pytrace=False)


class LeakCheck:
    """What there was when the test began."""

    def __init__(self) -> None:
        self.before = leaks.snapshot()

    def accept(self) -> None:
        """Take all that there is now for what was there before."""
        self.before = leaks.snapshot()
