"""What ``python=`` may wish for besides a program: a version, such as ``">=3.8"``, or a virtual environment. Pure.

A wish becomes a list of candidates for the search of the first stage, over there, in the order in which they are tried, and for
a version a check that each of them is put to: a few words of Python that end with status 0, or say on stderr what they are.
"""
from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: Stands in a search for the interpreter that fitted the last time, which is known last; if it is, see ``hosts``.
KNOWN_HERE = "RAMET.KNOWN"

#: In the order of preference. The third is where RHEL 8 keeps the one that its own tools use.
SEARCHED = ("python3", "python", "/usr/libexec/platform-python", "python2.7")

# The newest minor version of Python 3 that a program is looked for by its name; newer ones are found as `python3`.
_NEWEST = 19
# Where people have others: uv, and pyenv.
_ELSEWHERE = ("~/.local/bin/python3.*[0-9]", "~/.pyenv/versions/*/bin/python")

_OPERATORS: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
_CONDITION = re.compile(r"\s*(>=|<=|==|!=|~=|>|<)?\s*(\d{1,2}(?:\.\d{1,3}){0,2})(?:\.\*)?\s*", re.ASCII)
_INTERPRETER = re.compile(r"(python|pypy|platform-python)[\w.-]*", re.ASCII)


#: Flags that take the next word with them. What begins with any of these letters alone isn't a flag for a node.
_WITH_A_WORD = ("-X", "-W", "--check-hash-based-pycs")
_NO_FLAGS = ("-c", "-m", "-", "--", "-i", "-h", "-V")


@dataclass(frozen=True)
class Wish:
    """What is looked for over there.

    Attributes:
        before: words before the interpreter, a wrapper's.
        candidates: names and paths, fit to stand in a shell's program as they are.
        check: what each is put to, or "".
        flags: the interpreter's.
        words: what was wished for, for people.
    """

    before: tuple[str, ...]
    candidates: tuple[str, ...]
    check: str
    flags: tuple[str, ...]
    words: str


def find(python: Sequence[str] | None) -> Wish | None:
    """The wish in what was asked for; None: it is a program and its arguments.

    A version without an operator ("3.11") is one only where nothing else is asked for: it may be a wrapper's argument.

    Raises:
        ValueError: it begins like a version, and isn't one; or no Python that ramet runs on can fit it.
    """
    if python is None:
        return Wish((), SEARCHED, "", (), "")
    for at, word in enumerate(python):
        if (word[:1] in "<>=!~" and word) or (len(python) == 1 and word[:1].isdigit()):
            return _version(word, tuple(python[:at]), tuple(python[at + 1:]))
    if python[0] == "platform-python":
        return Wish((), ("/usr/libexec/platform-python", "platform-python"), "", tuple(python[1:]), "platform-python")
    folder = python[0].rstrip("/")
    if "/" in folder and flags(python) == list(python[1:]) and not _INTERPRETER.fullmatch(folder.rpartition("/")[2]):
        return Wish((), tuple(_shell(path) for path in (folder + "/bin/python", folder)), "", tuple(python[1:]), folder)
    return None


def flags(python: Sequence[str]) -> list[str]:
    """The interpreter's flags at the end of a command: the last two of ``["nice", "-n", "5", "python3", "-X", "utf8"]``."""
    fits = [False] * len(python) + [True, False]    # from each place on; behind the end, there is no word to take
    for at in range(len(python) - 1, 0, -1):
        takes = python[at] in _WITH_A_WORD
        fits[at] = _is_flag(python[at]) and fits[at + 1 + takes] and (not takes or python[at + 1] != "")
    return list(python[fits.index(True, min(1, len(python))):])


def _is_flag(word: str) -> bool:
    return word.startswith("-") and not word.startswith(_NO_FLAGS[:2]) and word not in _NO_FLAGS


def _version(text: str, before: tuple[str, ...], flags: tuple[str, ...]) -> Wish:
    conditions = [_CONDITION.fullmatch(part) for part in text.split(",")]
    if not all(conditions):
        raise ValueError(f"{text!r} is no wish for a version: write one such as '>=3.8', '>=3.8,<3.12', '3.11' or '==2.7'")
    tests: list[str] = []
    fits: list[Callable[[tuple[int, ...]], bool]] = []
    for condition in conditions:
        assert condition is not None    # `all` says so
        sign, parts = condition[1] or "==", tuple(map(int, condition[2].split(".")))
        if sign == "~=":
            tests += [_test(">=", parts), _test("==", parts[:-1] or parts)]
            fits += [_fit(">=", parts), _fit("==", parts[:-1] or parts)]
        else:
            tests.append(_test(sign, parts))
            fits.append(_fit(sign, parts))
    minors = [minor for minor in range(_NEWEST, 5, -1) if all(fit((3, minor)) for fit in fits)]
    two = all(fit((2, 7)) for fit in fits)
    candidates = [KNOWN_HERE]
    if minors:
        candidates += ["python3", *(f"python3.{minor}" for minor in minors), "/usr/libexec/platform-python", *_ELSEWHERE]
    if two:
        candidates += ["python2.7", "python2"]
    if not minors and not two:
        raise ValueError(f"no Python that a node runs on fits {text!r}: they are 2.7, and 3.6 or newer")
    check = ('from sys import*;v=version_info[:3];'
             f'exit(({" and ".join(tests)})-1 and"ramet: %s is Python %d.%d.%d"%((executable,)+v))')
    return Wish(before, (*candidates, "python"), check, flags, text.strip())


def _test(sign: str, parts: tuple[int, ...]) -> str:
    """A condition in Python. A version of two numbers stands for all that begin so."""
    return f"v[:{len(parts)}]{sign}({','.join(map(str, parts))},)"


def _fit(sign: str, parts: tuple[int, ...]) -> Callable[[tuple[int, ...]], bool]:
    """Whether a minor version can meet a condition, whatever its third number is."""
    if len(parts) > 2:
        sign, parts = {">": ">=", "<": "<=", "!=": ">="}.get(sign, sign), parts[:2] if sign != "!=" else (0,)
    return lambda version: _OPERATORS[sign](version[:len(parts)], parts)


def _shell(path: str) -> str:
    """A path as a word of a shell's program, with `~` as the home folder over there."""
    home, path = ("~/", path[2:]) if path.startswith("~/") else ("", path)
    return home + "'" + path.replace("'", "'\\''") + "'"
