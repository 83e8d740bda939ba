"""``ramet doctor``: how far connecting comes, stage by stage, and why it goes no further."""

from __future__ import annotations

import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

import ramet
from ramet.cli.run import asked_secrets, full_spec
from ramet.connectors import spec as specs
from ramet.display import harmless
from ramet.kernel.errors import ConnectError, Error

# What runs over there lies in a folder of its own, like the demo's package: ramet itself is never shipped.
sys.path.append(str(Path(__file__).with_name("demo_package")))
hostcheck = importlib.import_module("hostcheck")

#: The stages of one hop, in their order; a connector has some of them.
STAGES = ("resolve", "start", "authenticate", "escalate", "find-python", "bootstrap", "first call")
_ONLY_OF = {
    "resolve": ("ssh",), "authenticate": ("ssh",), "escalate": ("sudo", "su", "doas", "run0", "pkexec"),
}  # fmt: skip

ROUND_TRIPS = 9
CALL_TIMEOUT_S = 30.0


@dataclass
class Stage:
    """One stage of a hop.

    Attributes:
        verdict: "ok", "failed" or "not reached".
        ms: how long it took, if that is known.
        detail: what was found out, or the cause.
    """

    stage: str
    verdict: str = "not reached"
    ms: float | None = None
    detail: str = ""


@dataclass
class Hop:
    """One step of a spec, and what became of it."""

    connector: str
    what: str
    ok: bool = False
    stages: list[Stage] = field(default_factory=list)
    python: str = ""
    executable: str = ""
    form: str = ""
    round_trip_ms: float | None = None
    lacks: dict[str, str] = field(default_factory=dict)
    error: dict[str, Any] | None = None


def doctor(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="What to connect to.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    ask_password: Annotated[bool, typer.Option("--ask-password", help="Ask for one password, for all ssh steps.")] = False,
    ask_sudo_password: Annotated[bool, typer.Option("--ask-sudo-password",
                                                    help="Ask for one password, for all sudo and doas steps.")] = False,
) -> None:
    """Walk the stages of connecting, and tell of each how it went; on failure, the cause and the remedy.

    For each step of the SPEC: the name, the start of the program, the login, the other account, the interpreter, the kernel,
    and the first call. Also which Python was found, how long a round trip takes, and what the host lacks.

    Examples:

    ```
    ramet doctor web1
    ramet doctor ssh:gate/ssh:db1/sudo:postgres --ask-sudo-password
    ramet doctor --json web1 | jq .hops
    ```

    Exit status 0: every stage of every hop is well. 1: one has failed.
    """
    try:
        steps = specs.parse(full_spec(spec))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="SPEC") from None
    show = None if as_json else _Printer()
    hops: list[Hop] = []
    secrets = asked_secrets(ask_password, ask_sudo_password)
    with ramet.Tree(on_output=lambda *_: None) as tree:
        grower: Any = tree
        for connector, options in steps:
            hop = Hop(connector, connector)
            hops.append(hop)
            node = examine(grower, hop, {**secrets.get(connector, {}), **options})
            if show:
                show.hop(len(hops), hop)
            if node is None:
                break
            grower = node
    ok = len(hops) == len(steps) and all(hop.ok for hop in hops)
    if as_json:
        print(json.dumps({"spec": spec, "ok": ok, "steps": len(steps), "hops": [asdict(hop) for hop in hops]}))
    if not ok:
        raise typer.Exit(1)


def examine(grower: Any, hop: Hop, options: dict[str, Any]) -> ramet.Node | None:
    """Grow one node and note how it went. Returns it if all is well."""
    began = time.perf_counter()
    try:
        node: ramet.Node = grower.grow(hop.connector, **options)
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(f"{hop.connector}: {error}", param_hint="SPEC") from None
    hop.what = node.what
    hop.stages = [Stage(stage) for stage in STAGES if hop.connector in _ONLY_OF.get(stage, (hop.connector,))]
    try:
        node.wait()
    except Error as error:
        _failed(hop, error, getattr(error, "stage", "bootstrap"), began)
        return None
    up = time.perf_counter()
    _connected(hop, node, up - began)
    try:
        seen = node.options(timeout=CALL_TIMEOUT_S).call(hostcheck.look)
        first_s = time.perf_counter() - up
        _ended(hop, "first call", first_s, "")
        hop.round_trip_ms = _round_trip(node)
    except Error as error:
        _failed(hop, error, "first call", up)
        return None
    hop.lacks = {str(name): str(why) for name, why in seen["lacks"].items()}
    hop.ok = True
    return node


def _connected(hop: Hop, node: ramet.Node, took_s: float) -> None:
    """All stages up to the kernel went well: when, and what was found."""
    facts, at = node.facts, node._state.steps
    hop.python = f"{facts.get('implementation')} {facts.get('version')}"
    hop.executable = str(facts.get("executable"))
    hop.form = "source" if facts.get("form") == "source" or node._state.form == "source" else "bytecode"
    start_s = at.get("start", 0.0)
    answer_s = at.get("answer", start_s)
    python_s = at.get("python", answer_s)
    for stage in hop.stages:
        if stage.stage == "start":
            _ended(hop, "start", start_s, "")
        elif stage.stage in ("authenticate", "escalate"):
            _ended(hop, stage.stage, answer_s - start_s if "answer" in at else None,
                   "a question was answered" if "answer" in at else "without a question")
        elif stage.stage == "find-python":
            _ended(hop, "find-python", python_s - answer_s, f"{hop.python}, {hop.executable}")
        elif stage.stage == "bootstrap":
            _ended(hop, "bootstrap", took_s - python_s, f"the kernel as {hop.form}")
        elif stage.stage == "resolve":
            _ended(hop, "resolve", None, "")


def _ended(hop: Hop, name: str, seconds: float | None, detail: str) -> None:
    for stage in hop.stages:
        if stage.stage == name:
            stage.verdict, stage.detail = "ok", detail
            stage.ms = None if seconds is None else round(seconds * 1e3, 1)


def _failed(hop: Hop, error: Error, name: str, began: float) -> None:
    """A stage failed; those before it went well."""
    if name not in [stage.stage for stage in hop.stages]:
        hop.stages = sorted([*hop.stages, Stage(name)], key=lambda stage: STAGES.index(stage.stage))
    reached = STAGES.index(name)
    for stage in hop.stages:
        if STAGES.index(stage.stage) < reached and stage.verdict != "ok":
            stage.verdict = "ok"
        elif stage.stage == name:
            stage.verdict, stage.ms = "failed", round((time.perf_counter() - began) * 1e3, 1)
            stage.detail = getattr(error, "cause", "") or str(error).partition("\n")[0]
    hop.error = {"type": type(error).__name__, "text": str(error)}
    if isinstance(error, ConnectError):
        hop.error.update(stage=error.stage, command=error.command, status=error.status, cause=error.cause, remedy=error.remedy,
                         seen=error.seen)


def _round_trip(node: ramet.Node, clock: Callable[[], float] = time.perf_counter) -> float:
    """The median of some calls, in milliseconds."""
    took = []
    for _ in range(ROUND_TRIPS):
        began = clock()
        node.options(timeout=CALL_TIMEOUT_S).call(max, 1, 2)
        took.append(clock() - began)
    return round(statistics.median(took) * 1e3, 2)


_STYLES = {"ok": "green", "failed": "bold red", "not reached": "dim"}


class _Printer:
    """Prints hops for people."""

    def __init__(self) -> None:
        self.out = Console(soft_wrap=True, highlight=False, markup=False)

    def hop(self, number: int, hop: Hop) -> None:
        """One hop, with all its stages."""
        self.out.print(Text.assemble((f"{number}. {harmless(hop.what)}", "bold")))
        for stage in hop.stages:
            took = "" if stage.ms is None else f"{stage.ms:,.0f} ms"
            self.out.print(Text.assemble("   ", (f"{stage.verdict:<12}", _STYLES[stage.verdict]),
                                         f"{stage.stage:<13}{took:>10}  ", harmless(stage.detail)))
        if hop.error and hop.error.get("remedy"):
            self._more("remedy", hop.error["remedy"])
        for line in str((hop.error or {}).get("seen") or "").splitlines()[-6:]:
            self._more("seen", line)
        if hop.round_trip_ms is not None:
            self._more("round trip", f"{hop.round_trip_ms:g} ms")
        for name, why in hop.lacks.items():
            self._more("lacks", f"{name}: {why}")

    def _more(self, name: str, text: str) -> None:
        self.out.print(Text.assemble("   ", (f"{name:<12}", "yellow"), harmless(text)))
