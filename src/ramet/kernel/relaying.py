"""Modules on their way through a node: what descendants ask for is asked once, and what comes is sent one hop further.

Late part of the kernel. Runs on whichever thread reads a link. What a module is, and who needs which, isn't known here.
"""
from ramet.kernel import compat, values
from ramet.kernel.core import MODULE_REQUEST, MODULES
from ramet.kernel.faults import ProtocolError
from ramet.kernel.frames import CONTROL, DEAD

MYPY = False
if MYPY:
    from typing import Any, Dict, List

    from ramet.kernel.core import Core, Message

# What a request for modules may weigh; how many different ones may wait for answers, and how many for the same; what all that
# wait may weigh, with what an object takes; and how many answers are kept for others who ask.
REQUEST_BYTES_MAX = 32768
WAITING_MAX = 1000
WAITING_BYTES_MAX = 16 << 20
OBJECT_BYTES = 500
ANSWERS_MAX = 1000


class ModuleRelay(object):
    """Passes modules on from one node's cache.

    Args:
        children: of that node, by id; owned by its nursery.
    """

    def __init__(self, core, cache, children):
        # type: (Core, Any, Dict[int, Any]) -> None
        self.core = core
        self.cache = cache
        self.children = children
        self.passing = compat.new_lock()    # held while modules are passed on: links are read by several threads
        self.asked = {}  # type: Dict[str, List[Message]]   # form/name -> requests that wait for the parent's answer
        self.waiting_bytes = 0      # what these weigh, and those that were asked by themselves behind them
        self.answers = {}  # type: Dict[str, Any]   # form/name -> the names that came for it, and why others didn't

    def pass_on(self, target, form, names, absent):
        # type: (int, str, List[str], Dict[str, str]) -> None
        """Send modules from the cache one hop further towards a descendant: of these, what that hop doesn't have yet."""
        link = self.core.routes.down.get(target)
        for child in list(self.children.values()):
            if child.link is link:
                with self.passing:
                    new = {name: self.cache.get(form, name) for name in names if (form, name) not in child.given}
                    records = [new[name] for name in names if new.get(name)]
                    child.given.update([(form, name) for name in new if new[name]])
                    self.core.tell(child.id, MODULES, [target, form, names, records, absent])

    def request(self, message):
        # type: (Message) -> None
        """Answer as another one was answered, or ask the parent: once, however many want the same meanwhile."""
        try:
            if len(message.body) > REQUEST_BYTES_MAX:
                raise ValueError(len(message.body))     # before it is read: that may take long, and much memory
            form, names, target = values.decode(message.body)
            key = form + "/" + "/".join(names)
            behind = self.core.routes.down.get(target) is message.link
        except (ProtocolError, TypeError, ValueError):
            behind = False
        if not behind:
            self._refuse(message)
        elif not message.reply_to:      # no request: a child has answered one itself, and tells
            self.core.send(self.core.routes.ancestors[0], MODULE_REQUEST, [message.body], 0, CONTROL)
        else:
            with self.passing:
                answer = self.answers.get(key)
                if answer and not self._has_all(key, answer):
                    answer = None
                waiting = self.asked.get(key, [])
                weight = _weight(message)
                room = max(len(waiting), len(self.asked)) < WAITING_MAX and self.waiting_bytes + weight <= WAITING_BYTES_MAX
                if room and not answer:
                    self.asked[key] = waiting
                    self.waiting_bytes += weight
                    waiting.append(message)
            if answer:
                self._answer(message, answer)
            elif not room:
                self._refuse(message)
            elif waiting[0] is message:
                self._ask(message, key)

    def _has_all(self, key, answer):
        # type: (str, Any) -> bool
        """Whether what an answer names is here."""
        form = key.partition("/")[0]
        return all(self.cache.get(form, name) for name in answer[0])

    def _refuse(self, message):
        # type: (Message) -> None
        self.core.refused += 1
        self.core.reply(message, values.encode(None), CONTROL)

    def _ask(self, message, key):
        # type: (Message, Any) -> None
        """Ask the parent for what a descendant wants."""
        def answered(flags, body):
            # type: (int, Any) -> None
            answer = None if flags & DEAD else values.decode(body)
            with self.passing:
                waiting = self.asked.pop(key, [])
                self.waiting_bytes -= _weight(message)
                if key and answer and len(self.answers) < ANSWERS_MAX:
                    self.answers[key] = answer
            self.core.reply(message, [body], CONTROL | flags & DEAD)
            for other in waiting:
                if other is not message:
                    if answer and self._has_all(key, answer):
                        with self.passing:
                            self.waiting_bytes -= _weight(other)
                        self._answer(other, answer)
                    else:       # the answer depends on who asks; or the modules were for one that was lost meanwhile
                        self._ask(other, None)
        self.core.ask(self.core.routes.ancestors[0], MODULE_REQUEST, [message.body], answered, CONTROL)

    def _answer(self, message, answer):
        # type: (Message, Any) -> None
        """Give a descendant what another one was given for the same request, and tell the controller, who keeps account."""
        form, _, target = values.decode(message.body)
        self.pass_on(target, form, answer[0], answer[1])
        self.core.reply(message, values.encode(answer), CONTROL)
        self.core.send(self.core.routes.ancestors[0], MODULE_REQUEST, [message.body], 0, CONTROL)


def _weight(message):
    # type: (Message) -> int
    return len(message.body) + OBJECT_BYTES
