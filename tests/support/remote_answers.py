"""Functions that run in nodes, for tests of secrets: a node that was taken over asks for what isn't its own. Every Python."""
import sys

import ramet
from ramet.kernel import values
from ramet.kernel.frames import CONTROL, DEAD

SECRET = 25

AT_THE_TOP = ramet.Secret.ask("asked where the program runs, not where this module is loaded")


def reveal_there():
    """What comes of a secret that a module makes at its top, over there."""
    try:
        return AT_THE_TOP.reveal()
    except ramet.Error as error:
        return str(error)


def ask_for(ids, names, attempts=1):
    """Ask for every secret of these nodes, as their grower would. Returns what came."""
    node = sys.modules["ramet.kernel.start"].node
    came = []
    for id in ids:
        for name in names:
            for attempt in range(attempts):
                came.append(_ask(node, [id, name, attempt, "Password: "]))
    return came


def send(bodies):
    """Send bodies to the handle for secrets as they are."""
    node = sys.modules["ramet.kernel.start"].node
    return [_ask(node, body) for body in bodies]


def _ask(node, body):
    flags, said = node.core.request(0, SECRET, body, CONTROL)
    return "dead" if flags & DEAD else values.decode(said)[0]


def wish(connector, options):
    """Grow a child here with these options. Returns the error's text."""
    try:
        ramet.here().grow(connector, **options)
    except ramet.Error as error:
        return str(error)
    return ""
