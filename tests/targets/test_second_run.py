"""A program that is run twice: what its first run packed is on disk, and what was edited in between is seen."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from support import sources
from support.source import TOP

PROGRAM = """
import json, sys
import ramet
from ramet.modules import pack, scan, shelves
import work

shelves._SETTLED_NS = -1 << 60      # the files were made a moment ago, and count nevertheless
packed, scanned = [], []
def packing(found, form, code, pack_it=pack.packed):
    packed.append(found.name)
    return pack_it(found, form, code)
def scanning(code, scan_it=scan.imports):
    scanned.append(code.co_filename)
    return scan_it(code)
pack.packed, scan.imports = packing, scanning

if __name__ == "__main__":
    with ramet.Tree() as tree:
        node = tree.local()
        said = node.call(work.words)
        child = node.local().call(work.words)
    print(json.dumps([said, child, sorted(set(packed)), len(scanned), tree.stats()["module_requests"]]))
"""


def run(folder: Path, **env: str) -> Any:
    environment = {**os.environ, "PYTHONPATH": str(TOP / "src"), "XDG_CACHE_HOME": str(folder / "cache"),
                   "PYTHONDONTWRITEBYTECODE": "1", **env}  # fmt: skip
    done = subprocess.run([sys.executable, "program.py"], cwd=folder, env=environment, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def test_second_run_packs_only_what_was_edited(tmp_path: Path) -> None:
    sources.write(tmp_path, {"program.py": PROGRAM, "work.py": "import parts\ndef words(): return parts.WORD * 2\n",
                             "parts.py": "WORD = 'spam'\n" + "# long enough to be compressed\n" * 20})  # fmt: skip
    assert run(tmp_path) == ["spamspam", "spamspam", ["parts", "work"], 2, 0]
    assert run(tmp_path) == ["spamspam", "spamspam", [], 0, 0]
    text = (tmp_path / "parts.py").read_text()
    old = (tmp_path / "parts.py").stat()
    (tmp_path / "parts.py").write_text(text.replace("spam", "eggs"))
    os.utime(tmp_path / "parts.py", ns=(old.st_atime_ns, old.st_mtime_ns))      # as `cp -p` and `rsync -t` do
    assert run(tmp_path) == ["eggseggs", "eggseggs", ["parts"], 1, 0]
    assert run(tmp_path, RAMET_CACHE="off") == ["eggseggs", "eggseggs", ["parts", "work"], 2, 0]
