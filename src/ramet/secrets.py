"""``Secret``: a password, passphrase or code, and where it comes from. It never shows itself.

Whatever takes a secret takes a text, a function that gives one, or a ``Secret``. Those that must be got from somewhere are got
when they are asked for, not before, and by a thread that may block (``asking``). It must not know of nodes or dialogues. All is
thread-safe.
"""
from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Callable
from typing import Any, TypeAlias, Union

from ramet import terminal
from ramet.kernel.hidden import Hidden
from ramet.secret_groups import Group, Question

# What can't be typed into a question.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class SecretError(Exception):
    """A secret can't be had. The text says why; it is for the connection's own error."""


class Secret(Hidden):
    """A secret, from where it is. No ``repr``, log record, traceback or pickle shows it.

    Args:
        value: the secret itself. Made by ``env``, ``keyring``, ``call`` or ``ask`` it isn't known before it is needed.

    Raises:
        TypeError, ValueError: it isn't a text, or can't be typed.
    """

    __slots__ = ("_get", "_group", "_what")

    def __init__(self, value: str) -> None:
        super().__init__(checked(value))
        self._what = "Secret"
        self._get: Callable[[Question], Any] | None = None
        self._group: Group | None = None

    @classmethod
    def env(cls, name: str) -> Secret:
        """The value that an environment variable of this program has when the secret is needed."""
        if not isinstance(name, str) or not name or "=" in name:
            raise ValueError(f"{name!r} is no variable's name")

        def get(question: Question) -> str:
            if name not in os.environ:
                raise SecretError(f"the environment variable {name} isn't set in this program")
            return os.environ[name]
        return cls._made(f"Secret.env({name!r})", get)

    @classmethod
    def keyring(cls, service: str, username: str) -> Secret:
        """What the user's keyring holds for a service and an account. It needs the package ``keyring``.

        Raises:
            ModuleNotFoundError: it isn't installed.
        """
        try:
            keyring = importlib.import_module("keyring")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("Secret.keyring() needs the package keyring: pip install keyring",
                                      name="keyring") from error

        def get(question: Question) -> str:
            found = keyring.get_password(service, username)
            if found is None:
                raise SecretError(f"the keyring has nothing for {username!r} of {service!r}: keyring set {service} {username}")
            return str(found)
        return cls._made(f"Secret.keyring({service!r}, {username!r})", get)

    @classmethod
    def call(cls, fn: Callable[[], Any]) -> Secret:
        """What a function gives when the secret is needed: each time anew, so it fits for codes that change.

        Args:
            fn: called without arguments, by a thread of its own, where it may block; or a coroutine function, run by an event
                loop of its own. It gives a text, or a ``Secret``.
        """
        if not callable(fn):
            raise TypeError(f"{fn!r} can't be called")
        return cls._made(f"Secret.call({getattr(fn, '__qualname__', type(fn).__qualname__)})", lambda question: fn())

    @classmethod
    def ask(cls, question: str, *, tries: int = 3, how: Callable[[str], str] | None = None) -> Secret:
        """One question to the user, asked once for all to which this very object is given; others are never answered by it.

        It is asked when the first host asks, on this program's terminal, without an echo. That host gets the answer; the others
        wait until it has taken it, so that a mistyped one is sent to one host only. When it is refused, the question is asked
        again, and the same text is never sent to that host again.

        Args:
            question: in your words; what a host writes is never shown instead.
            tries: how often it is asked at most, 1 to 10.
            how: asks in another way, with ``getpass.getpass`` say: called with the question, by a thread where it may block.
        """
        if not isinstance(question, str) or not question.strip():
            raise ValueError("Secret.ask() needs a question, such as 'sudo password of the web hosts'")
        if isinstance(tries, bool) or not isinstance(tries, int) or not 1 <= tries <= 10:
            raise ValueError(f"tries is a number from 1 to 10, not {tries!r}")
        made = cls._made(f"Secret.ask({question!r})", None)
        made._group = Group(question.strip(), tries, how)
        return made

    @classmethod
    def decide(cls, fn: Callable[[str], Any] | None) -> Secret:
        """An answer of "yes" or "no" by who is shown the question: a function, or None for the user. It is no secret."""
        def get(question: Question) -> str:
            if fn is not None:
                return "yes" if fn(question.text) else "no"
            text = f"{question.who}:\n{question.text.strip()} "
            answer = terminal.ask(text, question.wanted, shown=True)
            return "yes" if bytes(answer).strip().lower() in (b"yes", b"y") else "no"
        return cls._made("an answer", get)

    @classmethod
    def _made(cls, what: str, get: Callable[[Question], Any] | None) -> Secret:
        made = cls.__new__(cls)
        Hidden.__init__(made)
        made._what, made._get, made._group = what, get, None
        return made

    @property
    def tries(self) -> int:
        """How often it may be sent to the same host: only what is asked for anew is another one the next time."""
        return self._group.tries if self._group else 1

    def reveal(self) -> str:
        """The secret as text, for what can't take a ``Secret``. May block.

        Raises:
            ValueError: it can't be had now. What its function raises.
        """
        if self._group:
            raise ValueError(f"{self!r} is asked for when a host asks for it")
        try:
            return self.fetch(Question(""))
        except SecretError as error:
            raise ValueError(str(error)) from None

    def fetch(self, question: Question) -> str:
        """Get it for a question. May block.

        Raises:
            SecretError: it isn't where it should be. What its function raises.
        """
        if self._get is None:
            return str(self.text())
        value = self._get(question)
        if inspect.iscoroutine(value):
            import asyncio
            value = asyncio.run(value)
        return checked(value)

    def wipe(self) -> None:
        """Forget the value, overwritten in memory. What was made by ``ask`` is asked for anew the next time."""
        super().wipe()
        if self._group:
            self._group.forget()

    def __repr__(self) -> str:
        return f"<{self._what}>" if self._get or self._group else super().__repr__()


def checked(value: Any) -> str:
    """A text that can be typed.

    Raises:
        TypeError, ValueError: it is none. The text is never in the error.
    """
    if isinstance(value, Secret):
        value = value.reveal()
    if not isinstance(value, str):
        raise TypeError("a secret must be a text")
    if _CONTROL.search(value):
        raise ValueError("a secret has a control character in it, which can't be typed")
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError("a secret has half a character in it, a lone surrogate, which can't be typed") from None
    return value


def secret(what: str, value: Any) -> Secret | None:
    """What was given for a secret as a ``Secret``; None if nothing was.

    Raises:
        TypeError, ValueError: it isn't a text, a function or a Secret, or can't be typed. The text is never in the error.
    """
    if value is None or isinstance(value, Secret):
        return value
    if isinstance(value, str):
        if _CONTROL.search(value):
            raise ValueError(f"{what} has a control character in it, which can't be typed")
        return Secret(value)
    if callable(value):
        return Secret.call(value)
    raise TypeError(f"{what} must be a text, a function that gives one, or a ramet.Secret")


#: What is taken for a secret.
Given: TypeAlias = Union[str, Callable[[], Any], Secret]  # noqa: UP007  (evaluated on 3.10, where a class has no "|" with a text)
