"""Runs a test suite where it is called: in a node, to which pytest and the tested package come over the wire; or here."""
import importlib
import os
import shutil
import sys
import tempfile

import pytest


class Count:
    """A plugin of pytest that counts what comes of the tests."""

    def __init__(self):
        self.outcomes = {}
        self.failed = []

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            name = "xfailed" if hasattr(report, "wasxfail") else report.outcome
            self.outcomes[name] = self.outcomes.get(name, 0) + 1
            if name == "failed":
                self.failed.append((report.nodeid, str(report.longrepr)[-2000:]))

    def pytest_collectreport(self, report):
        if report.outcome == "failed":
            self.failed.append((report.nodeid, str(report.longrepr)[-2000:]))


def run(package, files):
    """Write the tests' files into a temporary folder, run them, and take the folder away.

    Returns:
        How many tests came to which outcome; what failed, with why; the file of the tested package; of pytest.
    """
    folder = tempfile.mkdtemp()
    here = os.getcwd()
    count = Count()
    try:
        for name, data in files.items():
            path = os.path.join(folder, name)
            if not os.path.isdir(os.path.dirname(path)):
                os.makedirs(os.path.dirname(path))
            with open(path, "wb") as file:
                file.write(data)
        os.chdir(folder)
        pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:timeout", "-p", "no:hypothesispytest",
                     "-W", "ignore", "--rootdir", folder, "-c", os.devnull, os.path.join(folder, "tests")],
                    plugins=[count])  # fmt: skip
    finally:
        os.chdir(here)
        shutil.rmtree(folder)
    return count.outcomes, count.failed, importlib.import_module(package).__file__, sys.modules["pytest"].__file__
