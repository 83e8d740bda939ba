"""Classes that came as source: making them, and what takes them to be there. Late part of ``by_value``.

A class is [number, name, qualified name, module, source, file name, whether it stands in two functions, ``__future__`` names,
its free variables and their cells' numbers, its namespace's number, attributes set since, classes in it as [name, number]]. It
is made once: what comes later under the same number gives it what its methods use now. Main thread, or whichever decodes a
call; it may import.
"""
import functools
import sys
from types import FunctionType, ModuleType
from weakref import WeakKeyDictionary, WeakValueDictionary

from ramet.kernel import by_value, compat, compat_late, instances, values

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Set

    from ramet.kernel.values import Context

_around = WeakKeyDictionary()  # type: Any      # of each class: its namespace, and its cells by name


def make(described, spaces, cells, made, jobs, of):
    # type: (List[Any], List[Dict[str, Any]], List[Any], Dict[str, Any], List[Any], Callable[..., Any]) -> None
    """Make classes, each when all is done that can be done before.

    Args:
        made: takes up the classes, by number.
        jobs: what to do and the references that it takes; what is done is taken out.
    """
    if not instances.by_number:
        instances.by_number = WeakValueDictionary()
    for entry in described:
        _settle(jobs, made)
        number, names, space = entry[0], entry[8], spaces[entry[9]]
        mine = dict([(compat.native(name), cells[at]) for name, at in names.items()])
        known = instances.by_number.get(number)
        if known is None:
            cls = _class(entry, space, mine)
            known = instances.by_number.setdefault(number, cls)
            by_value._register(known, number)
            _around[known] = space, mine
        made[number] = known
        for path, inner in entry[11]:
            made[inner] = instances.by_number[inner] = functools.reduce(getattr, path.split("."), known)
            by_value._register(made[inner], inner)
    _settle(jobs, made)
    for entry in described:
        cls = made[entry[0]]
        space, mine = _around.get(cls, ({}, {}))
        if space is not spaces[entry[9]]:
            space.update(spaces[entry[9]])
            for name, at in entry[8].items():
                mine[compat.native(name)][1](cells[at][0].cell_contents)
        for name, content in by_value.all_of(entry[10], of).items():
            if not _is_same(cls.__dict__.get(name), content):
                setattr(cls, name, content)


def _settle(jobs, made):
    # type: (List[Any], Dict[str, Any]) -> None
    """Do what can be done with the classes that are there."""
    for job in list(jobs):
        if all(number in made for reference in job[1] for number in _numbers(reference)):
            jobs.remove(job)
            job[0]()


def _numbers(reference):
    # type: (Any) -> Set[str]
    """Which classes a reference takes."""
    tag = reference[0] if reference else "v"
    if tag == "b":
        return set(reference[2])
    found = {reference[1]} if tag in "co" else set()
    if tag == "p":
        found |= _numbers(reference[1])
    for inner in reference[1:-1] if tag == "a" else ():
        found |= _numbers(inner)
    for inner in reference[-1].values() if tag in "ao" else ():
        found |= _numbers(inner)
    return found


def _is_same(old, new):
    # type: (Any, Any) -> bool
    try:
        return type(old) is type(new) and bool(old == new)
    except Exception:
        return False


def _class(entry, space, cells):
    # type: (List[Any], Dict[str, Any], Dict[str, Any]) -> Any
    """Run a class's statement."""
    _, name, qualname, module, source, filename, wrapped, futures = entry[:8]
    name = compat.native(name)
    flags = 0
    future = __import__("__future__") if futures else None
    for feature in futures:
        flags |= getattr(getattr(future, feature, None), "compiler_flag", 0)
    code = compile(source, compat.native(filename), "exec", flags, True)  # type: Any
    # The module's own name would be looked up, by dataclasses for one, and it isn't here.
    standing = "ramet.class_%x" % id(entry)
    stand_in = sys.modules[standing] = ModuleType(standing)
    had = space.get("__name__"), space.get(name)
    compat_late.prepare_classes(space)
    space["__name__"] = standing
    stand_in.__dict__.update(space)
    try:
        if wrapped:
            for _ in "12":
                code = [inner for inner in code.co_consts if getattr(inner, "co_name", "") == "_"][-1]
            cls = FunctionType(code, space, "_", None, tuple([cells[free][0] for free in code.co_freevars]))()
        else:
            exec(code, space)
            cls = space[name]
    finally:
        del sys.modules[standing]
        for key, value in zip(("__name__", name), had):
            space.pop(key, None)
            if value is not None:
                space[key] = value
    for thing, said in [(cls, qualname)] + [(value, "%s.%s" % (qualname, key)) for key, value in list(cls.__dict__.items())
                                           if type(value) is FunctionType and value.__globals__ is space]:
        for attribute, value in (("__module__", compat.native(module)), ("__qualname__", compat.native(said))):
            try:
                setattr(thing, attribute, value)
            except (AttributeError, TypeError):
                pass    # a metaclass forbids it
    return cls


def meant_by(reference, of, made, ctx):
    # type: (List[Any], Callable[[Any], Any], Dict[str, Any], Context) -> Any
    """What a reference of the kinds means that only code as source has."""
    tag = reference[0]
    if tag == "b":
        return values.decode(reference[1], ctx)
    if tag == "p":
        return getattr(of(reference[1]), compat.native(reference[2]))
    if tag == "a":
        args = [of(inner) for inner in reference[1:-1]]
        return functools.partial(args[0], *args[1:], **by_value.all_of(reference[-1], of))
    cls = made[reference[1]]
    names = list(reference[2])
    return instances._fill(object.__new__(cls), names, [of(reference[2][name]) for name in names], ctx)
