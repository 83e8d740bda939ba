"""Streams of items and an echo over channels, beside Mitogen and execnet."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator

import execnet

import bare
import ramet
import remote
from measuring import Figure, compare, watch
from peers import ECHO, mitogen_end, mitogen_local, mitogen_router

STREAM_BYTES = 48 << 20
ECHOES = 10_000

EXECNET_SEND = "many, size = channel.receive()\nitem = b'x' * size\nfor _ in range(many): channel.send(item)"


SHAPE = struct.Struct(">II")


def send_blocks(link: socket.socket, _: bytes) -> None:
    """What a bare process does: a length and an item, again and again."""
    many, size = SHAPE.unpack(link.recv(SHAPE.size, socket.MSG_WAITALL))
    item = b"x" * size
    for _ in range(many):
        link.sendmsg([size.to_bytes(4, "big"), item])


def received_blocks(link: socket.socket, many: int, size: int) -> Iterator[bytes]:
    link.sendall(b"s" + SHAPE.pack(many, size))
    with link.makefile("rb", 1 << 17) as file:
        for _ in range(many):
            yield file.read(int.from_bytes(file.read(4), "big"))


def run() -> Iterator[Figure]:
    import mitogen.core

    floor, bare_echo = bare.process(send_blocks), bare.process(bare.echo_items)
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

                def bares(many: int = many, size: int = size) -> float:
                    with watch() as w:
                        assert sum(map(len, received_blocks(floor, many, size))) == many * size
                    return rate(w.seconds)
                figure = Figure(f"stream of {size // 1024} KB items", "MB/s", "Mitogen", aim)
                yield compare(figure, {"Mitogen": mitogens, "ramet": ours, "execnet": execnets, "socketpair": bares}, 5)

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

            def bare_echoes() -> float:
                with watch() as w:
                    bare.echoed(bare_echo, ECHOES)
                return ECHOES / w.seconds
            yield compare(figure, {"execnet": execnet_echoes, "ramet": echoes, "socketpair": bare_echoes}, 5)
        finally:
            mitogen_end(context)
            group.terminate(2)
