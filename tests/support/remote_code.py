"""What tests of code by value run in a node, on every Python; among it what a hostile one would send."""
import pickle
import sys

from ramet.kernel import compat, errors, instances, portable


class Evil(object):
    """A pickle of it writes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def answer_with_code(items, path, nested=False):
    """Answer with a value of kind C, past the encoder's own rules."""
    evil = compat.Bytes(pickle.dumps(Evil(path), 2) + pickle.dumps([], 2))
    items = [evil if item == b"PICKLE" else item for item in items]
    pack = portable.pack

    def forged(value, ctx=None):
        portable.pack = pack
        return b"C", items
    portable.pack = forged
    return {"a": [1j]} if nested else 1j


def instance_of_class(number):
    """Answer with an instance of a class that it names by a number."""
    error = errors.Error("x")
    instances.by_value = {type(error): number}
    return error


def apply(fn, *args):
    return fn(*args)


def kept_records():
    """The names of what this node keeps besides modules."""
    cache = sys.modules["ramet.kernel.start"].node.cache
    return sorted(name for _, name in cache.records if ":" in name)
