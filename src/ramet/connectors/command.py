"""The connector ``command``: anything else that gives an interpreter's stdio. Pure.

What it runs must connect stdin and stdout of the interpreter unchanged with its own; stderr is kept for diagnosis.
"""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ramet.bootstrap import first_stage
from ramet.connectors import CONNECT_TIMEOUT_S, Plan, Python, make, name_from, python_words, shown
from ramet.kernel import dialogue
from ramet.kernel.spawn import NAME_HERE


def plan(
    argv: Sequence[str],
    *,
    python: Python = None,
    shell: bool = False,
    terminal: bool = False,
    rules: Sequence[Mapping[str, Any]] = (),
    secrets: Mapping[str, str] | None = None,
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
        secrets: what the rules send, by name.
        env, cwd: for the command, on the machine of the growing node.
        name: the node's name. Default: the command's.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable.
    """
    if isinstance(argv, str) or not all(isinstance(word, str) for word in argv):
        raise TypeError(f"argv is a list of texts, not {argv!r}")
    if not argv or not argv[0]:
        raise ValueError("argv is empty: it needs at least the program")
    words = python_words(python)
    rest = [first_stage.shell_command(words, NAME_HERE)] if shell else first_stage.command(words, NAME_HERE)
    dialogue.Dialogue(map(dict, rules), dict(secrets or {}))     # raises for a broken rule, here and now
    return make(
        "command " + argv[0], name_from(os.path.basename(argv[0])) if name is None else name, words, connect_timeout_s,
        argv=[*argv, *rest], command=shown([*argv, *(words or ["python"])]),
        shape="pipes+tty" if terminal else "pipes", rules=[dict(rule) for rule in rules], secrets=dict(secrets or {}),
        env=env, cwd=cwd,
    )  # fmt: skip
