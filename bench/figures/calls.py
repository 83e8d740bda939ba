"""Calls on a warm node: the round trip of a blocking call, calls in flight, calls without reply."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import execnet

import bare
import peers
import ramet
import remote
from measuring import Figure, compare, watch

TRIPS = 500
MANY = 10_000
ROUNDS = 15


def trip(once: Callable[[], object]) -> Callable[[], float]:
    """The median of many round trips, in microseconds."""

    def measure() -> float:
        times = []
        for _ in range(TRIPS):
            began = time.perf_counter()
            once()
            times.append(time.perf_counter() - began)
        return statistics.median(times) * 1e6

    return measure


def ping_pong() -> Callable[[], object]:
    """One byte there and back over a socketpair, between two processes."""
    near = bare.process(lambda link, asked: link.sendall(asked))
    return lambda: near.send(b"x") and near.recv(1)


def rate(work: Callable[[], object], count: int) -> float:
    with watch() as w:
        work()
    return count / w.seconds


def run() -> list[Figure]:
    floor = ping_pong()     # before there are threads
    bare_calls = bare.process(bare.answer_calls)
    with ramet.Tree() as tree, peers.mitogen_router() as router:
        node, context = tree.local(), peers.mitogen_local(router)
        channel = execnet.makegateway(f"popen//python={sys.executable}").remote_exec(peers.ECHO)

        def echo_once() -> object:
            channel.send(1)
            return channel.receive()

        def echo_many() -> None:
            for _ in range(MANY):
                channel.send(1)
            for _ in range(MANY):
                channel.receive()

        def casts() -> None:
            for _ in range(MANY - 1):
                node.cast(remote.nothing)
            node.call(remote.nothing)

        def mitogen_casts() -> None:
            for _ in range(MANY - 1):
                context.call_no_reply(remote.nothing)
            context.call(remote.nothing)

        figures = [
            compare(Figure("blocking call, round trip", "us", "socketpair", "≤ 4×"), {
                "socketpair": trip(floor),
                "ramet": trip(lambda: node.call(remote.nothing, 1)),
                "Mitogen": trip(lambda: context.call(remote.nothing, 1)),
                "execnet": trip(echo_once),
            }, ROUNDS),
            compare(Figure(f"{MANY:,} calls in flight", "/s", "Mitogen", "≥ 5× Mitogen", note="execnet: channel echo"), {
                "Mitogen": lambda: rate(
                    lambda: [r.get() for r in [context.call_async(remote.nothing, 1) for _ in range(MANY)]], MANY),
                "ramet": lambda: rate(
                    lambda: [c.result() for c in [node.start(remote.nothing, 1) for _ in range(MANY)]], MANY),
                "execnet": lambda: rate(echo_many, MANY),
                "socketpair": lambda: rate(lambda: bare.calls(bare_calls, remote.nothing, [1], MANY, True), MANY),
            }, 5),
            compare(Figure(f"{MANY:,} casts", "/s", "Mitogen", "≥ 5× Mitogen"), {
                "Mitogen": lambda: rate(mitogen_casts, MANY),
                "ramet": lambda: rate(casts, MANY),
                "socketpair": lambda: rate(lambda: bare.calls(bare_calls, remote.nothing, [], MANY, False), MANY),
            }, 5),
            hops(tree, node),
        ]
        execnet.default_group.terminate(1)
        return figures


def hops(tree: ramet.Tree, first: ramet.Node) -> Figure:
    """The same call at greater depth."""
    nodes = [first]
    for _ in range(4):
        nodes.append(nodes[-1].local())
    contenders = {f"depth {depth}": trip(lambda node=node: node.call(remote.nothing, 1)) for depth, node in enumerate(nodes, 1)}
    return compare(Figure("call at depth 1 … 5", "us", "depth 1", "each hop ≤ +50 us"), contenders, 5)
