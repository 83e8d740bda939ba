"""Nodes that outlive their program: what stays, what ends, who may come back to them, and how they end."""
from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ramet
from ramet import process
from ramet.bootstrap import packing
from ramet.kernel import coming_back
from support import needs, pythons, remote_lasting, remote_late, remote_small
from support.eventually import HANGS_S, all_end, is_gone, until
from support.source import TOP

NOBODY = 65534
LABELS = ["2.7", "3.6", pythons.interpreters()[-1][0] if "pypy" not in pythons.interpreters()[-1][0] else "3.13"]
old_and_new = pytest.mark.parametrize("label", LABELS[::2])     # where races show, and what most people have


class Program:
    """A program whose node outlives it."""

    def __init__(self, how: str, path: Path, label: str = "", wait_s: float | None = None) -> None:
        self.path = path
        python = needs.python(label) if label else ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "targets.outliving", how, str(path), python, "" if wait_s is None else str(wait_s)],
            cwd=TOP / "tests", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
        assert self.process.stdout
        self.said = self.process.stdout.readline().split() if how == "busy" else []
        line = self.process.stdout.readline()
        assert line.strip().isdigit(), f"the program has failed: {line!r}"
        self.pid = int(line)
        self.node = coming_back.began(self.pid)

    def end(self) -> None:
        """Let it come to its end, with its tree."""
        self.process.communicate()
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def node_runs(self) -> bool:
        return bool(coming_back.began(self.pid) == self.node) and not is_gone(self.pid)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir(mode=0o700)
    return folder / "build"


@contextlib.contextmanager
def outlived(how: str, path: Path, label: str = "", wait_s: float | None = None) -> Iterator[Program]:
    """A program that has ended, and its node, which is ended at the end."""
    program = Program(how, path, label, wait_s)
    try:
        if how == "keep":
            program.kill()
        else:
            program.end()
        yield program
    finally:
        if program.process.poll() is None:
            program.kill()
        if program.node_runs():
            os.kill(program.pid, signal.SIGKILL)
        until(lambda: not program.node_runs(), "the node didn't end")


def test_who_detaches_while_it_connects_leaves_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``with tree.attach(...): pass``: the link wasn't there yet, so nobody closed it. It took 10 s and stayed attached."""
    with outlived("detach", path), ramet.Tree(remember=False) as tree:
        connect = coming_back.Attachment._begin

        def connect_later(growth: coming_back.Attachment) -> None:
            """The keeper gets to it when the program has asked for more already."""
            growth.loop.call_later(0.2, connect, growth)

        monkeypatch.setattr(coming_back.Attachment, "_begin", connect_later)
        began = time.monotonic()
        with tree.attach(str(path)):
            pass
        assert time.monotonic() - began < 5 and not tree.nodes
        monkeypatch.undo()
        with attach(path) as node:
            assert node.call(remote_lasting.add, "more")[1] == ["first", "more"]


@old_and_new
def test_a_node_that_cant_be_kept_is_as_before(path: Path, tmp_path: Path, label: str) -> None:
    """There was no room for its leash: it wasn't kept, nor could it be ever after, since its name was taken by itself."""
    full = tmp_path / "full"
    full.touch()
    with ramet.Tree(remember=False) as tree:
        node = tree.local(python=needs.python(label))
        node.call(remote_lasting.forks_fail_while, str(full))
        with pytest.raises(ramet.Error, match="this node can't be kept: there is no room"):
            node.keep(str(path), wait_s=60)
        assert not path.exists()
        before = node.call(remote_lasting.fds)
        with pytest.raises(ramet.Error, match="this node can't be kept: there is no room"):
            node.keep(str(path), wait_s=60)
        until(lambda: node.call(remote_lasting.fds) <= before, "what can't be kept has descriptors left")
        full.unlink()
        node.keep(str(path), wait_s=60)
        assert path.exists()


@pytest.mark.parametrize("lack", [remote_lasting.forks_fail_while, remote_lasting.dups_fail_while], ids=["fork", "dup"])
@old_and_new
def test_a_node_without_room_for_the_next_program_says_so_and_waits_on(
        path: Path, tmp_path: Path, label: str, lack: Callable[[str], None]) -> None:
    """It said that it had taken the next program, and then ended, with all that functions had made; or it said nothing."""
    full = tmp_path / "full"
    with outlived("detach", path, label, wait_s=600):
        with attach(path) as node:
            node.call(lack, str(full))
        full.touch()
        with pytest.raises(ramet.ConnectError, match="it has no room for another process or descriptor"):
            attach(path)
        full.unlink()
        with attach(path) as node:
            assert node.call(remote_lasting.add, "more")[1] == ["first", "more"]


def test_a_process_that_a_kept_node_has_forked_keeps_neither_link_nor_leash(path: Path) -> None:
    """The leash didn't see that the node had ended, and held its link: its program heard of nothing."""
    with outlived("detach", path, wait_s=600) as program, attach(path) as node:
        daemon, leash = node.call(remote_lasting.leave_a_daemon)
        try:
            os.kill(program.pid, signal.SIGKILL)
            assert all_end(leash)
            with pytest.raises(ramet.NodeLostError):
                node.call(remote_lasting.pid)
        finally:
            os.kill(daemon, signal.SIGKILL)


@old_and_new
def test_a_program_hears_of_it_when_a_kept_node_gives_it_up(path: Path, label: str) -> None:
    """Its calls hung: guardian and leash kept open what the node had closed."""
    with outlived("given up", path, label, wait_s=600) as program:
        with attach(path) as node, pytest.raises(ramet.NodeLostError, match="its link was closed"):
            node.options(timeout=60).call(remote_lasting.give_up_its_link)
        with attach(path) as node:
            assert node.call(remote_lasting.add, "more") == [program.pid, ["first", "gave up", "gave up", "more"]]


def attach(path: Path, **options: object) -> ramet.Node:
    """Come back to a node that may not be done with its last program yet."""
    found: list[ramet.Node] = []

    def tried() -> bool:
        try:
            found.append(ramet.attach(str(path), **options))    # type: ignore[arg-type]
        except ramet.ConnectError as error:
            if "another program" not in str(error) and "hasn't ended yet" not in str(error):
                raise
        return bool(found)
    until(tried, f"the node at {path} doesn't become free")
    return found[0]


# ---------------------------------------------------------------------- what stays


@pytest.mark.parametrize(("how", "label"), [*(("detach", each) for each in LABELS), *(("keep", each) for each in LABELS[::2])])
def test_it_outlives_its_program_and_serves_the_next(path: Path, how: str, label: str) -> None:
    """Detached by a program that ends, or kept by one that is killed."""
    with outlived(how, path, label) as program:
        lines: list[tuple[int, str]] = []
        shown = threading.Event()

        def on_output(_: ramet.Node, stream: int, text: str) -> None:
            lines.append((stream, text))
            shown.set()
        before = ["first"] + (["kept"] if how == "keep" else [])
        with attach(path, on_output=on_output) as node:
            assert node.call(remote_lasting.add, "second") == [program.pid, [*before, "second"]]
            assert node.call(remote_small.work) == 42           # a module that it never had
            assert node.call(lambda number: number + 1, 1) == 2
            assert node.call(remote_lasting.parent_id) == 0
            assert list(node.stream(range, 3)) == [0, 1, 2]
            node.call(print, "hello")
            shown.wait()
            assert lines == [(1, "hello")]
            child = node.local()
            grandchild = child.call(remote_lasting.pid)
        assert isinstance(node.error, ramet.ClosedError) and "was detached by this program" in str(node.error)
        assert all_end(grandchild), "a child of a kept node outlives the program"
        with attach(path) as node:
            assert node.call(remote_lasting.add, "third") == [program.pid, [*before, "second", "third"]]
            node.close()
            until(lambda: not program.node_runs(), "close() doesn't end a node that was attached")
        assert not path.exists()


def test_a_node_whose_name_is_cut_within_a_letter(path: Path) -> None:
    """The one who attached waited for ever: /proc/PID/stat, with the name in it, was no text."""
    with outlived("detach", path) as program:
        with attach(path) as node:
            assert node.call(remote_lasting.name_itself, "обработка".encode()) == "обработ".encode() + b"\xd0\n"
        with ramet.Tree(remember=False) as tree:
            node = tree.attach(str(path))
            node.wait(HANGS_S)
            assert node.call(remote_lasting.name_itself, b"python") == b"python\n"
            node.close()
            until(lambda: not program.node_runs(), "close() doesn't end it")


@old_and_new
@pytest.mark.parametrize("way", ["attached", "detached by a node", "left by a node"])
def test_what_was_written_last_comes(path: Path, label: str, way: str) -> None:
    """It goes through the guardian, and was on its way yet when the link was closed: a third of such lines was lost. And the
    next program needn't try again and again: the node is done with the last one in a moment.
    """
    with outlived("detach", path, label):
        for number in range(20):
            lines: list[str] = []

            def on_output(_: ramet.Node, __: int, text: str, lines: list[str] = lines) -> None:
                lines.append(text)
            if way == "attached":
                with ramet.attach(str(path), on_output=on_output) as node:
                    node.call(print, number)
            else:
                with ramet.Tree(on_output=on_output) as tree:
                    node = tree.local().attach(str(path))
                    node.call(print, number)
                    if way == "detached by a node":
                        node.detach()
            assert lines == [str(number)]


@old_and_new
def test_a_flood_is_left(path: Path, label: str) -> None:
    """Who writes without end keeps nobody from leaving."""
    with outlived("detach", path, label) as program:
        with attach(path, on_output=lambda *_: None) as node:
            node.call(remote_lasting.flood)
        with attach(path, on_output=lambda *_: None) as node:
            assert node.call(remote_lasting.pid) == program.pid


@old_and_new
def test_a_stopped_node_is_left(path: Path, label: str) -> None:
    """It can't let go by itself: its link is closed here, and it waits for the next program when it goes on."""
    with outlived("detach", path, label) as program:
        with attach(path) as node:
            os.kill(program.pid, signal.SIGSTOP)
            node.detach()
            assert isinstance(node.error, ramet.ClosedError)
            os.kill(program.pid, signal.SIGCONT)
        with attach(path) as node:
            assert node.call(remote_lasting.pid) == program.pid


def test_a_stopped_node_is_left_though_the_tree_waits_for_nobody(path: Path) -> None:
    """The tree's keeper ended before the link was closed, and who waited for the node's reply did so until it went on."""
    with outlived("detach", path) as program:
        node = attach(path, close_grace_s=0)
        os.kill(program.pid, signal.SIGSTOP)
        call = node.start(remote_lasting.pid)
        waiting = threading.Thread(target=call.exception, daemon=True)
        waiting.start()
        until(lambda: node._tree._nursery.children[node.id].link.borrower, "nobody waits for it")
        node._tree.close()
        waiting.join(HANGS_S)
        assert not waiting.is_alive() and isinstance(call.exception(), ramet.ClosedError)
        os.kill(program.pid, signal.SIGCONT)
        with attach(path) as node:
            assert node.call(remote_lasting.pid) == program.pid


@old_and_new
def test_a_large_call_goes_along_with_what_it_is_told(path: Path, label: str) -> None:
    """It says that it is ours before all of that is written."""
    with outlived("detach", path, label):
        for size in (3_000_000, 500_000, 3_000_001):
            def called(size: int = size) -> bool:
                with ramet.Tree() as tree:
                    try:
                        return tree.attach(str(path)).call(len, b"x" * size) == size
                    except ramet.ConnectError as error:     # it may not be done with the last program yet
                        if "another program" not in str(error) and "hasn't ended yet" not in str(error):
                            raise
                        return False
            until(called, "the node doesn't become free")


@old_and_new
def test_what_its_program_had_begun_ends(path: Path, label: str) -> None:
    """Calls in all lanes and streams are ended, on both sides. A thread that a function has started goes on."""
    with outlived("busy", path, label) as program:
        assert program.said == ["ClosedError", "ClosedError", "ClosedError"]
        with attach(path) as node:
            items, ended, threads = node.call(remote_lasting.state)
            assert sorted(ended) == ["count", "main", "work"] and threads == [True]
            until(lambda: len(node.call(remote_lasting.state)[0]) > len(items), "its thread has stopped")


@old_and_new
def test_a_signal_waits_for_a_program_though_the_last_ones_had_its_number(
        path: Path, label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was taken for that one, which has ended; so the signal was lost."""
    with outlived("detach", path, label):
        for _ in range(2):
            monkeypatch.setattr(process, "_numbers", itertools.count(1))    # as in a program that has just begun
            with attach(path) as node:
                for _ in range(3):
                    program = node.popen(["sleep", "1000"])
                    assert program.terminate()
                    assert program.result().returncode == -signal.SIGTERM


@old_and_new
def test_program_after_program_leaves_nothing_behind(path: Path, label: str) -> None:
    with outlived("detach", path, label):
        before: list[int] = []
        for number in range(7):
            with attach(path) as node:
                assert node.options(lane="one").call(remote_lasting.pid) == node.facts["pid"]
                if number == 1:
                    before = node.call(remote_lasting.what_it_has)
        with attach(path) as node:      # something of the last program's may just be going; less than one thing a program stays
            room = [0, 0, 0, 5]
            until(lambda: all(now <= was + more for now, was, more in zip(node.call(remote_lasting.what_it_has), before, room,
                                                                         strict=True)),
                  f"descriptors, threads, processes or objects of a kept node grow: {before}, then "
                  f"{node.call(remote_lasting.what_it_has)}")


# ---------------------------------------------------------------------- how it ends


@old_and_new
@pytest.mark.parametrize("way", ["by itself", "stopped"])
def test_its_time_to_wait_is_over(path: Path, label: str, way: str) -> None:
    """It ends by itself; and if it can't, since it is stopped, by its leash, with what it has started."""
    program = Program("keep", path, label, 0.3)
    try:
        if way == "stopped":
            os.kill(program.pid, signal.SIGSTOP)
        program.kill()
        until(lambda: not program.node_runs(), "a kept node waits for longer than it may")
        if way == "by itself":
            until(lambda: not path.exists(), "it left its socket")
        with pytest.raises(ramet.ConnectError, match="no node waits at"):
            ramet.attach(str(path))
    finally:
        if program.node_runs():
            os.kill(program.pid, signal.SIGKILL)


def test_its_guardian_lets_it_be(path: Path) -> None:
    """It would end the node a second after its link was lost."""
    with outlived("keep", path) as program:
        subprocess.run(["sleep", "2.5"], check=True)
        assert program.node_runs()
        with attach(path) as node:
            assert node.call(remote_lasting.pid) == program.pid


def test_a_node_in_use_isnt_ended_when_its_time_would_be_over(path: Path) -> None:
    program = Program("keep", path, wait_s=0.05)
    try:
        subprocess.run(["sleep", "2"], check=True)      # many times as long, and more than the leash gives it besides
        assert program.node_runs()
    finally:
        program.kill()
        until(lambda: not program.node_runs(), "it waits for longer than it may")


def test_a_node_that_is_killed(path: Path) -> None:
    """Whoever is attached is told; what it had started ends; its name can be had again."""
    with outlived("detach", path) as program:
        with attach(path) as node:
            sleeper = node.call(remote_lasting.start_sleeper)
            call = node.start(remote_lasting.work)
            os.kill(program.pid, signal.SIGKILL)
            with pytest.raises(ramet.NodeLostError, match="its link was closed"):
                call.result()
        assert all_end(sleeper), "what a killed node had started goes on"
        with pytest.raises(ramet.ConnectError, match="any more: the one that did has ended, or was killed"):
            ramet.attach(str(path))
        assert os.listdir(path.parent) == []
    with outlived("detach", path), attach(path) as node:
        assert node.call(remote_lasting.state)[0] == ["first"]


def test_kill_ends_it(path: Path) -> None:
    with outlived("detach", path) as program, ramet.Tree() as tree:
        tree.attach(str(path)).wait().kill()
        until(lambda: not program.node_runs(), "kill() doesn't end a node that was attached")


# ---------------------------------------------------------------------- who may come


def test_of_two_programs_one_gets_it(path: Path) -> None:
    with outlived("detach", path) as program, ramet.Tree() as one, ramet.Tree() as other:
        nodes = [tree.attach(str(path)) for tree in (one, other)]
        outcomes = []
        for node in nodes:
            try:
                outcomes.append(node.call(remote_lasting.pid))
            except ramet.ConnectError as error:
                outcomes.append(str(error))
        assert program.pid in outcomes
        assert any("another program is attached to it" in str(outcome) for outcome in outcomes), outcomes
        assert program.node_runs()


def test_another_user_is_refused() -> None:
    """By the folder; and where that is open, by the node, which says nothing to others."""
    needs.root()
    # Not in pytest's folder, which others may not enter, and which each run that begins closes anew.
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = Path(folder) / "own" / "build"
        Path(folder).chmod(0o755)
        path.parent.mkdir(mode=0o700)
        program = stack.enter_context(outlived("detach", path))
        with pytest.raises(ramet.Error, match="Permission denied"):
            as_nobody(lambda: coming_back.meeting.connect(str(path)))
        path.parent.chmod(0o755)
        path.chmod(0o777)
        with pytest.raises(ramet.Error, match="belongs to user 0, not to you"):
            as_nobody(lambda: coming_back.meeting.connect(str(path)))

        def knock() -> None:
            with socket.socket(socket.AF_UNIX) as sock:
                os.chdir(path.parent)
                sock.connect(path.name)
                sock.settimeout(60)
                raise ramet.Error("heard " + repr(sock.recv(100)))
        with pytest.raises(ramet.Error, match="^heard b''$"):
            as_nobody(knock)
        path.parent.chmod(0o700)
        with attach(path) as node:
            assert node.call(remote_lasting.pid) == program.pid


def as_nobody(fn: object) -> None:
    """Run in a forked process of another user. Raises ramet.Error with what that raised."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            fn()    # type: ignore[operator]
            os.write(write, b"nothing was raised")
        except BaseException as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        text = file.read().decode()
    os.waitpid(pid, 0)
    raise ramet.Error(text)


@old_and_new
def test_what_ends_the_last_programs_calls_leaves_the_next_ones_alone(path: Path, label: str) -> None:
    """The thread that does it may be late: the next program's first call was ended, once in some thousand attachings."""
    with outlived("detach", path, label):
        with attach(path) as node:
            node.call(remote_lasting.end_calls_late)
        with attach(path) as node:
            assert node.call(remote_lasting.parent_id_when_late) == 0


@old_and_new
def test_nobody_can_attach_before_the_last_program_is_forgotten(path: Path, label: str) -> None:
    """A call that can't be interrupted goes on when its program is gone."""
    os.mkfifo(f"{path}.fifo")
    with outlived("stuck", path, label) as program:
        def refused() -> bool:
            with pytest.raises(ramet.ConnectError, match="hasn't ended yet|another program is attached") as caught:
                ramet.attach(str(path), connect_timeout_s=0.3)
            return "what its last program has begun there hasn't ended yet" in str(caught.value)
        until(refused, "the node doesn't say why it can't be attached")
        go_on = threading.Timer(0.3, lambda: os.close(os.open(f"{path}.fifo", os.O_WRONLY)))    # and so it is interrupted
        go_on.start()
        with ramet.attach(str(path), connect_timeout_s=HANGS_S) as node:    # which waits for that
            go_on.join()
            assert node.call(remote_lasting.state)[0][:2] == ["first", "stuck"]
            assert program.node_runs()


@pytest.mark.parametrize("label", LABELS[1:])
def test_a_coroutine_whose_program_goes_before_it_begins_never_does(path: Path, tmp_path: Path, label: str) -> None:
    """It ran when the next program was there, which could take its answer for that of a call of its own."""
    begin = tmp_path / "begin"
    with outlived("detach", path, label):
        with attach(path) as node:
            node.call(remote_late.hold_event_loops, str(begin))
            node.start(remote_late.work, "late")
            until(lambda: node.call(remote_late.waiting), "it doesn't come")
        with attach(path) as node:
            begin.touch()
            assert node.call(remote_late.state)[:2] == [["first"], []]


@pytest.mark.parametrize("label", LABELS[1:])
def test_a_coroutine_that_begins_just_when_nothing_seems_to_run_is_ended(path: Path, label: str) -> None:
    """It went on, beside the next program's calls."""
    with outlived("detach", path, label):
        with attach(path) as node:
            node.call(remote_late.state)
            node.call(remote_late.lay_aside)
            node.start(remote_late.work, "late")
            until(lambda: node.call(remote_late.aside), "it doesn't come")
        with attach(path) as node:
            assert node.call(remote_late.state)[:2] == [["first", "late"], ["late"]]


def test_who_says_nothing_or_nonsense_keeps_nobody_out(path: Path) -> None:
    with outlived("detach", path) as program, contextlib.ExitStack() as stack:
        silent, noisy = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2)]
        here = os.getcwd()
        os.chdir(path.parent)
        try:
            for sock in silent, noisy:
                sock.connect(path.name)
        finally:
            os.chdir(here)
        noisy.sendall(b"\xff" * 100)
        noisy.settimeout(60)
        while noisy.recv(1000):     # until it is sent away
            pass
        with attach(path) as node:
            assert node.call(remote_lasting.pid) == program.pid


def test_another_kernel_isnt_talked_to(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with outlived("detach", path) as program:
        monkeypatch.setattr(packing, "version", lambda: "0" * 32)
        with pytest.raises(ramet.ConnectError, match="was grown by another version of ramet"):
            ramet.attach(str(path))
        assert program.node_runs()


# ---------------------------------------------------------------------- from elsewhere in a tree


@old_and_new
def test_below_another_node(path: Path, label: str) -> None:
    """A node attaches for its program; and a node that was grown by one leaves that, too."""
    with outlived("below", path, label) as program:
        for _ in range(2):
            with ramet.Tree() as tree:
                above = tree.local(python=needs.python(label))
                node = above.attach(str(path), name="again")
                assert node.call(remote_lasting.add, "more")[0] == program.pid
                assert node.call(remote_small.work) == 42
                assert node.name == "again" and node.parent == above
        with ramet.Tree() as tree:
            node = tree.connect("local:/attach:" + str(path).replace("/", "%2F"))
            assert node.call(remote_lasting.state)[0] == ["first", "more", "more"]
            node.detach()
            with pytest.raises(ramet.ClosedError):
                node.call(remote_lasting.pid)


# ---------------------------------------------------------------------- what can't be


def test_what_cant_be_detached(path: Path) -> None:
    with ramet.Tree() as tree:
        node = tree.local(name="parent")
        child = node.local()
        child.wait()
        with pytest.raises(ramet.Error, match="node parent has children, which would end with this program"):
            node.detach(str(path))
        child.close()
        piped = tree.command(["env"], name="piped")
        with pytest.raises(ramet.Error, match="other programs hold its process: keep or detach one below it"):
            piped.detach(str(path))
        for wrong in (0, -1, True, "1", float("nan"), float("inf")):
            with pytest.raises(ValueError, match="wait_s must be"):
                tree.local().keep(str(path), wait_s=wrong)      # type: ignore[arg-type]
        with pytest.raises(ramet.Error, match="a detached node's name is"):
            tree.local().keep("no name")
        kept = tree.local()
        kept.keep(str(path))
        with pytest.raises(ValueError, match="is kept already"):
            kept.detach("other")
        with pytest.raises(ramet.Error, match="the name is taken"):
            tree.local().detach(str(path))
        with pytest.raises(ramet.ConnectError, match="another program is attached to it"):
            ramet.attach(str(path))
        assert kept.call(remote_lasting.add, "one")[1] == ["one"]
    until(lambda: not path.exists(), "a kept node that its tree has ended left its socket")


# ---------------------------------------------------------------------- output


def test_output_of_a_node_without_a_program_is_bounded(path: Path, tmp_path: Path) -> None:
    """It is kept as far as it fits, then dropped and counted: who writes isn't held up for ever, and memory doesn't grow."""
    with outlived("detach", path):
        done, left = tmp_path / "done", tmp_path / "left"
        with attach(path) as node:
            node.call(remote_lasting.write_much, str(done), str(left), 8)
        left.touch()        # else this program might take all of it
        until(done.exists, "who writes waits for a program")
        told = threading.Event()
        seen = [0]

        def on_output(_: ramet.Node, __: int, text: str) -> None:
            seen[0] += len(text) + 1
            if "bytes of output dropped" in text:
                told.set()
        with attach(path, on_output=on_output):
            told.wait()
        assert seen[0] < 4 << 20
