"""Containers for one node, for programs that have no ``run --rm``: made, used, and removed at its end in every case. Pure.

What removes it waits in a session of its own at the end of a pipe: when the program's whole process group is killed, the pipe
ends without a status, and it does its work all the same. It tries for a while: a daemon may still be busy making the container
that nobody wants any more, or with what ran in it.
"""
from __future__ import annotations

import shlex
from collections.abc import Sequence

from ramet.connectors import Plan, Python, argument, behind, python_words, shown
from ramet.connectors.rules import Rule

# The name of the container stands in "$n". {use}'s status goes through the pipe, and is then the whole's.
_SCRIPT = (
    'n=ramet-$(od -An -N6 -tx1 /dev/urandom|tr -d " \\n"); exec 3>&1; '
    '{{ {make} </dev/null >&2 && printf m && {use} "$@" >&3 3>&-; echo $?; }}|'
    "$(command -v setsid) sh -c {remove} sh \"$n\" >/dev/null 2>&1 3>&-"
)
# What comes through the pipe: "m" when it was made, and the status. With a status alone there is nothing to remove.
_REMOVE = (
    's=$(cat); n=$1; i=0; case $s in m*) s=${{s#m}};; ?*) i=9;; esac; '
    "until {remove} || [ $((i+=1)) -gt 9 ]; do sleep 1; done; exit ${{s:-1}}"
)


def one_of_its_own(
    connector: str,
    image: str,
    make: Sequence[str],
    use: Sequence[str],
    remove: Sequence[str],
    name: str | None,
    python: Python,
    connect_timeout_s: float,
    rules: list[Rule],
) -> Plan:
    """The plan for an interpreter in a container of its own.

    Args:
        connector: its name, for people.
        make, use, remove: the commands; ``NAME`` in them is the container's name.
    """
    head = ["sh", "-c", _SCRIPT.format(make=_words(make), use=_words(use),
                                       remove=shlex.quote(_REMOVE.format(remove=_words(remove)))), "sh"]  # fmt: skip
    made = behind(f"{connector} image {argument('image', image)}", head, image, name, python, connect_timeout_s, rules=rules)
    made["command"] = f"{shlex.join(make)} && {shown([*use, *(python_words(python) or ['python'])])}"
    return made


def _words(command: Sequence[str]) -> str:
    return " ".join('"$n"' if word == "NAME" else shlex.quote(word) for word in command)
