"""Programs in nodes: their output live and whole, status and signals true, nothing left of them; on every Python."""
from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ramet
from support import needs, pythons, remote
from support.eventually import HANGS_S, all_end, in_time, until
from targets import starting

EVERY = pythons.labels([label for label, _ in pythons.interpreters()])


@pytest.fixture
def node(tree: ramet.Tree) -> ramet.Node:
    return tree.local()


@pytest.mark.parametrize("python", EVERY)
def test_a_program(tree: ramet.Tree, python: str) -> None:
    node = tree.local(python=needs.python(python))
    done = node.run(["sh", "-c", "cat; echo err >&2; echo $A-$HOME; pwd; exit 3"], input="ä in\n", cwd="/",
                    add_env={"A": "x y", "HOME": None})
    assert (done.returncode, done.stdout, done.stderr) == (3, "ä in\nx y-\n/\n", "err\n")
    assert node.run("printf '\\377\\000x' ", shell=True, text=False).stdout == b"\xff\0x"
    assert node.run(["env"], env={"ONLY": "this"}).stdout == "ONLY=this\n"
    assert node.run("echo a; echo b >&2; echo c", shell=True, merged=True).stdout == "a\nb\nc\n"
    assert node.run(["sh", "-c", "kill -9 $$"]).returncode == -9
    assert node.run(["true"]).stdout == "" and node.run(["cat"]).stdout == "", "stdin is empty"
    with pytest.raises(FileNotFoundError):
        node.run(["/no/such/program"])
    with pytest.raises(FileNotFoundError):
        node.run(["true"], cwd="/no/such/folder")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        node.run("echo out; exit 4", shell=True, check=True)
    assert caught.value.returncode == 4 and caught.value.stdout == "out\n"
    assert node.call(remote.add, 1) == 1


def test_lines_come_as_they_are_written(node: ramet.Node) -> None:
    """The program waits for an answer to each line: one that was held back would stop it for ever."""
    code = """
import sys
for n in range(3):
    print(n, flush=True)
    assert sys.stdin.readline() == f'{n}\\n'
print('end', end='')
"""
    seen: list[tuple[int, str]] = []

    def answers() -> Iterator[str]:
        for n in range(3):
            while len(seen) <= n:
                time.sleep(0.005)
            yield f"{n}\n"

    with node.popen([sys.executable, "-c", code], input=answers()) as process:
        for pair in process:
            seen.append(pair)
    assert seen == [(1, "0"), (1, "1"), (1, "2"), (1, "end")] and process.returncode == 0


def test_lines_of_both_streams(node: ramet.Node, tmp_path: Path) -> None:
    """Each is written when the one before it was told, so that they have an order."""
    seen: list[tuple[int, str]] = []

    def on_output(stream: int, line: str) -> None:
        seen.append((stream, line))
        (tmp_path / line).touch()
    wait = f'await() {{ while [ ! -e "{tmp_path}/$1" ]; do sleep 0.01; done; }}'
    script = f"{wait}; echo one; await one; echo two >&2; await two; printf three"
    done = node.run(script, shell=True, on_output=on_output)
    assert seen == [(1, "one"), (2, "two"), (1, "three")] and done.stdout == done.stderr == ""


@pytest.mark.parametrize("before", range(4))
def test_long_lines_are_cut_between_characters(node: ramet.Node, before: int) -> None:
    text = "x" * before + "\U0001f331" * 100_000
    lines = [line for _, line in node.popen(["cat"], input=text + "\n")]
    assert len(lines) > 1 and max(map(len, lines)) < len(text) and "".join(lines) == text


def test_what_was_not_iterated_over_is_in_the_result(node: ramet.Node) -> None:
    process = node.popen("printf 'a\\nb\\nc'; echo e >&2", shell=True)
    assert next(process)[1] in "ae"
    done = process.result()
    assert len(done.stdout) + len(done.stderr) in (3, 5) and "b\nc" in done.stdout


def test_the_result_has_no_line_ends_that_were_not_written(node: ramet.Node) -> None:
    process = node.popen("printf b; printf c >&2", shell=True)
    (n, text), done = next(process), process.result()
    assert {n: text, 3 - n: done.stderr if n == 1 else done.stdout} == {1: "b", 2: "c"}
    assert done.stdout + done.stderr in ("b", "c")
    data = "x" * 300_000 + "\n\ny"
    process = node.popen(["cat"], input=data)
    assert next(process)[1] + process.result().stdout == data
    process = node.popen("cat; cat /dev/null", shell=True, input="a\n\nb")
    assert [next(process), process.result().stdout] == [(1, "a"), "\nb"]


@pytest.mark.parametrize("python", EVERY)
def test_a_timeout_ends_it_and_all_that_it_has_started(tree: ramet.Tree, python: str, tmp_path: Any) -> None:
    node = tree.local(python=needs.python(python))
    assert node.run(["true"]).returncode == 0       # all that it needs is there: the time counts from the call's start
    script = f"(trap '' TERM; sleep 1000 & echo $! > {tmp_path}/inner; wait) & echo $! > {tmp_path}/outer; sleep 1000"

    def written(seconds: float) -> bool:
        with pytest.raises(ramet.CallTimeout):
            node.run(script, shell=True, timeout=seconds)
        return all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in ("inner", "outer"))
    assert in_time(written, bool, 2)
    for name in "inner", "outer":
        assert all_end(int((tmp_path / name).read_text())), name
    assert node.run(["echo", "on"]).stdout == "on\n" and node.call(remote.add, 1) == 1


@pytest.mark.parametrize("python", EVERY)
def test_one_that_is_cancelled_while_it_is_being_started_ends(tree: ramet.Tree, python: str) -> None:
    """The interrupt came within Popen, behind the fork, and who cancelled had looked for processes before."""
    node = tree.local(python=needs.python(python))
    assert node.run(["true"]).returncode == 0
    node.call(starting.start_amid_the_look)
    process = node.popen(["sleep", "1000"])
    assert node.call(starting.wait_for_start)
    process.close()
    pid = node.call(starting.pid)
    try:
        assert all_end(pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("python", EVERY)
def test_one_whose_start_fails_when_it_runs_already_ends(tree: ramet.Tree, python: str) -> None:
    node = tree.local(python=needs.python(python))
    assert node.run(["cat"], input="x").stdout == "x"
    node.call(starting.start_without_a_thread)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        node.run(["sleep", "1000"], input="x")
    assert all_end(node.call(starting.pid))
    until(lambda: not node.call(starting.runs), "it is kept")


@pytest.mark.parametrize("how", ["close", "with", "del", "kill", "terminate", "node", "killed"])
def test_how_it_ends(tree: ramet.Tree, node: ramet.Node, how: str) -> None:
    process = node.popen("echo $$; sleep 1000 & wait", shell=True)
    pid = int(next(process)[1])
    assert f"<RemoteProcess {process._number} in local: running>" == repr(process)
    if how == "close":
        process.close()
    elif how == "with":
        with process:
            pass
    elif how == "del":
        del process
    elif how == "node":
        node.close()
    elif how == "killed":
        os.kill(node.facts["pid"], signal.SIGKILL)
    else:
        assert getattr(process, how)()
        assert process.result().returncode == -(signal.SIGKILL if how == "kill" else signal.SIGTERM)
        assert not process.terminate(), "it has ended"
    assert all_end(pid)


def test_how_a_closed_one_ended_is_not_told(node: ramet.Node) -> None:
    """It was told as 0: success."""
    process = node.popen(["sleep", "1000"])
    process.close()
    with pytest.raises(ramet.ClosedError, match="was closed"):
        process.result()
    assert process.returncode is None

    async def main() -> None:
        other = node.popen(["sleep", "1000"])
        other.close()
        with pytest.raises(ramet.ClosedError):
            await other
    asyncio.run(main())


def test_a_signal_waits_for_a_program_that_is_being_started(tree: ramet.Tree) -> None:
    """It went ahead of the call that starts the program, and was lost."""
    for _ in range(3):
        process = tree.local().popen(["sleep", "1000"])
        assert process.terminate()
        assert process.result().returncode == -signal.SIGTERM
    none = tree.local().popen(["/no/such/program"])
    assert not none.terminate()
    with pytest.raises(FileNotFoundError):
        none.result()


def test_what_runs_on_in_the_background_ends_with_the_node(tree: ramet.Tree, node: ramet.Node) -> None:
    done = node.run("sleep 1000 > /dev/null 2>&1 & echo $!", shell=True)
    pid = int(done.stdout)
    os.kill(pid, 0)
    node.close()
    assert all_end(pid)


def test_a_flood_that_nobody_reads_waits(node: ramet.Node) -> None:
    process = node.popen(["sh", "-c", "while echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; do :; done"])
    assert next(process) == (1, "x" * 39)
    before = node._tree.stats()["bytes_in"]
    for _ in range(10):
        assert node.call(remote.add, 1) == 1
        time.sleep(0.05)
    assert node._tree.stats()["bytes_in"] - before < 3 << 20
    process.close()
    assert node.call(remote.add, 1) == 1


def test_it_ends_with_the_task_that_awaits_it(node: ramet.Node) -> None:
    process = node.popen("echo $$; sleep 1000 & wait", shell=True)

    async def main() -> int:
        pid = int((await anext(process))[1])
        task = asyncio.ensure_future(process)
        await asyncio.sleep(0)      # it begins
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return pid

    assert all_end(asyncio.run(main()))


def test_it_ends_with_who_leaves_the_wait_for_its_result(node: ramet.Node) -> None:
    process = node.popen("echo $$; sleep 1000 & wait", shell=True)
    pid = int(next(process)[1])
    here = threading.get_ident()

    def interrupt() -> None:
        until(lambda: process._stream._intake.waiting, "it doesn't wait")
        signal.pthread_kill(here, signal.SIGINT)
    thread = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            thread.start()
            process.result()
    finally:
        signal.signal(signal.SIGINT, before)
        thread.join()
    assert all_end(pid)


def test_many_at_once_and_in_asyncio(tree: ramet.Tree) -> None:
    nodes = [tree.local() for _ in range(2)]

    async def main() -> None:
        found = await asyncio.gather(*(one(nodes[n % 2].popen(["echo", str(n)])) for n in range(40)))
        assert [done.stdout for done in found] == [f"{n}\n" for n in range(40)]
        lines = [line async for line in nodes[0].popen("seq 3", shell=True)]
        assert lines == [(1, "1"), (1, "2"), (1, "3")]
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(one(nodes[0].popen(["sleep", "1000"])), 0.3)

    async def one(process: Any) -> Any:
        async with process:
            return await process

    asyncio.run(main())


def test_big_input_and_output(node: ramet.Node) -> None:
    data = os.urandom(3 << 20)
    assert node.run(["cat"], input=data, text=False).stdout == data
    assert node.run(["head", "-c", "5"], input=data, text=False).stdout == data[:5], "who doesn't read all is no error"
    parts = (data[n:n + 50000] for n in range(0, len(data), 50000))
    assert node.run(["cat"], input=parts, text=False).stdout == data


@pytest.mark.parametrize("python", EVERY)
def test_what_the_input_fails_with_is_raised(tree: ramet.Tree, python: str) -> None:
    """What had come by then was taken for all, and that for a success."""
    node = tree.local(python=needs.python(python))

    def rows(error: Exception) -> Iterator[str]:
        yield "row 1\n"
        raise error

    def held() -> list[int]:
        """How many descriptors and threads the node has."""
        return [len(os.listdir(f"/proc/{node.facts['pid']}/{what}")) for what in ("fd", "task")]

    with pytest.raises(ValueError, match="bad row"):
        node.run(["cat"], input=rows(ValueError("bad row")), check=True)
    before = held()
    for error in OSError(5, "the disk fails"), KeyError("x"), BrokenPipeError(32, "theirs, not the program's"):
        with pytest.raises(type(error)):
            node.run(["cat"], input=rows(error))
    with pytest.raises(TypeError, match="text or bytes"):
        node.run(["cat"], input=iter([1, 2]))
    process = node.popen("echo $$; exec cat", shell=True, input=rows(ValueError("bad row")))
    with pytest.raises(ValueError, match="bad row"):
        list(process)
    assert process.returncode is None
    until(lambda: all(now <= then for now, then in zip(held(), before, strict=True)), lambda: f"{before} {held()}")
    assert node.run(["cat"], input=iter(["all ", b"is ", bytearray(b"well")])).stdout == "all is well"


@pytest.mark.parametrize("how", ["its input fails", "closed"])
def test_a_program_that_is_ended_gets_no_end_of_its_input(node: ramet.Node, tmp_path: Path, how: str) -> None:
    """It goes on when it is told to end, until it is killed; it would take that for the orderly end of its input."""
    goes_on = threading.Event()

    def rows() -> Iterator[str]:
        yield "row 1\n"
        assert goes_on.wait(HANGS_S)
        if how == "its input fails":
            raise ValueError("bad row")
        yield "row 2\n"

    script = f"trap '' TERM; sleep 1000 & echo $!; echo $$; cat > /dev/null; touch '{tmp_path}/taken'"
    process = node.popen(script, shell=True, input=rows())
    pids = [int(next(process)[1]) for _ in range(2)]
    if how == "closed":
        process.close()
        goes_on.set()
    else:
        goes_on.set()
        with pytest.raises(ValueError, match="bad row"):
            next(process)
    assert all_end(*pids)
    assert not (tmp_path / "taken").exists()


def test_who_has_enough_input_is_not_disturbed_by_the_rest(node: ramet.Node) -> None:
    asked = []

    def rows() -> Iterator[bytes]:
        for n in range(1000):
            asked.append(n)
            yield b"x" * 50_000
        raise ValueError("nobody asks so far")
    done = node.run(["head", "-c", "5"], input=rows(), check=True)
    assert done.stdout == "xxxxx" and len(asked) < 1000


@pytest.mark.parametrize(("args", "options", "said"), [
    ("ls -l", {}, r"list of words, such as \['ls', '-l'\]"), ([], {}, "at least one"),
    (["ls"], {"shell": True}, "must be a text"), (None, {}, "list of words"), (["ls"], {"timeout": -1}, "above 0"),
])
def test_wrong_commands(node: ramet.Node, args: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        node.run(args, **options)


def test_through_a_node_of_another_python(tree: ramet.Tree) -> None:
    far = tree.local(python=needs.python("2.7")).local(python=needs.python("3.9"))
    assert far.run(["echo", "ä"]).stdout == "ä\n"
