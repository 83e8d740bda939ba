"""The command ``ramet``: a thin layer over the API. What runs here, a program of three lines can do as well.

Exit statuses, of every subcommand: 0 all went well, 1 something failed on a node or a node could not be reached, 2 the
command line is wrong, 130 interrupted.
"""

from __future__ import annotations

from typing import Annotated

import typer

import ramet
from ramet.cli import cache, demo, doctor, run

EPILOG = "Exit status: 0 all went well, 1 something failed, 2 the command line is wrong, 130 interrupted."

app = typer.Typer(
    name="ramet",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ramet {ramet.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is, and end.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Grow Python onto other machines, accounts and containers: nothing is installed there, nothing stays.

    ```
    ramet demo                        see it at work on this machine
    ramet run -H web1,web2 check.py   run main() of check.py on two hosts
    ramet doctor web1                 why a host can't be reached, or that all is well
    ramet cache                       what is kept on this disk between runs
    ```
    """


# What comes behind the script belongs to its function, options too.
app.command("run", epilog=EPILOG, context_settings={"allow_interspersed_args": False})(run.run)
app.command("doctor", epilog=EPILOG)(doctor.doctor)
app.command("demo", epilog=EPILOG)(demo.demo)
app.command("cache", epilog=EPILOG)(cache.cache)


def main() -> None:
    """Run the command line that this process was started with. Ends the process."""
    try:
        app()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
