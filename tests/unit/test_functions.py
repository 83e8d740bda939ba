"""How functions are named for another interpreter."""

import functools
import os
import os.path
from collections import OrderedDict
from typing import Any

import pytest

from ramet import functions
from ramet.kernel.errors import ValueNotPortableError

HERE = __name__


def plain() -> None: ...


class Outer:
    class Inner:
        @staticmethod
        def still(x: int) -> int:
            return x

        @classmethod
        def made(cls) -> None: ...

        def bound(self) -> None: ...


@functools.wraps(plain)
def replaced() -> None: ...


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest's importlib mode doesn't put this module where an import would find it."""
    import sys
    import types

    module = types.ModuleType(HERE)
    module.__dict__.update(globals())
    monkeypatch.setitem(sys.modules, HERE, module)


@pytest.mark.parametrize(
    ("fn", "target", "module"),
    [
        (plain, f"{HERE}:plain", HERE),
        (Outer, f"{HERE}:Outer", HERE),
        (Outer.Inner.still, f"{HERE}:Outer.Inner.still", HERE),
        (Outer.Inner.made, f"{HERE}:Outer.Inner.made", HERE),
        (Outer.Inner.bound, f"{HERE}:Outer.Inner.bound", HERE),
        (os.listdir, "posix:listdir", "posix"),
        (os.path.join, "posixpath:join", "posixpath"),
        (len, "builtins:len", "builtins"),
        (str.upper, "builtins:str.upper", "builtins"),
        (dict.fromkeys, "builtins:dict.fromkeys", "builtins"),
        (OrderedDict, "collections:OrderedDict", "collections"),
        (functools.partial(plain, 1, a=2), [f"{HERE}:plain", [1], {"a": 2}], HERE),
        ("text".split, ["text", "split"], "builtins"),
    ],
)
def test_names(fn: Any, target: object, module: str) -> None:
    assert functions.describe(fn) == (target, module)


def test_a_bound_method_takes_its_instance_along() -> None:
    instance = Outer.Inner()
    assert functions.describe(instance.bound) == ([instance, "bound"], HERE)


def closure() -> Any:
    def inner() -> None: ...

    return inner


inner = closure()


class Callable:
    def __call__(self) -> None: ...


@pytest.mark.parametrize("fn", [lambda: 1, inner, replaced, type("Local", (), {}), functools.lru_cache(inner)],
                         ids=["lambda", "closure", "replaced", "class", "wrapped"])
def test_what_has_no_name_is_a_target_itself(fn: Any) -> None:
    assert functions.describe(fn) == (fn, "")
    assert functions.describe(functools.partial(fn, 1)) == ([fn, [1], {}], "")


def test_what_was_replaced_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    assert functions.describe(replaced)[0] is replaced
    monkeypatch.setattr(sys.modules[HERE], "plain", replaced)
    assert functions.describe(replaced) == (f"{HERE}:plain", HERE)


@pytest.mark.parametrize(("fn", "why"), [(3, "no name"), (functools.partial(int).args, "no name"), (Callable(), "no name")])
def test_what_nobody_can_call_is_refused(fn: Any, why: str) -> None:
    with pytest.raises(ValueNotPortableError, match=why):
        functions.describe(fn)
