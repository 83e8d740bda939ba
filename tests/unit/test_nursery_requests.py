"""Requests for modules at a node on the way: asked once, answered to all, bounded; without a link."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ramet.kernel import nursery, relaying, values
from ramet.kernel.core import MODULE_REQUEST, MODULES, Message
from ramet.kernel.frames import DEAD
from ramet.kernel.importer import ModuleCache
from ramet.kernel.routing import Routes

CLOSURE = ["big", "big.part"]


class Hop:
    """Stands for the core of node 1, whose children are 2 and 3. What it sends is kept; the parent answers when told to."""

    def __init__(self) -> None:
        self.id = 1
        self.routes = Routes(1, [0])
        self.handlers: dict[int, Any] = {}
        self.refused = 0
        self.asked: list[tuple[Any, Callable[[int, Any], None]]] = []
        self.told: list[Any] = []
        self.replies: list[tuple[int, Any, int]] = []
        self.descendants = None
        self.cache = ModuleCache()
        self.nursery = nursery.Nursery(self, self.cache, {})  # type: ignore[arg-type]
        self.links = {id: object() for id in (2, 3)}
        for id, link in self.links.items():
            self.nursery.children[id] = nursery.Child(id, f"child-{id}", link)  # type: ignore[arg-type]
            self.nursery.losses.descendants.add(id, link, 1)

    def ask(self, dst: int, handle: int, chunks: Any, callback: Callable[[int, Any], None], flags: int) -> None:
        assert (dst, handle) == (0, MODULE_REQUEST)
        self.asked.append((decoded(chunks), callback))

    def tell(self, dst: int, handle: int, value: Any) -> None:
        assert handle == MODULES
        self.told.append((dst, value))

    def send(self, dst: int, handle: int, chunks: Any, reply_to: int, flags: int) -> None:
        assert (dst, handle, reply_to) == (0, MODULE_REQUEST, 0)
        self.told.append((0, decoded(chunks)))

    def reply(self, message: Message, chunks: Any, flags: int) -> None:
        self.replies.append((message.src, None if flags & DEAD else decoded(chunks), flags & DEAD))

    # ---------------------------------------------------------------- what happens to it

    def request(self, id: int, body: Any, reply_to: int = 1000) -> None:
        raw = body if isinstance(body, bytes) else b"".join(map(bytes, values.encode(body)))
        self.nursery.handle(Message(id, id, MODULE_REQUEST, reply_to, 0, self.links[id], raw))

    def answer(self, value: Any, flags: int = 0) -> None:
        """The parent answers the oldest request; for the first child, with the modules before it."""
        (form, _, target), callback = self.asked.pop(0)
        if value and not flags:
            self.cache.add(form, [[name, 0, "ramet:/" + name, b""] for name in value[0]], {})
            self.nursery.pass_on(target, form, value[0], value[1])
        callback(flags, b"".join(map(bytes, values.encode(value))))

    def records(self, id: int) -> list[str]:
        return [record[0] for dst, told in self.told if dst == id for record in told[3]]


def decoded(chunks: Any) -> Any:
    return values.decode(b"".join(map(bytes, chunks)))


def test_two_children_that_want_the_same_are_one_request() -> None:
    hop = Hop()
    hop.request(2, ["cp311", ["big"], 2])
    hop.request(3, ["cp311", ["big"], 3])
    assert [asked for asked, _ in hop.asked] == [["cp311", ["big"], 2]]
    hop.answer([CLOSURE, {"no": "absent"}])
    assert hop.records(2) == hop.records(3) == CLOSURE
    assert hop.replies == [(2, [CLOSURE, {"no": "absent"}], 0), (3, [CLOSURE, {"no": "absent"}], 0)]
    assert hop.told[-1] == (0, ["cp311", ["big"], 3])      # the controller hears of it
    assert not hop.nursery.modules.asked


def test_who_comes_later_is_answered_at_once_and_gets_nothing_twice() -> None:
    hop = Hop()
    hop.request(2, ["cp311", ["big"], 2])
    hop.answer([CLOSURE, {}])
    hop.request(3, ["cp311", ["big"], 3])
    hop.request(3, ["cp311", ["big"], 3])
    assert not hop.asked and hop.records(3) == CLOSURE and len(hop.replies) == 3
    hop.request(3, ["source", ["big"], 3])     # another form is another thing
    assert [asked for asked, _ in hop.asked] == [["source", ["big"], 3]]


def test_an_answer_for_one_node_only_is_no_answer_for_others() -> None:
    """What strict modules and refusals are: nil."""
    hop = Hop()
    hop.request(2, ["cp311", ["big"], 2])
    hop.request(3, ["cp311", ["big"], 3])
    hop.answer(None)
    assert [asked for asked, _ in hop.asked] == [["cp311", ["big"], 3]] and hop.replies == [(2, None, 0)]
    hop.answer(None)
    assert hop.replies == [(2, None, 0), (3, None, 0)] and not hop.nursery.modules.answers and not hop.nursery.modules.asked
    hop.request(2, ["cp311", ["big"], 2])
    assert len(hop.asked) == 1


def test_modules_that_were_for_a_child_that_is_lost_are_asked_for_again() -> None:
    """Found by the simulator (seed 2117020103): an answer came, but its modules had been for the child that was lost."""
    hop = Hop()
    hop.request(2, ["cp311", ["big"], 2])
    hop.request(3, ["cp311", ["big"], 3])
    _, callback = hop.asked.pop(0)
    callback(0, b"".join(map(bytes, values.encode([CLOSURE, {}]))))
    assert [asked for asked, _ in hop.asked] == [["cp311", ["big"], 3]] and hop.records(3) == []
    hop.answer([CLOSURE, {}])
    assert hop.records(3) == CLOSURE and hop.replies[-1] == (3, [CLOSURE, {}], 0)


def test_a_lost_parent_answers_all() -> None:
    hop = Hop()
    hop.request(2, ["cp311", ["big"], 2])
    hop.request(3, ["cp311", ["big"], 3])
    hop.answer(None, DEAD)
    hop.answer(None, DEAD)
    assert hop.replies == [(2, None, DEAD), (3, None, DEAD)]


def test_what_a_child_answered_itself_is_passed_up_and_not_answered() -> None:
    hop = Hop()
    hop.request(2, ["cp311", ["big"], 2], 0)
    assert hop.told == [(0, ["cp311", ["big"], 2])] and not hop.asked and not hop.replies


def test_a_record_that_is_not_there_any_more_is_asked_for_again() -> None:
    hop = Hop()
    hop.nursery.modules.answers["cp311/big"] = [CLOSURE, {}]
    hop.request(2, ["cp311", ["big"], 2])
    assert len(hop.asked) == 1


@pytest.mark.parametrize("body", [
    b"", b"\xc1", 7, [], ["cp311", ["big"]], ["cp311", "big", 3], ["cp311", [7], 2], [["cp311"], ["big"], 2],
    ["cp311", ["big"], [2]],
    ["cp311", ["big"], 3], ["cp311", ["big"], 1], ["cp311", ["x" * 40_000], 2], {"a": 1}, ["cp311", None, 2],
], ids=repr)  # fmt: skip
def test_odd_requests_are_refused_and_answered(body: Any) -> None:
    hop = Hop()
    hop.request(2, body)
    assert hop.refused == 1 and hop.replies == [(2, None, 0)] and not hop.asked


def test_a_large_request_is_not_even_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading takes the thread that reads for all much longer than its bytes say."""
    hop = Hop()
    decode = values.decode
    monkeypatch.setattr(values, "decode", lambda data: decode(data) if len(data) < 100 else pytest.fail("it is read"))
    hop.request(2, b"\xdd\x00\x00\xff\xf0" + b"\x90" * 0xfff0)
    assert hop.refused == len(hop.replies) == 1 and not hop.asked


def test_what_waits_has_a_bound_in_bytes_however_much_of_it_is_alike() -> None:
    """There were one for the number of different requests, and one for that of each: a million together, of 32 KB."""
    hop = Hop()
    for _ in range(200):
        for key in range(20):
            hop.request(2, ["cp311", [f"m{key}" + "x" * 30_000], 2])
    relay = hop.nursery.modules
    waiting = [message for messages in relay.asked.values() for message in messages]
    assert len(waiting) >= 20 and sum(len(message.body) for message in waiting) <= relaying.WAITING_BYTES_MAX
    assert hop.refused == len(hop.replies) == 4000 - len(waiting)
    for _ in waiting:    # nil: each is asked for by itself
        assert relay.waiting_bytes > 0 and sum(len(asked[1][0]) for asked, _ in hop.asked) <= relaying.WAITING_BYTES_MAX
        hop.answer(None)
    assert not hop.asked and len(hop.replies) == 4000 and relay.waiting_bytes == 0
    hop.request(2, ["cp311", ["big"], 2])
    hop.request(3, ["cp311", ["big"], 3])
    hop.answer([CLOSURE, {}])
    assert relay.waiting_bytes == 0


def test_a_flood_is_answered_at_bounded_cost() -> None:
    hop = Hop()
    for n in range(relaying.WAITING_MAX + 500):
        hop.request(2, ["cp311", [f"name{n}"], 2])
    assert len(hop.asked) == relaying.WAITING_MAX and len(hop.replies) == hop.refused == 500
    while hop.asked:
        hop.answer([[], {"name": "absent"}])
    assert len(hop.nursery.modules.answers) <= relaying.ANSWERS_MAX and not hop.nursery.modules.asked
    again = Hop()
    for _ in range(relaying.WAITING_MAX + 500):
        again.request(2, ["cp311", ["big"], 2])
    assert len(again.asked) == 1 and again.refused == 500
    again.answer([CLOSURE, {}])
    assert len(again.replies) == relaying.WAITING_MAX + 500 and again.records(2) == CLOSURE


def test_a_child_whose_growth_has_just_failed_can_be_ended() -> None:
    """It has neither a growth nor a process any more, and isn't buried yet."""
    closed: list[str] = []

    class Shut:
        def close(self, reason: str) -> None:
            closed.append(reason)

    hop = Hop()
    child = nursery.Child(4, "child-4", Shut())  # type: ignore[arg-type]
    hop.nursery._end(child)
    assert closed == ["it was closed"]
