"""Services: objects of one node whose methods others call, as far as a policy admits them; on every Python."""
from __future__ import annotations

import asyncio
import functools
import inspect
from typing import Any

import pytest

import ramet
from support import needs, pythons, remote, remote_services
from support.eventually import HANGS_S, until
from support.remote_service_async import OneByOne
from support.remote_services import Shelf


@pytest.mark.parametrize("python", pythons.labels([label for label, _ in pythons.interpreters()]))
def test_methods_of_an_object_over_there(tree: ramet.Tree, python: str) -> None:
    node = tree.local(python=needs.python(python))
    shelf = node.serve("shelf", Shelf, allow="anyone")
    assert shelf.find("tea") == 3 and shelf.find("x", otherwise=[1]) == [1]
    shelf.put("milk", 2)
    assert node.service("shelf").find("milk") == 2
    with pytest.raises(KeyError, match="why"):
        shelf.fail("why")
    with pytest.raises(ramet.ValueNotPortableError, match="result"):
        shelf.unportable()
    with pytest.raises(ramet.RemoteError, match="enough"):
        shelf.exit()
    for name in "_private", "things", "missing":
        if name[0] != "_":
            with pytest.raises(ramet.ServiceError, match="no method"):
                getattr(shelf, name)()
    with pytest.raises(AttributeError):
        shelf._private()
    assert {"find", "put"} <= set(dir(shelf)) and "_private" not in dir(shelf)
    assert shelf.find.__doc__ == "How many there are."
    other = tree.local()
    assert other.call(remote_services.ask, node.id, "shelf", "find", "tea") == 3, "a sibling"
    names, doc, _ = other.call(remote_services.looks, node.id, "shelf")
    assert "find" in names and doc == "How many there are."
    node.withdraw("shelf")
    with pytest.raises(ramet.ServiceError, match="no service 'shelf'"):
        shelf.find("tea")


@pytest.mark.parametrize("size", [70_000, 200_000, 3_000_000])
def test_large_arguments_and_results(tree: ramet.Tree, size: int) -> None:
    """A long message's flags aren't those of an error or a loss."""
    shelf = tree.local().serve("shelf", Shelf, allow="anyone")
    for value in (b"x" * size, ["y" * size, {"z": b"z" * size}, 1]):
        shelf.put("large", value)
        assert shelf.find("large") == value


def test_signatures_are_those_over_there(tree: ramet.Tree) -> None:
    shelf = tree.local().serve("shelf", functools.partial(remote_services.stocked, 7), allow="ancestors", methods=["find"])
    assert str(inspect.signature(shelf.find)) == "(name, otherwise=None)" and shelf.find("tea") == 7
    with pytest.raises(ramet.ServiceError, match="no method 'put'"):
        shelf.put("tea", 1)


def test_a_node_that_serves_nothing(tree: ramet.Tree) -> None:
    node = tree.local()
    with pytest.raises(ramet.ServiceError, match="serves nothing"):
        node.service("x").find()
    assert "ServiceError" in tree.local().call(remote_services.try_asking, node.id, "x", "find")
    assert "has no services" in node.call(remote_services.try_asking, node.id, "x", "find"), "of its own, it was a KeyError"


def test_who_is_admitted(tree: ramet.Tree) -> None:
    server, other = tree.local(), tree.local()
    child = server.local()
    ids = {"other": other, "child": child}
    for allow, admitted in ({"ancestors": ["us"], "subtree": ["child"], "anyone": ["us", "child", "other"],
                             other: ["other"], ("subtree", other): ["child", "other"]}).items():
        name = f"for {allow}"
        server.serve(name, Shelf, allow=allow)
        for who, node in ids.items():
            said = node.call(remote_services.try_asking, server.id, name, "find", "tea")
            assert (said == 3) == (who in admitted), (allow, who, said)
            assert said == 3 or "no service" in said, "it shouldn't learn that there is one"
        if "us" in admitted:
            assert server.service(name).find("tea") == 3
        else:
            with pytest.raises(ramet.ServiceError, match="no service"):
                server.service(name).find("tea")
    with pytest.raises(ValueError, match="allow must be"):
        server.serve("x", Shelf, allow="everybody")
    with pytest.raises(ValueError, match="already"):
        server.serve("for anyone", Shelf, allow="anyone")


def test_the_program_serves_its_nodes(tree: ramet.Tree) -> None:
    shelf = Shelf()
    tree.serve("shelf", shelf, allow="subtree")
    node = tree.local(python=needs.python("3.9")).local()
    assert node.call(remote_services.try_asking_the_controller, "shelf", "find", "tea") == 3
    node.call(remote_services.try_asking_the_controller, "shelf", "put", "tea", 9)
    assert shelf.things["tea"] == 9
    assert "ServiceError" in node.call(remote_services.try_asking_the_controller, "shelf", "_private")
    assert "ServiceError" in node.call(remote_services.try_asking_the_controller, "other", "find")
    tree.withdraw("shelf")
    assert "no service" in node.call(remote_services.try_asking_the_controller, "shelf", "find", "tea")
    with pytest.raises(ValueError, match="threads"):
        tree.serve("y", shelf, allow="subtree", threads=0)


def test_a_coroutine_that_its_loop_never_began(tree: ramet.Tree) -> None:
    """The loop is closed just then: who asked waited for ever, and one thread of the service's did."""
    class Later:
        async def find(self) -> int:
            return 1

    async def serve() -> None:
        tree.serve("later", Later(), allow="subtree")
    loop: Any = asyncio.new_event_loop()
    loop.run_until_complete(serve())
    call = tree.local().start(remote_services.try_asking_the_controller, "later", "find")
    until(lambda: loop._ready, "nothing comes")
    loop.close()
    assert "the event loop of this service is closed" in call.result(HANGS_S)


def test_a_cancelled_coroutine_whose_loop_does_not_run(tree: ramet.Tree) -> None:
    """The thread that waited for it did so until the loop ran again: the service answered nobody when none was left."""
    class Later:
        async def find(self) -> int:
            return 1

    async def serve() -> None:
        tree.serve("later", Later(), allow="subtree", threads=1)
    loop: Any = asyncio.new_event_loop()
    loop.run_until_complete(serve())
    node = tree.local()
    for count in 1, 2:
        call = node.start(remote_services.try_asking_the_controller, "later", "find")
        until(lambda count=count: len(loop._ready) == count, "it waits for the thread of the one before")
        call.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_a_lane_is_free_when_a_cancelled_coroutine_has_come_to_its_end(tree: ramet.Tree) -> None:
    """While it cleaned up the next one of its lane ran beside it."""
    node = tree.local()
    shelf = node.serve("one", OneByOne, allow="anyone", lanes={"work": "one"})
    first = shelf.work.start()
    until(lambda: shelf.seen()[0], "it doesn't begin")
    second = shelf.work.start()
    first.cancel()
    until(lambda: shelf.seen()[1], "it isn't cancelled")
    shelf.go_on()
    until(lambda: shelf.seen()[0] == 2, "the next one doesn't begin")
    shelf.go_on()
    second.cancel()
    assert shelf.seen()[2] == 1


def test_equal_requests_run_once(tree: ramet.Tree) -> None:
    node = tree.local()
    shelf = node.serve("shelf", Shelf, allow="anyone", shared=["slow"])
    calls = [shelf.slow.start(1) for _ in range(20)]
    while not shelf.running():
        pass
    node.call(remote_services.open_gate)
    assert [call.result(HANGS_S) for call in calls] == [1] * 20
    assert shelf.running() == 1
    assert shelf.slow(1) == 2, "what comes after it has ended runs anew"


def test_requests_of_one_lane_run_in_order_and_others_beside(tree: ramet.Tree) -> None:
    node = tree.local()
    shelf = node.serve("shelf", Shelf, allow="anyone", lanes={"ordered": "a"}, threads=4)
    calls = [shelf.ordered.start(n) for n in range(10)]
    for call in calls:
        call.result(HANGS_S)
    assert shelf.what_ran() == [(what, n) for n in range(10) for what in ("begin", "end")]


def test_a_service_that_is_busy_holds_up_nobody_else(tree: ramet.Tree) -> None:
    node = tree.local()
    busy = node.serve("busy", Shelf, allow="anyone", threads=2)
    free = node.serve("free", Shelf, allow="anyone")
    calls = [busy.slow.start(n) for n in range(50)]
    while free.running() < 2:
        pass
    assert free.find("tea") == 3 and free.running() == 2 and node.call(remote.add, 1) == 1
    node.call(remote_services.open_gate)
    assert sorted(call.result(HANGS_S) for call in calls)[-1] == 50


def test_who_asks_too_much_is_told_so(tree: ramet.Tree) -> None:
    node = tree.local()
    shelf = node.serve("shelf", Shelf, allow="anyone", threads=1)
    calls = [shelf.slow.start(n) for n in range(400)]
    errors = [call.exception(HANGS_S) for call in calls[256:]]
    assert all(isinstance(error, ramet.ServiceError) and "too many" in str(error) for error in errors)
    node.call(remote_services.open_gate)
    assert all(call.exception(HANGS_S) is None for call in calls[:256])


def test_a_server_that_is_lost(tree: ramet.Tree) -> None:
    node, other = tree.local(), tree.local()
    shelf = node.serve("shelf", Shelf, allow="anyone")
    call = shelf.slow.start(1)
    waiting = other.start(remote_services.try_asking, node.id, "shelf", "slow", 2)
    while shelf.running() < 2:
        pass
    node.kill()
    with pytest.raises(ramet.Error):
        call.result(HANGS_S)
    assert waiting.result(HANGS_S).startswith("NodeLostError")


def test_a_one_way_tree() -> None:
    with ramet.Tree(one_way=True) as tree:
        server, other = tree.local(), tree.local()
        middle = tree.local()
        below, beside = middle.local(), middle.local()
        server.serve("shelf", Shelf, allow="anyone")
        below.serve("shelf", Shelf, allow="anyone")
        assert "NodeLostError" in other.call(remote_services.try_asking, server.id, "shelf", "find", "tea")
        assert "NodeLostError" in beside.call(remote_services.try_asking, below.id, "shelf", "find", "tea")
        assert middle.call(remote_services.ask, below.id, "shelf", "find", "tea") == 3
        assert server.service("shelf").find("tea") == 3 and below.call(remote.add, 1) == 1


def test_requests_are_awaited(tree: ramet.Tree) -> None:
    async def main() -> list[Any]:
        shelf = tree.local().serve("shelf", Shelf, allow="ancestors")
        return list(await asyncio.gather(*(shelf.find.start("tea") for _ in range(30))))

    assert asyncio.run(main()) == [3] * 30


def test_a_timeout_frees_who_asked(tree: ramet.Tree) -> None:
    node = tree.local()
    node.serve("shelf", Shelf, allow="anyone")
    with pytest.raises(ramet.CallTimeout):
        node.options(timeout=0.2).service("shelf").slow(1)
    node.call(remote_services.open_gate)
    assert node.service("shelf").find("tea") == 3
