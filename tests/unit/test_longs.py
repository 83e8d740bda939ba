"""What a node's core does with long messages: whose turn a link is, and what becomes of the memory that they took."""
from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from ramet.kernel import compat_late, frames, limits, limits_late, longs, values
from ramet.kernel.core import CALL, CANCEL, LOG, LOST, Core, Message
from ramet.kernel.faults import ProtocolError
from ramet.kernel.frames import CONTINUES, CONTROL, MORE
from ramet.kernel.links import Link
from support import kernel_shim, pythons
from support.eventually import HANGS_S, until

STEP = limits_late.let_go_bytes
SIZE = 4 * STEP


def with_credit(link: Any) -> longs.Long:
    """What a core knows of long messages, with one link that has credit."""
    long = longs.Long(SimpleNamespace(handlers={}, loop=SimpleNamespace(now=float)))  # type: ignore[arg-type]
    long.queue(link)
    return long


@pytest.fixture
def link() -> Any:
    nobody: Any = None
    return Link(nobody, nobody, nobody)


@pytest.mark.parametrize("turn", range(20))
def test_who_waits_to_send_comes_before_who_has_just_sent(link: Any, turn: int) -> None:
    """Else who reads acknowledgements, and sends for each, keeps a call waiting while many megabytes pass."""
    with_credit(link)
    order: list[str] = []

    def call() -> None:
        with link.writing:
            order.append("call")
    thread = threading.Thread(target=call)
    with link.writing:
        thread.start()
        until(link.writing.next.locked, "nobody waits")
    with link.writing:
        order.append("fragment")
    thread.join(HANGS_S)
    assert order == ["call", "fragment"]


def test_who_waited_for_a_link_when_it_got_credit_excludes_those_that_came_later(link: Any) -> None:
    plain = link.writing
    with_credit(link)
    inside: list[bool] = []

    def send() -> None:
        with link.writing:
            inside.append(plain.locked())
    thread = threading.Thread(target=send)
    with plain:
        thread.start()
        until(link.writing.next.locked, "nobody waits")
        assert not inside
    thread.join(HANGS_S)
    assert inside == [True] and not plain.locked()


TOLD_WHILE_IMPORTING = """
import sys, threading
from ramet.kernel import compat_late, core, longs, start, values
shown = []

class Node(object):
    def __init__(self):
        self.output = self.loop = self
        self.log_hook, self.shown = None, 0
    def watch(self):
        pass
    def call_soon(self, _):
        shown.append(self.shown)
start.node = node = Node()
message = core.Message(0, 0, core.OUTPUT, 0, 0, None, b"".join(values.encode([4, 0])))
longs._told(message)
if sys.version_info[0] == 2:
    import imp
    imp.acquire_lock()

def read():
    for _ in range(3):
        longs._told(message)
thread = threading.Thread(target=read)
thread.daemon = True
thread.start()
thread.join(HANGS_S)
print(thread.is_alive())
if sys.version_info[0] == 2:
    imp.release_lock()
print(max(shown))
"""


@pytest.mark.parametrize("label", [label for label, _ in pythons.interpreters()])
def test_a_thread_that_reads_does_not_wait_for_who_imports(label: str) -> None:
    """In 2.7 to import what is loaded is to wait for whoever imports, who may wait for what that thread reads."""
    code = TOLD_WHILE_IMPORTING.replace("HANGS_S", str(HANGS_S))
    said = kernel_shim.run(dict(pythons.interpreters())[label], code, timeout=4 * HANGS_S)
    assert said.split() == ["False", "16"]


def receiver() -> tuple[longs.Long, list[Message]]:
    """Of messages of a node 5 below, or 3 above."""
    heard: list[Message] = []
    core: Any = Core(0, [3], SimpleNamespace(now=float))  # type: ignore[arg-type]
    core.handlers = dict.fromkeys(range(1, 32), heard.append)
    return longs.Long(core), heard


def taken(long: longs.Long, handle: int, size: int, src: int = 5, flow: int = 1, more: int = 0) -> int:
    """How many bytes the message has that was made of fragments of control, which need no link for credit."""
    part = 65536
    for at in range(0, size, part):
        flags = CONTROL | CONTINUES * (at > 0) | MORE * (more or at + part < size)
        header = (frames.MAGIC, flags, flow, 0, src, src, handle, 0, part)
        body = long.add(None, header, frames.pack_header(*header) + b"\x90" * part)  # type: ignore[arg-type]
    return len(body or b"")


def test_only_what_is_known_to_be_long_may_be() -> None:
    """16 MiB of empty lists took whoever decodes them, on the thread that reads for all, 10 s and 1.2 GB."""
    for handle in range(1, 32):
        long, _ = receiver()
        assert taken(long, handle, limits.fragment_bytes_max) == limits.fragment_bytes_max
        if handle in (LOG, LOST):
            assert taken(long, handle, limits_late.news_bytes_max) == limits_late.news_bytes_max
        with pytest.raises(ProtocolError, match="larger"):
            taken(long, handle, limits_late.news_bytes_max + 1)
        assert not long.assembler.pools and not long.assembler.partial
        assert taken(long, handle, 2 << 20, src=3) == 2 << 20, "who is above may send anything"


def test_a_guest_is_held_to_that_though_it_is_above(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all nodes for which it speaks together."""
    monkeypatch.setattr(limits_late, "untold_bytes_max", 600_000)
    long, _ = receiver()
    long.for_guest = True
    for src in 3, 4:
        taken(long, CANCEL, 262144, src, more=MORE)
    with pytest.raises(ProtocolError, match="larger"):
        taken(long, CANCEL, 262144, src=6)
    long.forget({3, 4})
    assert taken(long, CANCEL, 262144, src=6) == 262144
    with pytest.raises(ProtocolError, match="larger"):
        taken(long, CANCEL, 300_000, src=3)


def message(*strings: bytes) -> Message:
    return Message(0, 0, CALL, 1000, 0, None, [b"around", *strings])


# In a process of its own: in one that has run for long, so much may lie among what was freed, which isn't given back at all.
IN_STEPS = """
from ramet.kernel import limits_late, longs
from ramet.kernel.core import CALL, Message

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

step = limits_late.let_go_bytes
brought = Message(0, 0, CALL, 1000, 0, None, [b"around", b"x" * (4 * step)])
full = resident()
seen = []
longs.Long.let_go(brought, lambda: seen.append(full - resident()))
seen.append(full - resident())
print([int(round(float(gone) / step)) for gone in seen], len(brought.body))
"""


@pytest.mark.skipif(not compat_late.CUTS_IN_PLACE, reason="not on this machine: a Python that cuts byte strings in place")
@pytest.mark.parametrize("label", [label for label, _ in pythons.interpreters() if label not in ("2.7", "pypy")])
def test_memory_is_given_back_in_steps_between_which_others_run(label: str) -> None:
    said = kernel_shim.run(dict(pythons.interpreters())[label], IN_STEPS)
    assert said.strip() == "[1, 2, 3, 4] 0"


def test_what_somebody_has_kept_is_whole_and_nobody_waits_for_it() -> None:
    kept = b"k" * SIZE
    paused: list[int] = []
    longs.Long.let_go(message(kept, b"small" * 20000), lambda: paused.append(1))
    assert kept == b"k" * SIZE and not paused


def test_a_message_without_byte_strings_is_let_go_too() -> None:
    brought = message()
    brought.body = values.encode([1, 2])[0]
    longs.Long.let_go(brought)
    assert brought.body == b""


# ---------------------------------------------------------------------- another thread comes and goes meanwhile

def test_nodes_come_while_it_is_looked_who_is_at_a_links_end(link: Any) -> None:
    class Parents(dict[int, int]):
        def get(self, id: int, default: Any = None) -> Any:
            routes.down[len(routes.down) + 100] = None
            return super().get(id, default)
    routes = SimpleNamespace(id=0, parent=None, down={7: link, 8: link})
    core: Any = SimpleNamespace(handlers={}, routes=routes, descendants=SimpleNamespace(parents=Parents({7: 0, 8: 7})))
    assert longs.Long(core).neighbour(link) == 7


def test_links_come_and_go_while_those_of_lost_nodes_are_forgotten(link: Any) -> None:
    class Lost:
        @property
        def dead(self) -> bool:
            found.neighbours.pop(one, None)
            found.neighbours[Link(one, one, one)] = 7
            return True
    core: Any = SimpleNamespace(handlers={})
    found = longs.Long(core)
    one: Any = Lost()
    found.neighbours = {one: 5, link: 6}
    found.forget({5})
    assert one not in found.neighbours and found.neighbours[link] == 6


# ---------------------------------------------------------------------- flows that are told to stop, and to go on

class Between:
    """A node in the middle: what comes from its parent of one flow waits for a child's link."""
    KEY = (0, 2, 0)

    def __init__(self, link: Any) -> None:
        self.out, self.parent = link, SimpleNamespace(dead=False)
        self.soon: list[Any] = []
        self.told: list[int] = []
        core: Any = SimpleNamespace(
            handlers={}, send=self.on_send, routes=SimpleNamespace(parent=self.parent, ancestors=[0]),
            loop=SimpleNamespace(now=float, call_soon=lambda *call: self.soon.append(call)))
        self.long = longs.Long(core)
        self.queue = self.long.queue(link)

    def on_send(self, id: int, handle: int, chunks: list[bytes], *_: int) -> None:
        assert (id, handle) == (0, longs.TAKEN)
        self.told.append(longs.TOLD.unpack(chunks[0])[-1])

    def crowd(self) -> None:
        """As by who reads the parent's link: more comes than may wait."""
        while self.queue.size <= limits_late.flow_bytes_max:
            self.queue.push(self.KEY, 0, b"x" * 8000)
        self.long.crowded(self.parent, self.out, self.KEY)  # type: ignore[arg-type]

    def drain(self) -> None:
        """As by who writes the child's link."""
        with self.out.writing:
            while self.queue.size:
                self.queue.take(limits.write_bytes_max)

    def keep(self) -> None:
        """As the keeper: do what was to be done soon."""
        while self.soon:
            fn, *args = self.soon.pop(0)
            fn(*args)


def test_a_flow_that_goes_on_while_its_stop_is_told_is_told_so_after_it(link: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sender was told in the wrong order, and sent nothing more for ever."""
    between = Between(link)

    def keeper() -> None:
        between.drain()
        between.keep()
    thread = threading.Thread(target=keeper)

    def neighbour(_: Any) -> int:
        if not thread.ident:
            thread.start()
            thread.join(0.3)    # it waits for its turn; if it doesn't, it is done by then, most likely
        return 0
    monkeypatch.setattr(between.long, "neighbour", neighbour)
    between.crowd()
    thread.join(HANGS_S)
    assert between.told == [longs.STOP, longs.GO_ON]


def test_a_flow_that_is_crowded_again_before_it_was_told_to_go_on_stops(link: Any) -> None:
    """Its sender was told in the wrong order, sent on, and lost its link: it doesn't stop, it was said."""
    between = Between(link)
    between.crowd()
    between.drain()
    between.crowd()
    between.keep()
    assert between.told == [longs.STOP, longs.GO_ON, longs.STOP]


@pytest.mark.parametrize(("count", "refused"), [(longs.STOP, 1), (longs.GO_ON, 0)], ids=["stop", "go on"])
def test_a_flow_to_a_lost_node_may_go_on_but_not_be_stopped(link: Any, count: int, refused: int) -> None:
    between = Between(link)
    core: Any = between.long.core
    core.refused, core.routes.link_to = 0, lambda id: None
    between.long.neighbours[link] = 2
    between.long.on_credit(Message(2, 2, longs.TAKEN, 0, 0, link, values.encode([0, 3, 0, count])[0]))
    assert core.refused == refused
