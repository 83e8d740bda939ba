"""A child that speaks frames by hand: it goes through the real bootstrap, but the kernel that it gets it throws away.

    tree.command([sys.executable, hostile_child.__file__, "calls_up", marker])

What the connector puts behind that, an interpreter and the first stage, it leaves alone. It says HELLO, does what its case is,
then answers every CALL with 42: since a link keeps its order, who got that answer has taken all that the case sent.
"""
from __future__ import annotations

import os
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from ramet.kernel import frames, limits, values
from ramet.kernel.core import (
    CALL,
    CANCEL,
    CONFIG,
    END,
    GROW,
    HELLO,
    INSTALLED,
    KEEPALIVE,
    LOG,
    LOST,
    MODULE_REQUEST,
    MODULES,
    OUTPUT,
    ROUTE,
    TAKEN,
    WISH,
)
from ramet.kernel.fragments import whole
from ramet.kernel.frames import CONTINUES, CONTROL, COUNTED, DEAD, ERROR, HEADER_BYTES, MORE
from ramet.kernel.handles import ITSELF, REFUSED, STUCK
from ramet.kernel.values import Context

ANSWER = 42
UNUSED = "colorsys"     # a module that nobody has imported
PIECE = 32
CASES: dict[str, Callable[[Child], Any]] = {}
NOBODY = 0x7FFFFFF0


class Child:
    """The link to the parent, and what was told by it.

    Attributes:
        marker: a file that exists if anything of ours was ever run elsewhere.
        others: ids that aren't ours: the parent's, a sibling's.
    """

    def __init__(self, marker: str) -> None:
        self.marker = marker
        os.write(1, b"\nRAMET1 %x c\n" % sys.hexversion)
        data = b""
        while True:     # the head, the kernel, the first frame
            got = os.read(0, 65536)
            if not got:
                sys.exit(98)
            data += got
            rest = behind_the_kernel(data)
            if len(rest) >= HEADER_BYTES:
                break
        os.write(1, b"\nRAMET2\n")
        self.parser = frames.Parser()
        self.seen = list(self.parser.feed(rest))
        header, body = next(self.read())
        assert header[6] == CONFIG
        self.config = values.decode(body)
        self.id, self.ancestors = self.config["id"], self.config["ancestors"]
        self.others = [id for id in range(1, self.id + 3) if id != self.id]

    def read(self) -> Iterator[tuple[frames.Header, bytes]]:
        """Frames, until the link ends."""
        while True:
            while self.seen:
                header, frame = self.seen.pop(0)
                yield header, frame[HEADER_BYTES:]
            data = os.read(0, 65536)
            if not data:
                return
            self.seen += self.parser.feed(data)

    def write(self, data: bytes) -> None:
        """All of it."""
        view = memoryview(data)
        while view:
            view = view[os.write(1, view):]

    def send(self, handle: int, value: Any = None, *, body: bytes | None = None, dst: int = 0, src: int | None = None,
             authority: int | None = None, reply_to: int = 0, flags: int = 0, flow: int = 0) -> None:
        """One frame, of which anything may be a lie."""
        src = self.id if src is None else src
        if body is None:
            body = b"".join(bytes(chunk) for chunk in values.encode(value, Context(True)))
        self.write(whole(flags, flow, dst, src, src if authority is None else authority, handle, reply_to, [body]))

    def hello(self, **more: Any) -> None:
        """Facts, as they should be."""
        self.send(HELLO, {"version": "3.11.0", "hexversion": sys.hexversion, "form": "source", "implementation": "CPython",
                          "pid": os.getpid(), "uid": os.getuid(), "host": "host", "platform": "linux-x86_64", **more})

    def serve(self, answer: Callable[[int], bytes] | None = None) -> None:
        """Answer calls until the end."""
        for header, _ in self.read():
            if header[1] & (DEAD | ERROR):
                continue        # an answer to what it sent with a reply handle that is none
            if header[6] == END:
                return
            if header[6] == CALL and header[7]:
                body = answer(header[7]) if answer else values_of(ANSWER)
                self.send(header[7], body=body, dst=header[4], flags=0, flow=header[2])


def behind_the_kernel(data: bytes) -> bytes:
    """What follows the one zlib stream; b"" while that isn't all there."""
    for at in range(len(data) - 1):
        if data[at] == 0x78 and not int.from_bytes(data[at:at + 2], "big") % 31:
            kernel = zlib.decompressobj()
            try:
                kernel.decompress(data[at:])
            except zlib.error:
                continue        # these two bytes are something else
            return kernel.unused_data
    return b""


def values_of(value: Any) -> bytes:
    """A value's bytes."""
    return b"".join(bytes(chunk) for chunk in values.encode(value, Context(True)))


def case(fn: Callable[[Child], Any]) -> Callable[[Child], Any]:
    """One thing that a hostile child may do. It returns a function that answers calls, or None."""
    CASES[fn.__name__] = fn
    return fn


def evil(child: Child) -> list[Any]:
    """A CALL's body that leaves a marker wherever it is run."""
    return ["os:mkdir", [child.marker], {}, {}]


# ---------------------------------------------------------------------- who speaks, and in whose name

@case
def forged_source(child: Child) -> None:
    """In the name of the controller, of the parent, a sibling, nobody."""
    for src in [*child.ancestors, *child.others, NOBODY]:
        for dst in (0, *child.ancestors, *child.others):
            child.send(CALL, evil(child), src=src, authority=src, dst=dst, reply_to=1000)
            child.send(MODULES, [dst, "source", [], [["evil", 2, "ramet:/evil.py", b"import os"]], {}], src=src, dst=dst)


@case
def forged_authority(child: Child) -> None:
    """By itself, but in the controller's name."""
    for authority in [*child.ancestors, *child.others]:
        for handle in (CALL, GROW, END, ROUTE):
            for dst in (0, *child.ancestors, *child.others):
                child.send(handle, evil(child), authority=authority, dst=dst)


@case
def forged_destination(child: Child) -> None:
    """To nobody, and to very many such; to itself by way of the parent; to what stands for the parent in its own calls."""
    for dst in (NOBODY, ITSELF, child.id):
        for handle in range(32):
            child.send(handle, [1], dst=dst, reply_to=1007)
            child.send(handle, [1], dst=dst, reply_to=1007, flags=COUNTED)
    for dst in range(NOBODY - 20_000, NOBODY):
        child.send(CALL, body=b"\xc0", dst=dst)


@case
def forged_handle(child: Child) -> None:
    """Handles that there aren't."""
    for handle in (0, 28, 500, 999, 0xFFFFFFFF):
        for dst in (0, *child.ancestors):
            child.send(handle, [1], dst=dst, reply_to=1009)


@case
def replies_to_others_calls(child: Child) -> None:
    """Every reply handle that the controller may have given out: to calls of other nodes."""
    for flags in (0, ERROR, DEAD, DEAD | CONTROL):
        for handle in range(limits.first_free_handle, limits.first_free_handle + 400):
            for dst in {0, *child.ancestors}:
                child.send(handle, "forged", dst=dst, flags=flags)


@case
def forged_facts(child: Child) -> None:
    """HELLO with what no node has to say of itself; then once more, and as others."""
    for value in (None, [], 7, "HELLO", [{}], {"x" * 1000: "y" * 100_000}, {"host": ["x" * 1000] * 100}):
        child.send(HELLO, value)
    child.send(HELLO, body=b"\xdf\xff\xff\xff\xff")
    child.hello(form=["source"], hexversion="3", version=None, pid=-1, uid="root", executable=["/bin/sh"], prefix={"a": b"b"},
                implementation=b"\x1b[2J", host="\x1b]0;owned\x07", platform=None, abiflags=3.5, __class__="int")
    for src in (child.id, *child.others):
        child.send(HELLO, {"host": "elsewhere"}, src=src, authority=src)


# ---------------------------------------------------------------------- what it has no right to

@case
def calls_up(child: Child) -> None:
    """Calls into the parent and the controller: by name, by value, with any lane."""
    for dst in dict.fromkeys([0, *child.ancestors]):
        child.send(CALL, evil(child), dst=dst, reply_to=1001)
        child.send(CALL, evil(child), dst=dst, flow=1)
        child.send(CALL, [*evil(child)[:3], {"lane": "*"}], dst=dst, flow=9)
        child.send(GROW, [NOBODY, {"argv": ["mkdir", child.marker], "shape": "pipes"}, b"", {}], dst=dst, reply_to=1002)
        child.send(END, [], dst=dst)
        child.send(CONFIG, {"id": 0, "ancestors": []}, dst=dst)


@case
def calls_sideways(child: Child) -> None:
    """Calls into siblings."""
    for dst in child.others:
        child.send(CALL, evil(child), dst=dst, reply_to=1001)
        child.send(GROW, [NOBODY, {"argv": ["mkdir", child.marker], "shape": "pipes"}, b"", {}], dst=dst, reply_to=1002)
        child.send(END, [], dst=dst)
        child.send(CANCEL, [1000], dst=dst)


@case
def routes_of_others(child: Child) -> None:
    """Routes to itself for everybody, and news of everybody's death."""
    for dst in dict.fromkeys([0, *child.ancestors, *child.others]):
        for id in (0, *child.others, NOBODY):
            child.send(ROUTE, [id, child.id], dst=dst)
            child.send(LOST, [[id], "gone"], dst=dst)


@case
def news_of_refusals(child: Child) -> None:
    """That others have broken the rules, and of nobody; very many, and malformed ones."""
    for id in (0, child.id, *child.others, NOBODY):
        for count in range(2000):
            child.send(REFUSED, [id, count, 3, 0, id], flags=CONTROL)
        for told in (None, [id], [id, -1, 3, 0, 1], [id, 1 << 80, 3, 0, 1], [id, True, 3, 0, 1], [id, "x", 3, 0, 1]):
            child.send(REFUSED, told)


@case
def modules_up(child: Child) -> None:
    """Module answers that nobody asked for: one would leave a marker when it is imported, the others inflate to 100 MB."""
    bomb = zlib.compress(bytes(1 << 20) * 100, 9)
    evil = f"import os\nos.mkdir({child.marker!r})\n".encode()
    for dst in dict.fromkeys([0, *child.ancestors, *child.others]):
        for name, flags, data in ((UNUSED, 2, evil), ("json", 34, bomb), ("evil", 32, bomb), ("support.remote", 34, bomb)):
            for form in ("source", "cp311"):
                child.send(MODULES, [dst, form, [name], [[name, flags, "ramet:/x.py", data]], {}], dst=dst)


@case
def classes_and_code(child: Child) -> Callable[[int], bytes]:
    """Results that hold instances of classes, and code by value."""
    mark = values.MARK
    run = b"cos\nmkdir\n(V" + child.marker.encode() + b"\ntR."
    kept = iter([
        b"\x95" + mark + b"O" + values_of("subprocess") + values_of("Popen") + values_of("args") + values_of(["true"]),
        b"\x94" + mark + b"E" + values_of("os") + values_of("system") + values_of("mkdir " + child.marker),
        b"\x94" + mark + b"C" + values_of("pickle") + values_of("cp311") + values_of([run, run]),
        b"\x93" + mark + b"C" + values_of("name") + values_of("os:mkdir"),
        b"\x99" + mark + b"X" + values_of("subprocess") + values_of("CalledProcessError") + values_of([1, "x"])
        + b"\xc0\xc0\xc2" + values_of("returncode") + values_of(1),
        b"\x94" + mark + b"V" + values_of("os") + values_of("mkdir") + values_of([child.marker]),
    ])
    return lambda handle: next(kept, values_of(ANSWER))


@case
def modules_asked_for(child: Child) -> None:
    """What it has no business with: files, others' modules, in others' names."""
    for id in (child.id, 0, *child.others):
        for form, names in (("source", ["/etc/passwd", "../../etc/passwd", "conftest", "hostile_child"]),
                            ("data", ["support:../../../etc/passwd", "support:/etc/passwd", ":etc/passwd"]),
                            ("native", ["/lib/x86_64-linux-gnu/libc.so.6", "lib/../../x"]), ("dist", ["pip:", "*:1"])):
            child.send(MODULE_REQUEST, [form, names, id], dst=child.ancestors[0], reply_to=1005, flags=CONTROL)


# ---------------------------------------------------------------------- what would fill memory, or take for ever

@case
def endless_fragments(child: Child) -> None:
    """A log record without end; and beginnings of very many messages."""
    part = b"\xdb\xff\xff\xff\xff" + bytes(65536)
    child.send(LOG, body=part, flags=MORE | COUNTED, reply_to=1001)
    for _ in range(600):    # 37 MiB
        child.send(LOG, body=part, flags=MORE | CONTINUES | COUNTED, reply_to=1001)
    for n in range(300):
        child.send(OUTPUT, body=part, flags=MORE | COUNTED, flow=n, reply_to=1000 + n)


@case
def huge_pieces(child: Child) -> None:
    """Byte strings of 2 GB that are announced, and don't come."""
    for n in range(50):
        for size in (0x7FFFFFFF, 0xFFFFFFFF, 0, 1 << 24):
            child.send(LOG, body=size.to_bytes(4, "big") + b"x", flags=MORE | COUNTED | PIECE, flow=n, reply_to=size & 0xFFFF)


@case
def huge_length(child: Child) -> None:
    """A frame of 4 GB: the end of the link."""
    child.write(frames.pack_header(frames.MAGIC, 0, 0, 0, child.id, child.id, LOG, 0, 0xFFFFFFFF) + bytes(100))


@case
def no_frames(child: Child) -> None:
    """Bytes that are none."""
    child.write(os.urandom(1 << 16).replace(b"\x72", b"\x00"))


@case
def deep_nesting(child: Child) -> Callable[[int], bytes]:
    """Lists in lists, to the bottom of anybody's stack; in every message and in a result."""
    deep = [b"\x91" * 100_000 + b"\xc0", (b"\x92" + values.MARK + b"t") * 20_000 + b"\xc0", b"\x81\xc0" * 40_000 + b"\xc0"]
    for body in deep:
        for handle in range(1, 32):
            for dst in dict.fromkeys([0, *child.ancestors]):
                child.send(handle, body=body, dst=dst)
    left = iter(deep)
    return lambda handle: next(left, values_of(ANSWER))


@case
def memory_bombs(child: Child) -> Callable[[int], bytes]:
    """Values that say they are huge, or would be if somebody touched them."""
    mark = values.MARK
    bombs = [
        b"\xdd\xff\xff\xff\xff" + bytes(10), b"\xdf\xff\xff\xff\xff" + bytes(10), b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x00", b"\xdd\x00\xff\xff\xff" + bytes(10),
        b"\x92" + mark + b"m" + values_of("1E+999999999999"),
        b"\x93" + mark + b"r" + values_of(1 << 400) + values_of(0),
        b"\x93" + mark + b"A" + values_of("float64") + values_of([1 << 40, 1 << 20]),
        b"\x94" + mark + b"A" + values_of("V1000000000") + values_of([1 << 20]) + values_of(b""),
        b"\x93" + mark + b"q" + values_of(1 << 62) + values_of(1),
        b"\x92" + mark + b"i" + values_of(bytes(100_000)) + b"\xc0",
        b"\x92" + mark + b"Z" + values_of(1 << 62),
        b"\x92" + mark + b"z" + values_of("../../etc/passwd"),
        b"\x92" + mark + b"f" + b"\xdd\xff\xff\xff\xff",
    ]
    for body in bombs:
        for handle in (HELLO, INSTALLED, LOG, LOST, OUTPUT, WISH, TAKEN):
            child.send(handle, body=body)
    left = iter(bombs)
    return lambda handle: next(left, values_of(ANSWER))


@case
def large_wishes(child: Child) -> None:
    """Wishes that would take long to be planned, or be kept, as large as one frame takes."""
    for body in (["local", {"python": ["x"] * 60_000}], ["command", {"argv": ["x"], "rules": [{"match": "a?" * 60_000}]}],
                 ["command", {"argv": ["x"], "env": {"A": "x" * 120_000}}]):
        child.send(WISH, body, reply_to=1001)


@case
def long_lies(child: Child) -> None:
    """Millions of empty lists in a few MiB: 70 times the memory, and seconds, for whoever reads them."""
    body = b"\xdd\x00\x1f\xf0\x00" + b"\x90" * 0x1ff000
    for handle in range(1, 32):
        for dst in dict.fromkeys([0, *child.ancestors]):
            for at in range(0, len(body), 130_000):
                child.send(handle, body=body[at:at + 130_000], dst=dst, flow=2, flags=COUNTED | CONTINUES * (at > 0) | (
                    MORE * (at + 130_000 < len(body))))


@case
def names_of_surrogates(child: Child) -> None:
    """Texts that can't be encoded, where errors repeat them; for anybody who decodes what comes."""
    name = values_of("\udc80")
    for kind in b"V", b"E", b"O":
        body = b"\x94" + values.MARK + kind + name + name + values_of(1)
        for handle in range(2, 28):
            for dst in dict.fromkeys([0, *child.ancestors, *child.others]):
                child.send(handle, body=body, dst=dst, reply_to=1001)


@case
def flood_of_every_handle(child: Child) -> None:
    """Some thousand frames for each, well-formed values and garbage."""
    for n in range(300):
        for handle in range(30):
            for body in (b"\xc1", b"", values_of([n, handle, {"a": [1]}, b"x"])):
                child.send(handle, body=body, dst=child.ancestors[n % len(child.ancestors)], reply_to=1000 + n,
                           flags=(0, CONTROL, ERROR, DEAD, COUNTED)[n % 5], flow=n)


@case
def slow_loris(child: Child) -> None:
    """Half a header, and then nothing for ever."""
    child.write(frames.pack_header(frames.MAGIC, 0, 0, 0, child.id, child.id, LOG, 0, 100)[:13])
    os.mkdir(child.marker + ".half")
    time.sleep(3600)


@case
def never_reads(child: Child) -> None:
    """Whatever is sent to it stays in the pipe and before."""
    os.mkdir(child.marker + ".half")
    time.sleep(3600)


@case
def asks_and_never_reads(child: Child) -> None:
    """Whatever is answered, if only that it is refused, stays where it comes from."""
    os.mkdir(child.marker + ".half")
    while True:
        for handle in (CALL, 999, KEEPALIVE):
            child.send(handle, evil(child), reply_to=1001, flags=CONTROL * (handle == KEEPALIVE))


@case
def floods_of_logs_and_output(child: Child) -> None:
    """Logs and output as fast as the link goes: lines without end, and many short ones."""
    for n in range(200):
        child.send(OUTPUT, [1 + n % 2, b"x" * 60_000], flow=1 + n % 2)
        child.send(OUTPUT, [1, b"line\n" * 100], flow=1)
        for _ in range(10):
            child.send(LOG, {"name": f"l{n}", "levelno": 30, "levelname": "WARNING", "msg": "m" * 1000, "args": []}, flow=2)


@case
def floods_of_stderr(child: Child) -> None:
    """Signs of life, as its guardian gives them, as fast as the pipe goes and for as long as it lives."""
    def flood() -> None:
        while True:
            os.write(2, bytes(65536))
    threading.Thread(target=flood, daemon=True).start()


@case
def escape_sequences(child: Child) -> None:
    """Whatever steers a terminal, wherever a text goes."""
    evil = "\x1b]0;owned\x07\x1b[2J\x1b[31m\x9b31m\u202etxt.exe\r\n\x08\x7f"
    child.send(OUTPUT, [1, evil.encode() + b"\n"], flow=1)
    child.send(LOG, {"name": evil, "levelno": 40, "levelname": evil, "msg": evil, "exc_text": evil, "pathname": evil,
                     "funcName": evil, "threadName": evil, "module": evil, "filename": evil, "lineno": 1}, flow=2)
    child.send(CALL, [evil], reply_to=1003)
    child.send(STUCK, [0, 1, evil, evil])


@case
def tells_of_stuck_calls(child: Child) -> None:
    """Each is a warning in the program's log, if it is to be believed."""
    for n in range(3000):
        child.send(STUCK, [n % 3, n, "main", "it goes on"])
    for handle in [], {}, None, "x":
        child.send(STUCK, [0, handle, "main", "it goes on"])


@case
def odd_log_records(child: Child) -> None:
    """Records whose fields aren't what ``logging`` expects."""
    for levelno in (30, True, 1 << 70, -5, -(1 << 9000)):
        for fields in ({"msg": {"a": 1}, "args": [1, 2]}, {"msg": "%s %s %(x)d", "args": [1]}, {"args": 5}, {"exc_info": True},
                       {"exc_info": [1, 2, 3]}, {"created": "no"}, {"msecs": "no"}, {"lineno": "x" * 1000}, {"getMessage": 1},
                       {"stack_info": 5}, {"name": 7}, {"levelname": 3}, {"__class__": 1}, {"__dict__": {}}, {"node": 1},
                       {"msg": 10 ** 5000}, {"msg": [10 ** 5000]}, {"lineno": 10 ** 5000}, {"own": 10 ** 5000}):
            child.send(LOG, {"name": "n", "msg": "m", "levelno": levelno, "levelname": "W", **fields}, flow=2)


@case
def acknowledges_what_never_was(child: Child) -> None:
    """Credit that it wasn't given, for flows of others; and very many flows to be stopped."""
    for dst in dict.fromkeys([0, child.ancestors[0]]):
        for n in range(6000):
            child.send(TAKEN, [0, child.id, n, 0], dst=dst, flags=CONTROL)
        for count in (1 << 40, -2, 1 << 31, "x", None):
            child.send(TAKEN, [0, child.id, 1, count], dst=dst, flags=CONTROL)
        for other in child.others:
            child.send(TAKEN, [0, other, 1, 0], dst=dst, flags=CONTROL)


def main(name: str, marker: str) -> None:
    """Bootstrap, HELLO, the case, answers."""
    child = Child(marker)
    if name != "forged_facts":
        child.hello()
    try:
        child.serve(CASES[name](child))
    except (BrokenPipeError, ConnectionError):
        pass    # it was shown the door


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
