"""What a node keeps of modules: which record answers for which form."""
from __future__ import annotations

from ramet.kernel.importer import NATIVE, ModuleCache


def test_source_does_for_bytecode_and_for_nothing_else() -> None:
    cache = ModuleCache()
    cache.add("source", [["pkg._fast", NATIVE, "ramet:/pkg/_fast.so", b"needs = {}"]], {})
    assert cache.get("source", "pkg._fast") == cache.get("cp36", "pkg._fast") is not None
    assert cache.get("native", "pkg._fast") is None, "what a native module asks for isn't its code"
    assert cache.get("data", "pkg._fast") is None
    native = ["pkg._fast", NATIVE, "ramet:/pkg/_fast.so", b"\x7fELF"]
    cache.add("native", [native], {})
    assert cache.get("native", "pkg._fast") == native
