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
from support.eventually import until


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


@pytest.mark.parametrize("name", ["Tight", "Tighter"])
def test_what_is_in_slots(node: ramet.Node, name: str) -> None:
    with pytest.raises(getattr(remote_errors, name)) as caught:
        node.call(remote_errors.raise_one, name)
    error: Any = caught.value
    assert (error.code, error.description, error.beside, error.args) == (7, "its own", "not in a slot", ("tight",))
    assert error.secret() == [1, {"deep": 7}] and error.shelf.startswith("<object object")
    assert not hasattr(error, "unset") and "code" not in vars(error)
    assert name == "Tight" or error.reason == "none"
    assert str(error) == "tight" and str(pickle.loads(pickle.dumps(error))) == "tight"


def test_no_code_of_a_class_with_slots_is_run(node: ramet.Node) -> None:
    known = list(remote_errors.Watched.ran)
    with pytest.raises(remote_errors.Watched) as caught:
        node.call(remote_errors.raise_one, "Watched")
    assert caught.value.secret() == [1, {"deep": 7}] and caught.value.beside == "not in a slot"
    assert remote_errors.Watched.ran == known
    description = {**failures.describe(KeyError("x")), "class": ["support.remote_errors", "Watched"],
                   "fields": {"code": 1, "shelf": 2, "ran": 3, "__class__": 5}}
    made: Any = unpack(description, "evil", None, lambda *_: remote_errors.Watched)
    assert made.shelf == 2 and made.code == "by the property" and type(made).__name__ == "RemoteError"
    assert remote_errors.Watched.ran == known


def test_what_a_class_holds_is_bounded() -> None:
    many = type("Many", (Exception,), {"__slots__": [f"slot{n}" for n in range(300)]})
    error = many()
    for n in range(300):
        setattr(error, f"slot{n}", n)
    assert len(failures.describe(error)["fields"]) == failures.FIELDS_MAX


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
        # the thread that reads may still hold what it read last, until it has read more
        until(lambda: [node.call(os.getpid), gc.collect()] and known() is None, "it is kept alive")


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
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.stdout == "caught 7 (7,)\n", done.stderr


OURS = [name for name in ramet.__all__ if isinstance(thing := getattr(ramet, name), type) and issubclass(thing, ramet.Error)]


@pytest.fixture(scope="module", params=["2.7", "3.6", "same"])
def branch(request: pytest.FixtureRequest) -> Iterator[tuple[ramet.Node, ramet.Node]]:
    """A node, and one below it."""
    python = None if request.param == "same" else needs.python(request.param)
    with ramet.Tree() as tree:
        top = tree.local(python=python)
        below = top.local()
        below.call(os.getpid)
        yield top, below


@pytest.mark.parametrize("name", OURS)
def test_those_of_ramet_are_of_their_own_class(branch: tuple[ramet.Node, ramet.Node], name: str) -> None:
    """Straight away, through a node between, and from a stream."""
    top, below = branch
    for call in (lambda: below.call(remote_errors.raise_ours, name, "so it is: \u00e9"),
                 lambda: top.call(remote_errors.raise_below, below.id, "raise_ours", name, "so it is: \u00e9")):
        with pytest.raises(getattr(ramet, name)) as caught:
            call()
        error: Any = caught.value
        assert isinstance(error, ramet.RemoteError) and str(error) == "so it is: \u00e9"
        assert any("raise_ours" in note for note in error.__notes__)
        again = pickle.loads(pickle.dumps(error))
        assert isinstance(again, getattr(ramet, name)) and str(again) == str(error)
    with below.stream(remote_errors.raise_ours, name, "in a stream") as stream, pytest.raises(getattr(ramet, name)):
        list(stream)


def test_what_ramet_raises_over_there_is_of_its_own_class(branch: tuple[ramet.Node, ramet.Node]) -> None:
    top, below = branch
    for call in (lambda: below.call(remote_errors.wait_for_itself),
                 lambda: top.call(remote_errors.raise_below, below.id, "wait_for_itself")):
        with pytest.raises(ramet.DeadlockError, match=r"would wait for itself: node \d+, lane main") as caught:
            call()
        error: Any = caught.value
        assert isinstance(error, ramet.RemoteError) and any("wait_for_itself" in note for note in error.__notes__)


def test_what_a_connect_error_says_of_itself(branch: tuple[ramet.Node, ramet.Node]) -> None:
    top, below = branch
    for call in (lambda: below.call(remote_errors.raise_connect_error),
                 lambda: top.call(remote_errors.raise_below, below.id, "raise_connect_error")):
        with pytest.raises(ramet.HostKeyError) as caught:
            call()
        error = caught.value
        assert (error.stage, error.seen, error.command) == ("authenticate", "the last line", "ssh web1")
        assert (error.status, error.remedy, error.cause, error.again) == (255, "look at it", "", False)


def test_a_builtin_ones_fields_through_a_node_between(branch: tuple[ramet.Node, ramet.Node]) -> None:
    top, below = branch
    for call in (lambda: below.call(remote_errors.raise_missing, "/nowhere"),
                 lambda: top.call(remote_errors.raise_below, below.id, "raise_missing", "/nowhere")):
        with pytest.raises(FileNotFoundError) as caught:
            call()
        assert (caught.value.errno, caught.value.filename) == (2, "/nowhere")
    assert top.call(remote_errors.caught_as_ioerror, below.id, "/nowhere") is True


def test_a_class_of_ones_own_below_one_of_ramets(branch: tuple[ramet.Node, ramet.Node]) -> None:
    with pytest.raises(ramet.BusyError, match="of a class of its own") as caught:
        branch[1].call(remote_errors.raise_own_busy)
    assert isinstance(caught.value, ramet.RemoteError)
    assert caught.value.type_name.endswith("Mine") and "remote_errors" in caught.value.type_name


def test_a_pipeline_tells_of_a_call_that_was_cancelled_over_there(branch: tuple[ramet.Node, ramet.Node]) -> None:
    """That is what its function raised, not that an earlier one failed."""
    with pytest.raises(ramet.CallCancelled, match="by itself"), branch[0].pipeline() as pipeline:
        pipeline.call(remote_errors.raise_ours, "CallCancelled", "by itself")
        pipeline.call(os.getpid)


@pytest.mark.parametrize("name", [*OURS, "Nothing", "compat", 5, None, ["x"]])
def test_a_lie_about_ramets_own_makes_an_error_nevertheless(name: Any) -> None:
    description = {**failures.describe(KeyError("x")), "own": name, "frames": [["file", 1, "fn"]],
                   "attributes": {"stage": 5, "status": "x", "seen": None, "command": ["rm"], "stuck": "x"}}
    for said in (description, {**description, "frames": [], "type": f"ramet.{name}"}):
        error: Any = unpack(said, "evil")
        assert isinstance(error, ramet.Error) and "'x'" in str(error)
        assert type(getattr(error, "stage", "")) is str and getattr(error, "status", None) is None
