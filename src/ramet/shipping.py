"""What of a program's modules goes to which node: keeps account of what is where, and sends what is lacking.

Must not know how modules are found or packed (``modules``), nor what a call is. Thread-safe: one lock a tree. What was
sent for a node is in ``State.has``, what lies at a child of the controller for itself and others in ``State.cached``.
"""

from __future__ import annotations

import collections
import functools
import itertools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ramet import codec
from ramet.bootstrap import packing
from ramet.coming import MODULES_MIN, PIECE_MODULES, SURELY_LARGE_BYTES, Coming
from ramet.kernel import limits, values
from ramet.kernel.core import MODULES, Core, Message
from ramet.kernel.errors import ProtocolError
from ramet.kernel.frames import CONTROL
from ramet.kernel.importer import NATIVE
from ramet.kernel.native import NATIVE_FORM
from ramet.kernel.unforeseen import COMING
from ramet.modules.answers import DATA_FORMS, DIST
from ramet.modules.closure import REFUSED, Closure
from ramet.modules.find import lacks_descriptor
from ramet.modules.pack import BYTECODE_FORM
from ramet.modules.server import ModuleServer
from ramet.modules.staging import STAGES
from ramet.node import Node, State
from ramet.parts import BY_VALUE, KERNEL, LATE, LONG, MOST, NATIVE_CODE, NEEDED_FOR, TOGETHER, UNFORESEEN, WHOLE
from ramet.refusals import refuse

# The forms in which records are sent.
FORMS = (*packing.FORMS, NATIVE_FORM, *DATA_FORMS)

# How many modules one request may name (a node asks for one at a time), what it may weigh, and how many of one child of
# the controller may wait for their answers: the others are refused.
NAMES_MAX = 100
REQUEST_BYTES_MAX = 32_768
WAITING_MAX = 1_000

# Of how many names a node is remembered to know that they can't be had: a hostile one can ask for any number. It is told of
# more each time.
ABSENT_MAX = 20_000

# Until it is tried again to read modules, in seconds, where too many files were open.
AGAIN_S = 0.1

# Until it is known what is installed on a node, libraries are sent only if they come to no more than this; else they follow
# when it has told: at the latest when it asks for the first of them.
UNASKED_BYTES_MAX = 65_536


@functools.lru_cache(4096)
def _key(form: str, name: str) -> tuple[str, str]:
    """What stands for a module in the accounts of nodes. Hundreds of nodes have the same ones, and share them: 4 KB a node."""
    return form, name


class Shipper:
    """Sends modules ahead of what needs them.

    Args:
        first_hop: gives the child of the controller behind which a node lies.
    """

    def __init__(self, core: Core, server: ModuleServer, first_hop: Callable[[Node], Node]) -> None:
        self.core = core
        self.server = server
        self.first_hop = first_hop
        self.lock = threading.RLock()
        self.sent = 0
        self.requests = 0
        self.coming = Coming(core.loop.call_soon, self._send_piece, self.lock)

    def for_call(self, node: Node, module: str) -> None:
        """Send what a function of that module needs and the node doesn't have."""
        state = node._state
        if (state.form, module) in state.has:       # the usual case, and a fast one
            return
        closure = self.server.closure(module)
        parts = [part for name, part in NEEDED_FOR.items() if name in closure.standard]
        if closure.library or closure.absent:
            parts += UNFORESEEN
        for name in WHOLE.keys() & {*closure.standard, *closure.library}:
            parts += WHOLE[name]
        self.kernel_parts(node, parts)
        with self.lock:
            form = state.form or "source"
            self.server.grant(node.id, closure)
            refused = self._send_closure(node, closure, form)[2]
            metadata = self.server.metadata_ahead(closure, _installed(state) or ())
            if metadata:
                self._send(node, DIST, metadata, {})
            if module not in refused:   # else, without source, it may be had as bytecode when that turns out to be taken there
                state.has.add(_key(form, module))
            if closure.library and state.installed is None:
                state.early.append(closure)

    def installed_known(self, node: Node) -> None:
        """A node has told what is installed there: send what was withheld until then, or was expected to be there."""
        try:
            self._send_early(node)
        except (OSError, ImportError) as error:
            self._again(error, self.installed_known, node)

    def _send_early(self, node: Node) -> None:
        state = node._state
        with self.lock:
            if not state.ended:
                if node.parent is None and (state.form, KERNEL + "installed") not in state.has:
                    # The part that tells has come with what followed the first call, so all of that has.
                    state.has.update(_key(state.form or "source", name) for _, name in state.followed)
                    state.cached.update(_key(form if form in FORMS else "source", name) for form, name in state.followed)
                    state.followed = set()
                for closure in state.early:
                    self._send_closure(node, closure, state.form or "source")

    def form_known(self, node: Node, form: str) -> None:
        """A node has told in which form it takes code. Source it takes in any case, and of the kernel what it was sent."""
        state = node._state
        state.has.update([_key(form, name) for was, name in list(state.has) if was == "source" or name.startswith(KERNEL)])
        state.form = form
        state.sure = True

    def for_values(self, node: Node, modules: Iterable[str], records: Iterable[Sequence[Any]]) -> None:
        """Send what code needs that travels by value, and what of it the node keeps (``modules.by_value``)."""
        self.kernel_parts(node, BY_VALUE)
        for module in sorted(modules):
            self.for_call(node, module)
        with self.lock:
            form = node._state.form or "source"
            lacking = {record[0]: record for record in records if (form, record[0]) not in node._state.has}
            if lacking:
                self._send(node, form, lacking, {})

    def kernel_parts(self, node: Node, names: Iterable[str], flags: int = CONTROL) -> None:
        """Send late parts of the kernel that what follows needs.

        Args:
            flags: 0 for parts that nothing waits for: they overtake nothing, and are sent again if something needs them.
        """
        with self.lock:
            # Who reads a link can't ask for a part that has come in the wrong form.
            form = node._state.form if node._state.form and node._state.sure else "source"
            missing = [KERNEL + name for name in dict.fromkeys((*MOST, *names)) if (form, KERNEL + name) not in node._state.has]
            if missing:
                records = packing.late_records(missing, form)   # which fails without a descriptor to read them by
                if not flags:
                    node._state.followed.update(_key(form, name) for name in missing)
                self._send(node, form, {str(record[0]): record for record in records}, {}, flags)

    def before_long(self, node: Node, chunks: Sequence[Any]) -> None:
        """Send what a node needs to put a long message together, if this one is. Who has children has it."""
        if sum(map(len, chunks)) > limits.plain_bytes_max:
            self.kernel_parts(node, LONG)

    def on_request(self, message: Message, nodes: dict[int, Node]) -> None:
        """Take a MODULE_REQUEST, on whichever thread reads the link. It always gets an answer.

        Finding and packing takes its time, so that is left to the keeper.
        """
        hop = nodes.get(message.src)
        if hop is None or len(message.body) > REQUEST_BYTES_MAX or len(hop._state.requests) >= WAITING_MAX:
            self.core.refused += 1
            self.core.reply(message, values.encode(None), CONTROL)
        else:
            hop._state.requests.append(message)
            self.core.loop.call_soon(self._next_request, hop._state.requests, nodes)

    def _next_request(self, requests: collections.deque[Message], nodes: dict[int, Node]) -> None:
        message = requests.popleft()
        answer, later = None, False
        try:
            answer = self._answer_to(message, nodes)
        except (OSError, ImportError) as error:
            self._again(error, self._next_request, requests, nodes)
            requests.appendleft(message)
            later = True
        finally:
            if not later:
                self.core.reply(message, values.encode(answer), CONTROL)

    def _again(self, error: Exception, call: Callable[..., Any], *args: Any) -> None:
        """Call that later, if too many files are open to read modules from them."""
        if not lacks_descriptor(error):
            raise error
        self.core.loop.call_later(AGAIN_S, call, *args)

    def _answer_to(self, message: Message, nodes: dict[int, Node]) -> list[Any] | None:
        """Do what a MODULE_REQUEST asks for. Returns what ``_answer`` does."""
        try:
            form, names, target = values.decode(message.body)
            node = nodes[target]
            known = form in ("source", node._state.form, NATIVE_FORM, *DATA_FORMS)     # of others no account is kept
            texts = isinstance(names, list) and {type(form), *map(type, names)} == {str}
            if not self.core.routes.behind(target, message.link) or not known or not texts:
                raise ValueError
        except (ValueError, KeyError, TypeError, ProtocolError):
            refuse(self.core, message)
            return None
        with self.lock:
            # Without a reply handle it isn't a request: an ancestor has given the modules to the node, and tells.
            answer = self._answer(node, form, names[:NAMES_MAX], not message.reply_to)
        return None if message.src == target else answer    # it has no use for it

    def _answer(self, node: Node, form: str, names: list[str], given: bool) -> list[Any] | None:
        """Send what a node asks for, or take it down as given.

        Returns:
            All the modules that belong to it, and why others can't be had; None if that holds for this node only.
        """
        self.requests += not given
        needed: dict[str, None] = {}
        absent: dict[str, str] = {}
        common = not self.server.strict
        for name in names:
            if form in DATA_FORMS:
                records, why = self.server.data(form, name, node.id)
                if not given:
                    self._send(node, form, records, why)
                needed.update(dict.fromkeys(records))
                common = common and not why
                continue
            if form == NATIVE_FORM:
                records, why = self.server.native_answer(name, node.id)
                self._send_native(node, records, given)
                self._send(node, form, {}, why)
                needed.update(dict.fromkeys(records))
                common = common and not why
                continue
            if name in LATE:
                needed[name] = None
                if not given:
                    parts = [KERNEL + part for part in (*MOST, *TOGETHER.get(name[len(KERNEL):], ()))]
                    parts = [*(part for part in parts if part != name and (form, part) not in node._state.has), name]
                    self._send(node, form, {part: packing.late_records([part], form)[0] for part in parts}, {})
                continue
            # What it was called for says more of what is imported next; it was sent when the node had told.
            for closure in (*self._closures(name, node.id), *(e for e in node._state.early if name in e.library)):
                more, why, _ = self._send_closure(node, closure, form, name, given)
                needed.update(dict.fromkeys(more))
                absent.update(why)
                common = common and (bool(closure.names) or not any(text.startswith(REFUSED) for text in why.values()))
        return [list(needed), absent] if common else None

    def _closures(self, name: str, id: int) -> Iterator[Closure]:
        """What a node gets that asks for a module. If there is no such module, also the package that it would be in."""
        closure = self.server.answer(name, id)
        if not closure.names:
            for parent in itertools.accumulate(name.split(".")[:-1], "{}.{}".format):
                above = self.server.answer(parent, id)
                yield above
                if not above.names:
                    break
        yield closure

    # ------------------------------------------------------------------ sending

    def _send_closure(self, node: Node, closure: Closure, form: str, asked: str = "",
                      given: bool = False) -> tuple[list[str], dict[str, str], dict[str, str]]:
        """Send what of a closure a node lacks, or take it down as given.

        Returns:
            The names of what it needs, also of what it has from here; why others can't be had; and why of these what it needs
            can't be had in this form.
        """
        state = node._state
        installed = _installed(state)
        needed = self.server.lacking(closure, installed or (), asked)
        lacking = [name for name in needed if (form, name) not in state.has]
        coming = self.coming.brings(node, form, lacking)    # else it has been sent now
        lacking = [name for name in lacking if not coming and (form, name) not in state.has]
        absent = self.server.absent(closure, form)
        if given:
            state.has.update([_key(form, name) for name in lacking])
            self._note_absent(state, absent)
            return needed, absent, {}
        unasked = installed is None and not asked
        lacking, later = self._split(node, form, lacking, closure.order, bool(asked), unasked)
        records, refused = self.server.records(lacking, form)
        natives = self.server.native_records(records, state.facts, form, UNASKED_BYTES_MAX if unasked else sys.maxsize)
        if unasked and sum(len(record[3]) for record in (*records.values(), *natives.values())) > UNASKED_BYTES_MAX:
            records, natives = {name: record for name, record in records.items() if name in closure.own}, {}
        self._send_loaders(node, records)
        # Else it may be that it takes bytecode, and gets it when it asks.
        if form != "source" or (state.up and state.form == form):
            absent = absent | refused
        self._send(node, form, records, absent, CONTROL, later)
        self._send_native(node, natives)
        if later:
            self.coming.begin(node, form, later)
        return needed, absent, refused

    def _split(self, node: Node, form: str, lacking: list[str], order: Iterable[str], asked: bool,
               unasked: bool) -> tuple[list[str], list[str]]:
        """What of a closure is sent at once, and what comes piece by piece, since it was never packed."""
        sizes = {} if asked or form != BYTECODE_FORM else self.server.never_packed(lacking, form)
        large = sum(sizes.values()) > SURELY_LARGE_BYTES
        if len(sizes) < MODULES_MIN or not (large if unasked else node.parent is None and node._state.up):
            return lacking, []
        cold = list(dict.fromkeys([*(name for name in order if name in sizes), *sizes]))
        if unasked:     # it will be sent, but not yet
            self.coming.begin(None, form, cold)
            return [name for name in lacking if name not in sizes], []
        later = cold[PIECE_MODULES:]
        return [name for name in lacking if name not in set(later)], later

    def _send_piece(self, node: Node | None, form: str, names: Sequence[str]) -> None:
        """Pack and send modules that are coming. Whatever happens, the node hears of each: it waits for them."""
        with self.lock:
            try:
                records, refused = self.server.records(names, form)
            except Exception as error:
                if lacks_descriptor(error):     # what it hears, it remembers
                    self.core.loop.call_later(AGAIN_S, self._send_piece, node, form, names)
                    return
                records, refused = {}, dict.fromkeys(names, f"{REFUSED}it can't be packed: {error!r}")
            if node is not None:
                self._send(node, form, records, refused)

    def _send_loaders(self, node: Node, records: dict[str, Any]) -> None:
        """Send the parts of the kernel that load what isn't plain code."""
        if any(record[1] & NATIVE for record in records.values()):
            self.kernel_parts(node, NATIVE_CODE)
        if any(record[1] & STAGES for record in records.values()):
            self.kernel_parts(node, ("staged",))

    def _send_native(self, node: Node, records: dict[str, Any], given: bool = False) -> None:
        """Send native code, or take it down as given. As control, so it precedes the call that needs it, in any lane."""
        hop = self.first_hop(node)._state
        for name, record in records.items():
            if (NATIVE_FORM, name) not in node._state.has and not given:
                self._send(node, NATIVE_FORM, {name: record}, {})
                hop.cached.add((NATIVE_FORM, name))
            node._state.has.add((NATIVE_FORM, name))

    def _send(self, node: Node, form: str, records: dict[str, Any], absent: dict[str, str], flags: int = CONTROL,
              coming: Iterable[str] = ()) -> None:
        """Send hop by hop: the first hop gets only what it doesn't keep. As control, so it overtakes calls, and isn't."""
        hop_node = self.first_hop(node)
        hop = hop_node._state
        # Source is the same for all Pythons: a hop that keeps it for one needn't get it for another.
        kind = form if form in FORMS else "source"
        lacking = [record for name, record in records.items() if (kind, name) not in hop.cached]
        added = [record for name, record in records.items() if (kind, name) in hop.cached]      # there, for the next one
        keys = [_key(form, name) for name in records if name[:2] != "*:"]   # a list of distributions: each one is another
        absent = {name: why for name, why in absent.items() if ("", name) not in node._state.has}
        if records or absent:
            self.sent += len(lacking)
            batch = codec.encode([node.id, kind, list(records), lacking, absent | dict.fromkeys(coming, COMING)])
            if sum(map(len, batch)) + sum(99 + len(record[2]) + len(record[3]) for record in added) > limits.frame_bytes_max:
                self.kernel_parts(node, LONG)
            self.core.send(hop_node.id, MODULES, batch, 0, flags)
            node._state.has.difference_update(("", name) for name in coming)    # if it can't come at last, that is news
        # Not before it is sent: `for_call` of another thread looks without the lock, and sends its call at once.
        if flags:   # else what is sent later, as control, may be there earlier: it can't rely on these
            node._state.has.update(keys)
            hop.cached.update(_key(kind, name) for _, name in keys)
        self._note_absent(node._state, absent)

    @staticmethod
    def _note_absent(state: State, names: Iterable[str]) -> None:
        """Remember that a node was told that it can't have these."""
        told = [("", name) for name in names]
        state.absent += len(told)
        if state.absent <= ABSENT_MAX:
            state.has.update(told)


def _installed(state: State) -> frozenset[str] | None:
    """What is installed on a node: what it told, or else what is expected there, if anything is."""
    return state.expected if state.installed is None else state.installed
