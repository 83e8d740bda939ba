"""``Desk``: gets the secrets that dialogues ask for while nodes grow, for what this program grows and for what nodes grow.

It knows what is growing, who grows it and which secrets were declared for it; nobody else gets any. What may block, a function
or the user, runs on threads of its own, a few at most, that end when there is nothing to do. Thread-safe; all but those threads
return at once.
"""
from __future__ import annotations

import collections
import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ramet import codec, terminal
from ramet.kernel import dialogue
from ramet.kernel.errors import AuthenticationError, ClosedError, ConnectError, ProtocolError
from ramet.kernel.frames import CONTROL
from ramet.secret_groups import Group, Question
from ramet.secrets import Secret, SecretError, checked

if TYPE_CHECKING:
    from ramet.kernel.core import Core, Message

# How many functions for secrets run at a time; each of them may block.
THREADS_MAX = 8

# When none can be started, that is tried again after so long.
AGAIN_S = 0.1

# How long the end of a question on the terminal is waited for.
GIVE_UP_S = 2.0

# What a question's text, from a node, may have.
TEXT_CHARS_MAX = 2000


@dataclass(eq=False)
class Opened:
    """What is growing, and may ask.

    Attributes:
        who: in words, for the user: "ssh web1".
        by: the number of the node that grows it.
        secrets: those that must be got, by name.
        left: how often each may still be asked for.
    """

    who: str
    by: int
    secrets: dict[str, Secret]
    left: dict[str, int] = field(default_factory=dict)


class Desk:
    """Answers for one tree.

    Args:
        core: of the tree.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = threading.Lock()
        self._open: dict[int, Opened] = {}
        self._jobs: collections.deque[Callable[[], Any]] = collections.deque()
        self._threads: set[threading.Thread] = set()
        self._short = False     # of a thread: another try is due

    # ------------------------------------------------------------------ what grows

    def open(self, id: int, by: int, plan: dict[str, Any]) -> dict[str, Any]:
        """Something begins to grow, which may ask for its secrets from now on.

        Args:
            id: its number.
            by: the number of the node that grows it; 0 for this program.

        Returns:
            The plan as it travels there: secrets that are known go along, the others are asked for when they are needed.
        """
        wanted = {name: secret for name, secret in plan["secrets"].items() if not secret.known}
        if wanted:
            limits = {name: sum(rule.get("max", 1) for rule in plan["rules"] if rule.get("secret") == name) for name in wanted}
            with self._lock:
                self._open[id] = Opened(f"{plan['what']}, node {plan['name']}", by, wanted, limits)
        if not by:
            return plan
        secrets = {name: bytes(secret.copied()) if secret.known else None for name, secret in plan["secrets"].items()}
        return {**plan, "secrets": secrets}

    def settle(self, id: int, error: BaseException | None = None) -> None:
        """It has grown, or failed: it may ask for nothing more."""
        with self._lock:
            opened = self._open.pop(id, None)
        if opened is None:
            return
        taken: bool | None = True
        if error is not None:
            stage = error.stage if isinstance(error, ConnectError) else ""
            refused = isinstance(error, AuthenticationError) and "refused" in error.cause
            taken = False if refused else stage in ("find-python", "bootstrap") or None
        for group in {secret._group for secret in opened.secrets.values() if secret._group}:
            if group.settled((self, id), taken, opened.who):
                self._run(functools.partial(self._ask, group))

    def close(self) -> None:
        """Nothing grows any more: whoever asks the user gives it up, and puts the terminal right, before this returns."""
        with self._lock:
            ids, threads = list(self._open), list(self._threads)
        for id in ids:
            self.settle(id, ClosedError("the tree was closed"))
        for thread in threads:
            if thread in terminal.ASKING:
                thread.join(GIVE_UP_S)

    # ------------------------------------------------------------------ questions

    def asker(self, id: int) -> Callable[..., None]:
        """Answers the questions of what this program itself grows; see ``kernel/questions.py``."""
        return lambda name, attempt, text, answer: self._question(id, 0, name, text, answer)

    def on_question(self, message: Message) -> None:
        """A node asks for a secret of what it grows: [id, name, attempt, text]. Only who was told to grow it gets it."""
        body = codec.decode(message.body)
        if message.authority != message.src or not isinstance(body, list) or list(map(type, body)) != [int, str, int, str]:
            raise ProtocolError("no question for a secret is like this")
        id, name, _, text = body

        def answer(value: bytearray | None, why: str = "") -> None:
            self._core.reply(message, codec.encode([None if value is None else bytes(value), why]), CONTROL)
        self._question(id, message.src, name, text, answer)

    def _question(self, id: int, by: int, name: str, text: str, answer: Callable[..., Any]) -> None:
        with self._lock:
            opened = self._open.get(id)
            secret = opened.secrets.get(name) if opened and opened.by == by else None
            if opened is not None and secret is not None:
                opened.left[name] -= 1
        if opened is None or secret is None or opened.left[name] < 0:
            self._core.refused += 1
            answer(None, "it asked for a secret that isn't for it")
            return
        text = dialogue.to_text(dialogue.to_bytes(text))[-TEXT_CHARS_MAX:]
        question = Question(opened.who, (self, id), text, lambda: id in self._open, answer)
        group = secret._group
        if group is None:
            self._run(functools.partial(self._get, secret, question))
            return
        must_ask = group.want(question)
        if id not in self._open:    # it was settled meanwhile, before it was in line: nobody else gives its turn on
            must_ask |= group.settled((self, id), None)
        if must_ask:
            self._run(functools.partial(self._ask, group))

    def _get(self, secret: Secret, question: Question) -> None:
        try:
            value = secret.fetch(question)
        except SecretError as error:
            question.give(None, f"a secret can't be had: {error}")
        except BaseException as error:
            question.give(None, f"a secret can't be had: {secret!r} raised {type(error).__name__}: {error}")
        else:
            question.give(bytearray(value.encode("utf-8", "surrogateescape")), "")

    def _ask(self, group: Group) -> None:
        """Ask the user. Ends when there is an answer, or nobody waits for one any more."""
        again = True
        while again:
            try:
                value = terminal.ask(group.words() + ": ", group.wanted) if group.how is None else \
                    bytearray(checked(group.how(group.words())).encode("utf-8", "surrogateescape"))
            except BaseException as error:
                again = group.answered(None, f"a secret can't be had: {error}")
            else:
                again = group.answered(value)

    # ------------------------------------------------------------------ threads

    def _run(self, job: Callable[[], Any]) -> None:
        with self._lock:
            self._jobs.append(job)
            self._hire()

    def _again(self) -> None:
        with self._lock:
            self._short = False
            for _ in self._jobs:
                self._hire()

    def _hire(self) -> None:
        """Start one more thread. With the lock. If there is none to be had, it isn't who asks that could do anything."""
        if self._short or len(self._threads) >= THREADS_MAX:
            return
        try:
            thread = threading.Thread(target=self._work, name="ramet-asking", daemon=True)
            thread.start()
            self._threads.add(thread)
        except (RuntimeError, MemoryError):
            self._core.loop.call_later(AGAIN_S, self._again)
            self._short = True

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._threads.discard(threading.current_thread())
                    return
                job = self._jobs.popleft()
            try:
                job()
            except Exception as error:      # else this thread would count for ever
                self._core.loop.on_error(error)
