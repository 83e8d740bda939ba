"""The account of what is where: nothing counts as being there that a control message can overtake, nothing goes twice."""
from __future__ import annotations

import errno
import functools
import hashlib
import py_compile
import types
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import pytest

import ramet
from ramet import codec, parts, shipping
from ramet.bootstrap import packing
from ramet.kernel.core import MODULE_REQUEST, Message
from ramet.kernel.frames import CONTROL
from ramet.modules import pack
from ramet.modules.server import ModuleServer
from ramet.node import Node
from support import sources


class Sent:
    """Stands for the core: keeps the batches that are sent, as (flags, names, names of the records)."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, list[str], list[str]]] = []
        self.replies: list[Any] = []
        self.refused = 0
        self.loop = types.SimpleNamespace(call_soon=lambda call, *args: self.later.append((call, args)))
        self.later: list[Any] = []
        self.routes = types.SimpleNamespace(behind=lambda id, link: True)

    def reply(self, message: Message, chunks: Any, flags: int) -> None:
        self.replies.append(codec.decode(b"".join(map(bytes, chunks))))

    def names(self) -> list[str]:
        """What was sent since one last asked, but for the kernel's parts."""
        batches, self.batches = self.batches, []
        return [name for _, _, records in batches for name in records if not name.startswith("ramet.")]

    def send(self, dst: int, handle: int, chunks: Any, reply_to: int = 0, flags: int = 0) -> None:
        _, _, names, records, _ = codec.decode(b"".join(map(bytes, chunks)))
        self.batches.append((flags, names, [record[0] for record in records]))


@pytest.fixture
def tree() -> Any:
    with ramet.Tree() as tree:
        yield tree


def nodes(tree: ramet.Tree) -> tuple[Node, Node]:
    parent = Node(tree, 1, "parent", None, "test")
    return parent, Node(tree, 2, "child", parent, "test")


def shipper(parent: Node) -> tuple[shipping.Shipper, Sent]:
    sent = Sent()
    return shipping.Shipper(sent, ModuleServer(), lambda node: parent), sent  # type: ignore[arg-type]


BOTH = ["ramet.kernel.errors", "ramet.kernel.failures"]     # a part, and what most parts import


@pytest.mark.parametrize("for_child", [False, True])
def test_what_was_not_sent_as_control_is_sent_again_when_it_is_needed(tree: ramet.Tree, for_child: bool) -> None:
    """Parts that follow the first call go to a node; then it, or a node below it, needs one at once."""
    parent, child = nodes(tree)
    subject, sent = shipper(parent)
    subject.kernel_parts(parent, ["failures", "fragments"], 0)
    subject.kernel_parts(child if for_child else parent, ["failures"])
    (_, _, first), (flags, names, records) = sent.batches
    assert first == [*BOTH, "ramet.kernel.fragments"]
    assert (flags, names, records) == (CONTROL, BOTH, BOTH)


def test_what_was_sent_as_control_is_sent_once_over_each_link(tree: ramet.Tree) -> None:
    parent, child = nodes(tree)
    subject, sent = shipper(parent)
    for node in (parent, parent, child, child):
        subject.kernel_parts(node, ["failures"])
    assert sent.batches == [
        (CONTROL, BOTH, BOTH),
        (CONTROL, BOTH, []),   # the parent keeps it, and passes it on
    ]


@pytest.fixture
def library(tmp_path: Path) -> Iterator[list[str]]:
    """A library of more than what is sent unasked, and a module of the program's own that imports it. Its modules' names."""
    text = "".join(f"name_{n} = '{hashlib.sha512(b'%d' % n).hexdigest()}'\n" for n in range(1500))
    files = {"site-packages/large/__init__.py": "", "site-packages/large/part.py": text, "site-packages/large/rare.py": "",
             "site-packages/small.py": "", "own/uses_large.py": "import large.part, small\n"}  # fmt: skip
    sources.write(tmp_path, files)
    with sources.on_path(tmp_path / "site-packages", tmp_path / "own"):
        import uses_large  # type: ignore[import-not-found]  # noqa: F401
        yield ["large", "large.part"]


def ask(subject: shipping.Shipper, src: Node, target: Node, body: Any, reply_to: int = 1000) -> None:
    raw = body if isinstance(body, bytes) else b"".join(map(bytes, codec.encode(body)))
    message = Message(src.id, src.id, MODULE_REQUEST, reply_to, 0, None, raw)
    subject.on_request(message, {src.id: src, target.id: target})
    later, subject.core.later = subject.core.later, []  # type: ignore[attr-defined]
    for call, args in later:
        call(*args)


def test_what_was_withheld_follows_once_and_as_far_as_it_is_lacking(tree: ramet.Tree, library: list[str]) -> None:
    node, _ = nodes(tree)
    subject, sent = shipper(node)
    subject.for_call(node, "uses_large")
    assert sent.names() == ["uses_large"]
    node._state.installed = frozenset(["small"])
    subject.installed_known(node)
    assert sent.names() == library
    ask(subject, node, node, ["source", ["large.part"], 1])     # it was on its way
    subject.installed_known(node)
    assert sent.names() == [] and sent.replies == [None]
    ask(subject, node, node, ["source", ["large.rare"], 1])
    assert sent.names() == ["large.rare"]


def test_what_is_expected_decides_what_goes_with_the_first_call(tree: ramet.Tree, library: list[str]) -> None:
    node, _ = nodes(tree)
    subject, sent = shipper(node)
    node._state.expected = frozenset(["small"])
    subject.for_call(node, "uses_large")
    assert sorted(sent.names()) == [*library, "uses_large"]
    node._state.installed = frozenset()     # small isn't there any more
    subject.installed_known(node)
    assert sent.names() == ["small"]


def test_a_hop_is_told_all_that_belongs_to_an_answer_and_tells_what_it_gave(tree: ramet.Tree, library: list[str]) -> None:
    hop, child = nodes(tree)
    other = Node(tree, 3, "other", hop, "test")
    subject, sent = shipper(hop)
    for node in (child, other):
        node._state.installed = frozenset()
        subject.server.grant(node.id, subject.server.closure("uses_large"))
    ask(subject, hop, child, ["source", ["large.part"], 2])
    assert sent.names() == library and sent.replies == [[library, {}]]
    ask(subject, hop, other, ["source", ["large.part"], 3], reply_to=0)
    assert sent.batches == [] and {("source", name) for name in library} <= other._state.has
    assert subject.requests == 1
    ask(subject, hop, child, ["source", ["nowhere.at_all"], 2])
    assert sent.replies[2] == [[], {"nowhere": "absent", "nowhere.at_all": "absent"}]
    ask(subject, hop, child, ["source", ["pytest"], 2])      # refused: that may be different for another node
    assert sent.replies[3] is None
    subject.server.strict = True
    ask(subject, hop, child, ["source", ["large.part"], 2])
    assert sent.replies[4] is None


def test_source_counts_when_it_is_known_that_a_node_takes_bytecode(tree: ramet.Tree, library: list[str]) -> None:
    node, _ = nodes(tree)
    subject, sent = shipper(node)
    node._state.installed = frozenset()
    subject.for_call(node, "uses_large")
    assert len(sent.names()) == 4
    subject.form_known(node, "cp311")
    subject.for_call(node, "uses_large")
    ask(subject, node, node, ["cp311", ["large.part"], 1])
    assert sent.names() == []


def test_what_has_no_source_is_had_as_bytecode_when_that_is_known_to_be_taken(tree: ramet.Tree, tmp_path: Path) -> None:
    """As in a frozen program. What is called doesn't count as being there because a call of it was prepared."""
    (tmp_path / "bare.py").write_text("def work(): pass\n")
    py_compile.compile(str(tmp_path / "bare.py"), str(tmp_path / "bare.pyc"))
    (tmp_path / "bare.py").unlink()
    with sources.on_path(tmp_path):
        import bare  # type: ignore[import-not-found]  # noqa: F401
        node, _ = nodes(tree)
        subject, sent = shipper(node)
        subject.for_call(node, "bare")
        assert sent.names() == []
        subject.form_known(node, pack.BYTECODE_FORM)
        ask(subject, node, node, [pack.BYTECODE_FORM, ["bare"], 1])
        assert sent.names() == ["bare"]


def test_parts_of_the_kernel_are_not_sent_in_a_form_that_is_only_remembered(tree: ramet.Tree) -> None:
    node, _ = nodes(tree)
    subject, _ = shipper(node)
    node._state.form = "cp311"
    subject.kernel_parts(node, ["failures"])
    assert node._state.has == {("source", name) for name in BOTH}


def kernel_parts(sent: Sent) -> set[str]:
    """The kernel's parts that were sent since one last asked."""
    batches, sent.batches = sent.batches, []
    return {name.rpartition(".")[2] for _, _, records in batches for name in records}


def test_what_followed_the_first_call_counts_when_it_has_shown_that_it_is_there(tree: ramet.Tree) -> None:
    node, _ = nodes(tree)
    subject, sent = shipper(node)
    subject.form_known(node, "source")
    subject.kernel_parts(node, parts.FOLLOWING, 0)
    assert kernel_parts(sent) == {*parts.FOLLOWING}
    subject.installed_known(node)
    subject.kernel_parts(node, parts.FOLLOWING)
    assert kernel_parts(sent) == set()

    _, other = nodes(tree)
    other.parent = None
    subject.form_known(other, "source")
    subject.kernel_parts(other, parts.UNFORESEEN)    # these can tell as well, before the others are there
    subject.kernel_parts(other, parts.FOLLOWING, 0)
    kernel_parts(sent)
    subject.installed_known(other)
    node._state.cached.clear()
    subject.kernel_parts(other, parts.FOLLOWING)
    assert kernel_parts(sent) == {*parts.FOLLOWING} - {*parts.UNFORESEEN, *parts.MOST}


def test_parts_that_are_used_together_are_one_answer(tree: ramet.Tree) -> None:
    node, _ = nodes(tree)
    subject, sent = shipper(node)
    subject.form_known(node, "source")
    subject.kernel_parts(node, ["compat_late"])
    kernel_parts(sent)
    ask(subject, node, node, ["source", ["ramet.kernel.packages"], 1])
    assert kernel_parts(sent) == {*parts.RESOURCES} - {"compat_late"}


@pytest.mark.parametrize("body", [
    b"", 7, ["source", ["large"]], [1, ["large"], 1], ["source", "large", 1], ["source", ["large"], 99],
    ["source", ["large"], []], b"x" * 40_000, ["source", [10**5000], 1], ["native", ["large", 10**5000], 1],
    ["data", [None], 1], ["source", [functools.reduce(lambda inner, _: [inner], range(150))], 1], [None, ["large"], 1],
], ids=["nothing", "a number", "two", "no form", "no list", "no node", "a list", "long", "a large number",
        "a large number among others", "nil", "deep", "nil for the form"])  # fmt: skip
def test_odd_requests_are_refused_and_answered(tree: ramet.Tree, body: Any) -> None:
    node, _ = nodes(tree)
    assert node._state.form is None, "it has told nothing yet"
    subject, sent = shipper(node)
    ask(subject, node, node, body)
    assert sent.replies == [None] and sent.refused == 1 and sent.batches == []


def test_no_more_requests_wait_than_a_bound(tree: ramet.Tree) -> None:
    node, _ = nodes(tree)
    subject, sent = shipper(node)
    body = b"".join(map(bytes, codec.encode(["source", ["no_such_module_anywhere"], 1])))
    for _ in range(shipping.WAITING_MAX + 10):
        subject.on_request(Message(1, 1, MODULE_REQUEST, 1000, 0, None, body), {1: node})
    assert sent.refused == len(sent.replies) == 10 and len(sent.later) == shipping.WAITING_MAX
    for call, args in sent.later:
        call(*args)
    assert len(sent.replies) == shipping.WAITING_MAX + 10 and not node._state.requests


def test_what_is_asked_for_while_no_descriptor_is_free(tree: ramet.Tree, library: list[str],
                                                       monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """It comes when one is; until then it is neither answered nor taken for absent."""
    node, _ = nodes(tree)
    subject, sent = shipper(node)
    subject.server.grant(1, subject.server.closure("uses_large"))
    node._state.early.append(subject.server.closure("uses_large"))
    later: list[Any] = []
    sent.loop.call_later = lambda seconds, call, *args: later.append((call, args))

    def short(*_: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")
    with monkeypatch.context() as patched:
        patched.setattr(SourceFileLoader, "get_data", short)
        patched.setattr(packing, "packed", lambda name, _: packing._inspect_loader(name).get_source(name))
        ask(subject, node, node, ["source", ["large.part"], 1])
        ask(subject, node, node, ["source", ["ramet.kernel.portable"], 1])
        subject.installed_known(node)
        assert sent.replies == sent.batches == [] and len(later) == 3
    for call, args in later:
        call(*args)
    assert sent.replies == [None, None] and "ramet.kernel.portable" in [name for _, names, _ in sent.batches for name in names]
    assert set(library) <= set(sent.names()) and not node._state.requests


def test_what_a_hop_adds_from_what_it_keeps_counts_for_how_long_a_batch_is(tree: ramet.Tree) -> None:
    """The hop has half of it and sends all: more than a frame, to a child that couldn't put it together."""
    node, child = nodes(tree)
    subject, sent = shipper(node)
    subject.form_known(node, "source")
    subject.form_known(child, "source")
    records = {name: [name, 0, name, b"x" * 70_000] for name in ("one", "two")}
    subject._send(node, "source", {"one": records["one"]}, {})
    assert kernel_parts(sent) == {"one"}
    subject._send(child, "source", records, {})
    assert kernel_parts(sent) == {"two", *parts.LONG, *parts.MOST}


def test_what_cannot_come_at_last_is_told_though_it_was_told_before(tree: ramet.Tree) -> None:
    """A node that had been told that it can't have it, and then that it is coming, waited for it for ever."""
    node, _ = nodes(tree)
    subject, sent = shipper(node)
    subject._send(node, "source", {}, {"lib.lost": "refused: it can't be read"})
    record = ["lib", 0, "lib", b""]
    subject._send(node, "source", {"lib": record}, {}, coming=["lib.lost"])
    sent.batches.clear()
    subject._send(node, "source", {}, {"lib.lost": "refused: it can't be read"})
    assert sent.batches
