"""What a node that grows others has sent to each of them: run in that node."""
import gc
import sys


def bytes_to_children():
    kind = sys.modules["ramet.kernel.nursery"].Nursery
    nursery = [one for one in gc.get_objects() if type(one) is kind][0]
    return [child.link.bytes_out for child in nursery.children.values()]
