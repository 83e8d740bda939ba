"""Asking the user on this program's terminal, without showing what is typed.

The question is rich's prompt; what is typed is read here. Not by ``getpass``, which rich reads with: that can't be given up, so
a program that ends meanwhile would leave the terminal without its echo, and it keeps what was typed as a text that can't be
wiped. Called by threads that may block; one question at a time.
"""
from __future__ import annotations

import io
import os
import select
import termios
import threading
from collections.abc import Callable

# How often it is looked whether anybody still waits for the answer.
LOOK_EVERY_S = 0.1

# What a terminal's line may hold (POSIX's MAX_CANON is 255 at least; Linux has 4,096).
LINE_BYTES_MAX = 4096

_ONE = threading.Lock()

#: The threads that are asking. Who ends the program waits for them: each one puts the terminal right.
ASKING: set[threading.Thread] = set()


class NobodyAnswers(Exception):
    """The user can't be asked, or gave no answer. The text is for the connection's own error."""


def ask(question: str, wanted: Callable[[], bool], shown: bool = False) -> bytearray:
    """Ask, and wait for a line.

    Args:
        question: shown as it is, without what controls a terminal; a host's or node's name may be in it.
        wanted: whether somebody still waits for the answer; it is given up otherwise.
        shown: with an echo.

    Raises:
        NobodyAnswers: there is no terminal, it was closed, or nobody wants to know any more.
    """
    with _ONE:
        try:
            fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            raise NobodyAnswers(f"there is no terminal to ask on ({error.strerror}): {question.strip()} "
                                "Take it from elsewhere (Secret.env, Secret.keyring, a function), or give how=") from error
        ASKING.add(threading.current_thread())
        try:
            return _asked(fd, question, wanted, shown)
        finally:
            os.close(fd)
            ASKING.discard(threading.current_thread())


def _asked(fd: int, question: str, wanted: Callable[[], bool], shown: bool) -> bytearray:
    before = termios.tcgetattr(fd)
    quiet = termios.tcgetattr(fd)
    if not shown:
        quiet[3] &= ~termios.ECHO       # line by line, and Ctrl-C as ever
    typed = bytearray()
    try:
        termios.tcsetattr(fd, termios.TCSAFLUSH, quiet)
        os.write(fd, shown_as(question, os.get_terminal_size(fd).columns).encode("utf-8", "replace"))
        while not typed.endswith(b"\n"):
            if not wanted():
                raise NobodyAnswers("nobody waits for the answer any more")
            if select.select([fd], [], [], LOOK_EVERY_S)[0]:
                data = os.read(fd, LINE_BYTES_MAX)
                if not data or len(typed) > LINE_BYTES_MAX:
                    raise NobodyAnswers(f"no answer was given: {question.strip()}")
                typed += data
        while typed and typed[-1] in b"\r\n":
            typed.pop()
        return typed
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        os.write(fd, b"" if shown else b"\n")


def shown_as(question: str, columns: int) -> str:
    """A question as rich's prompt, in bold where the terminal has that, with the space behind it where the answer goes.

    rich is imported when there is something to ask: importing it takes longer than to connect.
    """
    text = "".join(c for c in question.strip() if c.isprintable() or c == "\n") + " "
    try:
        from rich.console import Console
        from rich.prompt import Prompt
        from rich.text import Text
    except ImportError:     # left out of a frozen program: the question matters more than its looks
        return text
    # Text, not markup: brackets and colons in a name are letters.
    prompt = Prompt(Text(text, "bold"))
    prompt.prompt_suffix = ""
    made = io.StringIO()
    console = Console(file=made, force_terminal=True, width=columns or 80, highlight=False)
    console.print(prompt.make_prompt(...), soft_wrap=True, end="")      # ...: there is no default
    return made.getvalue()
