"""The connector ``command``: anything else that gives an interpreter's stdio. Pure.

What it runs must connect stdin and stdout of the interpreter unchanged with its own; stderr is kept for diagnosis.
"""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ramet.connectors import CONNECT_TIMEOUT_S, Plan, Python, behind, texts
from ramet.secrets import Given


def plan(
    argv: Sequence[str],
    *,
    python: Python = None,
    shell: bool = False,
    terminal: bool = False,
    rules: Sequence[Mapping[str, Any]] = (),
    secrets: Mapping[str, Given] | None = None,
    env: Mapping[str, str | None] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    name: str | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> Plan:
    """Start an interpreter with a command: ``["docker", "exec", "-i", "app"]``, ``["chrt", "-i", "0"]`` ...

    Args:
        argv: the command; the interpreter and its arguments are added at its end.
        python: the interpreter over there, or a list with its flags. Default: one is looked for with ``sh`` over there.
        shell: add them as one word, for a command that hands it to a shell (as ``ssh host`` does).
        terminal: give the command a controlling terminal, on which ``rules`` answer its questions.
        rules: what to do at its questions and its end, see ``kernel/dialogue.py``.
        secrets: what the rules send, by name: texts, functions that give one, or ``ramet.Secret``.
        env, cwd: for the command, on the machine of the growing node.
        name: the node's name. Default: the command's.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable.
    """
    words = texts("argv", argv)
    if not words or not words[0]:
        raise ValueError("argv is empty: it needs at least the program")
    return behind(
        "command " + words[0], words, os.path.basename(words[0]), name, python, connect_timeout_s, shell=shell,
        shape="pipes+tty" if terminal else "pipes", rules=[dict(rule) for rule in rules], secrets=dict(secrets or {}),
        env=env, cwd=cwd,
    )  # fmt: skip
