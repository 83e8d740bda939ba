"""Connectors: how to start an interpreter somewhere and get hold of its stdio. Data, no IO.

A connector is a module with one function ``plan(..., name=None, python=None, connect_timeout_s=30.0)`` that checks its
options and returns a *plan*: a plain dict, so that it travels to the node that carries it out (``kernel/grow.py`` plays any
plan, on any Python, without a connector's code). ``make`` puts one together:

==========  ===========================================================================================================
what        the connection in words, for errors: "ssh web1"
name        the node's name, as ``ps`` will show it
argv        the program and its arguments; the name's place in it is ``spawn.NAME_HERE``. Empty for an interpreter that is
            started directly: then ``python`` says which, and it is looked for where the plan is carried out
command     argv for people, with the first stage as "…"
python      the interpreter asked for and its flags, or None
shape       "socket", "pipes" or "pipes+tty", see ``kernel/spawn.py``
stub        the program that an interpreter started directly reads from its stdin, or None
form        the form of code that the interpreter takes, where that is known beforehand, or None
env         changes to the environment of the program: name -> value, or None to take it away
cwd         the folder it is started in, or None
rules       what to do at prompts and ends, see ``kernel/dialogue.py``
secrets     name -> text, for the rules. Never in argv, command, env or rules; never shown
timeout_s   how long connecting may take in all
==========  ===========================================================================================================
"""
from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

Plan = dict[str, Any]

#: An interpreter: its name or path, or a command with its arguments; None for "find one".
Python = str | os.PathLike[str] | Sequence[str] | None

CONNECT_TIMEOUT_S = 30.0

NAME_CHARS_MAX = 64
_NAME = re.compile(r"[A-Za-z0-9_.@:-]+", re.ASCII)


def make(
    what: str, name: str, python: list[str] | None, connect_timeout_s: float, *,
    env: Mapping[str, str | None] | None = None, cwd: str | os.PathLike[str] | None = None, **fields: Any,
) -> Plan:
    """A plan with every field in it, and what all connectors have in common checked.

    Args:
        what: the connection in words.
        name: the node's name.
        python: as ``python_words`` gives it.
        connect_timeout_s: how long connecting may take in all, in seconds.
        env, cwd: for the program, as they were given.
        fields: the other fields; those that aren't given get a value that means nothing.

    Raises:
        TypeError: something in env is neither a text nor (as a value) None.
        ValueError: the name or the time is unusable.
    """
    if isinstance(connect_timeout_s, bool) or not 0 < connect_timeout_s < float("inf"):
        raise ValueError(f"connect_timeout_s must be a positive number of seconds, not {connect_timeout_s!r}")
    for key, value in (env or {}).items():
        if not isinstance(key, str) or not (value is None or isinstance(value, str)):
            raise TypeError(f"env= maps names to texts, or to None to take them away; not {key!r}")
    plan: Plan = {
        "what": what, "name": check_name(name), "python": python, "timeout_s": float(connect_timeout_s),
        "argv": [], "command": "", "shape": "pipes", "stub": None, "form": None,
        "env": None if env is None else dict(env), "cwd": None if cwd is None else os.fspath(cwd), "rules": [], "secrets": {},
    }  # fmt: skip
    unknown = set(fields) - set(plan)
    if unknown:
        raise TypeError(f"a plan has no field {', '.join(sorted(unknown))}")
    plan.update(fields)
    return plan


def check_name(name: str) -> str:
    """The name itself, if a node may be called so.

    Raises:
        ValueError: it is empty, too long, or has other characters than letters, digits and ``_.@:-``.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > NAME_CHARS_MAX:
        raise ValueError(f"a node's name is 1 to {NAME_CHARS_MAX} of A-Z a-z 0-9 _ . @ : -, not {name!r}")
    return name


def name_from(text: str) -> str:
    """A name made of any text, such as a host's or a program's."""
    return re.sub(r"[^A-Za-z0-9_.@:-]+", "_", text)[:NAME_CHARS_MAX] or "node"


def python_words(python: Python) -> list[str] | None:
    """The interpreter that was asked for, as a list of words.

    Raises:
        TypeError: it is neither a text, a path, a sequence of texts, nor None.
        ValueError: it is empty.
    """
    if python is None:
        return None
    words = [os.fspath(python)] if isinstance(python, str | os.PathLike) else list(python)
    if not all(isinstance(word, str) for word in words):
        raise TypeError(f"python= takes a name, a path, or a command as a list of texts, not {python!r}")
    if not words or not words[0]:
        raise ValueError("python= is empty; leave it away to have an interpreter found")
    return words


def shown(argv: Sequence[str]) -> str:
    """A command as one would type it, with the first stage as "…"."""
    return shlex.join(argv) + " …"
