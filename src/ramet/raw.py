"""``node.raw()``: one command over a node's connector, where there is no Python, or none yet. ``RawCall`` and ``RawResult``.

It needs a ``sh`` over there and nothing else: that says when the connecting is over, and executes the command with exactly the
arguments that it was given, whatever shell the account has.
"""
from __future__ import annotations

import concurrent.futures
import shlex
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ramet import codec
from ramet.bootstrap import first_stage
from ramet.connectors import Plan, texts
from ramet.kernel import dialogue
from ramet.kernel.core import END, GROW
from ramet.kernel.diagnosis import connect_error
from ramet.kernel.errors import CallCancelled, ClosedError, ProtocolError
from ramet.kernel.frames import CONTROL
from ramet.kernel.settling import NAME_HERE
from ramet.parts import FOLLOWING, GROWING
from ramet.told import answer_of
from ramet.waiting import awaited, waitable

if TYPE_CHECKING:
    from ramet.node import Node
    from ramet.shelter import ShelteredCore
    from ramet.tree import Tree

#: What may be kept of each output, and is unless it is told otherwise.
KEEP_BYTES_MAX = 64 << 20
KEEP_BYTES = 1 << 20


@dataclass(frozen=True)
class RawResult:
    """What came of a command.

    Attributes:
        status: its exit status; negative: the signal that ended the connector's program here.
        stdout, stderr: what it said; where that was more than ``keep_bytes``, the end of it.
        cut: whether something is missing at the beginning of one of them.
    """

    status: int
    stdout: bytes
    stderr: bytes
    cut: bool = False

    @property
    def ok(self) -> bool:
        """Whether it ended with status 0."""
        return self.status == 0


class RawCall(concurrent.futures.Future[RawResult]):
    """A command under way: wait with ``result()``, or await it; ``cancel()`` ends it. All methods are thread-safe."""

    def __init__(self, end: Callable[[], Any], core: ShelteredCore) -> None:
        super().__init__()
        self._end = end
        self._core = core

    def result(self, timeout: float | None = None) -> RawResult:
        """Wait for what came of it. Raises DeadlockError in a done callback of a call: see ``Call``."""
        self._check(timeout)
        return super().result(waitable(timeout))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Like ``result``, but return what it would raise, or None."""
        self._check(timeout)
        return super().exception(waitable(timeout))

    def _check(self, timeout: float | None) -> None:
        if timeout != 0 and not self.done():
            self._core.may_wait(None)

    def cancel(self) -> bool:
        """End it: ``result`` raises ``CallCancelled``. The connector's program is killed here; what it has started on another
        machine ends when it notices that. Returns False if it was over already."""
        if not self._settle(error=CallCancelled("the command was cancelled")):
            return False
        self._end()
        return True

    def __await__(self) -> Generator[Any, None, RawResult]:
        return awaited(self, self._core)

    def _settle(self, error: BaseException | None = None, result: Sequence[Any] = ()) -> bool:
        try:
            if error is None:
                status, out, err, cut = result
                if not isinstance(out, bytes | str) or not isinstance(err, bytes | str):    # bytes(2 ** 60) takes memory
                    raise TypeError
                # Bytes of a 2.7 node arrive as text.
                self.set_result(RawResult(int(status), dialogue.to_bytes(out), dialogue.to_bytes(err), bool(cut)))
            else:
                self.set_exception(error)
        except concurrent.futures.InvalidStateError:
            return False
        return True


def script(argv: Sequence[str]) -> str:
    """The program for ``sh`` that says the marker and executes a command. It holds no newline, which not every shell takes.

    Raises:
        TypeError, ValueError: that isn't a command.
    """
    words = texts("argv", argv)
    if not words or not words[0]:
        raise ValueError("argv is empty: it needs at least the program")
    if any("\0" in word for word in words):
        raise ValueError("no argument of a program can hold a zero byte")
    line = " ".join(map(shlex.quote, words))
    if "\n" in line:
        line = line.replace("\n", "'\"$n\"'")       # shlex.quote puts all that holds one between single quotes
        return f"n=$(printf '\\nx');n=${{n%x}};printf '\\nRAMET0\\n';printf '\\nRAMET0\\n'>&2;exec {line}"
    return f"printf '\\nRAMET0\\n';printf '\\nRAMET0\\n'>&2;exec {line}"


def raw_plan(plan: Plan, argv: Sequence[str]) -> Plan:
    """A connector's plan with a command in place of the interpreter and its first stage.

    Raises:
        TypeError, ValueError: that isn't a command, or the connector can't be used so.
    """
    words = ["sh", "-c", script(argv)]
    rest = first_stage.command(plan["python"], NAME_HERE)
    lines = [first_stage.shell_command(plan["python"], NAME_HERE, brief) for brief in (True, False)]
    given = list(plan["argv"])
    if plan["stub"]:
        made = words
    elif given[-len(rest):] == rest:
        made = [*given[:-len(rest)], *words]
    elif line := next((line for line in lines if given and given[-1].endswith(line)), ""):
        made = [*given[:-1], given[-1].removesuffix(line) + " ".join(map(first_stage.quote, words))]
    elif given[1 - len(rest):] == rest[1:] and "--entrypoint" in given:
        at = given.index("--entrypoint") + 1
        made = [*given[:at], words[0], *given[at + 1:1 - len(rest)], *words[1:]]
    else:
        raise ValueError(f"{plan['what']}: its command line doesn't end in an interpreter, so nothing else can be put there")
    if plan["what"].startswith("sudo ") and "-i" in given and "$" in words[2]:
        raise ValueError("sudo -i (login=True) would garble an argument with a '$' or a line end in it")
    tail = " " + " ".join([*map(shlex.quote, plan["python"] or ["python"]), "…"])
    command = f"{plan['command'].removesuffix(tail)} {shlex.join(argv)}".strip()
    rules = [rule for rule in plan["rules"] if rule.get("status") != 97]
    plan = {key: value for key, value in plan.items() if key != "again"}
    return {**plan, "argv": made, "stub": None, "form": None, "command": command, "rules": rules,
            "shape": "pipes" if plan["stub"] else plan["shape"]}  # fmt: skip


def start(tree: Tree, node: Node, argv: Sequence[str], data: bytes, timeout: float | None, keep_bytes: int) -> RawCall:
    """Run a command by a node's connector, from where that node grows: see ``Node.raw``."""
    plan = raw_plan(node._state.planned(), argv)
    gardener, core, parent = tree._gardener, tree._core, node.parent
    id = next(gardener.ids)
    by = 0 if parent is None else parent.id
    call = RawCall(lambda: core.tell(by, END, [id]) if by else tree._nursery.end(id), core)

    def done(error: Any, result: Any) -> None:
        gardener.desk.settle(id, error)
        call._settle(error, result or ())

    if parent is None:
        tree._nursery.run(id, gardener.desk.open(id, 0, plan), data, timeout, keep_bytes, done, gardener.desk.asker(id))
        if tree._closed:        # meanwhile: the keeper may have gone
            done(ClosedError("the tree was closed"), None)
        return call

    def lost(why: str) -> None:
        done(connect_error(plan, {"text": f"can't be started: {why}"}), None)

    def answered(flags: int, body: Any) -> None:
        error, result = answer_of(parent, plan, flags, body)
        try:
            done(error, result)
        except (TypeError, ValueError, OverflowError):
            done(ProtocolError(f"node {parent.name} sent a command's result that can't be read"), None)

    def send() -> None:
        if call.done():     # ended before its node was known
            return
        try:
            tree._shipper.kernel_parts(parent, (*GROWING, *FOLLOWING, "raw"))
        except (OSError, ImportError) as error:     # too many open files, to read these from
            lost(str(error))
            return
        job = [id, gardener.desk.open(id, by, plan), None, [data, timeout, keep_bytes]]
        core.ask(by, GROW, codec.encode(job), answered, CONTROL)
        if call.done():     # meanwhile: what ends it may have gone ahead
            core.tell(by, END, [id])
    gardener.when_known(parent, send, lambda: lost(str(parent._state.failure(parent.name))))
    return call


