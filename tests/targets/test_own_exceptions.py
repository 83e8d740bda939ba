"""Exceptions of the program's own classes come back as these, without a line of theirs being run; and what isn't let in."""
from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import textwrap
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ramet
from ramet.kernel import failures
from ramet.kernel.remote_errors import unpack
from support import needs, remote_errors


@pytest.fixture(params=["2.7", "3.6", "same"])
def node(request: pytest.FixtureRequest) -> Iterator[ramet.Node]:
    python = None if request.param == "same" else needs.python(request.param)
    with ramet.Tree() as tree:
        yield tree.local(python=python)


def test_they_are_of_their_own_class(node: ramet.Node) -> None:
    before = list(remote_errors.OutOfStock.made)
    with pytest.raises(remote_errors.OutOfStock) as caught:
        node.call(remote_errors.raise_one, "Closed")
    error: Any = caught.value
    assert isinstance(error, remote_errors.Closed) and isinstance(error, ramet.RemoteError) and isinstance(error, LookupError)
    assert (error.item, error.left) == ("tea", 0)
    assert error.shelf.startswith("<object object")
    assert str(error) == "tea: 0 left" and error.args == ("tea: 0 left",)
    assert error.type_name.endswith("remote_errors.Closed") and "raise_one" in error.traceback_text
    assert remote_errors.OutOfStock.made == before, "its __init__ was run here"
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, LookupError) and str(again) == str(error)


def test_one_inside_of_a_class_and_causes(node: ramet.Node) -> None:
    with pytest.raises(ramet.RemoteError) as caught:
        node.call(remote_errors.raise_one, "chain")
    assert isinstance(caught.value.__cause__, remote_errors.Closed)
    if node.facts["hexversion"] >= 0x03000000:      # 2.7 has no qualified names
        assert isinstance(caught.value, remote_errors.Shop.Burnt)


def test_one_with_the_fields_of_a_builtin(node: ramet.Node) -> None:
    with pytest.raises(remote_errors.Group) as caught:
        node.call(remote_errors.raise_one, "Group")
    assert (caught.value.errno, caught.value.filename) == (2, "/shelf")


def test_what_is_not_let_in(node: ramet.Node) -> None:
    known = list(remote_errors.Hooked.known)
    with pytest.raises(ValueError) as caught:
        node.call(remote_errors.raise_one, "Hooked")
    assert not isinstance(caught.value, remote_errors.Hooked)
    assert remote_errors.Hooked.known == known
    with pytest.raises(ramet.RemoteError) as stopped:
        node.call(remote_errors.raise_one, "Leaving")
    assert not isinstance(stopped.value, StopIteration)


def test_a_class_that_was_sent_nowhere_stays_out() -> None:
    """A hostile node may name any class of this program."""
    description = {**failures.describe(KeyError("x")), "class": ["subprocess", "CalledProcessError"], "fields": {"cmd": "rm"}}
    with ramet.Tree() as tree:
        error: Any = unpack(description, "evil", None, tree.modules.find_class)
    assert isinstance(error, KeyError) and not isinstance(error, subprocess.CalledProcessError)
    assert not hasattr(error, "cmd")
    for odd in (None, 5, [], ["os"], ["os", None], ["os", ""], [[], {}], "os"):
        with ramet.Tree() as tree:
            assert isinstance(unpack({**description, "class": odd}, "evil", None, tree.modules.find_class), ramet.Error)
    for odd in (5, [1], "x", {"__class__": 1}, {"args": 7}):
        made = unpack({**description, "fields": odd}, "evil", None, lambda *_: remote_errors.OutOfStock)
        assert isinstance(made, ramet.Error) and "__class__" not in vars(made)


def test_those_of_classes_that_go_by_value() -> None:
    """As what is typed in does. They aren't kept alive here."""
    def make() -> tuple[type[OSError], Callable[[], None]]:
        class Mine(OSError):
            pass

        def fail() -> None:
            raise Mine(2, "gone") from Mine("first")
        return Mine, fail

    own, fail = make()
    with ramet.Tree() as tree:
        node = tree.local()
        for _ in range(2):
            with pytest.raises(own, match="gone") as caught:
                node.call(fail)
            assert caught.value.errno == 2 and isinstance(caught.value.__cause__, own)
            assert isinstance(caught.value, ramet.RemoteError)
        known = weakref.ref(own)
        del own, fail, caught
        node.call(os.getpid)
        for _ in range(3):
            gc.collect()
        assert known() is None


def test_one_of_a_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent("""
        import ramet

        class Mine(Exception):
            pass

        def fail(number):
            error = Mine(number)
            error.number = number
            raise error

        if __name__ == "__main__":
            with ramet.Tree() as tree:
                try:
                    tree.local().call(fail, 7)
                except Mine as error:
                    print("caught", error.number, error.args)
    """))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "caught 7 (7,)\n", done.stderr
