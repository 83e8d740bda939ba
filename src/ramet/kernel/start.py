"""A node's life, from the kernel's first instruction to its last: called by the loader, never returns.

Main thread, except what is said to run on the keeper.
"""
import os
import sys

from ramet.kernel import calls, compat, core, facade, guardian, importer, limits, loop, output, values
from ramet.kernel.frames import CONTROL, DEAD

MYPY = False
if MYPY:
    from typing import Any, Dict, List, Optional, Set


class Self(object):
    """This interpreter as a node: what belongs together for as long as the process lives."""

    def __init__(self, config, parent_fds, data, output_fds, payloads):
        # type: (Dict[str, Any], List[int], bytes, Any, Dict[str, bytes]) -> None
        self.name = config["name"]
        self.payloads = payloads
        self.loop = loop.Loop(self.on_error)
        self.core = core.Core(config["id"], config["ancestors"], self.loop, self.on_orphan)
        self.nursery = None  # type: Optional[Any]
        self.cache = importer.ModuleCache()
        importer.install(self.cache, self.fetch)
        self.output = output.Forwarder(self.loop, output_fds, self.send_output, self.backlog)
        output.LogHook(self.send_log, config["log_level"])
        self.calls = calls.Calls(self.core, self.context)
        self.core.handlers.update({
            core.CALL: self.calls.arrive, core.CANCEL: self.calls.cancel, core.END: self.on_end,
            core.MODULES: self.on_modules, core.GROW: self.on_family, core.MODULE_REQUEST: self.on_family})
        link = self.core.routes.parent = self.core.new_link()
        compat.start_thread(self.loop.run, ())
        link.open(parent_fds[0], parent_fds[1], data)
        self.core.tell(0, core.HELLO, facts())
        self.loop.call_soon(self.tell_installed)

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

    def send_log(self, fields):
        # type: (Dict[str, Any]) -> None
        """Pass on a log record's fields."""
        self.core.send(0, core.LOG, values.encode(fields), 0, 0, 2)

    def backlog(self):
        # type: () -> int
        """Bytes that wait for the parent to read them."""
        return self.core.routes.parent.queue.size  # type: ignore[no-any-return]

    # ------------------------------------------------------------------ modules

    def tell_installed(self):
        # type: () -> None
        """Tell the controller what is installed here, so that it isn't sent. On the keeper: the first call needn't wait."""
        names = set()  # type: Set[str]
        for folder in sys.path:
            if folder.endswith("-packages"):
                try:
                    names.update(name.partition(".")[0] for name in os.listdir(folder) if "-" not in name)
                except OSError:
                    pass
        self.core.tell(0, core.INSTALLED, sorted(names))

    def fetch(self, name, form):
        # type: (str, str) -> None
        """Ask the parent for a module; when it returns, the cache knows it or knows why not."""
        if self.core.routes.parent.parsing == compat.thread_id():
            raise ImportError("%s is needed to read a message, and can't be waited for meanwhile" % name)
        flags, body = self.core.request(self.core.routes.ancestors[0], core.MODULE_REQUEST,
                                        [form, [name], self.core.id], CONTROL)
        if flags & DEAD:
            self.cache.refuse(name, "the way to the controller is lost: " + body.decode("utf-8", "replace"))

    def on_modules(self, message):
        # type: (core.Message) -> None
        """Modules arrive: for this node, or to be kept and passed on."""
        if message.src not in self.core.routes.ancestors:
            self.core.refused += 1
            return
        target, form, names, records, absent = values.decode(message.body)
        self.cache.add(form, records, absent)
        if target != self.core.id:
            self.family().pass_on(target, form, names, absent)

    # ------------------------------------------------------------------ children

    def family(self):
        # type: () -> Any
        """What grows and keeps children. It is a late part: who sends a GROW has sent it before."""
        if self.nursery is None:
            compat.import_threading()
            from ramet.kernel import nursery, stub
            payloads = dict((form, stub.HEAD + payload) for form, payload in self.payloads.items())
            self.nursery = nursery.Nursery(self.core, self.cache, payloads)
        return self.nursery

    def on_family(self, message):
        # type: (core.Message) -> None
        """Messages about children."""
        self.family().handle(message)

    # ------------------------------------------------------------------ the end

    def on_end(self, message):
        # type: (core.Message) -> None
        """An ancestor ends this node: let its children end, then itself, all within ``close_grace_s``. Or [id]: that child."""
        ids = values.decode(message.body)
        if self.core.routes.commands(message.authority):
            if not ids:
                self.loop.call_soon(self.end)
            elif self.nursery:
                self.nursery.end(ids[0])

    def on_orphan(self, reason):
        # type: (str) -> None
        """The parent is gone, so there is nobody to work for. The guardian makes sure, if this can't."""
        self.loop.call_later(limits.guardian_grace_s, os._exit, 1)
        self.end()

    def end(self):
        # type: () -> None
        """Stop calls and children; on the keeper. The main thread then leaves ``serve``."""
        self.loop.call_later(limits.close_grace_s, os._exit, 1)
        if self.nursery:
            self.nursery.end_all(self.calls.end)
        else:
            self.calls.end()

    def leave(self):
        # type: () -> None
        """Run exit handlers, deliver output that was written, and go. Main thread."""
        try:
            compat.run_exit_handlers()
        finally:
            self.output.finish(limits.guardian_grace_s)
            parent = self.core.routes.parent
            waiter = self.core.waiter()
            for _ in range(100):
                parent.flush()
                if parent.dead or not parent.queue.size and not parent.tail:
                    break
                waiter.wait(0.01)
            guardian.leave()
            os._exit(0)


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
    from ramet.kernel.frames import HEADER_BYTES, unpack_header
    while len(data) < HEADER_BYTES or len(data) < HEADER_BYTES + unpack_header(data)[8]:
        got = os.read(fd, 65536)
        if not got:
            os._exit(98)
        data += got
    end = HEADER_BYTES + unpack_header(data)[8]
    return values.decode(data[HEADER_BYTES:end]), data[end:]


def main(fd_in, fd_out, data, payload, form):
    # type: (int, int, bytes, bytes, str) -> None
    """Be a node. The loader calls it.

    Args:
        fd_in, fd_out: the link to the parent; the same descriptor for a socket.
        data: what was already read from it.
        payload: loader and kernel as they came, for children; and in which form.
    """
    config, data = read_config(fd_in, data)
    fds = [fd_in, fd_out]
    for fd in fds:
        compat.set_cloexec(fd)
        compat.set_blocking(fd, False)
    facade.publish(sys.modules["ramet"])
    output_fds = guardian.start(fd_in, limits.guardian_grace_s)
    output.replace_standard_streams()
    node = Self(config, fds, data, output_fds, {form: payload})
    facade.node = node
    try:
        node.calls.serve()
    finally:
        node.leave()
