"""A notebook's kernel, as Jupyter starts it: its cells define what is sent, and wait in its own running event loop.

``make packages`` runs it.
"""
from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import needs
from support.source import TOP

FIRST = '''
import dataclasses, os
import ramet
tree = ramet.Tree()
node = tree.local()
other = tree.local(python=%r)

@dataclasses.dataclass
class Point:
    x: int

    def plus(self, n):
        return Point(self.x + n + offset)

class MineError(Exception):
    pass

def fail(point):
    raise MineError(point.x)
'''
SECOND = '''
offset = 100
found = []
for there in (node, other):
    point = there.call(Point(1).plus, 2)
    again = await there.start(lambda given: [given.plus(n) for n in range(2)], point)
    found.append([type(point) is Point, point.x, type(again[0]) is Point, [one.x for one in again]])
    try:
        await there.start(fail, point)
    except MineError as error:
        found[-1] += [error.args, error.traceback_text.count("raise MineError(point.x)")]
found
'''
THIRD = '''
async def slow(n):
    import asyncio
    await asyncio.sleep(0)
    return n + offset

import asyncio
offset = 1
(await asyncio.gather(*(there.start(slow, 1) for there in (node, node))), [await node.start(lambda: offset)])
'''


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of a kernel that has just been started."""
    needs.distribution("ipykernel")
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import KernelManager
    from jupyter_core.utils import ensure_event_loop

    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    manager = KernelManager(transport="ipc", ip=str(tmp_path / "s"))
    argv = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    manager._kernel_spec = KernelSpec(argv=argv, display_name="here", language="python")
    manager.start_kernel(cwd=str(tmp_path), env={**os.environ, "PYTHONPATH": str(TOP / "src")}, stdout=-3, stderr=-3)
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=False)
        manager.cleanup_resources()
        manager.context.destroy()
        ensure_event_loop().close()     # which it keeps for the thread


def run(client: Any, text: str) -> str:
    """What a cell's last expression shows."""
    shown: list[str] = []
    errors: list[str] = []

    def hook(message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] == "execute_result":
            shown.append(content["data"]["text/plain"])
        elif message["msg_type"] == "error":
            errors.append("\n".join(content["traceback"]))
    reply = client.execute_interactive(text, output_hook=hook, timeout=60, allow_stdin=False)
    assert reply["content"]["status"] == "ok", errors
    return "".join(shown)


@pytest.mark.packages
def test_cells_define_what_is_sent_and_await_in_the_running_loop(kernel: Any) -> None:
    run(kernel, FIRST % needs.python("3.9"))
    assert eval(run(kernel, SECOND)) == [[True, 103, True, [203, 204], (103,), 1]] * 2
    assert eval(run(kernel, THIRD)) == ([2, 2], [1])
    assert run(kernel, "tree.close()\nlen(tree.nodes)") == "0"


@pytest.mark.packages
def test_a_cell_that_is_run_again_makes_a_class_of_its_own(kernel: Any) -> None:
    run(kernel, FIRST % needs.python("3.9"))
    run(kernel, "offset = 0\nold = Point\nresult = [other.call(Point, 1)]")
    run(kernel, "@dataclasses.dataclass\nclass Point:\n    x: int\n    y: int = 5\n\nresult.append(other.call(Point, 2))")
    assert run(kernel, "[type(result[0]) is old, type(result[1]) is Point, result[1].y, other.call(lambda: old(3)).x]") == (
        "[True, True, 5, 3]")
    run(kernel, "tree.close()")


@pytest.mark.packages
def test_ipython_in_a_terminals_place() -> None:
    """IPython's own shell, without a kernel."""
    needs.distribution("ipython")
    text = (FIRST % needs.python("3.9") + SECOND).replace("await there", "there").replace(".start(", ".call(")
    done = subprocess.run([sys.executable, "-c", f"""if True:
        from IPython.core.interactiveshell import InteractiveShell
        shell = InteractiveShell.instance()
        for cell in {text.partition('offset = 100')[0]!r}, 'offset = 100' + {text.partition('offset = 100')[2]!r}:
            shell.run_cell(cell, store_history=True).raise_error()
        print(shell.user_ns["found"], shell.user_ns["tree"].close())
        """], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(TOP / "src")})
    row = [True, 103, True, [203, 204], (103,), 1]
    assert done.stdout.splitlines()[-1:] == [f"{[row, row]} None"], done.stdout + done.stderr
