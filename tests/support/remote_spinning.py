"""What a node's main lane waits with."""
import sys


def poller():
    """Its kind, whether it has waited so, and how many threads wait so just now."""
    node = sys.modules["ramet.kernel.start"].node
    spinning = sys.modules.get("ramet.kernel.spinning")
    mine = node.calls.waiter.poller
    return [type(mine).__name__, getattr(mine, "awake", 0) > 0, len(spinning.waiting) if spinning else 0]
