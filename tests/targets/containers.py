"""Real containers without a registry: daemons, storage and folders of the tests' own, after shared recipes. Only root can.

Each class is a context manager that starts what it is named after and takes it down again. The containers have a system of
one program (busybox) and no Python (``bare``), or besides that the host's /usr, read-only, with the host's Python (``full``).
"""
from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from support import needs
from support.eventually import HANGS_S

APPLETS = "sh ls cat id sleep env uname mkdir printf true tty"
#: Debian's own programs first: others of the same names may lie in /usr/local.
PATH = "/usr/sbin:/usr/bin:/sbin:/bin:" + os.environ.get("PATH", "")


def run(*argv: str, stdin: bytes | None = None, env: dict[str, str] | None = None, check: bool = True) -> str:
    """Run a program to its end; what it said on stdout."""
    done = subprocess.run(argv, input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL,
                          capture_output=True, env={**os.environ, "PATH": PATH, **(env or {})}, timeout=120)  # fmt: skip
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(argv)} ended with status {done.returncode}: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode(errors="replace")


def wait_for(done: Callable[[], Any], what: str) -> None:
    """Wait until something is so. Each look may start a program, so there aren't as many as in ``eventually.until``."""
    end = time.monotonic() + HANGS_S
    while not done():
        if time.monotonic() > end:
            raise RuntimeError(f"not within {HANGS_S} s: {what}")
        time.sleep(0.05)


def lending(usr: str | None) -> list[str]:
    """Options for a container that gets a folder as its /usr."""
    return ["-v", f"{usr}:/usr:ro"] if usr else []


def overlay(base: Path, folder: Path, name: str) -> Path:
    """Mount what looks like a copy of a root, and costs nothing. Skips the test where that can't be done."""
    parts = {part: folder / f"{name}-{part}" for part in ("upper", "work", "root")}
    for part in parts.values():
        part.mkdir()
    layers = f"lowerdir={base},upperdir={parts['upper']},workdir={parts['work']}"
    mount = ["mount", "-t", "overlay", "overlay", "-o", layers, str(parts["root"])]
    if subprocess.run(mount, capture_output=True).returncode:
        needs.lacking("the right to mount an overlay")
    return parts["root"]


def nodes_in(space: str) -> list[str]:
    """The command lines of all nodes in a namespace of process ids, by what its link in /proc says."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/ns/pid") == space:
                found.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if "(ramet:" in line]


def gone(left: Callable[[], Any], seconds: float = HANGS_S) -> bool:
    """Whether what there is becomes nothing in time."""
    end = time.monotonic() + seconds
    while left() and time.monotonic() < end:
        time.sleep(0.05)
    return not left()


def busybox_root(folder: Path) -> Path:
    """The smallest root folder that is of use. Debian's busybox-static runs by itself."""
    for part in ("bin", "sbin", "etc", "tmp", "usr", "proc", "sys", "dev", "root", "run"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "tmp").chmod(0o1777)
    (folder / "lib").symlink_to("usr/lib")
    (folder / "lib64").symlink_to("usr/lib64")
    shutil.copy(needs.program("busybox"), folder / "bin/busybox")
    for applet in APPLETS.split():
        (folder / "bin" / applet).symlink_to("busybox")
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    if subprocess.run(["chroot", str(folder), "/bin/true"], capture_output=True).returncode:
        needs.lacking("a busybox that runs by itself (busybox-static)")
    return folder


class Target:
    """What all have in common: a folder of their own, removed with all that is mounted below it.

    Args:
        lent: container -> the folder that it gets as its /usr, read-only; None for an empty one.
    """

    programs: tuple[str, ...] = ()

    def __init__(self, lent: Mapping[str, str | None] | None = None) -> None:
        self.lent = lent or {"bare": None, "full": "/usr"}
        needs.root()
        for program in (*self.programs, "busybox"):
            needs.program(program)
        if not os.access("/usr/bin/python3", os.X_OK):
            needs.lacking("/usr/bin/python3, which containers borrow")
        self.folder = Path(tempfile.mkdtemp(prefix="rmt", dir="/var/tmp"))
        self.image = busybox_root(self.folder / "bb")

    def __enter__(self) -> Any:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.stop()
        finally:
            # podman cleans up in the background after each container, and would make and mount the folder anew.
            wait_for(lambda: not self._in_use(), f"no program works in {self.folder}")
            wait_for(self._removed, f"nothing is mounted below {self.folder}, and it is gone")

    def _in_use(self) -> bool:
        """Whether a program has the folder in its command line."""
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.fsencode(f"{self.folder}/") in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return True
        return False

    def _removed(self) -> bool:
        if self._unmounted():
            shutil.rmtree(self.folder, ignore_errors=True)
        return not self.folder.exists()

    def _unmounted(self) -> bool:
        below = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        below = [place for place in below if place.startswith(f"{self.folder}/")]
        for place in sorted(below, reverse=True):
            subprocess.run(["umount", place], capture_output=True)
        return not below

    def tar(self) -> bytes:
        """The root folder as an image."""
        return subprocess.run(["tar", "-C", str(self.image), "-c", "."], stdout=subprocess.PIPE, check=True).stdout

    def start(self) -> None:
        """Start it."""

    def stop(self) -> None:
        """Stop it."""


class Storage(Target):
    """What Podman and Buildah have in common: images and containers of their own. ``env`` is for whoever runs them."""

    program = ""
    programs: tuple[str, ...] = ("runc",)

    def __init__(self, lent: Mapping[str, str | None] | None = None) -> None:
        self.programs = (self.program, "runc")
        super().__init__(lent)

    def settings(self) -> None:
        """Write their configuration."""
        limits = {name: resource.getrlimit(which)[1] for name, which in
                  (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC))}  # fmt: skip
        most = {"nofile": 16384, "nproc": 9000}
        hard = {name: most[name] if found < 0 else min(found, most[name]) for name, found in limits.items()}
        ulimits = json.dumps([f"{name}=1024:{number}" for name, number in hard.items()])
        (self.folder / "containers.conf").write_text(
            f'[containers]\ndefault_ulimits = {ulimits}\nnetns = "none"\ncgroupns = "host"\n[engine]\nruntime = "runc"\n'
            f'cgroup_manager = "cgroupfs"\nevents_logger = "file"\ntmp_dir = "{self.folder}/tmp"\n')
        (self.folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self.folder}/root"\nrunroot = "{self.folder}/run"\n')
        self.env = {"CONTAINERS_CONF": f"{self.folder}/containers.conf", "PATH": PATH,
                    "CONTAINERS_STORAGE_CONF": f"{self.folder}/storage.conf"}  # fmt: skip

    def use(self, *argv: str, stdin: bytes | None = None) -> str:
        """Run the program."""
        return run(self.program, *argv, stdin=stdin, env=self.env)


class Podman(Storage):
    """Containers ``bare`` and ``full``, and the image ``localhost/rmt-bb``."""

    program = "podman"

    def start(self) -> None:
        self.settings()
        self.use("import", "-q", "-", "localhost/rmt-bb", stdin=self.tar())
        for name, usr in self.lent.items():
            self.use("run", "-d", "--name", name, "--pull=never", *lending(usr), "localhost/rmt-bb", "sleep", "1000000")

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError, AttributeError):
            self.use("rm", "-af", "-t", "0")


class Buildah(Storage):
    """Working containers ``bare`` and ``full``, which are the same, and the image ``rmt-bb``.

    Nothing runs in them but what is started there; the host's /usr is lent to that, or not.
    """

    program = "buildah"

    def start(self) -> None:
        self.settings()
        self.use("from", "--name", "first", "scratch")
        self.use("copy", "-q", "first", str(self.image), "/")
        self.use("commit", "-q", "--rm", "first", "rmt-bb")
        for name in self.lent:
            self.use("from", "--name", name, "--pull-never", "rmt-bb")

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError, AttributeError):
            self.use("rm", "-a")


class Docker(Target):
    """Containers ``bare`` and ``full``, and the image ``rmt-bb``, of a dockerd of its own at ``host``."""

    programs = ("docker", "dockerd", "runc")

    def start(self) -> None:
        self.host = f"unix://{self.folder}/sock"
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [needs.program("dockerd"), "--host", self.host, "--data-root", f"{self.folder}/data", "--exec-root",
                 f"{self.folder}/exec", "--pidfile", f"{self.folder}/pid", "--iptables=false", "--ip6tables=false",
                 "--bridge=none", "--ip-forward=false", "--userland-proxy=false"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "PATH": PATH})  # fmt: skip
        wait_for(lambda: not subprocess.run(["docker", "-H", self.host, "info"], capture_output=True).returncode,
                 "dockerd answers: " + str(self.folder / "log"))
        self.use("import", "-", "rmt-bb", stdin=self.tar())
        for name, usr in self.lent.items():
            self.use("run", "-d", "--name", name, "--network=none", *lending(usr), "rmt-bb", "sleep", "1000000")

    def use(self, *argv: str, stdin: bytes | None = None) -> str:
        """Run the client."""
        return run("docker", "-H", self.host, *argv, stdin=stdin)

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError):
            for id in self.use("ps", "-aq").split():
                self.use("rm", "-f", id)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(HANGS_S)
        finally:
            self.process.kill()     # harmless, if it has ended
            self.process.wait()


class Lxc(Target):
    """The containers ``bare`` and ``full`` in the folder ``path``."""

    programs = ("lxc-start", "lxc-attach", "lxc-stop")

    def start(self) -> None:
        self.path = self.folder
        self.folder.chmod(0o755)
        for name, usr in self.lent.items():
            (self.folder / name).mkdir()
            (self.folder / name / "config").write_text(
                f"lxc.uts.name = {name}\nlxc.rootfs.path = dir:{self.image}\nlxc.net.0.type = empty\n"
                "lxc.mount.auto = proc:mixed sys:ro\nlxc.init.cmd = /bin/sleep 1000000\nlxc.apparmor.profile = unconfined\n"
                "lxc.tty.max = 0\nlxc.pty.max = 1024\nlxc.autodev = 1\n"
                + (f"lxc.mount.entry = {usr} usr none bind,ro 0 0\n" if usr else ""))
            run("lxc-start", "-P", str(self.folder), "-n", name, "-d", "-o", str(self.folder / "log"))

    def stop(self) -> None:
        for name in self.lent:
            subprocess.run(["lxc-stop", "-P", str(self.folder), "-n", name, "-k"], capture_output=True)
