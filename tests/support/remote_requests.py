"""Over there: what a node that was taken over may send in place of requests for modules. Runs on every Python."""


def _node():
    from ramet.kernel import start
    return start.node


def send(bodies):
    """Ask by hand, one after the other: how many answers came, and the names of the records that came with them."""
    from ramet.kernel import core, frames, values
    own = _node()
    before = set(own.cache.records)
    answers = []
    for body in bodies:
        chunks = [body] if isinstance(body, bytes) else values.encode(body)
        own.core.ask(0, core.MODULE_REQUEST, chunks, lambda flags, body: answers.append(flags), frames.CONTROL)
        own.core.request(0, core.MODULE_REQUEST, ["source", [], own.core.id], frames.CONTROL)   # answered after it
    return [len(answers), sorted(name for _, name in set(own.cache.records) - before if name[:6] != "ramet.")]


def flood(count):
    """Ask without waiting for answers; and then for all of them, none of which may be missing."""
    from ramet.kernel import core, frames, values
    own = _node()
    answers = []
    waiter = own.core.waiter()

    def tell(flags, body):
        answers.append(flags)
        waiter.wake()
    for number in range(count):
        own.core.ask(0, core.MODULE_REQUEST, values.encode(["source", ["nobody_has_%d" % number], own.core.id]), tell,
                     frames.CONTROL)
    own.core.wait(lambda: len(answers) == count, None)
    return len(answers)


def try_import(name):
    """The name of the error of an import."""
    try:
        __import__(name)
    except Exception as error:
        return type(error).__name__
    return ""
