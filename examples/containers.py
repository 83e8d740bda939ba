"""Into containers that run already, whatever runs them; there is nothing to be installed in them but Python.

    python containers.py docker:web docker:db podman:cache kubectl:pod/app ssh:host/docker:app

Prints, for two of them:

    docker:...: Python ... in a system of its own, ... processes
    docker:...: Python ... in a system of its own, ... processes
"""
import os
import sys

import ramet


def processes():
    """Runs in there: how many processes it sees."""
    return sum(name.isdigit() for name in os.listdir("/proc"))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    with ramet.Tree() as tree:
        nodes = [(spec, tree.connect(spec)) for spec in sys.argv[1:]]     # all at once, in the background
        for spec, node in nodes:
            try:
                own = node.call(os.stat, "/").st_dev != os.stat("/").st_dev
                print(f"{spec}: Python {node.facts['version']} in a system of {'its own' if own else 'ours'},",
                      node.call(processes), "processes")
            except ramet.ConnectError as error:
                print(f"{spec}: {error}")
