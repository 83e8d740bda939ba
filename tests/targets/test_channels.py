"""Channels between the program, children, grandchildren and siblings."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

import ramet
from ramet.kernel import channels
from support import remote, remote_channels
from support.eventually import HANGS_S, until


@pytest.fixture(scope="module")
def grown() -> Iterator[dict[str, ramet.Node]]:
    with ramet.Tree() as tree:
        nodes = {"child": tree.local()}
        nodes["grandchild"] = nodes["child"].local()
        nodes["sibling"] = tree.local()
        for node in nodes.values():
            node.call(remote_channels.is_channel, node.call(remote_channels.make))     # it is up, with all that belongs to it
        yield nodes


@pytest.fixture
def nodes(grown: dict[str, ramet.Node]) -> dict[str, ramet.Node]:
    return {name: node.options(lane=ramet.ANY) for name, node in grown.items()}


def tree_of(nodes: dict[str, ramet.Node]) -> ramet.Tree:
    return nodes["child"]._tree


def owned_by(nodes: dict[str, ramet.Node], owner: str, size: int = 10) -> ramet.Channel:
    if owner == "program":
        return tree_of(nodes).channel(size)
    found: ramet.Channel = nodes[owner].call(remote_channels.make, size)
    return found


OWNERS = ["program", "child", "grandchild", "sibling"]


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("size", [1, 1000])
def test_echo(nodes: dict[str, ramet.Node], owner: str, size: int) -> None:
    there, back = owned_by(nodes, owner, size), owned_by(nodes, owner, size)
    call = nodes["grandchild"].start(remote_channels.echo, there, back)
    items = [1, "two", b"three", (4, {5}), None, date(2026, 1, 2), Decimal("1.5"), "x" * 300_000, *range(300)]
    sender = threading.Thread(target=lambda: ([there.send(item) for item in items], there.close()))
    sender.start()
    assert list(back) == items
    sender.join(60)
    call.result(60)
    assert list(back) == []
    with pytest.raises(ramet.ClosedError):
        back.receive()
    with pytest.raises(ramet.ClosedError):
        there.send(1)


@pytest.mark.parametrize("owner", OWNERS)
def test_between_siblings(nodes: dict[str, ramet.Node], owner: str) -> None:
    channel = owned_by(nodes, owner)
    sending = nodes["grandchild"].start(remote_channels.send_all, channel, list(range(500)))
    assert nodes["sibling"].call(remote_channels.receive, channel, 500) == list(range(500))
    assert sending.result(60) == "sent"


@pytest.mark.parametrize("owner", ["program", "child"])
def test_many_senders_and_many_receivers_each_item_once(nodes: dict[str, ramet.Node], owner: str) -> None:
    channel = owned_by(nodes, owner, 5)
    senders = [nodes[name].start(remote_channels.send_range, channel, n * 1000, 100)
               for n, name in enumerate(["child", "grandchild", "sibling"] * 2)]
    receivers = [nodes[name].start(remote_channels.receive_all, channel) for name in ("child", "grandchild", "sibling")]
    mine: list[int] = []
    thread = threading.Thread(target=mine.extend, args=(channel,))
    thread.start()
    for sender in senders:
        sender.result(60)
    channel.close()
    thread.join(60)
    got = [receiver.result(60) for receiver in receivers] + [mine]
    assert sorted(n for some in got for n in some) == sorted(n * 1000 + m for n in range(6) for m in range(100))


def test_it_is_bounded(nodes: dict[str, ramet.Node]) -> None:
    channel = tree_of(nodes).channel(3)
    for n in range(3):
        channel.send(n)
    with pytest.raises(ramet.CallTimeout):
        channel.send(3, timeout=0.05)
    call = nodes["child"].start(remote_channels.send_all, channel, list(range(100, 200)))
    with pytest.raises(TimeoutError):
        call.result(0.3)
    held = tree_of(nodes)._channels.held[channel.number]
    assert len(held.items) == 3 and sum(sender.items for sender in held.senders) <= 3
    assert [channel.receive() for _ in range(103)] == [0, 1, 2, *range(100, 200)]
    assert call.result(60) == "sent"


@pytest.mark.parametrize("owner", ["program", "child"])
def test_who_sends_behind_another_thread_waits_no_longer_than_it_says(nodes: dict[str, ramet.Node], owner: str) -> None:
    """Of one that another node holds: a lock was held by who waited for room, and the second one waited for that, for ever."""
    channel: Any = owned_by(nodes, owner, 1)
    found: list[BaseException] = []

    def fill() -> None:
        for n in range(300):
            channel.send(n)

    def send() -> None:
        while len(found) < 3:
            try:
                channel.send("x", timeout=0.1)
            except ramet.CallTimeout as error:
                found.append(error)
    threads = [threading.Thread(target=fill, daemon=True), threading.Thread(target=send, daemon=True)]
    for thread in threads:
        thread.start()
    threads[1].join(HANGS_S)
    assert len(found) == 3
    got: list[object] = []
    while 299 not in got:
        got.append(channel.receive(timeout=HANGS_S))
    threads[0].join(HANGS_S)
    assert [n for n in got if n != "x"] == list(range(300)) and not threads[0].is_alive()


def test_a_large_item_gets_its_turn_beside_small_ones(nodes: dict[str, ramet.Node]) -> None:
    """It goes when nothing else is under way. That it waits was taken back by the next small one: both sides waited."""
    channel: Any = owned_by(nodes, "child", 1000)
    channel.send(b"x" * 2_000_000)
    channel.send("s1")
    feed = channel._end.feed
    threads = [threading.Thread(target=channel.send, args=(item,), daemon=True) for item in (b"y" * 2_000_000, "s2")]
    threads[0].start()
    until(lambda: feed.waiting, "it doesn't wait")
    threads[1].start()
    until(lambda: feed.items == 3 or len(feed.waiting) == 2, "it does nothing")
    until(lambda: nodes["child"].call(remote_channels.arrived, channel) == feed.items, "it doesn't arrive")
    got = nodes["child"].call(remote_channels.receive, channel, 4)
    assert sorted(map(len, got)) == [2, 2, 2_000_000, 2_000_000]
    for thread in threads:
        thread.join(HANGS_S)
        assert not thread.is_alive()


def test_through_third_nodes_and_back(nodes: dict[str, ramet.Node]) -> None:
    channel: Any = tree_of(nodes).channel()
    for name in ("grandchild", "sibling", "child"):
        outer = tree_of(nodes).channel()
        nodes[name].call(remote_channels.send_all, outer, [{"deep": [channel]}])
        again = outer.receive()["deep"][0]
        assert again == channel and hash(again) == hash(channel)
        channel = again
    nodes["sibling"].call(remote_channels.send_all, channel, ["still the same"])
    assert channel.receive() == "still the same"
    assert nodes["child"].call(remote_channels.is_channel, channel)[:2] == [True, True]
    assert isinstance(channel, ramet.Channel)
    assert channel.token not in repr(channel) + nodes["child"].call(remote_channels.is_channel, channel)[2]


def test_what_a_receiver_leaves_goes_to_the_next_one(nodes: dict[str, ramet.Node]) -> None:
    channel = tree_of(nodes).channel(1000)
    for n in range(300):
        channel.send(n)
    first = nodes["grandchild"].call(remote_channels.receive_and_drop, channel, 10)
    assert first == list(range(10))
    nodes["grandchild"].call(gc.collect)
    assert nodes["child"].call(remote_channels.receive, channel, 290) == list(range(10, 300))


def test_who_comes_and_goes_leaves_nothing(nodes: dict[str, ramet.Node]) -> None:
    """A node that takes one item by each of many calls: something was kept of each until the channel was closed."""
    tree = tree_of(nodes)
    channel = tree.channel(2000)
    held = tree._channels.held[channel.number]
    for n in range(1200):       # more than one that comes has credit for
        channel.send(n)
    for _ in range(20):
        nodes["grandchild"].call(remote_channels.receive_and_drop, channel, 1)
        nodes["grandchild"].call(gc.collect)
    until(lambda: not held.receivers and not held.left, "one receives on")
    assert not held.asked and not any(held.peers.values())


def test_ends_of_channels_are_forgotten(nodes: dict[str, ramet.Node]) -> None:
    """Of each channel that another node holds something was kept, as long as the tree was there."""
    ends = tree_of(nodes)._channels.ends
    gc.collect()
    before = len(ends)
    for _ in range(20):
        channel = owned_by(nodes, "child")
        channel.send(1)
        channel.close()
    del channel
    gc.collect()
    assert len(ends) == before


def test_asyncio(nodes: dict[str, ramet.Node]) -> None:
    async def main(channel: Any) -> list[int]:
        call = nodes["grandchild"].start(remote_channels.send_range, channel, 0, 2_000)
        got = []
        async for item in channel:
            got.append(item)
            if len(got) == 2_000:
                await asyncio.to_thread(channel.close)
        await call
        return got
    for owner in ("program", "sibling"):
        assert asyncio.run(main(owned_by(nodes, owner))) == list(range(2_000))


def test_a_lost_owner_ends_it_and_a_lost_sender_does_not() -> None:
    with ramet.Tree() as tree:
        owner, sender, sibling = tree.local(), tree.local(), tree.local()
        channel = owner.call(remote_channels.make)
        waiting = [node.options(lane=ramet.ANY).start(remote_channels.error_of, channel, "receive")
                   for node in (sender, sibling)]
        mine: list[BaseException] = []

        def receive() -> None:
            try:
                channel.receive()
            except ramet.Error as error:
                mine.append(error)
        thread = threading.Thread(target=receive)
        thread.start()
        ours = tree.channel()
        sender.call(remote_channels.send_all, ours, [1, 2, 3])
        sender.options(lane=ramet.ANY).start(remote_channels.receive, ours, 99)
        sibling.call(remote_channels.send_all, channel, [])
        threading.Event().wait(0.1)
        owner.kill()
        assert waiting[1].result(60) == "NodeLostError" == waiting[0].result(60)
        thread.join(60)
        assert [type(error) for error in mine] == [ramet.NodeLostError]
        for _ in range(2):
            with pytest.raises(ramet.NodeLostError):
                channel.send(1)
        sender.kill()       # what it hadn't taken is lost with it
        until(lambda: not tree._channels.held[ours.number].receivers, "it receives on")
        sibling.call(remote_channels.send_all, ours, [4])
        while ours.receive(timeout=60) != 4:
            pass


def test_a_guessed_token_and_garbage_are_refused(nodes: dict[str, ramet.Node]) -> None:
    tree = tree_of(nodes)
    channel = tree.channel()
    before = tree.stats()["refused"]
    assert nodes["child"].call(remote_channels.forge, 0, channel.number) == "ClosedError"
    garbage: list[Any] = [None, [], [0, 1, 2], [0, channel.number, channel.token, 2], [1, channel.number, channel.token, 3],
                          [0, channel.number, channel.token, -1], [0, [], {}, 1], [9, channel.number, channel.token, 1],
                          [3, channel.number, channel.token, [b"never sent"]], [0, channel.number, channel.token, [1]]]
    for body in garbage:
        nodes["child"].call(remote_channels.send_raw, 0, body)
    assert tree.stats()["refused"] == before + 1 + len(garbage)
    nodes["child"].call(remote_channels.send_all, channel, ["alive"])
    assert channel.receive() == "alive"


@pytest.mark.parametrize("owner", OWNERS)
def test_who_comes_when_it_is_over_is_told_that_it_is_closed_and_not_refused(nodes: dict[str, ramet.Node], owner: str) -> None:
    """Its first message was on its way, or is sent by who hasn't heard of the end. Its link was read slowly after many such."""
    def refused() -> int:
        return int(tree_of(nodes).stats()["refused"] if owner == "program" else nodes[owner].call(remote_channels.refused))

    before = refused()
    for name in set(nodes) - {owner}:
        for what in (remote_channels.send_all, remote_channels.receive_all, remote_channels.close, remote_channels.error_of):
            channel = owned_by(nodes, owner)
            nodes[owner].call(remote_channels.close, channel) if owner in nodes else channel.close()
            if what is remote_channels.send_all:
                with pytest.raises(ramet.ClosedError):
                    nodes[name].call(what, channel, list(range(30)))
            elif what is remote_channels.error_of:
                assert nodes[name].call(what, channel, "receive") == "ClosedError" == nodes[name].call(what, channel, "send")
            else:
                assert not nodes[name].call(what, channel)
    assert refused() == before


def test_what_never_was_here_is_refused(nodes: dict[str, ramet.Node], monkeypatch: pytest.MonkeyPatch) -> None:
    """Unlike what is over, of which a bounded number is known."""
    tree = tree_of(nodes)
    channel, before = tree.channel(), tree.stats()["refused"]
    channel.close()
    assert nodes["child"].call(remote_channels.forge, 0, channel.number) == "ClosedError"
    garbage: list[Any] = [[0, channel.number, "0" * 32, 1], [1, channel.number, None, 2], [2, channel.number, "", 0],
                          [0, channel.number + 1_000_000, channel.token, 1], [0, channel.number, channel.token, 2],
                          [1, channel.number, channel.token, [b"x"]], [9, channel.number, channel.token, 0], [0, None, None, 1]]
    for body in garbage:
        nodes["child"].call(remote_channels.send_raw, 0, body)
    assert tree.stats()["refused"] == before + 1 + len(garbage)
    monkeypatch.setattr(channels, "OVER_MAX", 3)
    with ramet.Tree() as other:
        for _ in range(9):
            other.channel().close()
        assert len(other._channels.over) == 3 == len(other._channels.order)


def test_code_does_not_travel(nodes: dict[str, ramet.Node]) -> None:
    channel = tree_of(nodes).channel()
    with pytest.raises(ramet.ValueNotPortableError, match="item"):
        channel.send(lambda: 1)
    with pytest.raises(ValueError, match="size"):
        tree_of(nodes).channel(0)


def test_closing_over_there(nodes: dict[str, ramet.Node]) -> None:
    channel = tree_of(nodes).channel()
    nodes["grandchild"].call(remote_channels.send_all, channel, [1, 2])
    nodes["grandchild"].call(remote_channels.close, channel)
    assert list(channel) == [1, 2]
    with pytest.raises(ramet.ClosedError):
        channel.send(3)
    for name in ("child", "grandchild"):
        for what in ("send", "receive"):
            assert nodes[name].call(remote_channels.error_of, channel, what) == "ClosedError"


@pytest.mark.parametrize("owner", OWNERS)
def test_sending_from_coroutines(nodes: dict[str, ramet.Node], owner: str) -> None:
    """Many at once, and a thread beside them: nothing is lost, nothing blocks the loop, and who is cancelled hasn't sent."""
    channel = owned_by(nodes, owner, 3)
    looked = 0

    async def send(first: int) -> None:
        for n in range(first, first + 200):
            await channel.asend(n)

    async def main() -> list[int]:
        nonlocal looked
        full = 0
        while full < 2000:
            try:
                await asyncio.wait_for(channel.asend(-1), 0.2)
            except asyncio.TimeoutError:
                break       # it is full, and what is under way, too
            full += 1
        reading = nodes["sibling"].start(remote_channels.receive, channel, full + 1000)
        tasks = [asyncio.create_task(send(first)) for first in (0, 1000, 2000, 3000)]
        thread = threading.Thread(target=lambda: [channel.send(n) for n in range(4000, 4200)])
        thread.start()
        while not all(task.done() for task in tasks):
            looked += 1
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        while thread.is_alive():
            await asyncio.sleep(0)
        return [n for n in await reading if n >= 0]

    got = asyncio.run(main())
    assert sorted(got) == [n for first in range(0, 5000, 1000) for n in range(first, first + 200)] and looked
    for first in range(0, 5000, 1000):
        mine = [n for n in got if n // 1000 == first // 1000]
        assert mine == sorted(mine), "each one's are in order"
    channel.close()

    async def late() -> None:
        with pytest.raises(ramet.ClosedError):
            for _ in range(2000):
                await channel.asend(1)
    asyncio.run(late())


@pytest.mark.parametrize("owner", ["program", "child"])
def test_waits_that_are_given_up_leave_nothing(nodes: dict[str, ramet.Node], owner: str) -> None:
    """`asyncio.wait_for` in a loop: something was kept of each, as long as nothing came."""
    async def give_up(wait: Any) -> None:
        async def begin() -> None:
            await wait()
        for _ in range(300):
            task = asyncio.create_task(begin())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    async def main() -> None:
        channel: Any = owned_by(nodes, owner, 1)
        await give_up(channel.__anext__)
        end = channel._end
        assert len(end.callbacks if owner == "program" else end.reader.intake.callbacks) < 10
        while True:
            try:
                await asyncio.wait_for(channel.asend(1), 0.1)
            except asyncio.TimeoutError:
                break
        await give_up(lambda: channel.asend(2))
        assert len(end.offering if owner == "program" else end.feed.waiting) < 10
        assert await channel.__anext__() == 1
    asyncio.run(main())


def test_a_one_way_tree() -> None:
    """Through the program, and up and down, all goes; between branches nothing does, and whoever tries is told."""
    with ramet.Tree(one_way=True) as tree:
        one, other = tree.local(), tree.local()
        below = one.local()
        ours, theirs = tree.channel(), one.call(remote_channels.make)
        sending = below.start(remote_channels.send_all, ours, list(range(300)))
        assert other.call(remote_channels.receive, ours, 300) == list(range(300)), "from branch to branch by the program's"
        assert sending.result(60) == "sent"
        assert below.call(remote_channels.send_all, theirs, [1, 2]) == "sent"
        assert one.call(remote_channels.receive, theirs, 1) == [1] and theirs.receive(timeout=60) == 2
        for what in "send", "receive":
            assert other.call(remote_channels.error_of, theirs, what) == "NodeLostError", what
        assert list(below.stream(range, 3)) == [0, 1, 2] and below.call(sum, iter(range(4))) == 6
        assert other.call(remote.add, 1) == 1


@pytest.mark.parametrize("way", ["receive", "iterate", "send"])
def test_a_tree_that_is_closed_closes_its_channels(way: str) -> None:
    """Who waited for an item, or for room, waited for ever."""
    found: list[object] = []
    with ramet.Tree() as tree:
        channel = tree.channel(1)
        held = tree._channels.held[channel.number]
        if way == "send":
            channel.send("fills it")

        def wait() -> None:
            try:
                found.append(list(channel) if way == "iterate" else channel.receive() if way == "receive" else channel.send(1))
            except ramet.ClosedError as error:
                found.append(type(error))
        thread = threading.Thread(target=wait)
        thread.start()
        until(lambda: held.waiting, "it doesn't wait")
    until(lambda: found, "it waits on")
    thread.join()
    assert found == [[] if way == "iterate" else ramet.ClosedError]
