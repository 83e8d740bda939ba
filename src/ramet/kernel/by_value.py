"""Code that travels by value: functions and classes that another interpreter can't import by name, and what is made of them.

Only an ancestor's is ever read: ``portable`` refuses it from anybody else. A value of kind ``C`` has these items:

- "name", target: a function or class that can be imported, as in a CALL message;
- "kept", name of a record among the modules, shared: what was sent before, as the record's carrier and data. ``shared``:
  nothing can change it, so that what was made of it once serves again;
- "made", number: a class that came before, in what this is in;
- "instance", class, kind, items of an instance as in ``instances``, of a class that came as source;
- else carrier, form, data, carrier, form, data ...: the same thing in several forms, of which this interpreter takes one.

=========  =========================================================================================================
carrier    data
=========  =========================================================================================================
functions  a value: [functions, cells, namespaces, classes, what is meant]; ``_functions`` says what is in them
pickle     two pickles, made by one pickler: what is meant; and a list of [class, number] of classes that came in it
why        why there is nothing for an interpreter of that form
=========  =========================================================================================================

Late part of ``portable``. Main thread, or whichever decodes a call; it may import.
"""
import marshal
import sys
from types import CodeType, FunctionType

from ramet.kernel import calls, compat, compat_late, importer, values
from ramet.kernel.faults import ProtocolError, ValueNotPortableError

MYPY = False
if MYPY:
    from typing import Any, Dict, List

    from ramet.kernel.values import Context

_shared = {}  # type: Dict[str, Any]     # what was made of records that nothing can change: no more than the controller keeps


def unpack(items, ctx):
    # type: (List[Any], Context) -> Any
    """What came. The caller has seen to it that it is an ancestor's."""
    if items[0] == "name":
        return calls.resolve(items[1])
    if items[0] == "kept":
        return _kept(items[1], items[2], ctx)
    if items[0] in ("made", "instance"):
        from ramet.kernel import instances
        return instances.by_number[items[1]] if items[0] == "made" else instances.UNPACK[items[2]](items[3:], ctx)
    own, why = compat.form_tag(), "it came for another Python only"
    for carrier, form, data in zip(items[::3], items[1::3], items[2::3]):
        if carrier == "why":
            why = data
        elif form in (own, "source"):
            return _make(carrier, data, ctx)
    raise ValueNotPortableError("%s, and this is Python %s" % (why, sys.version.split()[0]))


def _kept(name, is_shared, ctx):
    # type: (str, bool, Context) -> Any
    if name in _shared:
        return _shared[name]
    record = sys.modules["ramet.kernel.start"].node.cache.get(compat.form_tag(), name)  # type: Any
    if not record:
        raise ProtocolError("%s was never sent here" % name)
    made = _make(record[2], importer.content(record), ctx)
    if is_shared:
        _shared[name] = made
    return made


class _Kept(object):
    """What is kept, as attributes: so that the target of a CALL can name it, ``ramet.kernel.by_value:shared.DIGEST``."""

    def __init__(self, shared):
        # type: (bool) -> None
        self._shared = shared

    def __getattr__(self, digest):
        # type: (str) -> Any
        return _kept("value:" + digest, self._shared, values.Context(True, importer.find_class))


shared, anew = _Kept(True), _Kept(False)


def _make(carrier, data, ctx):
    # type: (str, Any, Context) -> Any
    if carrier == "functions":
        return _functions(data, ctx)
    if carrier == "pickle":
        return _pickle(data)
    raise ProtocolError("unknown carrier of code: %r" % carrier)


def _pickle(data):
    # type: (Any) -> Any
    import io
    import pickle
    loader = pickle.Unpickler(io.BytesIO(data))
    made = loader.load()
    for cls, number in loader.load():
        _register(cls, number)
    return made


def _register(cls, number):
    # type: (Any, str) -> None
    """Remember what the ancestor calls a class that it sent."""
    from weakref import WeakKeyDictionary

    from ramet.kernel import instances
    if not instances.by_value:
        instances.by_value = WeakKeyDictionary()
    instances.by_value[cls] = number


def _functions(data, ctx):
    # type: (Any, Context) -> Any
    """Make functions and classes that name one another, and what is meant. References are

    - ["v", value], ["f", number of a function], ["c", number of a class], ["n", target], ["m", module, modules that must be
      imported with it], ["b", an encoded value, the numbers of the classes that must be there to decode it],
      ["p", of what, name of its method], ["a", function, argument ..., keyword arguments]: a partial; ["o", number of its
      class, attributes]: an instance that is nothing but these;
    - a function: [code, name, attributes of the function object that differ, its cells' numbers, its namespace's number,
      defaults or None, keyword defaults or None, its __dict__];
      code is marshalled, or [source, file name, whether the source is a wrapper around it];
    - a cell: a reference, [] if it is empty; a namespace: names and references. Defaults are references, too;
    - a class: see ``classes``.
    """
    functions, cells, namespaces, described, meant = values.decode(data, ctx)
    made_cells = [compat_late.new_cell() for _ in cells]
    spaces = [{"__builtins__": sys.modules[int.__module__]} for _ in namespaces]  # type: List[Dict[str, Any]]
    made = [FunctionType(_code(code, name), spaces[space], compat.native(name), None,
                         tuple([made_cells[number][0] for number in numbers]))
            for code, name, _, numbers, space, _, _, _ in functions]
    classes = {}  # type: Dict[str, Any]

    def of(reference):
        # type: (List[Any]) -> Any
        tag, content = reference[:2]
        if tag == "f":
            return made[content]
        if tag == "c":
            return classes[content]
        if tag == "n":
            return calls.resolve(content)
        if tag == "m":
            for name in [content] + reference[2]:
                __import__(compat.local_module(name))
            return sys.modules[compat.local_module(content)]
        if tag in "bpao":
            from ramet.kernel import classes as late
            return late.meant_by(reference, of, classes, ctx)
        return content
    jobs = _jobs(functions, made, cells, made_cells, namespaces, spaces, of)
    if described:
        from ramet.kernel import classes as late
        late.make(described, spaces, made_cells, classes, jobs, of)
    for job, _ in jobs:
        job()
    return of(meant)


def all_of(named, of):
    # type: (Dict[str, Any], Any) -> Dict[str, Any]
    """What references with names stand for."""
    return dict([(compat.native(name), of(reference)) for name, reference in named.items()])


def _jobs(functions, made, cells, made_cells, namespaces, spaces, of):
    # type: (List[Any], List[Any], List[Any], List[Any], List[Any], List[Dict[str, Any]], Any) -> List[Any]
    """What is to be done when that is there which references mean: pairs of a function for it, and the references."""
    jobs = []  # type: List[Any]

    def put_defaults(fn, defaults, named, content):
        # type: (Any, Any, Any, Any) -> None
        if defaults is not None:
            fn.__defaults__ = tuple(map(of, defaults))
        if named:
            fn.__kwdefaults__ = all_of(named, of)
        fn.__dict__.update(all_of(content, of))

    for (_, put), content in zip(made_cells, cells):
        if content:
            jobs.append((lambda put=put, content=content: put(of(content)), [content]))
    for space, named in zip(spaces, namespaces):
        for name, reference in named.items():
            jobs.append((lambda space=space, name=name, reference=reference: space.update(all_of({name: reference}, of)),
                         [reference]))
    for fn, (_, _, attributes, _, _, defaults, named, content) in zip(made, functions):
        for name, value in attributes.items():
            setattr(fn, compat.native(name), compat.native(value))
        jobs.append((lambda fn=fn, defaults=defaults, named=named, content=content: put_defaults(fn, defaults, named, content),
                     (defaults or []) + list((named or {}).values()) + list(content.values())))
    return jobs


def _code(code, name):
    # type: (Any, str) -> Any
    """A function's code object, from its marshalled form or its source."""
    if not isinstance(code, list):
        return marshal.loads(code)
    source, filename, wrapped = code
    found = compile(source, compat.native(filename), "exec", 0, True)
    for wanted in ("_", name)[not wrapped:]:    # the defaults' own code objects come before the function's
        inner = [constant for constant in found.co_consts if isinstance(constant, CodeType) and constant.co_name == wanted]
        found = inner[-1]
    return found
