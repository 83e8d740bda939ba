"""A thousand calls of all kinds at a time over twenty nodes, cancelled at random: nothing is lost, nothing is left.

Short in `make test`. Longer: RAMET_STRESS_S=60 RAMET_STRESS_NODES=20 RAMET_STRESS_CALLS=1000 pytest tests/stress, which is
`make stress`.
"""
from __future__ import annotations

import asyncio
import collections
import os
import random
import threading
import time
from typing import Any

import ramet
from support import remote_stress, remote_stress_async
from support.eventually import until

SECONDS = float(os.environ.get("RAMET_STRESS_S", "4"))
NODES = int(os.environ.get("RAMET_STRESS_NODES", "4"))
CALLS = int(os.environ.get("RAMET_STRESS_CALLS", "100"))
LANES = (None, None, ramet.ANY, "one", "two")

Counts = collections.Counter[str]


def begin(node: ramet.Node, number: int, rng: random.Random) -> ramet.Call[Any]:
    view = node.options(lane=rng.choice(LANES), timeout=rng.choice((None, None, None, 0.05, 30)))
    match rng.randrange(10):
        case 0:
            return view.start(remote_stress.blocking, number, rng.uniform(0, 0.05))
        case 1:
            return view.start(remote_stress.subprocess_of, number, rng.choice((0.001, 0.02)))
        case 2:
            return view.start(remote_stress.busy, number, rng.randrange(20_000))
        case 3:
            return view.start(remote_stress.failing, number)
        case 4 | 5:
            return node.start(remote_stress_async.waiting, number, rng.uniform(0, 0.1))
    if rng.random() < 0.2:
        return view.service("stress").work.start(number, rng.choice((0, 0.001, 0.05)))
    return view.start(remote_stress.quick, number)


def note(call: ramet.Call[Any], number: int, counts: Counts) -> None:
    """Wait, and see that it is the right answer to the right call."""
    error = call.exception()
    if error is None:
        assert call.result() == number, "another call's answer"
        counts["answered"] += 1
    elif isinstance(error, ramet.RemoteError):
        assert error.args == (number,), "another call's failure"
        counts["failed"] += 1
    else:
        assert isinstance(error, ramet.CallCancelled | ramet.CallTimeout), repr(error)
        counts[type(error).__name__] += 1


def opened(node: ramet.Node, rng: random.Random, count: int) -> Any:
    """A stream: of a generator, of one that hangs after its items, or of a service's method."""
    view = node.options(timeout=rng.choice((None, None, 0.05, 30)))
    match rng.randrange(3):
        case 0:
            return view.stream(remote_stress.items, count, rng.choice((0, 0, 2000)))
        case 1:
            return view.service("stress").items(count)
    return view.stream(remote_stress.hanging, count)


def read_some(node: ramet.Node, rng: random.Random, counts: Counts) -> None:
    """Open streams, and leave them where it happens to be: by ``close``, in the middle, at the end, by dropping them."""
    streams = []
    for _ in range(rng.randrange(6)):
        try:
            streams.append((opened(node, rng, rng.randrange(300)), rng.randrange(1, 300)))
        except ramet.CallTimeout:       # of the request for it
            counts["streams out of time"] += 1
    for stream, many in streams:
        taken = []
        try:
            for item in stream:
                taken.append(item)
                if len(taken) >= many or item == remote_stress.HANGS:
                    break
            counts["streams"] += 1
        except ramet.CallTimeout:
            counts["streams out of time"] += 1
        assert [item for item in taken if item != remote_stress.HANGS] == list(range(len([
            item for item in taken if item != remote_stress.HANGS]))), "an item is lost, or another's"
        if rng.random() < 0.5:
            stream.close()      # the others are dropped


def by_threads(nodes: list[ramet.Node], rng: random.Random, end: float, counts: Counts, wrong: list[BaseException]) -> None:
    """A share of the calls that are under way: some are cancelled, at once or later. At least once round."""
    try:
        number = 0
        while not number or time.monotonic() < end:
            calls = []
            for _ in range(CALLS // 8):
                number += 1
                calls.append((begin(rng.choice(nodes), number, rng), number))
                if rng.random() < 0.2:
                    rng.choice(calls)[0].cancel()
            for _ in range(rng.randrange(CALLS // 16)):
                rng.choice(nodes).cast(remote_stress.cast)
                counts["casts"] += 1
            read_some(rng.choice(nodes), rng, counts)
            for call, expected in calls:
                note(call, expected, counts)
    except BaseException as error:
        wrong.append(error)


async def by_asyncio(nodes: list[ramet.Node], rng: random.Random, end: float, counts: Counts) -> None:
    """The same, awaited, cancelled as tasks are."""
    while not counts["awaited"] or time.monotonic() < end:
        tasks = [asyncio.ensure_future(asyncio.wait_for(begin(rng.choice(nodes), n, rng), rng.choice((0.03, 60))))
                 for n in range(CALLS // 8)]
        for task, found in zip(tasks, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
            counts["awaited"] += 1
            assert task.done() and (not isinstance(found, Exception) or isinstance(
                found, TimeoutError | ramet.RemoteError | ramet.CallCancelled | ramet.CallTimeout)), repr(found)


def test_mixed_calls(rng: random.Random) -> None:
    counts: Counts = collections.Counter()
    of_threads: list[Counts] = [collections.Counter() for _ in range(7)]    # += of a missing one isn't atomic
    wrong: list[BaseException] = []
    with ramet.Tree() as tree:
        nodes = [tree.local() for _ in range(NODES)]
        for node in nodes:
            node.options(lane="one").call(remote_stress.quick, 0)
            node.start(remote_stress_async.waiting, 0, 0).result()
            node.serve("stress", remote_stress.Served, allow="ancestors", shared=["work"], threads=16)
        end = time.monotonic() + SECONDS
        threads = [threading.Thread(target=by_threads, args=(nodes, random.Random(rng.random()), end, its, wrong))
                   for its in of_threads]
        for thread in threads:
            thread.start()
        asyncio.run(by_asyncio(nodes, random.Random(rng.random()), end, counts))
        for thread in threads:
            thread.join()
        assert not wrong, wrong
        for its in of_threads:
            counts.update(its)
        until(lambda: not tree._core.pending and not any(node.stats()["calls"] or node._state.ending for node in nodes),
              "not all are accounted for")
        assert all(node.call(remote_stress.quick, 5) == 5 for node in nodes)
        assert sum(node.call(remote_stress.count_casts) for node in nodes) == counts["casts"], "a cast is lost"
        until(lambda: not any(node.call(remote_stress.still_open) for node in nodes), "some are still at it")
        until(lambda: not any("ramet-any" in node.call(remote_stress.left)[0] for node in nodes), "threads of calls are left")
        print(dict(counts))
    assert counts["answered"] and counts["CallCancelled"] and counts["awaited"] and counts["streams"] and counts["casts"]
