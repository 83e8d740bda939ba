"""Cores that are linked by socketpairs in one process: messages, replies, losses, and what must be refused."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ramet.kernel import core, fragments, jobs, limits, loop_late, peer_calls, values
from ramet.kernel.core import CALL, DEAD, LOST, ROUTE, Core, Message
from ramet.kernel.descent import Losses
from ramet.kernel.errors import ValueNotPortableError
from ramet.kernel.fragments import Assembler, whole
from ramet.kernel.frames import CONTROL, COUNTED
from ramet.kernel.handles import ITSELF
from ramet.kernel.links import Link
from ramet.kernel.loop import Loop
from support.eventually import HANGS_S, until


class Network:
    """Nodes with a keeper each."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.loops: list[tuple[Loop, threading.Thread]] = []
        self.links: list[Link] = []
        self.cores: list[Core] = []
        self.losses: dict[int, Losses] = {}

    def node(self, id: int, ancestors: list[int]) -> Core:
        loop = Loop(self.errors.append)
        thread = threading.Thread(target=loop.run)
        thread.start()
        self.loops.append((loop, thread))
        found = Core(id, ancestors, loop)
        self.cores.append(found)
        found.handlers[CALL] = lambda message: echo(found, message)
        self.losses[id] = Losses(found)
        return found

    def link(self, node: Core) -> Link:
        return Link(node.loop, node.on_frame, self.losses[node.id].link_lost)

    def join(self, parent: Core, child: Core, *behind: int) -> tuple[Link, Link]:
        ends = socket.socketpair()
        links = self.link(parent), self.link(child)
        above = parent.id
        for id in (child.id, *behind):
            self.losses[parent.id].descendants.add(id, links[0], above)
            above = id
        child.routes.parent = links[1]
        for link, end in zip(links, ends, strict=True):
            end.setblocking(False)
            fd = end.detach()
            link.open(fd, fd)
        self.links += links
        return links

    def close(self) -> None:
        for link in self.links:
            link.close("the test is over")
        # Not before: a keeper that is told to stop looks at nothing that came in the same turn.
        until(lambda: all(link.fd_in == -1 for link in self.links), "a link isn't buried")
        for loop, thread in self.loops:
            loop_late.stop(loop)
            thread.join(HANGS_S)
            assert not thread.is_alive()
        for node in self.cores:
            loop_late.close(node.loop, node)


def echo(node: Core, message: Message) -> None:
    if node.routes.commands(message.authority):
        node.reply(message, values.encode(values.decode(message.body)))


@pytest.fixture
def network() -> Iterator[Network]:
    found = Network()
    yield found
    found.close()
    assert found.errors == []


@pytest.fixture
def chain(network: Network) -> tuple[Core, Core, Core]:
    """0 - 1 - 2"""
    nodes = network.node(0, []), network.node(1, [0]), network.node(2, [1, 0])
    network.join(nodes[0], nodes[1], 2)
    network.join(nodes[1], nodes[2])
    return nodes


def ask(node: Core, dst: int, value: object) -> object:
    flags, body = node.request(dst, CALL, value)
    return (flags, bytes(body).decode()) if flags & DEAD else values.decode(body)


@pytest.mark.parametrize("value", ["hello", "x" * 1_000_000], ids=["short", "long"])
def test_a_message_gets_its_reply_over_any_number_of_hops(chain: tuple[Core, Core, Core], value: str) -> None:
    for dst in (1, 2):
        assert ask(chain[0], dst, value) == value
    assert chain[0].pending == {} and chain[0].refused == 0


def test_many_threads_at_once(chain: tuple[Core, Core, Core]) -> None:
    results: list[object] = []

    def ask_fifty(number: int) -> None:
        results.extend(ask(chain[0], 2, [number, i]) for i in range(50))
    threads = [threading.Thread(target=ask_fifty, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANGS_S)
    assert sorted(map(tuple, results)) == [(n, i) for n in range(8) for i in range(50)]  # type: ignore[call-overload]


def test_siblings_talk_through_their_parent(network: Network) -> None:
    root, left, right = network.node(0, []), network.node(1, [0]), network.node(2, [0])
    network.join(root, left)
    network.join(root, right)
    right.handlers[CALL] = lambda message: right.reply(message, [message.body])
    assert ask(left, 2, "hello") == "hello"


def test_a_message_for_nobody_is_answered_by_the_last_who_could_know(chain: tuple[Core, Core, Core]) -> None:
    assert ask(chain[0], 99, "?") == (DEAD, "there is no way to node 99")
    flags, text = ask(chain[2], 99, "?")  # type: ignore[misc]
    assert flags & DEAD and text == "there is no node 99"


def test_who_talks_to_nobody_takes_no_memory_on_the_way(chain: tuple[Core, Core, Core]) -> None:
    """Nothing is refused there: the next node above may know that one."""
    _, middle, leaf = chain
    for number in range(1000, 2000):
        leaf.send(number, CALL, [b"\xc0"])
    middle.handlers[CALL] = lambda message: middle.reply(message, [message.body])
    assert ask(leaf, 1, "behind them") == "behind them"
    assert middle.descendants.talkers == {}


@pytest.mark.parametrize("flags", [0, COUNTED], ids=["short", "long"])
def test_the_way_to_itself_is_nobody_elses(network: Network, flags: int) -> None:
    """Where a node below uses it, its honest parent is on that link, too."""
    nodes = root, middle, between, leaf = [network.node(id, list(range(id))[::-1]) for id in range(4)]
    for at in range(3):
        network.join(nodes[at], nodes[at + 1], *range(at + 2, 4))
    middle.routes.down[ITSELF] = peer_calls.Loopback(middle)
    root.handlers[CALL] = lambda message: root.reply(message, [message.body])
    leaf.send(ITSELF, CALL, [b"\xc0"], flags=flags)
    assert ask(leaf, 0, "behind it") == "behind it"
    assert middle.refused == 1 and not between.routes.parent.dead


def test_a_loss_ends_every_wait_and_is_told_to_all_who_talked(network: Network) -> None:
    root, left, right = network.node(0, []), network.node(1, [0]), network.node(2, [0])
    link, _ = network.join(root, left)
    network.join(root, right)
    left.handlers[CALL] = lambda message: None      # never answers
    got: list[tuple[int, bytes]] = []
    done = threading.Semaphore(0)

    def answered(flags: int, body: bytes) -> None:
        got.append((flags, body))
        done.release()
    for node in (root, right):
        node.ask(1, CALL, values.encode("?"), answered)
    until(lambda: network.losses[0].descendants.talkers.get(1), "what a sibling asks doesn't come by")
    link.close("the cable was cut")
    assert done.acquire(timeout=HANGS_S) and done.acquire(timeout=HANGS_S)
    assert [(flags & DEAD, bytes(body)) for flags, body in got] == [(DEAD, b"the cable was cut")] * 2
    assert root.pending == {} and right.pending == {} and root.routes.down.keys() == {2}


def forge(link: Link, **header: int) -> None:
    fields = {"flags": 0, "flow": 0, "dst": 0, "src": 1, "authority": 1, "handle": CALL, "reply_to": 0} | header
    link.send((0, 0, 0), 0, whole(*fields.values(), values.encode([[2], "lies"])))


def test_a_node_is_not_believed_on_the_fate_of_its_parent_or_a_sibling(chain: tuple[Core, Core, Core]) -> None:
    root, middle, leaf = chain
    for dst, ids in ((0, [1]), (0, [2]), (1, [0]), (0, [0]), (0, "nonsense"), (0, 7)):
        leaf.tell(dst, LOST, [ids, "lies"])
    leaf.tell(0, LOST, ["too", "many", "items"])
    assert ask(root, 2, "alive") == "alive" and ask(root, 1, "alive") == "alive"
    assert root.routes.down.keys() == {1, 2} and middle.routes.down.keys() == {2}


@pytest.mark.parametrize("news", [[[3, 3], "gone"], [[3], "gone \udc80"], [[3, 3.0], "gone"]])
def test_a_node_that_tells_of_a_loss_as_none_does_cant_keep_calls_waiting(network: Network, news: list[object]) -> None:
    """Its child was forgotten then, but who waited for that one wasn't told, by no later loss either."""
    root, middle, hostile = network.node(0, []), network.node(1, [0]), network.node(2, [1, 0])
    link, _ = network.join(root, middle, 2, 3)
    network.join(middle, hostile, 3)
    got: list[int] = []
    root.pending[1001] = 3, lambda flags, body: got.append(flags)
    hostile.tell(0, LOST, news)
    until(lambda: 3 not in root.routes.down, "it isn't believed")
    link.close("the cable was cut")
    until(lambda: got, "nobody tells who waits")
    assert got == [DEAD] and root.pending == {}


@pytest.mark.parametrize("handle", [CALL, 1001])
def test_what_a_text_that_cant_be_encoded_is_refused_for_ends_nothing(chain: tuple[Core, Core, Core], handle: int) -> None:
    """Errors repeat names, and those may hold lone surrogates: the answer couldn't be made, and the link was closed for it."""
    root, _, leaf = chain

    def refuse(*_: object) -> None:
        raise ValueNotPortableError("\udc80.x isn't here")
    root.handlers[CALL] = refuse
    if handle == CALL:
        flags, reason = leaf.request(0, CALL, "?")
        assert flags & DEAD and bytes(reason) == b"refused: ?.x isn't here"
    else:
        root.pending[handle] = 2, refuse
        leaf.send(0, handle, values.encode("?"))
    assert ask(root, 2, "alive") == "alive" and root.refused == 1


@pytest.mark.parametrize(
    "header",
    [
        {"src": 2, "authority": 2},                     # a sibling's name
        {"src": 0, "authority": 0},                     # the controller's
        {"src": 1, "authority": 0},                     # one's own name on the controller's authority
        {"src": 99, "authority": 99},                   # nobody's
        {"handle": 77},                                 # a handle that doesn't exist
        {"handle": LOST},                               # the death of a node behind another link
        {"handle": ROUTE},                              # a route, from below
    ],
)
def test_forged_frames_do_nothing(network: Network, header: dict[str, int]) -> None:
    root, bad, good = network.node(0, []), network.node(1, [0]), network.node(2, [0])
    _, link = network.join(root, bad)
    network.join(root, good)
    seen: list[Message] = []
    root.handlers[CALL] = seen.append
    forge(link, **header)
    assert ask(root, 1, "still there") == "still there"
    assert ask(root, 2, "and so is the other") == "and so is the other"
    assert seen == [] and root.routes.down.keys() == {1, 2}


def test_a_reply_counts_only_from_who_was_asked(network: Network) -> None:
    root, bad, good = network.node(0, []), network.node(1, [0]), network.node(2, [0])
    _, link = network.join(root, bad)
    network.join(root, good)
    waiting: list[Message] = []
    good.handlers[CALL] = waiting.append
    got: list[bytes] = []
    done = threading.Event()
    handle = root.ask(2, CALL, values.encode("?"), lambda flags, body: (got.append(body), done.set()))  # type: ignore[func-returns-value]
    forge(link, handle=handle)
    forge(link, handle=handle, flags=DEAD)
    assert ask(root, 1, "after the forgeries") == "after the forgeries"
    assert got == []
    until(lambda: waiting, "it wasn't asked")
    good.reply(waiting[0], values.encode("true"))
    assert done.wait(HANGS_S) and values.decode(got[0]) == "true"


def test_garbage_closes_the_link_and_nothing_else(network: Network) -> None:
    root, bad, good = network.node(0, []), network.node(1, [0]), network.node(2, [0])
    link, other = network.join(root, bad)
    network.join(root, good)
    os.write(other.fd_out, b"HTTP/1.1 400 Bad Request, and so on and so on")
    until(lambda: 1 not in root.routes.down, "it isn't lost")
    assert link.dead
    assert ask(root, 2, "alive") == "alive"


@pytest.mark.parametrize("value", ["hello", "x" * 1_000_000], ids=["short", "long"])
def test_who_asks_a_node_that_has_no_memory_for_it_hears_of_that(
    chain: tuple[Core, Core, Core], network: Network, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_: object) -> None:
        raise MemoryError("none left")
    with monkeypatch.context() as starved:
        starved.setattr(fragments.Partial, "add", lacking)
        starved.setitem(chain[2].handlers, CALL, lacking)
        assert ask(chain[0], 2, value) == (DEAD | CONTROL, "refused: none left")
        until(lambda: network.errors, "the node itself says nothing of it")     # once it has answered
    assert all(isinstance(error, MemoryError) for error in network.errors)
    network.errors.clear()
    assert ask(chain[0], 2, value) == value
    assert not chain[2].longs().assembler.partial


def test_credit_for_what_a_lost_node_never_took_comes_back_to_all_on_the_way(network: Network) -> None:
    """Found by the simulator: who sent it heard of the loss; the node between counted it as under way for ever.

    Two are lost at once: the second link is dead when the loss of the first is told.
    """
    root, middle, leaf = network.node(0, []), network.node(1, [0]), network.node(2, [1, 0])
    network.join(root, middle, 2)
    network.join(middle, leaf)
    with contextlib.ExitStack() as unread:
        silent = []
        for id in 3, 4:
            ends = socket.socketpair()
            unread.enter_context(ends[1])       # nobody reads it
            ends[0].setblocking(False)
            fd = ends[0].detach()
            silent.append(network.link(root))
            network.losses[0].descendants.add(id, silent[-1], 0)
            silent[-1].open(fd, fd)
        network.links += silent
        answers: list[int] = []
        for id in 3, 4:
            leaf.ask(id, CALL, values.encode("x" * 5_000_000), lambda flags, body: answers.append(flags))
        on_the_way = [middle.longs().queue(middle.routes.parent), leaf.longs().queue(leaf.routes.parent)]
        stuck = [root.longs().queue(link) for link in silent]
        until(lambda: all(link.armed for link in silent) and all(queue.size for queue in stuck), "it never stuck")
        root.loop.call_soon(lambda: [link.close("the test says so") for link in silent])
        until(lambda: len(answers) == 2, "the sender never heard of it")
        until(lambda: not any(queue.under_way or queue.flows for queue in on_the_way), "credit never came back")
        until(lambda: not any(link in root.longs().credited for link in silent), "a link that is gone is kept")
    assert all(flags & DEAD for flags in answers)


def test_what_cant_be_taken_from_a_link_closes_it(network: Network) -> None:
    """What was read with it is lost, so nobody may go on to wait for it."""
    root, bad = network.node(0, []), network.node(1, [0])
    link, _ = network.join(root, bad)

    def lacking(_: bytes) -> None:
        raise MemoryError
    link.parser.feed = lacking  # type: ignore[assignment]
    assert ask(root, 1, "alive") == (DEAD, "protocol error: ")
    assert link.dead


def test_a_message_over_the_limit_is_refused_where_it_is_made(
    chain: tuple[Core, Core, Core], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "message_bytes_max", 200_000)
    with pytest.raises(ValueNotPortableError, match="over the limit of 200000"):
        ask(chain[0], 1, "x" * 200_000)
    assert chain[0].pending == {}
    assert ask(chain[0], 1, "small") == "small"


def test_a_message_over_the_receivers_limit_is_refused_and_said(chain: tuple[Core, Core, Core]) -> None:
    chain[2].longs().assembler = Assembler(bytes_max=300_000)
    flags, text = ask(chain[0], 2, "x" * 400_000)  # type: ignore[misc]
    assert flags & DEAD and "larger than 300000" in text
    assert ask(chain[0], 2, "small") == "small"


def test_frames_wait_for_a_link_that_is_not_open_yet(network: Network) -> None:
    root, child = network.node(0, []), network.node(1, [0])
    link = network.link(root)
    network.losses[0].descendants.add(1, link, 0)
    got: list[bytes] = []
    done = threading.Event()
    root.ask(1, CALL, values.encode("early"), lambda flags, body: (got.append(body), done.set()))  # type: ignore[func-returns-value]
    ends = socket.socketpair()
    child.routes.parent = network.link(child)
    network.links += [link, child.routes.parent]
    for one, end in zip((link, child.routes.parent), ends, strict=True):
        end.setblocking(False)
        fd = end.detach()
        one.open(fd, fd)
    assert done.wait(HANGS_S) and values.decode(got[0]) == "early"


def test_the_well_known_handles_are_below_the_free_ones() -> None:
    assert max(core.CONFIG, core.WISH) < limits.first_free_handle


def test_a_node_waits_for_longer_than_the_system_does_at_once(chain: tuple[Core, Core, Core]) -> None:
    for seconds in 30 * 86400, float("inf"):
        for link in chain[1].routes.link_to(2), None:       # read by who waits, or by the keeper
            got: list[int] = []
            waiter = chain[1].waiter()
            chain[1].ask(2, CALL, [b"\xc0"], lambda flags, _, got=got, waiter=waiter: (got.append(flags), waiter.wake()))
            assert jobs.wait(chain[1], lambda got=got: got, link, seconds)


def test_a_long_wait_is_cut_in_days() -> None:
    waited: list[float] = []
    core: Any = SimpleNamespace(threads=SimpleNamespace(), wait=lambda ready, link, seconds: waited.append(seconds))
    assert not jobs.wait(core, lambda: False, None, 2.25 * 86400)
    assert waited == [86400, 86400, 21600]


class Overtaken:
    """The lock of who reads a link. Just before this thread gets it, the keeper has buried the link."""

    def __init__(self, link: Link) -> None:
        self.link, self.genuine, self.here = link, link.reading, threading.get_ident()

    def acquire(self, blocking: bool) -> bool:
        if threading.get_ident() == self.here:
            self.link.close("it ends now")
            until(lambda: self.link.fd_in == -1 and not self.genuine.locked(), "the keeper doesn't bury it")
        return self.genuine.acquire(blocking)

    def release(self) -> None:
        self.genuine.release()


def test_a_link_that_ends_while_it_is_borrowed_is_not_lent(network: Network) -> None:
    controller, child = network.node(0, []), network.node(1, [0])
    link, _ = network.join(controller, child)
    lock = Overtaken(link)
    link.reading = lock
    assert not link.borrow(controller.waiter()) and link.borrower is None
    assert not lock.genuine.locked()
