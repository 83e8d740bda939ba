"""``ramet run``: one function of a script on many hosts, and what came of it on each."""

from __future__ import annotations

import json
import logging
import pprint
import re
import sys
import time
import traceback
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

import ramet
from ramet.cli import script
from ramet.connectors import registry
from ramet.display import harmless, show


def run(
    target: Annotated[str, typer.Argument(metavar="SCRIPT.py[:FUNCTION]", show_default=False,
                                          help="The script, and which function of it (main).")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ARGS", show_default=False,
                                                          help="What the function is called with, as strings.")] = None,
    hosts: Annotated[list[str], typer.Option("-H", "--hosts", metavar="SPEC,SPEC…",
                                             help="Where to run it. May be given several times.")] = ["local:"],  # noqa: B006
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", show_default=False,
                                                  help="End the work on a host after so long.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a host, failures too.")] = False,
    ask_password: Annotated[bool, typer.Option("--ask-password", help="Ask for one password, for all ssh steps.")] = False,
    ask_sudo_password: Annotated[bool, typer.Option("--ask-sudo-password",
                                                    help="Ask for one password, for all sudo and doas steps.")] = False,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, show_default=False,
                                         help="-v: tell each host's Python, time, and tracebacks; -vv: traffic.")] = 0,
) -> None:
    """Run a function of a script on each host, and print what it returns there.

    The hosts need a Python interpreter and nothing else; the script travels along, with the modules of yours that it
    imports. It may be an old interpreter (2.7, 3.6 ...) if the script is fit for it.

    A SPEC is a host name as ssh knows it, an URL, or several hops, one through the other:

    ```
    web1    ssh://root@db1:2222    local:    ssh:gate/ssh:db1
    ```

    Examples:

    ```
    ramet run -H web1,web2 check.py                 main() on two hosts
    ramet run -H web1 check.py:disk_usage /var 90   disk_usage("/var", "90")
    ramet run check.py                              in a fresh interpreter here
    ramet run --ask-sudo-password -H web1/sudo:root check.py
    ramet run --json -H web1 check.py | jq .value   for another program
    ```

    Results go to stdout, failures to stderr; what the function prints appears behind its host's name.
    """
    logging.basicConfig(level={0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG), format="%(name)s: %(message)s")
    fn = _load(target, arguments or [])
    specs = [spec for option in hosts for spec in option.split(",") if spec]
    if not specs:
        raise typer.BadParameter("names no host", param_hint="-H")
    secrets = asked_secrets(ask_password, ask_sudo_password)
    report = Report(as_json, verbose)
    with ramet.Tree(on_output=_to_stderr if as_json else show) as tree:
        hosts_of: dict[ramet.Node, str] = {}
        for spec in specs:
            try:
                hosts_of[tree.connect(full_spec(spec), secrets)] = spec
            except ValueError as error:
                raise typer.BadParameter(f"{spec}: {error}", param_hint="-H") from None
        nodes = [node if timeout is None else node.options(timeout=timeout) for node in hosts_of]
        for node, outcome in tree.each(nodes, fn, *(arguments or [])):
            report.outcome(hosts_of[node], node, outcome)
        report.traffic(tree)
    if report.failed:
        raise typer.Exit(1)


def asked_secrets(ssh: bool, sudo: bool) -> dict[str, dict[str, ramet.Secret]]:
    """The options of steps, by connector, for the passwords that the user wants to be asked for: when the first host asks."""
    options = {}
    if ssh:
        options["ssh"] = {"password": ramet.Secret.ask("ssh password of these hosts")}
    if sudo:
        options["sudo"] = options["doas"] = {"password": ramet.Secret.ask("sudo password of these hosts")}
    return options


def _to_stderr(node: ramet.Node, stream: int, line: str) -> None:
    """Where stdout holds JSON, all that functions print goes to stderr."""
    show(node, 2, line)


def full_spec(text: str) -> str:
    """What a user types for a host, as ``Tree.connect`` takes it: a bare name is a host for ssh, with a port maybe."""
    first = re.split("[:/?]", text, maxsplit=1)[0]
    if first not in registry.names():
        name, _, port = re.split("[/?]", text, maxsplit=1)[0].partition(":")
        mistyped = "@" not in name and re.fullmatch("[A-Za-z][^:]*", port)      # no port: a connector that there isn't
        return text if mistyped else "ssh://" + text
    return text if text[len(first):len(first) + 1] in (":", "?") else f"{first}:{text[len(first):]}"


def _load(target: str, arguments: list[str]) -> Any:
    try:
        return script.load(target, arguments)
    except script.ScriptError as error:
        raise typer.BadParameter(str(error), param_hint="SCRIPT.py[:FUNCTION]") from None
    except Exception:
        traceback.print_exc()
        print(f"ramet: {target} can't be imported", file=sys.stderr)
        raise typer.Exit(2) from None


class Report:
    """Prints outcomes as they come, and counts the failures."""

    def __init__(self, as_json: bool, verbose: int) -> None:
        self.as_json = as_json
        self.verbose = verbose
        self.failed = 0
        self.began = time.monotonic()
        self.out = Console(soft_wrap=True, highlight=False, markup=False)
        self.err = Console(soft_wrap=True, highlight=False, markup=False, stderr=True)

    def outcome(self, host: str, node: ramet.Node, outcome: ramet.Outcome[Any]) -> None:
        """Print what came of one host."""
        name = node.name
        try:
            self._shown(host, node, outcome)
        except (ValueError, RecursionError) as error:       # a number of very many digits, say; others have results, too
            outcome = ramet.Outcome(error=error)
            self._shown(host, node, outcome)
        self.failed += not outcome.ok
        if self.verbose and node.error is None:
            facts, seconds = node.facts, time.monotonic() - self.began
            said = f"{facts.get('implementation')} {facts.get('version')} on {facts.get('host')}, pid {facts.get('pid')}"
            self._lines(self.err, name, "dim", f"{said}, after {seconds:.2f} s")

    def _shown(self, host: str, node: ramet.Node, outcome: ramet.Outcome[Any]) -> None:
        if self.as_json:
            self._json(host, node, outcome)
        elif outcome.ok:
            self._lines(self.out, node.name, "green", as_text(outcome.value))
        else:
            self._lines(self.err, node.name, "red", error_text(outcome.error, self.verbose > 0))

    def traffic(self, tree: ramet.Tree) -> None:
        """Print what went over the wire, where asked for."""
        if self.verbose > 1:
            self._lines(self.err, "ramet", "dim", ", ".join(f"{key} {value:,}" for key, value in tree.stats().items()))

    def _lines(self, console: Console, name: str, style: str, text: str) -> None:
        for line in text.splitlines() or [""]:
            console.print(Text.assemble((f"{name}: ", style), harmless(line)))

    def _json(self, host: str, node: ramet.Node, outcome: ramet.Outcome[Any]) -> None:
        error = outcome.error
        said: dict[str, Any] = {"host": host, "node": node.name, "ok": outcome.ok}
        if error is None:
            said["value"] = outcome.value
        else:
            said["error"] = str(error)
            said["type"] = getattr(error, "type_name", "") or type(error).__name__
        print(json.dumps(_with_texts_as_keys(said), default=repr), flush=True)


def _with_texts_as_keys(value: Any) -> Any:
    """The value, with each key that JSON doesn't know as Python would show it."""
    if isinstance(value, dict):
        return {key if isinstance(key, str | int | float | None) else repr(key): _with_texts_as_keys(item)
                for key, item in value.items()}  # fmt: skip
    return [_with_texts_as_keys(item) for item in value] if isinstance(value, list | tuple) else value


def as_text(value: Any) -> str:
    """A result for people: text as it is, nothing as "done", all else as Python would show it."""
    if value is None:
        return "done"
    return value if isinstance(value, str) else pprint.pformat(value, width=110)


def error_text(error: BaseException | None, with_traceback: bool) -> str:
    """A failure for people: its type and text, and where it was raised."""
    name = getattr(error, "type_name", "") or type(error).__name__
    trace = getattr(error, "traceback_text", "") if with_traceback else ""
    return (trace.rstrip() + "\n" if trace else "") + f"{name}: {error}"
