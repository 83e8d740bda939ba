"""Connectors: how to start an interpreter somewhere and get hold of its stdio. Data, no IO.

A connector is a module with one function ``plan(..., name=None, python=None, connect_timeout_s=30.0)`` that checks its
options and returns a *plan*: a plain dict, so that it travels to the node that carries it out (``kernel/grow.py`` plays any
plan, on any Python, without a connector's code). ``make`` puts one together:

==========  ===========================================================================================================
what        the connection in words, for errors: "ssh web1"
name        the node's name, as ``ps`` will show it
argv        the program and its arguments; the name's place in it is ``settling.NAME_HERE``. Empty for an interpreter that is
            started directly: then ``python`` says which, and it is looked for where the plan is carried out
command     argv for people, with the first stage as "…"
python      the interpreter asked for and its flags, or None
shape       "socket", "pipes" or "pipes+tty", see ``kernel/spawn.py``; "kept": nothing is started, see ``kernel/coming_back.py``
stub        the program that an interpreter started directly reads from its stdin, or None
form        the form of code that the interpreter takes, where that is known beforehand, or None
env         changes to the environment of the program: name -> value, or None to take it away
cwd         the folder it is started in, or None
rules       what to do at prompts and ends, see ``kernel/dialogue.py``
secrets     name -> ``ramet.Secret``, for the rules; those that are known beforehand travel with the plan, as bytes. Never in
            argv, command, env or rules; never shown
timeout_s   how long connecting may take in all
==========  ===========================================================================================================
"""
from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ramet.bootstrap import first_stage, wishes
from ramet.kernel import dialogue
from ramet.kernel.limits_late import wait_s_max
from ramet.kernel.settling import NAME_HERE
from ramet.secrets import secret

Plan = dict[str, Any]

#: An interpreter: its name or path, a virtual environment's folder, a version such as ">=3.8", or a command with its arguments;
#: None for "find one".
Python = str | os.PathLike[str] | Sequence[str] | None

CONNECT_TIMEOUT_S = 30.0

#: How a program is connected, see ``kernel/spawn.py``.
SHAPES = ("socket", "pipes", "pipes+tty", "kept")

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
        connect_timeout_s: how long connecting may take in all, in seconds; a day at most.
        env, cwd: for the program, as they were given.
        fields: the other fields; those that aren't given get a value that means nothing.

    Raises:
        TypeError: something in env is neither a text nor (as a value) None.
        ValueError: the name or the time is unusable, or a rule is broken.
    """
    if isinstance(connect_timeout_s, bool) or not 0 < connect_timeout_s < float("inf"):
        raise ValueError(f"connect_timeout_s must be a positive number of seconds, not {connect_timeout_s!r}")
    for key, value in (env or {}).items():
        if not isinstance(key, str) or not (value is None or isinstance(value, str)):
            raise TypeError(f"env= maps names to texts, or to None to take them away; not {key!r}")
    plan: Plan = {
        "what": what, "name": check_name(name), "python": python, "timeout_s": min(float(connect_timeout_s), wait_s_max),
        "argv": [], "command": "", "shape": "pipes", "stub": None, "form": None,
        "env": None if env is None else dict(env), "cwd": None if cwd is None else os.fspath(cwd), "rules": [], "secrets": {},
    }  # fmt: skip
    unknown = set(fields) - set(plan)
    if unknown:
        raise TypeError(f"a plan has no field {', '.join(sorted(unknown))}")
    plan.update(fields)
    secrets = {name: secret(name, value) for name, value in plan["secrets"].items()}
    plan["secrets"] = {name: value for name, value in secrets.items() if value is not None}
    # What is asked for anew may be typed once more.
    plan["rules"] = [
        {**rule, "max": max(rule.get("max", 1), plan["secrets"][rule["secret"]].tries)} if rule.get("secret") in plan["secrets"]
        else dict(rule) for rule in plan["rules"]]  # fmt: skip
    if plan["argv"] and not any(rule.get("status") == 97 for rule in plan["rules"]):
        plan["rules"] += not_found(python)
    dialogue.Dialogue(plan["rules"], plan["secrets"])   # raises for a broken rule, here and now
    return plan


def not_found(python: Sequence[str] | None) -> list[dict[str, Any]]:
    """The rule for the end of a search for an interpreter that found none: what was looked for, and where."""
    wish = wishes.find(python)
    if wish is None:
        return []
    tried = ", ".join(shlex.split(" ".join(wish.candidates))).removeprefix(wishes.KNOWN_HERE + ", ")
    what = f"Python {wish.words}" if wish.check else f"interpreter {wish.words}" if wish.words else "Python interpreter"
    return [{"on": "exit", "status": 97, "error": "PythonNotFoundError", "stage": "find-python",
             "text": f"no {what} was found over there; tried: {tried}",
             "remedy": "install one there, or say where it is: python="}]


def check_plan(plan: Mapping[str, Any]) -> Plan:
    """A copy of a plan that somebody's own connector made, if it is whole.

    Raises:
        ValueError: it isn't a plan as ``make`` gives it; the text says what is wrong.
    """
    try:
        made = make(**{key: value for key, value in dict(plan).items() if key != "timeout_s"},
                    connect_timeout_s=dict(plan)["timeout_s"])  # fmt: skip
    except (TypeError, KeyError) as error:
        raise ValueError(f"this is no plan, as ramet.connectors.behind() and make() make them: {error}") from error
    if made["shape"] not in SHAPES or bool(made["argv"]) == bool(made["stub"]):
        raise ValueError(f"a plan has a shape of {', '.join(SHAPES)} (not {made['shape']!r}), and either an argv or a stub")
    return made


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
        ValueError: it is empty, or wishes for a version that there can't be.
    """
    if python is None:
        return None
    words = [os.fspath(python)] if isinstance(python, str | os.PathLike) else list(python)
    if not all(isinstance(word, str) for word in words):
        raise TypeError(f"python= takes a name, a path, or a command as a list of texts, not {python!r}")
    if not words or not words[0]:
        raise ValueError("python= is empty; leave it away to have an interpreter found")
    wishes.find(words)
    return words


def shown(argv: Sequence[str]) -> str:
    """A command as one would type it, with the first stage as "…"."""
    return shlex.join(argv) + " …"


def behind(
    what: str,
    head: Sequence[str],
    default_name: str,
    name: str | None,
    python: Python,
    connect_timeout_s: float,
    shell: bool = False,
    **fields: Any,
) -> Plan:
    """A plan for a program that runs a command with its own stdin and stdout: ``sudo -n``, ``docker exec -i app``.

    Args:
        head: the program and its arguments; the interpreter and its arguments are put behind.
        default_name: what the node's name is made of if there is no ``name``.
        shell: put them behind as one word, which the program hands to a shell.
        fields: the other fields of the plan.
    """
    words = python_words(python)
    rest = [first_stage.shell_command(words, NAME_HERE)] if shell else first_stage.command(words, NAME_HERE)
    return make(what, name_from(default_name) if name is None else name, words, connect_timeout_s,
                argv=[*head, *rest], command=shown([*head, *(words or ["python"])]), **fields)  # fmt: skip


def texts(what: str, words: Sequence[str]) -> list[str]:
    """A list of texts: more arguments for a program.

    Raises:
        TypeError: it is something else; one text isn't a list of texts.
    """
    if isinstance(words, str) or not all(isinstance(word, str) for word in words):
        raise TypeError(f"{what} is a list of texts, not {words!r}")
    return list(words)


def argument(what: str, text: Any) -> str:
    """A text that a program takes for what it is meant to be, and not for an option.

    Raises:
        TypeError, ValueError: it can't be that.
    """
    if not isinstance(text, str):
        raise TypeError(f"{what} is a text, not {text!r}")
    if not text or text.startswith("-") or "\0" in text:
        raise ValueError(f"{text!r} can't be a {what}: it is empty, begins with '-', or holds a zero byte")
    return text


def options(pairs: Mapping[str, Any]) -> list[str]:
    """Options of a program with their values: those that are None or False are left out, True has no value.

    Raises:
        TypeError: a value is something else than a text, a number or a path.
    """
    words: list[str] = []
    for option, value in pairs.items():
        if value is True:
            words.append(option)
        elif isinstance(value, str | int | os.PathLike) and value is not False:
            words += [option, str(os.fspath(value) if isinstance(value, os.PathLike) else value)]
        elif value not in (None, False):
            raise TypeError(f"the value of {option} is a text, not {value!r}")
    return words


def variables(env: Mapping[str, str] | None, option: str = "--env") -> list[str]:
    """More variables for what a program starts, as its options.

    Raises:
        TypeError: it isn't a mapping of texts to texts.
    """
    for key, value in (env or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"env= maps names to texts here (a variable can't be taken away); not {key!r}")
    return [word for key, value in (env or {}).items() for word in (option, f"{key}={value}")]


def beginning_in(workdir: str | os.PathLike[str] | None, env: Mapping[str, str] | None = None) -> list[str]:
    """Words before a command that start it in a folder and with more variables, for programs with no options for that.

    Raises:
        TypeError: env isn't a mapping of texts to texts.
    """
    named = variables(env)[1::2]
    words = ["env", *named] if named else []
    if workdir is None:
        return words
    return ["sh", "-c", 'cd -- "$1" && shift && exec "$@"', "sh", os.fspath(workdir), *words]
