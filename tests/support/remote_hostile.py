"""Over there: what an honest node tells of itself while another attacks. Runs on every Python."""
import os
import time


def state():
    """What this node refused, how much memory it has in use, in bytes."""
    from ramet.kernel import start
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return [start.node.core.refused, pages * os.sysconf("SC_PAGE_SIZE")]


def remembered():
    """Of how many this node knows who has talked to them."""
    from ramet.kernel import start
    found = start.node.core.descendants
    return sum(len(others) for others in found.talkers.values()) if found else 0


def uses_itself():
    """This node calls itself, so from now on it has a way to do that."""
    import ramet
    return ramet.here().itself.call(os.getpid) == os.getpid()


def unfinished_bytes():
    """Of long messages to this node."""
    from ramet.kernel import start
    long = start.node.core.long
    return sum(partial.total for partial in long.assembler.partial.values()) if long else 0


def imports(name):
    """Import a module of the standard library, as if for the first time."""
    import sys
    sys.modules.pop(name, None)
    return __import__(name).__name__


def until(path):
    """Wait until there is a file of that name."""
    while not os.path.exists(path):
        time.sleep(0.01)
    return path


def size(data):
    """How much came."""
    return len(data)


def forgive_no_more():
    """What is refused of children that are grown from now on isn't forgiven with time."""
    from ramet.kernel import refusing
    refusing.forgiven_per_s = 0


def slow_children():
    """The ids of this node's children whose links are read slowly."""
    from ramet.kernel import start
    return sorted(id for id, child in start.node.nursery.children.items() if child.link.watcher.slow)
