"""Where kept nodes wait: a socket in a folder of one's own. Who gets a name, what is left of the dead, who is let in."""
from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ramet.kernel import doors, held, loop_late, meeting
from ramet.kernel.errors import Error
from ramet.kernel.loop import Loop
from support import needs
from support.eventually import HANGS_S

NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A private folder, and so the one in which names are looked for."""
    folder = tmp_path / "own"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def usual(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(meeting, "usual_folder", lambda: str(folder))
    return folder


@contextlib.contextmanager
def listening(target: Path | str) -> Iterator[tuple[meeting.Place, socket.socket, int]]:
    place = meeting.Place(str(target), True)
    try:
        sock, inode = meeting.listen(place)
        try:
            yield place, sock, inode
        finally:
            sock.close()
    finally:
        place.close()


def connect(target: Path | str) -> tuple[int, str]:
    fd, pid, path = meeting.connect(str(target))
    os.close(fd)
    return pid, path


def refused(target: Path | str, make: bool = True) -> str:
    with pytest.raises(Error) as caught:
        meeting.Place(str(target), make).close()
    return str(caught.value)


def test_who_listens_is_found_by_name_and_by_path(usual: Path) -> None:
    with listening("build") as (place, _, _):
        assert place.path == str(usual / "build")
        assert connect("build") == connect(usual / "build") == (os.getpid(), str(usual / "build"))
        assert [(entry.name, entry.stat().st_mode & 0o777) for entry in os.scandir(usual)] == [("build", 0o600)]


def test_the_usual_folder_is_made_for_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "usual_folder", lambda: str(tmp_path / "made"))
    old = os.umask(0)
    try:
        meeting.Place("build", True).close()
    finally:
        os.umask(old)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700
    assert meeting.usual_folder() and "its folder isn't there" in refused(tmp_path / "none" / "build")


def test_its_place_is_where_every_program_of_this_account_looks() -> None:
    assert meeting.usual_folder() == f"/tmp/ramet-{os.geteuid()}"


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a b", "x" * 65, "a\0b", "é", "a\n"])
def test_names_that_there_cant_be(usual: Path, name: str) -> None:
    assert "a detached node's name is" in refused(name)


def test_a_relative_path_is_no_path(usual: Path) -> None:
    assert "neither a name nor an absolute path" in refused("some/where")


def test_a_link_to_a_folder_isnt_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert "can't be used" in refused(tmp_path / "link" / "build")


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o701, 0o770, 0o1777])
def test_a_folder_that_others_may_enter_isnt_used(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    assert "is open to others" in refused(folder / "build")


def test_a_folder_of_somebody_else_isnt_used(folder: Path) -> None:
    needs.root()
    os.chown(folder, NOBODY, NOBODY)
    assert f"belongs to user {NOBODY}, not to you" in refused(folder / "build")


def test_who_swaps_the_folder_meanwhile_swaps_nothing(folder: Path, tmp_path: Path) -> None:
    """The folder that was checked is the one that is used, whatever its path leads to by then."""
    place = meeting.Place(str(folder / "build"), True)
    try:
        folder.rename(tmp_path / "away")
        (tmp_path / "evil").mkdir()
        folder.symlink_to(tmp_path / "evil")
        sock, _ = meeting.listen(place)
        sock.close()
    finally:
        place.close()
    assert os.listdir(tmp_path / "away") == ["build"]
    assert os.listdir(tmp_path / "evil") == []


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_what_isnt_a_socket_stays(folder: Path, kind: str) -> None:
    build = folder / "build"
    if kind == "file":
        build.write_text("precious")
    elif kind == "folder":
        build.mkdir()
    else:
        build.symlink_to(folder / "elsewhere")
    before = build.lstat()
    with pytest.raises(Error, match="isn't a socket of yours"), listening(build):
        pass
    with pytest.raises(Error, match="isn't a socket of yours"):
        connect(build)
    assert build.lstat().st_ino == before.st_ino and os.listdir(folder) == ["build"]


def test_a_name_is_taken_as_long_as_somebody_listens(folder: Path) -> None:
    with listening(folder / "build") as (_, _, inode):
        with pytest.raises(Error, match="the name is taken"), listening(folder / "build"):
            pass
        assert (folder / "build").stat().st_ino == inode
    assert os.listdir(folder) == ["build"]      # what is left of it
    with listening(folder / "build"):
        assert connect(folder / "build")[0] == os.getpid()


def test_who_finds_the_socket_of_a_dead_node_takes_it_away(folder: Path) -> None:
    with listening(folder / "build"):
        pass
    with pytest.raises(Error, match="any more: the one that did has ended"):
        connect(folder / "build")
    assert os.listdir(folder) == []
    with pytest.raises(Error, match="no node waits at"):
        connect(folder / "build")


def test_of_many_that_want_a_name_at_once_one_gets_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where something stale is in the way, and who has seen that takes its time."""
    with listening(folder / "build"):
        pass
    begin, got, why = threading.Barrier(8), [], []
    seen, is_stale = threading.Barrier(2), meeting._is_stale

    def slowly(place: meeting.Place) -> bool:
        found = is_stale(place)
        with contextlib.suppress(threading.BrokenBarrierError):
            seen.wait(0.5)      # for another one who sees the same: there is none, as long as the lock does what it is for
        return found
    monkeypatch.setattr(meeting, "_is_stale", slowly)
    monkeypatch.setattr(meeting, "lock_within_s", float(HANGS_S))     # eight of them, one after the other

    def want() -> None:
        place = meeting.Place(str(folder / "build"), True)
        begin.wait()
        try:
            got.append(meeting.listen(place)[0])
        except Error as error:
            why.append(str(error))
        finally:
            place.close()
    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1 and all("the name is taken" in text for text in why)
    assert os.listdir(folder) == ["build"] and connect(folder / "build")[0] == os.getpid()
    got[0].close()


def test_only_ones_own_socket_is_taken_away_at_the_end(folder: Path) -> None:
    with listening(folder / "build") as (place, _, inode):
        meeting.remove(place, inode + 1)
        assert os.listdir(folder) == ["build"]
        meeting.remove(place, inode)
        assert os.listdir(folder) == []


def test_who_listens_must_be_the_same_user(folder: Path) -> None:
    """A socket that looks right, in a folder that is right, and somebody else behind it."""
    needs.root()
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(folder / "build"))
    os.chown(folder / "build", 0, 0)
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setuid(NOBODY)
            sock.listen(1)
            os.write(ready[1], b"!")
            os.read(go[0], 1)
        finally:
            os._exit(0)
    try:
        os.read(ready[0], 1)
        with pytest.raises(Error, match=f"who listens at .* is user {NOBODY}, not you"):
            connect(folder / "build")
    finally:
        os.write(go[1], b"!")
        os.waitpid(pid, 0)
        sock.close()
        for fd in (*ready, *go):
            os.close(fd)


@pytest.mark.parametrize("accept", [doors.Door.accept, held.HeldNode.accept], ids=["door", "kept node"])
def test_who_knocks_when_there_is_no_descriptor_is_let_in_later(folder: Path, accept: Callable[[Any], None]) -> None:
    """The keeper doesn't turn to him again and again meanwhile."""
    loop = Loop(lambda error: pytest.fail(repr(error)))
    tries: list[bool] = []

    def lacking() -> Any:
        tries.append(True)
        if len(tries) == 1:
            raise OSError(errno.EMFILE, "too many open files")
        return sock.accept()
    with listening(folder / "here") as (_, sock, _), socket.socket(socket.AF_UNIX) as guest:
        host: Any = SimpleNamespace(
            node=SimpleNamespace(loop=loop), sock=SimpleNamespace(accept=lacking, fileno=sock.fileno), knocking={},
            greeting=b"hello", kernel="x", drop=bool, knocked=bool)
        loop.watch(sock.fileno(), lambda: accept(host))
        guest.connect(str(folder / "here"))
        loop.once()
        loop.call_later(0, bool)
        loop.once()
        assert len(tries) == 1 and not host.knocking
        loop.timers[0].when = 0     # its time has come
        loop.once()
        loop.once()
        [one] = host.knocking
        assert len(tries) == 2
        for fd in one, sock:
            loop.forget(fd.fileno())
        one.close()
    loop_late.close(loop)
