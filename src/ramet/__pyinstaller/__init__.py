"""For PyInstaller, which finds this by the entry point ``pyinstaller40``: where the hook is that says what a bundle must hold.

Nothing else of ramet uses it. Run while a bundle is built.
"""
from __future__ import annotations

import os


def get_hook_dirs() -> list[str]:
    """The folders with hooks."""
    return [os.path.dirname(__file__)]
