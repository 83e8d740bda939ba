"""Keys of dicts and sets that come from below: no code of a class may run to hash them, and hashing must stay linear.

Hashes of texts are random in each process; those of numbers, and of tuples of them, can be chosen. 160 KB of big numbers
with one hash took 2.4 s to put into a dict; a hundred thousand small ones that are put in a chosen order take as long,
because CPython looks for a free place in an order that follows from the hash. Late part of ``values``. Pure; any thread.
"""
from ramet.kernel import portable, values
from ramet.kernel.faults import ProtocolError, ValueNotPortableError
from ramet.kernel.instances import lookup

MYPY = False
if MYPY:
    from typing import Any, List

SAME_HASH_MAX = 64      # keys that may share one; honest ones do so by twos and fours (-1 and -2 are such a pair)
FEW = 4096              # keys that are put in in no time, however badly they collide
PROBES_MAX = 24         # for each key, on average; honest ones need 1 or 2, multiples of 2 ** 60 need 13
HASHED_BY_VALUE = frozenset("YTDLZzUmrPIR")     # kinds of the standard library that can be keys


def check(keys):
    # type: (List[Any]) -> None
    """Look at keys before they are hashed.

    Raises:
        ValueNotPortableError: a key's class has code of its own for that, or hashing would be slow.
        ProtocolError: it can't be hashed at all.
    """
    waiting = list(keys) if set(map(type, keys)) - values.PLAIN_KEYS else []
    while waiting:
        key = waiting.pop()
        kind = type(key)
        if kind in (tuple, frozenset) or isinstance(key, tuple) and _same(kind, tuple):
            waiting.extend(key)
        elif kind not in values.PLAIN_KEYS and kind is not complex and not _is_safe(kind):
            if lookup(kind, "__hash__") is None:
                raise ProtocolError("a %s can't be a key" % kind.__name__)
            raise ValueNotPortableError("a %s as a key is refused from below" % kind.__name__)
    if len(keys) <= SAME_HASH_MAX:
        return
    hashes = [hash(key) for key in keys if type(key) not in values.TEXTS]
    if is_crowded(hashes, 0) or is_crowded(hashes, 9):
        raise ValueNotPortableError("keys whose hashes collide are refused from below")
    hashes.sort()
    if any(a == b for a, b in zip(hashes, hashes[SAME_HASH_MAX:])):
        raise ValueNotPortableError("more than %d keys with one hash are refused from below" % SAME_HASH_MAX)


def _same(kind, base):
    # type: (Any, Any) -> bool
    return all(lookup(kind, name) is lookup(base, name) for name in ("__hash__", "__eq__"))


def _is_safe(kind):
    # type: (Any) -> bool
    import sys
    enum = sys.modules.get("enum")
    if enum and enum.Enum in kind.__mro__:      # its own members, found by name: nothing in them came from below
        return True
    code = portable.KINDS.get(kind.__name__, " ")
    return code in HASHED_BY_VALUE and getattr(sys.modules.get(portable.MODULES[code]), kind.__name__, None) is kind


def is_crowded(hashes, in_a_row):
    # type: (List[int], int) -> bool
    """Would these take too many probes to put into CPython's table?

    The table is taken to be as small as it may be: keys that collide in a larger one do so in its lower bits as well. What
    collides while only half of the keys are in is seen by trying half of them.

    Args:
        in_a_row: how many neighbours are tried before jumping: 0 in a dict, 9 in a set.
    """
    many = len(hashes)
    while many > FEW:
        mask = (1 << (many * 3 // 2).bit_length()) - 1
        taken = bytearray(mask + 1 + in_a_row)
        spare = many * PROBES_MAX
        some = hashes[:many]
        many >>= 1
        if len(set(map(mask.__and__, some))) == len(some):
            continue    # each has a place of its own, as numbers in a row do: no need to look closer
        for perturb in some:
            perturb &= 0xffffffffffffffff
            place = perturb & mask
            while taken[place]:
                free = taken.find(b"\0", place, place + 1 + in_a_row)
                if free >= 0:
                    place = free
                    break
                perturb >>= 5
                place = place * 5 + perturb + 1 & mask
                spare -= 1
            if spare < 0:
                return True
            taken[place] = 1
    return False
