"""Services without a tree: who is admitted, who waits, and that each request is answered once."""
from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ramet.kernel import askers, compat, requests, services, streams, values
from ramet.kernel.core import CANCEL, Message
from ramet.kernel.frames import ERROR
from ramet.kernel.proxies import SERVICE
from ramet.kernel.routing import Routes
from support.eventually import HANGS_S, until


class Core:
    """Collects replies."""

    def __init__(self) -> None:
        self.id = 7
        self.routes = Routes(7, (3, 0))
        self.routes.parent = "up"
        self.routes.down = {8: "down"}
        self.handlers: dict[int, Any] = {}
        self.pending: dict[int, Any] = {}
        self.handles = itertools.count(1000)
        self.threads = threading.local()
        self.descendants = True
        self.replies: dict[int, list[Any]] = {}
        self.changed = threading.Condition()

    def reply(self, message: Message, chunks: Any, flags: int = 0) -> None:
        with self.changed:
            value = values.decode(b"".join(chunks))
            self.replies.setdefault(message.reply_to, []).append(value["text"] if flags & ERROR else value[0])
            self.changed.notify_all()

    def wait(self, count: int) -> dict[int, list[Any]]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.replies) >= count, HANGS_S), self.replies
            return self.replies


class Thing:
    """Tells who ran, and can be held up."""

    def __init__(self) -> None:
        self.ran: list[Any] = []
        self.gate = threading.Event()

    def run(self, tag: Any) -> Any:
        self.ran.append(tag)
        return tag

    def hold(self, tag: Any) -> Any:
        self.ran.append(tag)
        assert self.gate.wait(HANGS_S)
        return tag


@pytest.fixture
def core() -> Core:
    return Core()


@pytest.fixture
def ours(core: Core) -> Iterator[services.Services]:
    made = services.of(core, lambda id: values.Context())  # type: ignore[arg-type]
    yield made
    made.close()
    for thread in threading.enumerate():
        if thread.name == "ramet-service":
            thread.join(HANGS_S)


def ask(ours: services.Services, number: int, *request: Any, src: int = 0, authority: int | None = None,
        **options: Any) -> None:
    body = b"".join(values.encode([*request[:2], list(request[2:]), {}, options]))
    ours.arrive(Message(src, src if authority is None else authority, services.SERVICE, number, 0, "up", body))


@pytest.mark.parametrize(("allow", "src", "authority", "admitted"), [
    ("ancestors", 0, 0, True), ("ancestors", 3, 3, True), ("ancestors", 8, 8, False), ("ancestors", 4, 4, False),
    ("subtree", 8, 8, True), ("subtree", 0, 0, False), ("subtree", 4, 4, False), ("anyone", 4, 4, True),
    (4, 4, 4, True), (4, 5, 5, False), (["subtree", 4], 8, 8, True), (["subtree", 4], 4, 4, True), ([4, 5], 3, 3, False),
    (4, 4, 5, False), (4, 5, 4, False),
])
def test_who_is_admitted(core: Core, ours: services.Services, allow: Any, src: int, authority: int, admitted: bool) -> None:
    thing = Thing()
    ours.add("t", thing, allow)
    ask(ours, 1, "t", "run", 5, src=src, authority=authority)
    said = core.wait(1)[1]
    assert thing.ran == ([5] if admitted else [])
    assert said == [5] if admitted else "no service" in said[0]


def test_a_stream_that_ends_before_its_number_is_told_is_answered(
        core: Core, ours: services.Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its asker had gone, so its thread ended it at once; who began it stumbled over that: a thread and its place were lost."""
    fake: Any = core
    fake.send = lambda *_: True
    fake.loop = SimpleNamespace(now=lambda: 0.0, call_later=lambda *_: None)
    thing = Thing()
    ours.add("t", SimpleIterators(thing), "anyone", threads=1)
    stream = requests.Request.stream

    def slowly(request: requests.Request, iterator: Any) -> int:
        number = stream(request, iterator)
        until(lambda: not ours.streams, "the stream doesn't end")
        return number
    monkeypatch.setattr(requests.Request, "stream", slowly)
    ask(ours, 1, "t", "items", 1, src=4)
    until(lambda: thing.ran, "it doesn't begin")
    ours.give_up((4, 1))
    thing.gate.set()
    ask(ours, 2, "t", "count", 1, src=4)
    assert core.wait(2)[2] == [1]
    until(lambda: ours.idle == ours.threads, "a thread is lost")
    assert not ours.running and not ours.served["t"].running


class SimpleIterators:
    """What one of its methods returns comes as a stream."""

    def __init__(self, thing: Thing) -> None:
        self.thing = thing

    def items(self, tag: Any) -> Any:
        return iter([self.thing.hold(tag)])

    def count(self, tag: Any) -> Any:
        return tag


def test_senders_take_turns(core: Core, ours: services.Services) -> None:
    """One that asks a hundred times doesn't keep another one waiting: with one thread, the latter is the second to be run."""
    thing = Thing()
    ours.add("t", thing, "anyone", threads=1)
    ours.threads = services.THREADS_MAX - 1     # room for one thread
    ask(ours, 1, "t", "hold", "first", src=4)
    until(lambda: thing.ran, "it doesn't begin")
    for n in range(100):
        ask(ours, 10 + n, "t", "run", n, src=4)
    ask(ours, 200, "t", "run", "other", src=5)
    thing.gate.set()
    core.wait(102)
    assert thing.ran.index("other") <= 3
    ours.threads -= services.THREADS_MAX - 1


@pytest.mark.parametrize("request_", [["u", "run", 1], ["t", None], ["t", "nothing"]])
def test_what_is_given_up_while_it_is_read_is_answered_once(core: Core, ours: services.Services, request_: list[Any]) -> None:
    """Who read it answered, too: a second time it was taken from its sender's account, or a thread stumbled over that."""
    thing = Thing()
    ours.add("t", thing, "anyone")

    class Codec:
        encode = staticmethod(values.encode)

        @staticmethod
        def decode(body: Any, context: Any = None) -> Any:
            ours.give_up((4, 1))
            return values.decode(body, context)
    ours.codec = Codec
    ask(ours, 1, *request_, src=4)
    until(lambda: ours.idle, "the thread is lost")
    ask(ours, 2, "t", "run", 5, src=4)
    assert core.wait(2) == {1: ["cancelled before it began"], 2: [5]}
    until(lambda: ours.idle == ours.threads == 1, "a thread is lost")
    assert not ours.loads and not ours.bytes


def test_a_chain_that_comes_before_a_thread_looks_at_the_request_is_heard(core: Core, ours: services.Services) -> None:
    """It was lost: one circle of twenty behind started calls hung, under load."""
    chains: list[Any] = []

    class Chained:
        def note(self) -> None:
            chains.append(core.threads.job.chain[:-1])
    ours.add("t", Chained(), "anyone")
    ours.threads = services.THREADS_MAX     # no room for a thread: nobody looks at it
    ask(ours, 1, "t", "note", src=4)
    ask(ours, 2, "t", "note", src=4)
    body = b"".join(values.encode([1, [[4, 0, ""]]]))
    ours.on_cancel(Message(4, 4, CANCEL, 0, 0, "up", body))
    assert ours.told
    ours.threads = services.THREADS_MAX - 1
    ask(ours, 3, "t", "note", src=4)
    assert core.wait(3) == {1: [None], 2: [None], 3: [None]}
    assert sorted(chains) == [[], [], [[4, 0, ""]]] and not ours.told


@pytest.mark.parametrize(
    "chain", ["x" * 1000, [[1, 2, "l"]] * 101, [[1, 1 << 40, "l"]], [[-1, 1, "l"]], [[1, 2, "l" * 2000]]], ids=range(5))
def test_a_chain_that_is_none_isnt_kept_until_a_thread_looks_at_the_request(
        ours: services.Services, chain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "_work", lambda: None)
    ours.add("t", Thing(), "anyone")
    ask(ours, 1, "t", "run", 1)
    for said, kept in (chain, []), ([[1, 2, "l"]], [[1, 2, "l"]]):
        ours.on_cancel(Message(0, 0, CANCEL, 0, 0, None, b"".join(values.encode([1, said]))))
        assert ours.told == {(0, 1): kept}


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 1e300, 10 ** 400, 0, -1, True, "5"], ids=range(8))
def test_no_time_that_no_timer_takes(seconds: Any) -> None:
    assert requests.checked({"timeout": seconds}) == {}
    assert requests.checked({"timeout": 5}) == {"timeout": 5}


def test_a_stream_that_isnt_begun_takes_no_place(core: Core, ours: services.Services) -> None:
    """Each such request took one of 256 for good."""
    thing = Thing()

    class Streaming:
        def items(self, tag: Any) -> Any:
            return iter([thing.hold(tag)])

        async def later(self) -> Any:
            yield 1     # there is no event loop for it
    ours.add("t", Streaming(), "anyone", loop=lambda: raise_it(OSError("no loop")), shared=["items"])
    ask(ours, 1, "t", "items", 1, src=4)
    ask(ours, 2, "t", "items", 1, src=5)
    until(lambda: len(ours.asked) == 2 and ours.idle, "they don't wait for one another")
    thing.gate.set()
    ask(ours, 3, "t", "later", src=4)
    core.wait(3)
    assert not ours.streams


def raise_it(error: Exception) -> Any:
    raise error


def test_every_request_is_answered_once(core: Core, ours: services.Services) -> None:
    thing = Thing()
    ours.add("t", thing, "anyone", threads=3, shared=["hold"], lanes={"run": "a"})
    for n in range(60):
        ask(ours, n, "t", "hold" if n % 3 else "run", n % 7, src=n % 5)
    ask(ours, 100, "t", "nothing")
    ask(ours, 101, "u", "run", 1)
    ours.arrive(Message(0, 0, services.SERVICE, 102, 0, "up", b"\xc1"))
    ours.arrive(Message(0, 0, services.SERVICE, 103, 0, "up", b"".join(values.encode([1, [2], 3]))))
    ask(ours, 104, "t", ["run"], 3)
    ask(ours, 105, ["t"], "run", 3)
    thing.gate.set()
    found = core.wait(66)
    assert all(len(said) == 1 for said in found.values())
    assert [found[n][0] for n in range(60)] == [n % 7 for n in range(60)]
    assert not ours.loads and not ours.bytes and not ours.waiting and not ours.asked and not ours.running
    assert not core.pending and not ours.watches, "who has nothing left to wait for needn't be watched"


def test_what_waits_is_refused_when_the_service_is_withdrawn(core: Core, ours: services.Services) -> None:
    thing = Thing()
    ours.add("t", thing, "anyone", threads=1, shared=["hold"])
    for n in range(10):
        ask(ours, n, "t", "hold", n % 2)
    until(lambda: sum(len(request.askers) for request in list(ours.served["t"].twins.values())) == 10, "not all of them wait")
    ours.remove("t")
    refused = {n: said for n, said in core.wait(5).items() if "no service" in str(said)}
    assert len(refused) == 5
    thing.gate.set()
    assert len(core.wait(10)) == 10 and thing.ran in ([0], [1])


def test_too_much_of_one_sender_is_refused_and_others_are_not(core: Core, ours: services.Services) -> None:
    thing = Thing()
    ours.add("t", thing, "anyone", threads=2)
    for n in range(askers.REQUESTS_MAX + 20):
        ask(ours, n, "t", "hold", n, src=4)
    until(lambda: len(thing.ran) == 2, "its threads aren't taken")      # else what comes next may be run before it is refused
    assert len([1 for said in core.wait(20).values() if "too many" in said[0]]) == 20
    ask(ours, 1000, "t", "run", "x" * askers.BYTES_MAX, src=5)        # one alone may be as large as it likes
    ask(ours, 1001, "t", "run", 1, src=5)
    assert "too many" in core.wait(21)[1001][0]
    thing.gate.set()
    core.wait(askers.REQUESTS_MAX + 22)


def test_two_requests_that_want_one_answer_are_no_account_that_stays(core: Core, ours: services.Services) -> None:
    """Eight nodes that did so left room for no request of anybody."""
    thing = Thing()
    ours.add("t", thing, "anyone")
    ask(ours, 7, "t", "hold", 1, src=5)
    until(lambda: thing.ran, "it doesn't run")
    ask(ours, 7, "t", "run", "x" * 1_000_000, src=5)
    thing.gate.set()
    until(lambda: not ours.loads and not ours.asked, "they are counted for ever")
    assert ours.bytes == 0 and thing.ran == [1] and len(core.replies[7]) == 2


@pytest.mark.parametrize("allow, src, longest", [
    ("anyone", 4, 1 << 30), ("subtree", 8, 1 << 30), ("subtree", 4, askers.BYTES_MAX), (8, 4, askers.BYTES_MAX)])
def test_how_long_requests_may_be(ours: services.Services, allow: Any, src: int, longest: int) -> None:
    assert ours.long_max(src, SERVICE) == askers.BYTES_MAX
    ours.add("t", Thing(), allow)
    assert (ours.long_max(src, SERVICE), ours.long_max(src, CANCEL)) == (longest, 0)


@pytest.mark.parametrize("options", [{"methods": ["_x"]}, {"methods": ["no"]}, {"shared": ["no"]}, {"lanes": {"no": "a"}},
                                     {"threads": 0}, {"threads": 99}])
def test_wrong_options(ours: services.Services, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no|threads"):
        ours.add("t", Thing(), "anyone", **options)
    for allow in "everybody", [], ["anyone", None]:
        with pytest.raises(ValueError, match="allow must be"):
            ours.add("t", Thing(), allow)


def no_room(*_: Any) -> None:
    raise RuntimeError("can't start new thread")


def test_without_room_for_a_thread_who_asks_is_told(
        core: Core, ours: services.Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that couldn't be started counted as one that runs: after sixteen of them nobody was answered any more."""
    ours.add("t", Thing(), "anyone")
    with monkeypatch.context() as patched:
        patched.setattr(ours, "_thread", no_room)
        for number in range(1, 21):
            ask(ours, number, "t", "run", number, src=4)
            assert "can't start a thread: can't start new thread" in core.replies[number][0]
    assert not ours.threads and not ours.loads and not ours.asked and not ours.queued and not ours.waiting and not ours.turns
    ask(ours, 21, "t", "run", 5, src=4)
    assert core.wait(21)[21] == [5]


def test_without_room_for_another_thread_those_that_there_are_do(
        core: Core, ours: services.Services, monkeypatch: pytest.MonkeyPatch) -> None:
    thing = Thing()
    ours.add("t", thing, "anyone", threads=1)
    ask(ours, 1, "t", "hold", 1, src=4)
    until(lambda: thing.ran, "it doesn't begin")
    with monkeypatch.context() as patched:
        patched.setattr(ours, "_thread", no_room)
        ask(ours, 2, "t", "run", 2, src=4)
    assert ours.threads == 1 and not core.replies
    thing.gate.set()
    assert core.wait(2) == {1: [1], 2: [2]}


def test_what_waited_for_a_streams_lane_is_refused_without_room_for_a_thread(
        core: Core, ours: services.Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was never answered, and its place in the service was taken for good."""
    fake: Any = core
    fake.send = lambda *_: True
    fake.loop = SimpleNamespace(now=lambda: 0.0, call_later=lambda *_: None)
    thing = Thing()
    served = ours.add("t", SimpleIterators(thing), "anyone", threads=1, lanes={"items": "one", "count": "one"})
    ask(ours, 1, "t", "items", 1, src=4)
    until(lambda: thing.ran, "it doesn't begin")
    for number in 2, 3:
        ask(ours, number, "t", "count", number, src=4)
    until(lambda: len(served.busy.get("one", ())) == 2, "they don't wait")
    start = ours._thread
    monkeypatch.setattr(ours, "_thread", lambda target, *args: no_room() if target == ours._go_on else start(target, *args))
    thing.gate.set()
    core.wait(1)
    ours.give_up((4, 1))
    said = core.wait(3)
    assert all("can't start a thread" in said[number][0] for number in (2, 3))
    until(lambda: not ours.running and not served.running and not ours.loads, "a place is lost")


def test_a_stream_that_gets_no_thread_fails(core: Core, ours: services.Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who had asked for its first item waited for ever."""
    fake: Any = core
    sent: list[Any] = []
    fake.send = lambda *message: sent.append(message) or True
    fake.loop = SimpleNamespace(now=lambda: 0.0, call_later=lambda *_: None)
    thing = Thing()
    thing.gate.set()
    ours.add("t", SimpleIterators(thing), "anyone", threads=1)
    ask(ours, 1, "t", "items", 1, src=4)
    core.wait(1)
    feed, = streams.of(fake).feeds.values()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_room)
        feed.granted(0, 0, 1000, 10)
    assert feed.stopped and streams.HEAD.unpack_from(b"".join(sent[-1][2]))[-1] & streams.FAILS
    until(lambda: not ours.running and not ours.loads and not ours.streams, "a place is lost")


def test_requests_of_a_lane_keep_their_order_though_the_first_takes_longer_to_read(
        core: Core, ours: services.Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is read by a thread of its own: the one that was read first began first."""
    thing = Thing()
    ours.add("t", thing, "anyone", lanes={"run": "a"})
    decode, second = values.decode, threading.Event()

    def reading(body: bytes, context: Any) -> Any:
        asked = decode(body, context)
        if asked[2] == ["first"]:
            assert second.wait(HANGS_S)
            until(lambda: thing.ran or ours.next_one._waiters, "the second isn't looked at")  # type: ignore[attr-defined]
        elif asked[2] == ["second"]:
            second.set()
        return asked
    monkeypatch.setattr(ours, "codec", SimpleNamespace(decode=reading, encode=values.encode))
    for number, tag in enumerate(["first", "second", "third"], 1):
        ask(ours, number, "t", "run", tag, src=4)
    assert core.wait(3) == {1: ["first"], 2: ["second"], 3: ["third"]}
    assert thing.ran == ["first", "second", "third"]
    until(lambda: not ours.looked_at, "it is still being looked at")


def test_a_shared_request_doesnt_have_the_time_of_who_asked_first(core: Core, ours: services.Services) -> None:
    """What it called for him had no more; another one, who had all the time, got his CallTimeout."""
    thing = Thing()
    ours.add("t", thing, "anyone", threads=2, shared=["hold"])
    ask(ours, 1, "t", "hold", 1, src=4, timeout=HANGS_S)
    ask(ours, 2, "t", "hold", 1, src=5)
    ask(ours, 3, "t", "run", 3, src=4, timeout=HANGS_S)     # not one of these
    until(lambda: len(ours.asked) == 2 and isinstance(ours.asked.get((5, 2)), requests.Request), "they don't wait")
    assert ours.asked[5, 2] is ours.asked[4, 1] and ours.asked[5, 2].left() is None
    thing.gate.set()
    assert core.wait(3) == {1: [1], 2: [1], 3: [3]}


def test_who_asks_is_answered_when_there_is_memory_again(
        core: Core, ours: services.Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """He waited for ever, and so did all behind him in that lane; and the thread was lost."""
    thing = Thing()
    ours.add("t", thing, "anyone", lanes={"hold": "a"})
    ask(ours, 1, "t", "hold", 1, src=4)
    until(lambda: thing.ran, "it doesn't begin")
    ask(ours, 2, "t", "hold", 2, src=4)
    until(lambda: ours.served["t"].busy["a"], "it doesn't wait")
    left, reply = [1, 2], core.reply

    def scarcely(message: Message, chunks: Any, flags: int = 0) -> None:
        if left:
            left.pop()
            raise MemoryError("for now")
        reply(message, chunks, flags)
    monkeypatch.setattr(core, "reply", scarcely)
    core.loop = SimpleNamespace(call_later=lambda _, fn, *args: compat.start_thread(fn, args))  # type: ignore[attr-defined]
    thing.gate.set()
    said = core.wait(2)
    assert "for now" in said[1][0] and said[2] == [2]
    until(lambda: ours.idle == ours.threads, "a thread is lost")
