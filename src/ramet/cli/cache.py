"""``ramet cache``: what is kept on this machine's disk between runs, and getting rid of it."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ramet.bootstrap import cache as kept


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove all that is kept.")] = False,
) -> None:
    """Show where packed modules are kept between runs, and how much that is; or remove them.

    It is only ever read and written on the machine where your program runs, never on others, and can be removed at any
    time. RAMET_CACHE in the environment says how many megabytes may be kept (64), or `off`; XDG_CACHE_HOME says where.

    Examples:

    ```
    ramet cache                      folder, number of files, bytes
    ramet cache --clear              start anew
    RAMET_CACHE=off python app.py    neither read nor write it
    ```
    """
    if clear:
        typer.echo(f"{kept.clear()} files removed")
    files = kept.files()
    said = os.environ.get(kept.SETTING, "")
    typer.echo(f"folder  {kept.folder() or 'none: neither XDG_CACHE_HOME nor HOME is an absolute path'}")
    typer.echo(f"files   {len(files):,}")
    typer.echo(f"bytes   {sum(size for _, size, _ in files):,} of at most {kept.bytes_max():,}")
    if said and not kept.is_setting(said):
        typer.echo(f"{kept.SETTING}={said!r} is neither a number of megabytes nor 'off', so it is ignored", err=True)
        raise typer.Exit(2)
