"""Exceptions arrive whole: groups, notes, what isn't an Exception; and none of them, nor any result, ends the node."""
from __future__ import annotations

import builtins
import datetime
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import pytest

import ramet
from support import needs, remote_async, remote_failures
from support.eventually import HANGS_S, until


@pytest.mark.parametrize("python", ["2.7", "3.6", "3.13"])
def test_what_lies_about_itself_ends_nobody(tree: ramet.Tree, python: str) -> None:
    node = tree.local(python=needs.python(python))
    pid = node.facts["pid"]
    with pytest.raises(ramet.RemoteError, match="text can't be made: SystemExit") as liar:
        node.call(remote_failures.raise_liar)
    assert liar.value.type_name.endswith("Liar") and "in raise_liar" in liar.value.traceback_text
    with pytest.raises(ramet.RemoteError) as classless:
        node.call(remote_failures.raise_lying_class)
    assert "LyingClass" in classless.value.type_name
    with pytest.raises((ramet.ValueNotPortableError, ramet.RemoteError)):
        node.call(remote_failures.unportable)
    with pytest.raises(ramet.ValueNotPortableError, match="return a list"):
        node.call(remote_failures.generator)
    with pytest.raises(ramet.ValueNotPortableError, match="nested more than"):
        node.call(remote_failures.nested, 2000)
    assert node.call(remote_failures.nested, 1) == [[]] and node.facts["pid"] == pid


def served(node: ramet.Node, thing: type) -> Any:
    node.serve("circles", thing, allow="ancestors")
    return node.options(timeout=HANGS_S).service("circles")


def read(source: Iterable[int]) -> None:
    for n in source:
        assert n == 1


# Each in a node to which nothing has come yet: what it imports in passing is raised and caught in there, too.
CIRCLES: list[tuple[str, Callable[[ramet.Node], object]]] = [
    ("main lane", lambda node: node.start(remote_failures.raise_circle).result(HANGS_S)),
    ("named lane", lambda node: node.options(lane="x").start(remote_failures.raise_circle).result(HANGS_S)),
    ("any lane", lambda node: node.options(lane=ramet.ANY).start(remote_failures.raise_circle).result(HANGS_S)),
    ("coroutine", lambda node: node.start(remote_async.raise_circle).result(HANGS_S)),
    ("stream", lambda node: read(node.options(timeout=HANGS_S).stream(remote_failures.yield_circle))),
    ("asynchronous stream", lambda node: read(node.options(timeout=HANGS_S).stream(remote_async.yield_circle))),
    ("an iterator's stream", lambda node: read(node.options(timeout=HANGS_S, lane="asyncio").stream(remote_async.Falls))),
    ("service", lambda node: served(node, remote_failures.Circles).one()),
    ("a service's stream", lambda node: read(served(node, remote_failures.Circles).many())),
    ("a service's coroutine", lambda node: served(node, remote_async.Circles).one()),
    ("a service's asynchronous stream", lambda node: read(served(node, remote_async.Circles).many())),
]


@pytest.mark.parametrize("ask", [ask for _, ask in CIRCLES], ids=[name for name, _ in CIRCLES])
@pytest.mark.parametrize("python", ["3.6", "3.8", "3.13"])
def test_a_circle_of_contexts_holds_up_nobody(tree: ramet.Tree, python: str, ask: Callable[[ramet.Node], object]) -> None:
    node = tree.local(python=needs.python(python))
    with pytest.raises(ValueError, match="one"):
        ask(node)
    assert node.start(remote_failures.nested, 0).result(HANGS_S) == []


@pytest.mark.parametrize("python", ["3.6", "3.8", "3.13"])
def test_a_circle_that_comes_when_the_call_was_interrupted(tree: ramet.Tree, python: str) -> None:
    """Its thread finds its permit taken: that is raised and caught in there."""
    node = tree.local(python=needs.python(python)).options(lane="x")
    call = node.start(remote_failures.raise_circle_when_cancelled)
    assert node.options(lane=ramet.ANY).start(remote_failures.has_begun).result(HANGS_S)
    call.cancel()
    assert node.start(remote_failures.nested, 0).result(HANGS_S) == []


@pytest.mark.parametrize("python", ["2.7", "3.6", "3.13"])
def test_a_cast_s_circle_is_shown(python: str) -> None:
    shown: list[str] = []
    with ramet.Tree(on_output=lambda node, stream, line: shown.append(line)) as tree:
        node = tree.local(python=needs.python(python))
        node.cast(remote_failures.raise_circle)
        assert node.start(remote_failures.nested, 0).result(HANGS_S) == []
        until(lambda: "ValueError: one" in shown, lambda: "".join(shown))
    assert any("in raise_circle" in line for line in shown)


@pytest.mark.parametrize("python", ["2.7", "3.6", "3.13"])
def test_what_it_holds_and_cannot_be_had_here_is_its_text(tree: ramet.Tree, python: str) -> None:
    """The rest of it is what it was, and it itself is what was raised."""
    node = tree.local(python=needs.python(python))
    around = served(node, remote_failures.Around)
    for ask in (lambda: node.call(remote_failures.raise_around), lambda: list(node.stream(remote_failures.yield_around)),
                around.one, lambda: list(around.many())):
        with pytest.raises(ramet.RemoteError, match="no such name") as caught:
            ask()
        error: Any = caught.value
        reason, known = error.args
        assert error.type_name.endswith("Unheard") and "in raise_around" in error.traceback_text
        assert type(reason) is str and "no such name" in reason and known == datetime.date(2020, 2, 29)
        assert str(error.__cause__) == reason
        if isinstance(error, remote_failures.Unheard):      # in streams it is a RemoteError
            assert error.reason == reason and error.signal in ("Signals.SIGTERM", "15", 15)
            assert type(error.own) is remote_failures.Unheard and type(error.known) is ValueError


@pytest.mark.parametrize("python", ["2.7", "3.6", "3.13"])
def test_what_it_holds_between_nodes(tree: ramet.Tree, python: str) -> None:
    node = tree.local(python=needs.python(python))
    below = node.local()
    assert below.call(remote_failures.nested, 0) == []
    type_name, traced, args = node.call(remote_failures.around_below, below.id)
    assert type_name.endswith("Unheard") and traced and "no such name" in args[0] and args[1] == "2020-02-29"


@pytest.mark.parametrize("name", ["KeyboardInterrupt", "SystemExit", "GeneratorExit"])
def test_what_is_no_exception_arrives_as_a_plain_remote_error(tree: ramet.Tree, name: str) -> None:
    node = tree.local()
    with pytest.raises(ramet.RemoteError, match="why") as caught:
        node.call(remote_failures.raise_base, name)
    assert caught.value.type_name == f"builtins.{name}" and not isinstance(caught.value, getattr(builtins, name))
    assert node.call(remote_failures.nested, 0) == []


def test_notes_arrive_before_the_remote_traceback(tree: ramet.Tree) -> None:
    with pytest.raises(ValueError, match="outer") as caught:
        tree.local(name="web").call(remote_failures.noted)
    notes: list[str] = caught.value.__notes__  # type: ignore[attr-defined]
    assert notes[:2] == ["one", "two"] and notes[2].startswith("In node web, Traceback")
    assert "raise error" in notes[2], "no source line"


def test_an_exception_group_is_one_here(tree: ramet.Tree) -> None:
    kind = getattr(builtins, "ExceptionGroup", None)
    if kind is None:
        needs.lacking("exception groups in this Python")
    node = tree.local()
    with pytest.raises(kind) as caught:
        node.call(remote_failures.raise_group)
    group = caught.value
    assert isinstance(group, ramet.RemoteError) and group.message == "many" and str(group) == "many (3 sub-exceptions)"
    assert all(map(isinstance, group.exceptions, [ValueError, FileNotFoundError, kind]))
    gone, rest = group.split(FileNotFoundError)
    assert gone.exceptions[0].filename == "/f" and gone.message == "many" and len(rest.exceptions) == 2
    shown = "".join(traceback.format_exception(group))
    assert "a note" in shown and "In node local" in shown and "raise error" in shown and "gone" in shown
    with pytest.raises(ramet.RemoteError, match="fatal") as base:
        node.call(remote_failures.raise_base_group)
    assert not isinstance(base.value, builtins.BaseExceptionGroup)  # type: ignore[attr-defined,unused-ignore]


def test_a_group_from_a_node_to_a_controller_that_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """3.10 has no exception groups: it gets a plain RemoteError that holds their text and members."""
    from ramet.kernel import remote_errors

    class Old:
        """The builtins of 3.10, as far as they matter."""

        Exception, BaseException = Exception, BaseException

    monkeypatch.setattr(remote_errors, "BUILTINS", Old)
    monkeypatch.setattr(remote_errors, "CLASSES", {})
    description = {"type": "builtins.ExceptionGroup", "class": ["builtins", "ExceptionGroup"], "text": "many (1 sub-exception)",
                   "bases": ["ExceptionGroup", "BaseExceptionGroup", "Exception"], "args": ["many"], "attributes": {},
                   "frames": [], "own": False, "message": "many"}
    inner = dict(description, bases=["ValueError"], text="1")
    error = remote_errors.unpack(dict(description, group=[inner]), "web")
    assert type(error).__mro__[1] is ramet.RemoteError and str(error) == "many (1 sub-exception)"
    assert [str(one) for one in error.exceptions] == ["1"]  # type: ignore[attr-defined]
