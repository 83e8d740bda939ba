"""A first call: grow a node, run a function there.

    python first_call.py [SPEC]         # ssh:web1, say, or ssh:web1/sudo:root; without one: another interpreter of this machine

Prints:

    a node with Python ... says 42
    and: over there it raised builtins.ZeroDivisionError
"""
import sys

import ramet


def divide(a, b):
    """Runs over there. This file is sent along; nothing needs to be installed."""
    return a / b


if __name__ == "__main__":
    with ramet.Tree() as tree:
        node = tree.connect(sys.argv[1] if len(sys.argv) > 1 else "local")
        print("a node with Python", node.facts["version"], "says", int(node.call(divide, 84, 2)))
        try:
            node.call(divide, 1, 0)
        except ZeroDivisionError as error:      # the remote exception, with the traceback from over there
            print("and: over there it raised", error.type_name)
