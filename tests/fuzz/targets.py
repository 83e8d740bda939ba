"""What is fuzzed: functions of bytes that either return, or raise the one documented error, which they catch.

``test_targets`` feeds them what Hypothesis makes up; ``make fuzz`` what atheris finds by following which code was reached::

    python -m fuzz.targets frames CORPUS_FOLDER -max_total_time=60
"""
from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ramet import codec, shipping
from ramet.connectors.ssh_rules import exit_rules, question_rules
from ramet.kernel import channels, dialogue, frames, grow, importer, limits, loop_late, nursery, streams, values
from ramet.kernel.core import Core
from ramet.kernel.errors import ConnectError, ProtocolError, ValueNotPortableError
from ramet.kernel.loop import Loop
from ramet.modules import server
from ramet.node import State

SECRETS = {"password": "s3cret-word"}


class Upwards:
    """A link that takes all and sends nothing."""

    dead = False

    def __init__(self) -> None:
        self.queue = SimpleNamespace(size=0)
        self.writing: Any = None

    def send(self, *_: Any) -> None:
        """It is dropped."""


class Anything:
    """Takes every call, and answers nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


class StillLoop(Anything):
    """Nothing is watched, and no time passes."""

    def now(self) -> float:
        """It is early."""
        return 1.0


def _raise(error: BaseException) -> None:
    raise error


def of_frames(data: bytes) -> None:
    """However the bytes are split, the same frames come, or the same refusal."""
    found = []
    for size in (len(data) or 1, 7):
        parser, got = frames.Parser(), []
        try:
            for at in range(0, len(data), size):
                got += [frame for _, frame in parser.feed(data[at:at + size])]
        except ProtocolError:
            got = ["refused"]       # what was whole before it isn't given out, if it comes in the same read
        found.append(got)
    assert found[0] == found[1] or ["refused"] in found


def of_values(data: bytes) -> None:
    """Both decoders, with and without trust in classes; what they read, they write and read again."""
    for module in values, codec:
        for ctx in None, values.Context(False):
            try:
                value = module.decode(data, ctx)
                again = module.decode(b"".join(map(bytes, module.encode(value))), ctx)
            except (ProtocolError, ValueNotPortableError):
                continue
            assert type(again) is type(value)


def of_dialogue(data: bytes) -> None:
    """Whatever a program says: nothing is raised, what is kept is bounded, a secret is typed once at most."""
    engine = dialogue.Dialogue(question_rules(SECRETS), SECRETS)
    sent = b""
    for n, part in enumerate(data.split(b"\0")):
        sent += b"".join(decision.data for decision in engine.feed(("tty", "stderr", "output")[n % 3], part))
    assert sent.count(b"s3cret-word") <= 1
    dialogue.verdict(exit_rules("h", 22, {}), data[0] if data else None, data.decode("latin-1"))


def of_messages(data: bytes) -> None:
    """Frames of a child that is 7, to a node that is 5: requests for modules, routes, losses, streams, channels, credit."""
    core = Core(5, (0,), Loop(_raise))
    try:
        up, down = Upwards(), Upwards()
        core.routes.parent = up
        family = nursery.Nursery(core, importer.ModuleCache(), {})
        family.losses.descendants.add(7, down, 5)
        core.handlers[10] = core.handlers[7] = family.handle
        channels.of(core).open(3)
        assert streams.of(core)
        for part in data.split(b"\xff\xfe"):
            if len(part) > 4:
                flags, handle, reply_to, dst = part[0] & ~67, part[1] % 32, part[2], (5, 0, 7, 9)[part[3] % 4]
                body = part[4:]
                header = (frames.MAGIC, flags, 0, dst, 7, 7, handle, 1000 * reply_to, len(body))
                core.on_frame(down, header, frames.pack_header(*header) + body)  # type: ignore[arg-type]
        assert core.routes.down.get(7) in (down, None) and set(core.routes.down) <= {7}
    finally:
        loop_late.close(core.loop, core)


class Hearing(grow.Growth):
    """A growth without a process: what it hears is given to it, what it writes is gone at once."""

    def __init__(self) -> None:
        self.up: list[Any] = []
        plan = {"name": "n", "what": "a test", "timeout_s": 9, "rules": [], "secrets": {}, "argv": ["python"]}
        super().__init__(StillLoop(), plan, lambda form: b"kernel", lambda form: b"config",     # type: ignore[arg-type]
                         lambda *found: self.up.append(found), lambda error: None)
        self.questions = self.process = Anything()  # type: ignore[assignment]

    def _write(self) -> None:
        self.sending = b""
        self._up_if_done()

    def _seen(self) -> str:
        return self.said.text()

    def hear(self, data: bytes) -> None:
        """So much was read."""
        if self.phase != grow.OVER:
            self._guarded(self._received, data)


def of_handshake(data: bytes) -> None:
    """What a program says that is taken for an interpreter, however it is split: it goes on, is up, or fails with a reason."""
    for size in (len(data) or 1, 5):
        growth = Hearing()
        for at in range(0, len(data), size):
            growth.hear(data[at:at + size])
        assert len(growth.said.data) <= limits.tail_bytes_max
        assert growth.up or len(growth.received) <= grow.marker_bytes_max + size
        assert growth.error is None or isinstance(growth.error, ConnectError), growth.error
        assert "unforeseen" not in str(growth.error), growth.error
        assert not (growth.up and growth.error)


def of_requests(data: bytes) -> None:
    """MODULE_REQUESTs of a node to the controller: each is answered once, and gives it nothing that isn't a module's name."""
    answers: list[Any] = []
    core: Any = Anything()
    core.refused = core.messages_out = 0
    core.reply = lambda message, *_: answers.append(message)
    core.loop, core.routes = Anything(), Anything()
    core.loop.call_soon = lambda fn, *args: fn(*args)
    core.routes.behind = lambda id, link: id == 7
    shipper = shipping.Shipper(core, server.ModuleServer(), lambda node: node)
    node: Any = SimpleNamespace(id=7, name="n", _state=State(shipper.server), parent=None)
    node._state.form = "source"
    parts = data.split(b"\xff\xfe")
    for part in parts:
        message: Any = SimpleNamespace(src=7, link=None, body=part[1:], reply_to=part[:1] != b"0")
        shipper.on_request(message, {7: node})
    assert len(answers) == len(parts)
    assert all(isinstance(name, str) for _, name in node._state.has), node._state.has


TARGETS: dict[str, Callable[[bytes], None]] = {
    "frames": of_frames, "values": of_values, "dialogue": of_dialogue, "messages": of_messages,
    "handshake": of_handshake, "requests": of_requests}


def main(argv: list[str]) -> None:
    """Let atheris look for what breaks a target."""
    import atheris  # type: ignore[import-not-found]
    for name in [name for name in sys.modules if name.partition(".")[0] == "ramet"]:
        del sys.modules[name]       # once more, so that atheris sees which of its code is reached
    with atheris.instrument_imports(include=["ramet"]):
        from fuzz import targets
    atheris.Setup([argv[0], *argv[2:]], targets.TARGETS[argv[1]])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
