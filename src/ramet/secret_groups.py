"""``Group``: one question to the user for all that share a secret made by ``Secret.ask``. Pure but for its lock.

An answer is on trial until one has taken it. Meanwhile only that one has it, and the others wait: a mistyped password is sent
to one host, not to two hundred, which would lock the account of a directory that they share.

=============  ==========================================  =========================================================
the answer     when somebody wants it                      changes by
=============  ==========================================  =========================================================
none           they wait; the user is asked, if not yet    the user's answer
on trial       the first who waits gets it                 it was taken: good. Refused: none. Else: the next one's trial
good           they get it at once                         ``forget``
given up       they are refused                            ``forget``
=============  ==========================================  =========================================================
"""
from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ramet.kernel.hidden import Hidden


@dataclass(frozen=True)
class Question:
    """A secret is wanted.

    Attributes:
        who: the node for which it is, in words.
        key: stands for that growth; the same for all its questions.
        text: what was seen on its terminal, for what isn't secret.
        wanted: whether it is still waited for.
        give: called with (bytearray to keep, or None; why not), once, by any thread.
    """

    who: str
    key: Any = None
    text: str = ""
    wanted: Callable[[], bool] = field(default=lambda: True, repr=False)
    give: Callable[[bytearray | None, str], Any] = field(default=lambda value, why: None, repr=False)


class Group:
    """One question and its answer.

    Args:
        question: in the user's words.
        tries: how often it is asked.
        how: asks, if not the terminal.
    """

    def __init__(self, question: str, tries: int, how: Callable[[str], str] | None) -> None:
        self.question = question
        self.tries = tries
        self.how = how
        self.answer = Hidden()
        self._lock = threading.Lock()
        self._good = False
        self._asking = False
        self._asked = 0
        self._round = 0                             # counts answers
        self._trial: Any = None                     # whose
        self._refused = ""                          # by whom the last answer was
        self._had: dict[Any, tuple[int, Hidden]] = {}     # what each one was given last, and of which round that was
        self._waiting: list[Question] = []

    def want(self, question: Question) -> bool:
        """Somebody wants the answer. Returns whether the user must be asked now: who calls does that then, by ``ask``."""
        with self._lock:
            if question.key in self._had:       # it asks again: what it had was refused
                self._refuse(question.key, question.who)
            self._waiting.append(question)
        return self._serve()

    def settled(self, key: Any, taken: bool | None, who: str = "") -> bool:
        """Somebody's connection is over.

        Args:
            taken: what it was given was taken; False: refused; None: nobody knows.

        Returns:
            Whether the user must be asked now.
        """
        with self._lock:
            self._waiting = [question for question in self._waiting if question.key != key]
            round_, had = self._had.get(key, (0, Hidden()))
            if taken and round_ == self._round and self.answer.known:
                self._good = True
            elif taken is False:
                self._refuse(key, who)
            if self._trial == key:
                self._trial = None
            self._had.pop(key, None)
            had.wipe()
        return self._serve()

    def _refuse(self, key: Any, who: str) -> None:
        round_ = self._had.get(key, (0, None))[0]
        if round_ == self._round and not self._good and self.answer.known:
            self.answer.wipe()
            self._refused = who
        if self._trial == key:
            self._trial = None

    def wanted(self) -> bool:
        """Whether anybody still waits for the user."""
        with self._lock:
            return bool(self._waiting)

    def words(self) -> str:
        """What the user is asked."""
        with self._lock:
            who = self._waiting[0].who if self._waiting else ""
            return self.question + (f" ({self._refused} refused the last one)" if self._refused else f" (for {who})")

    def answered(self, value: bytearray | None, why: str = "") -> bool:
        """The user has answered, or can't. Returns whether the user must be asked again."""
        with self._lock:
            self._asking = False
            if value is None:
                waiting, self._waiting = self._waiting, []
            else:
                waiting = []
                self.answer = Hidden(value)
                self._round += 1
        for question in waiting:
            question.give(None, why)
        return self._serve()

    def forget(self) -> None:
        """Forget the answer, and that there were refusals."""
        with self._lock:
            self.answer.wipe()
            self._good, self._asked, self._refused = False, 0, ""

    def _serve(self) -> bool:
        """Give what can be given. Returns whether the user must be asked."""
        gifts: list[tuple[Question, bytearray | None, str]] = []
        must_ask = False
        with self._lock:
            while self._waiting and not must_ask:
                if self.answer.known and (self._good or self._trial is None):
                    question = self._waiting.pop(0)
                    value = self.answer.copied()
                    had = self._had.get(question.key, (0, Hidden()))[1]
                    if had.copied() == value:       # never the same twice to the same host
                        gifts.append((question, None, ""))
                        continue
                    had.wipe()
                    self._had[question.key] = self._round, Hidden(self.answer.copied())
                    self._trial = None if self._good else question.key
                    gifts.append((question, value, ""))
                elif self.answer.known or self._asking:
                    break
                elif self._asked < self.tries:
                    self._asked += 1
                    self._asking = must_ask = True
                else:
                    why = f"{self._refused} refused the last of {self.tries} answers to: {self.question}"
                    gifts += [(question, None, "" if question.key in self._had else why) for question in self._waiting]
                    self._waiting = []
        for question, value, why in gifts:
            question.give(value, why)
        return must_ask
