r"""The first stage: the command line that turns any interpreter into one that waits for the kernel.

It is made of three programs, each as short as it can be:

search       ``sh`` looks for an interpreter, where none was named, or only its version. Status 97: there is none.
first stage  says which interpreter it runs in (marker 1), and re-executes it under the node's name.
stub         what that one reads from its stdin; see ``kernel/stub.py``.

What the first stage does, in this order:

1. Keep the link: stdin becomes descriptor 9.
2. Write the stub into a pipe, which becomes stdin. It fits the pipe, so no second process is needed to write it
   (docs/decisions/0002-no-fork-first-stage.md).
3. Print ``\nRAMET1 <hexversion> <c or p>\n``. From then on the kernel may be sent.
4. Execute the same interpreter, with a true path and ``(ramet:NAME)`` behind it as argv[0], ``-B`` and the user's flags.

How an interpreter finds its prefix from argv[0], and what follows:

a. In a virtual environment, from the pyvenv.cfg beside or above it: so there argv[0] is its own path.
b. Else from where argv[0] really is, behind links. ``sys.prefix`` is what it found the first time, so its ``bin`` is a
   folder from which it will be found again, wherever a link to the interpreter lies (uv's way).
c. CPython that was installed has ``.../lib-dynload`` at the end of its ``sys.path``. Where that isn't so (PyPy, a build
   directory), nothing is known: there argv[0] is the true one, and the name is an argument.

What is assumed of the shell that the remote sshd hands the command to (sh, dash, bash, zsh, ksh, csh, tcsh, fish have been
tried; ``tests/targets/test_first_stage.py``):

1. Words are separated by blanks, and a word of safe characters is taken as it is.
2. In single quotes nothing is special but the single quote; in csh ``!``, in fish ``\`` before a quote or another one. So
   the text has none of these. It has ``\n``, which all leave alone.
3. Outside of quotes ``\`` makes any one character plain.
4. Quoted and unquoted parts without a blank between them are one word.
5. A line may have 620 characters (1,200 where a version is wished for); standard input and output are handed on as they
   are.

What a program between the shell and the interpreter may do to these, and what is done about it:

1. sudo with log_output makes its standard output non-blocking. Behind sshd that is one socket with standard input, and so the
   link's flag, too: a read of what hasn't come yet would fail. So the link is made blocking, where there may be such a program.
"""
from __future__ import annotations

import re
from collections.abc import Sequence

from ramet.bootstrap import wishes
from ramet.kernel import stub as stub_program

#: What can't be in single quotes everywhere: a quote, csh's "!", and a backslash where fish would take it for its own.
_SPECIAL = re.compile(r"(['!]|\\(?=[\\'!]|$))")

_BRIEF = (
    "from sys import*;from posix import*;"
    'a=argv;e=a[0]=executable;h,t=e.rsplit("/",1);k="-dy"in path[-1];'
    f'dup2(0,9);r,w=pipe();write(w,b"{stub_program.PROGRAM}");dup2(r,0);close(w);'
    r'print("\nRAMET1 %x "%hexversion+"pc"[k]);'
    'execv(e,k and[[prefix+"/bin",h][access(h+"/../pyvenv.cfg",0)]+"/"+t+a[-1]]+a[1:-2]or a)'
)
# F_SETFL: of what that sets, the link has nothing else. What lies in the current directory isn't imported for it.
_FIRST = _BRIEF.replace("dup2(0,9);", (
    r'dup2(0,9);del path[0];exec("try:\n from fcntl import*;fcntl(9,4,0)\nexcept ImportError:0");'))

_SEARCH = 'for p in %s;do command -v $p>/dev/null&&exec $p -uSBc "$0" "$@";done;exit 97'
# What is found must pass a check, too. A path may have blanks in it.
_CHECKED = 'c=$1;shift;for p in %s;do command -v "$p">/dev/null&&"$p" -SEc "$c"&&exec "$p" -uSBc "$0" "$@";done;exit 97'


def command(python: Sequence[str] | None, name: str, first: str = _FIRST) -> list[str]:
    """The words that start a node's interpreter and its first stage, to go behind the words of a connector.

    Args:
        python: the interpreter: its name or path and its flags, possibly behind a wrapper (``["nice", "python3", "-O"]``).
            None, or a wish for a version or an environment (see ``wishes``): ``sh`` looks for one.
        name: the node's name, as ``ps`` will show it. No slash, no control characters.
        first: the first stage's program.

    Raises:
        ValueError: it wishes for what there can't be.
    """
    wish = wishes.find(python)
    if wish is None:
        return [*(python or ()), "-uSBc", first, "-B", *wishes.flags(python or ()), "-", f"(ramet:{name})"]
    tail = ["-B", *wish.flags, "-", f"(ramet:{name})"]
    candidates = " ".join(wish.candidates)
    if wish.check:
        return [*wish.before, "sh", "-c", _CHECKED % candidates, first, wish.check, *tail]
    search = _SEARCH if python is None else _SEARCH.replace("$p", '"$p"')
    return [*wish.before, "sh", "-c", search % candidates, first, *tail]


def shell_command(python: Sequence[str] | None, name: str, brief: bool = False) -> str:
    """The same as one line for any login shell.

    Args:
        brief: nothing stands between that shell and the interpreter, but for what ``python`` names itself.

    Raises:
        ValueError: a word holds a newline or a zero byte, which not every shell can be given.
    """
    wrapped = python and wishes.flags(python) != list(python[1:])
    return " ".join(map(quote, command(python, name, _BRIEF if brief and not wrapped else _FIRST)))


def stub(fd: int) -> bytes:
    """The program for the stdin of an interpreter that is started without a first stage.

    Args:
        fd: its link, a socket.
    """
    return stub_program.program(fd)


def quote(word: str) -> str:
    """A word for any of the shells above."""
    if "\n" in word or "\0" in word:
        raise ValueError(f"no login shell can be given the word {word!r}")
    if word and all(c.isascii() and (c.isalnum() or c in "_@%+=:,./-") for c in word) and word[0] != "=":
        return word
    return "".join(f"'{part}'" if number % 2 == 0 else "\\" + part
                   for number, part in enumerate(_SPECIAL.split(word)) if part or not word)
