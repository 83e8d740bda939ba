"""Where in a value the part is that can't travel: the path that errors name, such as ``result['a'][3]``.

The encoder keeps no path, to be quick; this walks the value once more. Late part of ``values``. Pure; any thread.
"""
from ramet.kernel import portable, values
from ramet.kernel.faults import ValueNotPortableError

MYPY = False
if MYPY:
    from typing import Any, Iterator, List, Optional, Tuple

    from ramet.kernel.values import Context

STEPS_MAX = 100000      # of the search
LABEL_CHARS_MAX = 60


def located(value, ctx, root, depth_max, error):
    # type: (Any, Optional[Context], str, int, Exception) -> ValueNotPortableError
    """The error to be raised in place of ``error``: it names the place, and tells cycles from mere depth."""
    trail = [("", None, iter([(root, value)]))]  # type: List[Tuple[str, Any, Iterator[Tuple[str, Any]]]]
    for _ in range(STEPS_MAX):
        label, child = next(trail[-1][2], ("", trail))
        if child is trail:
            trail.pop()
            if trail:
                continue
            break
        path = "".join(step[0] for step in trail) + label
        try:
            children = _children(child, ctx)
        except ValueNotPortableError as found:
            return ValueNotPortableError("%s: %s" % (path, found))
        if children and any(child is step[1] for step in trail):
            return ValueNotPortableError("%s: it holds itself" % path)
        if children and len(trail) > depth_max:
            return ValueNotPortableError("%s...: nested more than %d deep" % (path[:200], depth_max))
        trail.append((label, child, iter(children)))
    return ValueNotPortableError("%s: %s" % (root, error))


def _children(value, ctx):
    # type: (Any, Optional[Context]) -> List[Tuple[str, Any]]
    """The parts of a value, each with what is to be written behind the value's own path."""
    kind = type(value)
    if kind in (list, tuple):
        return [("[%d]" % n, item) for n, item in enumerate(value)]
    if kind in (set, frozenset):
        return [(".item(%s)" % _shown(item), item) for item in list(value)]
    if kind is dict:
        found = []
        for key, item in list(value.items()):
            found += [(".key(%s)" % _shown(key), key), ("[%s]" % _shown(key), item)]
        return found
    if kind in values.PLAIN_KEYS or kind in (complex, bytearray, memoryview):
        return []
    code, items = portable.pack(value, ctx)
    if code in b"OX":
        fixed = 2 if code == b"O" else 6
        named = [("." + str(name), item) for name, item in zip(items[fixed::2], items[fixed + 1::2])]
        return list(zip((".args", ".__cause__", ".__context__"), items[2:fixed])) + named
    if code == b"V":
        return [("", items[2])]
    if code == b"N":
        return [("." + name, item) for name, item in zip(kind._fields, items[2:])]
    if code in b"odn":
        return _children(dict(value), ctx)
    return [("[%d]" % n, item) for n, item in enumerate(value if code == b"q" else items)]


def _shown(key):
    # type: (Any) -> str
    if type(key) not in values.PLAIN_KEYS:
        return "a %s" % type(key).__name__
    shown = repr(key)
    return shown if len(shown) < LABEL_CHARS_MAX else shown[:LABEL_CHARS_MAX] + "..."
