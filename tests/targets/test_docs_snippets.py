"""Each Python block of the documentation is run; ``support.snippets`` has the rules. ``ssh`` is played by ``local``.

Playing it, the options that a page gives to ``ssh`` are checked by the real connector, and then an interpreter of this machine
is started.
"""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.snippets import Snippet, matches, snippets
from support.source import TOP

PAGES = [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))]

PLAYED = '''
import functools, getpass, os
from ramet.connectors import local, registry, ssh

@functools.wraps(ssh.plan)
def played(host, **options):
    return local.plan(name=ssh.plan(host, **options)["name"])

find = registry.find
registry.find = lambda name: played if name == "ssh" else find(name)
getpass.getpass = lambda *_: "a secret"
del os.environ["PYTHONPATH"]    # nodes mustn't see this file
'''


def each_snippet() -> list[object]:
    return [pytest.param(snippet, id=f"{page.relative_to(TOP)}:{snippet.line}") for page in PAGES for snippet in snippets(page)]


@pytest.mark.parametrize("snippet", each_snippet())
def test_what_a_page_shows_works(snippet: Snippet, tmp_path: Path) -> None:
    compile(snippet.code, snippet.name, "exec")
    if not snippet.program:
        return
    for name, text in {**snippet.files, "sitecustomize.py": PLAYED, snippet.name: snippet.program}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{TOP / 'src'}", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, snippet.name], cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, f"{snippet.program}\n{done.stdout}\n{done.stderr}"
    if snippet.output is not None:
        assert matches(snippet.output, done.stdout), f"the page says\n{snippet.output}\nit was\n{done.stdout}\n{done.stderr}"


def test_the_pages_have_snippets_that_run() -> None:
    run = [snippet for page in PAGES for snippet in snippets(page) if snippet.program]
    assert len(run) > 30, len(run)


def test_what_is_expected_may_have_gaps() -> None:
    assert matches("a ... c\n...", "a b\nb c\nd")
    assert not matches("a ... c", "a b d")
    assert not matches("a.c", "abc")
