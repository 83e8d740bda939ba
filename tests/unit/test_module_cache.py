"""What a node keeps of modules: which record answers for which form; and what the import system asks finders with."""
from __future__ import annotations

import _imp  # type: ignore[import-not-found]
import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ramet.kernel import compat, importer, raising
from ramet.kernel.importer import NATIVE, Finder, ModuleCache


def test_source_does_for_bytecode_and_for_nothing_else() -> None:
    cache = ModuleCache()
    cache.add("source", [["pkg._fast", NATIVE, "ramet:/pkg/_fast.so", b"needs = {}"]], {})
    assert cache.get("source", "pkg._fast") == cache.get("cp36", "pkg._fast") is not None
    assert cache.get("native", "pkg._fast") is None, "what a native module asks for isn't its code"
    assert cache.get("data", "pkg._fast") is None
    native = ["pkg._fast", NATIVE, "ramet:/pkg/_fast.so", b"\x7fELF"]
    cache.add("native", [native], {})
    assert cache.get("native", "pkg._fast") == native


def holds_the_import_lock() -> bool:
    """Whether this thread does; ``_imp.lock_held`` tells of any."""
    try:
        _imp.release_lock()
    except RuntimeError:
        return False
    _imp.acquire_lock()
    return True


class Foreign:
    """Another's finder, which imports while it looks: the lock is held twice then."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "wanted_by_the_program":
            assert holds_the_import_lock()
            with pytest.raises(ImportError):
                importlib.import_module("wanted_by_a_finder")
            assert holds_the_import_lock()


@pytest.mark.parametrize("front", [True, False])
def test_a_finder_holds_no_lock_that_other_imports_need(monkeypatch: pytest.MonkeyPatch, front: bool) -> None:
    """It imports parts of the kernel itself. Another thread that was importing one, which imports another, waited for the lock
    of all imports; the finder, which held that, for the part: first calls in two lanes of a new node hung."""
    seen = []

    def find(self: Finder, name: str, path: Any) -> None:
        seen.append((name, holds_the_import_lock()))
    monkeypatch.setattr(Finder, "_find", find)
    monkeypatch.setattr(sys, "meta_path", [Foreign(), Finder(ModuleCache(), pytest.fail, front)])  # type: ignore[arg-type]
    with pytest.raises(ImportError):
        importlib.import_module("wanted_by_the_program")
    assert seen == [("wanted_by_a_finder", False), ("wanted_by_the_program", False)]
    assert not holds_the_import_lock()


@pytest.mark.parametrize("front", [True, False])
def test_other_hooks_ask_by_keywords_too(front: bool) -> None:
    finder: Any = Finder(ModuleCache(), pytest.fail, front)  # type: ignore[arg-type]
    assert finder.find_spec("__main__", None, target=None) is finder.find_spec("__main__", path=None, target=None) is None


def test_nothing_is_raised_where_the_import_lock_is_given_up_and_taken_back() -> None:
    """Who is cancelled just there would go on without the lock, or get the import system's RuntimeError for it."""
    found = compat.unlocked(lambda: sys._getframe(1))()
    assert raising.is_importing(found) and not raising.is_importing(sys._getframe())


@pytest.mark.parametrize(("name", "harms"), [("ramet.kernel.some", True), ("some", False)])
def test_nothing_is_raised_where_a_part_of_ramet_is_unpacked_or_runs(name: str, harms: bool,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """What it calls was interrupted, and a thread that waited for it was given half a module."""
    seen: list[bool] = []

    def look() -> None:
        seen.extend((raising.is_importing(sys._getframe()), raising.is_inside(sys._getframe())))
    monkeypatch.setitem(sys.modules, "looks", SimpleNamespace(look=look))  # type: ignore[arg-type]

    def content(record: Any) -> Any:
        look()
        return record[3]
    monkeypatch.setattr(importer, "content", content)
    cache = ModuleCache()
    cache.add("source", [[name, 0, name.replace(".", "/") + ".py", b"import looks\nclass Class:\n    looks.look()\n"]], {})
    Finder(cache, pytest.fail, True).exec_module(ModuleType(name))  # type: ignore[arg-type]
    assert seen == [harms] * 4
    look()
    assert seen[4:] == [False] * 2


def test_the_code_of_modules_is_no_part_of_the_import_system_but_for_who_is_patient(tmp_path: Path,
                                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bool]] = []

    def look() -> None:
        frame = sys._getframe()
        seen.append((raising.is_importing(frame), raising.is_importing(frame, True)))
    monkeypatch.setitem(sys.modules, "looks", SimpleNamespace(look=look))  # type: ignore[arg-type]
    (tmp_path / "that_looks.py").write_text("import looks\nlooks.look()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("that_looks")
    look()
    assert seen == [(False, True), (False, False)]
