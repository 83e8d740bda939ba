"""Forks: children of a *template*, a node that has modules loaded and a single thread, and forks others from itself.

A template is an ordinary child of who asks for forks; it is grown when the first is asked for, and forks are its children.
Thread-safe.
"""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ramet.connectors import CONNECT_TIMEOUT_S, check_name, local, make
from ramet.kernel import template as kernel_template
from ramet.kernel.errors import ClosedError, ConnectError, Error
from ramet.parts import TEMPLATE
from ramet.retrying import Retry
from ramet.shelter import sheltered

if TYPE_CHECKING:
    from ramet.call import Call
    from ramet.grower import Grower
    from ramet.node import Node
    from ramet.tree import Tree


class Templates:
    """The templates of one tree."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.lock = threading.Lock()
        self.made: dict[Any, tuple[Node, Call[bool]]] = {}

    @sheltered
    def fork(self, grower: Grower, preload: Sequence[str], name: str | None, options: dict[str, Any]) -> Node:
        """Fork a node. Returns at once; it is forked as soon as there is a template for it."""
        self.tree._check_open()
        if isinstance(preload, str) or not all(isinstance(module, str) and module for module in preload):
            raise TypeError(f"preload= is a list of modules' names, not {preload!r}")
        known = [option for option in inspect.signature(local.plan).parameters if option != "name"]
        for option in options:
            if option not in known:
                raise TypeError(f"there is no option {option!r} of fork; there are preload, name, {', '.join(known)}")
        name = "fork" if name is None else check_name(name)
        key = (grower.id, tuple(preload), repr(sorted(options.items())))
        with self.lock:
            template, ready = self.made.get(key, (None, None))
            if template is None or ready is None or template._state.ended or template._state.closing:
                self.made = {key: one for key, one in self.made.items() if not one[0]._state.ended}
                template, ready = self.made[key] = self._template(grower, list(preload), options)
        plan = make(f"fork of {template.name}", name, None, CONNECT_TIMEOUT_S, shape="fork")
        gardener, parent = self.tree._gardener, template
        node = gardener._new(parent, plan)
        node._state.retry = Retry(0)

        def made(call: Any) -> None:
            error = call.exception()
            if error is not None:
                node._state.closing |= isinstance(error, ClosedError)
                gardener.failed(node, _failure(plan["what"], error))
                parent.kill()
                return
            self._inherit(node, parent, preload)
            gardener._line_up(node, plan)
        ready.add_done_callback(made)
        return node

    def _inherit(self, node: Node, template: Node, preload: Sequence[str]) -> None:
        """A fork begins with what its template has, which is also all that was coming, and may ask for what that may."""
        shipper = self.tree._shipper
        with shipper.lock:
            shipper.coming.finish()
            node._state.has.update(template._state.has)
            node._state.installed = template._state.installed
            for module in preload:
                shipper.server.grant(node.id, shipper.server.closure(module))

    def _template(self, grower: Grower, preload: list[str], options: dict[str, Any]) -> tuple[Node, Call[bool]]:
        tree = self.tree
        for module in preload:      # before it is grown: nobody would end it
            tree.modules.check(module)
        template = tree._grow(grower, local.plan(name="template", **options), Retry(0))

        def ship() -> None:
            tree._shipper.kernel_parts(template, TEMPLATE)
            for module in preload:
                tree._shipper.for_call(template, module)
        tree._gardener.when_known(template, ship, lambda: None)
        return template, copy.copy(template).start(kernel_template.become, preload)


def _failure(what: str, error: BaseException) -> ConnectError:
    if isinstance(error, ConnectError):
        return error
    stage = "start"
    text = f"{what} can't be started: its template can't be made: {error}"
    remedy = "see the text" if isinstance(error, Error) else "import what preload= names by hand, where the template is"
    return ConnectError(f"{text}\nstage: {stage}\nremedy: {remedy}", stage)
