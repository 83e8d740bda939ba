"""One function on many hosts at once. A host that can't be reached, or fails, spoils nothing.

    python fan_out.py ssh:web1 ssh:web2 ssh:db1/sudo:postgres

Prints, without arguments, for three nodes of this machine and one that can't be reached:

    local-2: ... GB free
    local-3: ... GB free
    local: ... GB free
    nowhere: ConnectError in stage start
"""
import shutil
import sys

import ramet


def free_gb(path):
    """Runs on each of them."""
    return round(shutil.disk_usage(path).free / 1e9, 1)


if __name__ == "__main__":
    with ramet.Tree() as tree:
        nodes = [tree.connect(spec) for spec in sys.argv[1:] or ["local", "local", "local"]]
        if not sys.argv[1:]:
            nodes.append(tree.command(["/no/such/program"], name="nowhere"))
        lines = []
        for node, outcome in tree.each([node.options(timeout=60) for node in nodes], free_gb, "/"):   # as they complete
            if outcome.ok:
                lines.append(f"{node.name}: {outcome.value} GB free")
            elif isinstance(outcome.error, ramet.ConnectError):
                lines.append(f"{node.name}: ConnectError in stage {outcome.error.stage}")
            else:
                lines.append(f"{node.name}: {outcome.error}")
        print("\n".join(sorted(lines)))
