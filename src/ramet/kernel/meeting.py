"""Where a node that has no program waits for one: a UNIX socket by name, in a folder that is nobody else's. Late part of the
kernel, for the node that waits (``held``) and for who comes (``coming_back``). Linux only; any thread.

Nothing here trusts a path twice. A folder is opened once, without following a link, and what was opened must be this user's and
closed to all others; everything in it is then named by that descriptor (``/proc/self/fd/N/NAME``), so whoever swaps folders or
links meanwhile swaps nothing. A socket gets its name only when it listens already: it is bound under a fresh one and renamed.
Who wants a name, or takes away what is left of a dead node, holds the folder's lock. Both sides ask the system who is at the
other end (SO_PEERCRED), and speak with nobody but this very user: root, too, becomes that user first.
"""
import errno
import os
import select
import stat
import struct
import sys

from ramet.kernel import compat, values
from ramet.kernel.faults import Error
from ramet.kernel.frames import HEADER_BYTES, unpack_header

MYPY = False
if MYPY:
    from typing import Any, Optional, Tuple

NAME_CHARS_MAX = 64
LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.@:-")

# How long others may hold the folder's lock: they hold it for a few system calls.
lock_within_s = 10.0

# How many programs may knock at a time; the system lets further ones wait.
knocking_max = 8

# How long nobody is let in when there is no descriptor: the socket stays readable, and the keeper would turn to it at once.
knock_again_s = 1.0

# Why nobody can be attached for a moment: who wants to be tries again.
SETTLING = "what its last program has begun there hasn't ended yet"

# What CONFIG may weigh.
config_bytes_max = 1 << 20

# Linux's number of it, which Python 2.7 doesn't know.
SO_PEERCRED = 17


def usual_folder():
    # type: () -> str
    """Where names are, if no path is given. Not below XDG_RUNTIME_DIR, which goes with the user's last session."""
    return "/tmp/ramet-%d" % os.geteuid()


class Place(object):
    """A name in a folder that was opened and found to be private.

    Args:
        target: a name, or an absolute path.
        make: make the usual folder, if it isn't there.

    Raises:
        Error: it can't be had: the text says why, and what to do.

    Attributes:
        path: for people. Never used to open anything.
    """

    def __init__(self, target, make):
        # type: (str, bool) -> None
        self.fd = -1
        target = str(compat.native(target))
        folder, slash, self.name = target.rpartition("/")
        if slash and target[:1] != "/":
            raise Error("%r is neither a name nor an absolute path" % target)
        if not self.name or self.name[0] == "." or len(self.name) > NAME_CHARS_MAX or not LETTERS.issuperset(self.name):
            raise Error("a detached node's name is 1 to %d of A-Z a-z 0-9 _ . @ : -, and doesn't begin with a dot; not %r" % (
                NAME_CHARS_MAX, self.name))
        folder = (folder or "/") if slash else usual_folder()
        self.path = "%s/%s" % (folder.rstrip("/"), self.name)
        if make and not slash:
            try:
                os.mkdir(folder, 0o700)
            except OSError as error:
                if error.errno != errno.EEXIST:
                    raise Error("the folder %s can't be made: %s" % (folder, error.strerror))
        try:
            self.fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise Error("no node waits at %s: its folder isn't there, on this machine and for this account" % self.path)
            raise Error("the folder %s can't be used: %s. It must be a folder of your own, and no link to one" % (
                folder, error.strerror))
        try:
            compat.set_cloexec(self.fd)
            self._check(folder)
        except BaseException:
            self.close()
            raise

    def _check(self, folder):
        # type: (str) -> None
        found = os.fstat(self.fd)
        if found.st_uid != os.geteuid():
            raise Error("the folder %s belongs to user %d, not to you (user %d): somebody else has made it. Give a path in a "
                        "folder of your own" % (folder, found.st_uid, os.geteuid()))
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise Error("the folder %s is open to others (mode %o): close it with chmod 700" % (
                folder, stat.S_IMODE(found.st_mode)))
        seen = None  # type: Optional[Any]
        try:
            seen = os.stat("/proc/self/fd/%d" % self.fd)
        except OSError:
            pass
        if not seen or (seen.st_dev, seen.st_ino) != (found.st_dev, found.st_ino):
            raise Error("/proc isn't there: without it a socket's folder can't be held on to")

    def at(self, name):
        # type: (str) -> str
        """What the system is told for a name in the folder."""
        return "/proc/self/fd/%d/%s" % (self.fd, name)

    def look(self):
        # type: () -> Optional[Any]
        """What is there under the name, itself and no link's target; None if nothing."""
        try:
            return os.lstat(self.at(self.name))
        except OSError:
            return None

    def close(self):
        # type: () -> None
        """Let the folder go. Harmless the second time."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class Locked(object):
    """The lock of a place's folder, in a ``with`` block. Raises Error: somebody keeps it."""

    def __init__(self, place):
        # type: (Place) -> None
        self.place = place

    def __enter__(self):
        # type: () -> None
        import fcntl
        import time
        end = compat.monotonic() + lock_within_s
        while True:
            try:
                fcntl.flock(self.place.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except (OSError, IOError):
                if compat.monotonic() > end:
                    raise Error("another process has locked the folder of %s for %d s" % (self.place.path, lock_within_s))
            time.sleep(0.005)

    def __exit__(self, *_):
        # type: (*Any) -> None
        import fcntl
        fcntl.flock(self.place.fd, fcntl.LOCK_UN)


def listen_at(target):
    # type: (str) -> Tuple[Place, Any, int]
    """Listen at a name or an absolute path: the place, which is made, and what ``listen`` gives. Raises Error."""
    place = Place(target, True)
    try:
        sock, inode = listen(place)
    except BaseException:
        place.close()
        raise
    return place, sock, inode


def listen(place):
    # type: (Place) -> Any
    """Listen under the name. What is left there of a dead node is replaced.

    Returns:
        (the socket, non-blocking; its inode).

    Raises:
        Error: the name is taken, by a living node or by something else.
    """
    import socket
    fresh = ".%d-%s" % (os.getpid(), "".join("%02x" % byte for byte in bytearray(os.urandom(8))))
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        compat.set_cloexec(sock.fileno())
        sock.bind(place.at(fresh))
        try:
            os.chmod(place.at(fresh), 0o600)
            sock.listen(knocking_max)
            sock.setblocking(False)
            inode = os.lstat(place.at(fresh)).st_ino
            with Locked(place):
                if place.look() and not _is_stale(place):
                    raise Error("the name is taken: at %s another node waits already, or is attached" % place.path)
                os.rename(place.at(fresh), place.at(place.name))
        except BaseException:
            os.unlink(place.at(fresh))
            raise
    except (OSError, IOError) as error:
        sock.close()
        raise Error("nothing can listen at %s: %s" % (place.path, error.strerror or error))
    except BaseException:
        sock.close()
        raise
    return sock, inode


def accept(loop, sock):
    # type: (Any, Any) -> Any
    """Who knocks there: a socket. On the keeper. Raises OSError, on 2.7 socket.error: he is gone, or there is no descriptor."""
    try:
        return sock.accept()[0]
    except EnvironmentError:
        if sys.exc_info()[1].errno in (errno.EMFILE, errno.ENFILE):  # type: ignore[union-attr]
            fd = sock.fileno()
            loop.pause(fd, True)
            loop.call_later(knock_again_s, loop.pause, fd, False)
        raise


def _is_stale(place):
    # type: (Place) -> bool
    """Whether what is under the name is the socket of a dead process. The folder's lock is held."""
    found = place.look()
    if not found or not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        raise Error("what is at %s isn't a socket of yours: it stays as it is. Choose another name" % place.path)
    import socket
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.connect(place.at(place.name))
    except (OSError, IOError) as error:
        return error.errno == errno.ECONNREFUSED
    finally:
        sock.close()
    return False


def remove(place, inode):
    # type: (Place, int) -> None
    """Take the name away, if it still is that socket's. Never raises: it is for the end."""
    try:
        with Locked(place):
            found = place.look()
            if found and found.st_ino == inode:
                os.unlink(place.at(place.name))
    except (OSError, Error):
        pass    # it is stale then, and whoever comes next sees that


def connect(target):
    # type: (str) -> Any
    """Knock at a place.

    Returns:
        (a descriptor, non-blocking; the pid of who listens; the path).

    Raises:
        Error: nobody is there, or not who should be.
    """
    import socket
    place = Place(target, False)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        found = place.look()
        if not found:
            raise Error("no node waits at %s, on this machine and for this account" % place.path)
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
            raise Error("what is at %s isn't a socket of yours" % place.path)
        sock.setblocking(False)
        try:
            sock.connect(place.at(place.name))
        except (OSError, IOError) as error:
            if error.errno != errno.ECONNREFUSED:
                raise Error("nobody answers at %s: %s" % (place.path, error.strerror or error))
            with Locked(place):
                again = place.look()
                if again and again.st_ino == found.st_ino and _is_stale(place):
                    os.unlink(place.at(place.name))
            raise Error("no node waits at %s any more: the one that did has ended, or was killed" % place.path)
        pid, uid = peer(sock)
        if uid != os.geteuid():
            raise Error("who listens at %s is user %d, not you (user %d)" % (place.path, uid, os.geteuid()))
        fd = os.dup(sock.fileno())      # 2.7's sockets can't give their descriptor away
        compat.set_cloexec(fd)
        return fd, pid, place.path
    finally:
        sock.close()
        place.close()


def peer(sock):
    # type: (Any) -> Tuple[int, int]
    """(pid, uid) of who is at the other end, as the system knows it."""
    import socket
    data = sock.getsockopt(socket.SOL_SOCKET, getattr(socket, "SO_PEERCRED", SO_PEERCRED), struct.calcsize("iII"))
    pid, uid, _ = struct.unpack("iII", data)
    return pid, uid


def read_config(fd, data, seconds):
    # type: (int, bytes, float) -> Any
    """What one who has come says first: (CONFIG, what came behind it). (None, b"") if it doesn't come within that time."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    end = compat.monotonic() + seconds
    try:
        while True:
            if len(data) >= HEADER_BYTES:
                size = HEADER_BYTES + unpack_header(data)[8]
                if size > config_bytes_max:
                    break
                if len(data) >= size:
                    return values.decode(data[HEADER_BYTES:size]), data[size:]
            left = end - compat.monotonic()
            more = os.read(fd, 65536) if left > 0 and poller.poll(left * 1000) else b""
            if not more:
                break
            data += more
    except (OSError, IOError, select.error, ValueError, Error):
        pass    # it is gone, or speaks something else
    return None, b""
