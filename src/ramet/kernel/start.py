"""A node's life, from the kernel's first instruction to its last: called by the loader, never returns.

Main thread, except what is said to run on the keeper.
"""
import os
import sys

from ramet.kernel import calls, compat, core, guardian, importer, limits, links, loop, output, values
from ramet.kernel.frames import CONTROL, DEAD, HEADER_BYTES, unpack_header

MYPY = False
if MYPY:
    from typing import Any, Dict, List, Optional


class Self(object):
    """This interpreter as a node: what belongs together for as long as the process lives."""

    def __init__(self, config, parent_fds, data, output_fds, kernel):
        # type: (Dict[str, Any], List[int], bytes, Any, Any) -> None
        self.config = config
        self.name = config["name"]
        self.kernel = kernel    # its form, and what was inflated to get it: for children
        self.loop = loop.Loop(self.on_error)
        self.core = core.Core(config["id"], config["ancestors"], self.loop)
        self.nursery = None  # type: Optional[Any]
        self.cache = importer.ModuleCache()
        importer.install(self.cache, self.fetch)
        self.output = output.Forwarder(self.loop, output_fds, self.send_output)
        self.log_hook = output.LogHook(self.core, config["log_level"])
        self.calls = calls.Calls(self.core, self.context(self.core.id), self.on_idle)
        self.core.handlers.update({
            core.CALL: self.calls.arrive, core.CANCEL: self.calls.cancel, core.END: self.on_end,
            core.MODULES: self.on_modules, core.GROW: self.on_family, core.MODULE_REQUEST: self.on_family,
            core.KEEPALIVE: self.on_keepalive})
        self.core.routes.one_way = "one_way" in config
        link = self.core.routes.parent = links.Link(self.loop, self.core.on_frame, self.on_orphan)
        global node
        node = self     # before the first call can come: another lane's may run at once
        compat.start_thread(self.loop.run, ())
        link.open(parent_fds[0], parent_fds[1], data)
        self.core.tell(0, core.HELLO, facts())

    def context(self, authority):
        # type: (int) -> Any
        """How values of that authority are read: only an ancestor's may make instances of any class."""
        return values.Context(self.core.routes.commands(authority), importer.find_class)

    def on_error(self, error):
        # type: (BaseException) -> None
        """A callback failed: a bug. Said on stderr, which the user sees under the node's name."""
        sys.excepthook(type(error), error, getattr(error, "__traceback__", None))

    def send_output(self, stream, data):
        # type: (int, bytes) -> None
        """Pass on what was written to stdout (1) or stderr (2)."""
        self.core.send(0, core.OUTPUT, values.encode([stream, compat.Bytes(data)]), 0, 0, stream)

    # ------------------------------------------------------------------ modules

    def fetch(self, name, form):
        # type: (str, str) -> None
        """Ask the parent for a module; when it returns, the cache knows it or knows why not."""
        if compat.thread_id() in (self.core.routes.parent.parsing, self.loop.thread):
            raise ImportError("%s is needed to read messages" % name)
        flags, body = self.core.request(self.core.routes.ancestors[0], core.MODULE_REQUEST,
                                        [form, [name], self.core.id], CONTROL)
        if flags & DEAD:
            self.cache.refuse(name, body.decode("utf-8", "replace"))

    def on_modules(self, message):
        # type: (core.Message) -> None
        """Modules arrive: for this node, or to be kept and passed on."""
        if message.src not in self.core.routes.ancestors:
            self.core.refused += 1
            return
        target, form, names, records, absent = values.decode(message.body, self.context(message.src))
        mine = target == self.core.id
        self.cache.add(form, records, mine and absent or {})    # a child's reasons aren't this node's
        if not mine:
            self.family().pass_on(target, form, names, absent)

    # ------------------------------------------------------------------ children

    def family(self):
        # type: () -> Any
        """What grows and keeps children. It is a late part: who sends a GROW has sent it before."""
        if self.nursery is None:
            from ramet.kernel import nursery
            self.nursery = nursery.make(self)
        return self.nursery

    def on_family(self, message):
        # type: (core.Message) -> None
        """Messages about children."""
        self.family().handle(message)

    # ------------------------------------------------------------------ the end

    def on_keepalive(self, message):
        # type: (core.Message) -> None
        """A neighbour asks for a sign of life; or an ancestor, who has sent that part before, for looking after neighbours."""
        self.core.reply(message, [], CONTROL)
        if message.body and self.core.routes.commands(message.authority):
            self.calls.late("keepalive", message)

    def on_end(self, message):
        # type: (core.Message) -> None
        """An ancestor ends this node: let its children end, then itself, all within ``close_grace_s``. Or [id]: that child."""
        if self.core.routes.commands(message.authority):
            ids = values.decode(message.body)
            if not ids:
                self.loop.call_soon(self.end)
            elif self.nursery:
                self.nursery.end(ids[0])

    def on_orphan(self, _, reason):
        # type: (Any, str) -> None
        """The parent is gone, so there is nobody to work for. The guardian makes sure, if this can't."""
        self.loop.call_later(limits.guardian_grace_s, os._exit, 1)
        self.end()

    def end(self):
        # type: () -> None
        """End children and calls; on the keeper."""
        try:
            from ramet.kernel import later
            later.end(self)
        except ImportError:
            os._exit(0)     # the second half never came: nothing has happened here yet

    def on_idle(self, parent):
        # type: (Any) -> None
        """The first call is answered: begin with the second half, which comes behind it."""
        self.calls.on_idle = bool
        self.core.wait(lambda: self.cache.get(compat.form_tag(0), "ramet.kernel.later"), parent, 1)
        parent.give_back(self.calls.waiter)     # who holds 2.7's import lock may wait for what comes on it
        from ramet.kernel import later
        later.begin(self)


def facts():
    # type: () -> Dict[str, Any]
    """What HELLO tells of this interpreter and its machine."""
    system, host, _, _, machine = os.uname()
    return {
        "version": ".".join(map(str, sys.version_info[:3])), "hexversion": sys.hexversion, "form": compat.form_tag(),
        "implementation": compat.IMPLEMENTATION, "optimize": sys.flags.optimize,
        "abiflags": getattr(sys, "abiflags", ""), "platform": "%s-%s" % (system.lower(), machine),
        "pid": os.getpid(), "uid": os.getuid(), "host": host, "executable": sys.executable, "prefix": sys.prefix,
    }


def read_config(fd, data):
    # type: (int, bytes) -> Any
    """Wait for the first frame, CONFIG: (its value, what came behind it)."""
    while len(data) < HEADER_BYTES or len(data) < HEADER_BYTES + unpack_header(data)[8]:
        got = os.read(fd, 65536)
        if not got:
            os._exit(98)
        data += got
    end = HEADER_BYTES + unpack_header(data)[8]
    return values.decode(data[HEADER_BYTES:end]), data[end:]


class Package(type(sys)):  # type: ignore[misc]
    """``ramet`` in a node: the late part ``facade``, when a name of it is asked for."""

    def __getattr__(self, name):
        # type: (str) -> Any
        if name[:2] != "__":
            from ramet.kernel import facade
            if name in facade.__all__:
                return getattr(facade, name)
        raise AttributeError(name + ": not in a node")


node = None  # type: Optional[Self]     # this process's, for ramet.here()


def main(fd_in, fd_out, data, kernel, form):
    # type: (int, int, bytes, bytes, str) -> None
    """Be a node. The loader calls it.

    Args:
        fd_in, fd_out: the link to the parent; the same descriptor for a socket.
        data: what was already read from it.
        kernel: loader and kernel as they were sent, inflated; and in which form.
    """
    config, data = read_config(fd_in, data)
    fds = [fd_in, fd_out]
    for fd in fds:
        compat.set_cloexec(fd)
        compat.set_blocking(fd, False)
    ramet = sys.modules["ramet"] = Package("ramet")
    ramet.__path__ = []
    ramet.kernel = sys.modules["ramet.kernel"]
    output_fds = guardian.start(fd_in, limits.guardian_grace_s, config.get("keepalive"))
    output.replace_standard_streams()
    me = Self(config, fds, data, output_fds, (form, kernel))
    failed = ()  # type: Any
    try:
        me.calls.serve()
    except BaseException:
        failed = sys.exc_info()
    try:
        from ramet.kernel import later
        later.leave(me, failed)
    finally:
        os._exit(98)
