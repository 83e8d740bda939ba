"""Streams of items and an echo over channels, beside Mitogen and execnet."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import execnet

import ramet
import remote
from measuring import Figure, compare, watch
from peers import ECHO, mitogen_end, mitogen_local, mitogen_router

STREAM_BYTES = 48 << 20
ECHOES = 10_000

EXECNET_SEND = "many, size = channel.receive()\nitem = b'x' * size\nfor _ in range(many): channel.send(item)"


def run() -> Iterator[Figure]:
    import mitogen.core

    with ramet.Tree() as tree, mitogen_router() as router:
        node = tree.local()
        context = mitogen_local(router)
        group = execnet.Group()
        gateway = group.makegateway("popen")
        try:
            for size, aim in ((4096, "≥ 3× Mitogen"), (131072, "≥ 4× Mitogen")):
                many = STREAM_BYTES // size

                def rate(seconds: float, many: int = many, size: int = size) -> float:
                    return many * size / seconds / 1e6

                def ours(many: int = many, size: int = size) -> float:
                    with watch() as w:
                        assert sum(1 for _ in node.stream(remote.blocks, many, size)) == many
                    return rate(w.seconds)

                def mitogens(many: int = many, size: int = size) -> float:
                    receiver = mitogen.core.Receiver(router)
                    with watch() as w:
                        call = context.call_async(remote.mitogen_blocks, receiver.to_sender(), many, size)
                        assert sum(1 for _ in receiver) == many
                    call.get()
                    return rate(w.seconds)

                def execnets(many: int = many, size: int = size) -> float:
                    channel = gateway.remote_exec(EXECNET_SEND)
                    with watch() as w:
                        channel.send((many, size))
                        assert sum(1 for _ in channel) == many
                    return rate(w.seconds)
                figure = Figure(f"stream of {size // 1024} KB items", "MB/s", "Mitogen", aim)
                yield compare(figure, {"Mitogen": mitogens, "ramet": ours, "execnet": execnets}, 5)

            def echo_rate(send: Callable[[int], object], receive: Callable[[], object]) -> float:
                with watch() as w:
                    for n in range(ECHOES):
                        send(n)
                    for _ in range(ECHOES):
                        receive()
                return ECHOES / w.seconds

            def echoes() -> float:
                there, back = tree.channel(ECHOES), tree.channel(ECHOES)
                call = node.options(lane=ramet.ANY).start(remote.echo, there, back)
                rate = echo_rate(there.send, back.receive)
                there.close()
                call.result()
                return rate

            def execnet_echoes() -> float:
                channel = gateway.remote_exec(ECHO)
                rate = echo_rate(channel.send, channel.receive)
                channel.close()
                channel.waitclose()
                return rate
            figure = Figure(f"channel echo, {ECHOES:,} items", "/s", "execnet", "≥ 1.3× execnet")
            yield compare(figure, {"execnet": execnet_echoes, "ramet": echoes}, 5)
        finally:
            mitogen_end(context)
            group.terminate(2)
