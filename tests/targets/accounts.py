"""Throwaway accounts with rules for sudo and doas, after shared recipes. Only root can make them.

    with Accounts() as accounts:
        asks = accounts.node(tree, accounts.asks)       # a node of the account that sudo asks for a password
        asks.sudo(password=accounts.password)
"""
from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ramet import Node, Tree
from support import needs
from support.eventually import until

DOAS_CONF = Path("/etc/doas.conf")
_COMMENT = "throwaway of ramet's tests"


def _run(*argv: str, stdin: str = "") -> None:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{argv[0]} ended with status {done.returncode}: {done.stdout}{done.stderr}")


class Accounts:
    """Three accounts. Use it in ``with``.

    Attributes:
        asks: sudo and doas ask it for its password; doas doesn't for becoming ``other``.
        free: nobody asks it.
        other: whom the others become.
        password: of all three.
    """

    def __init__(self) -> None:
        needs.root()
        for program in ("useradd", "chpasswd", "setpriv"):
            needs.program(program)
        self.python = system_python()
        mark = f"rmt{secrets.token_hex(4)}"     # not by a pid: what a run that was killed has left has one, too
        self.asks, self.free, self.other = mark + "a", mark + "f", mark + "o"
        self.password = secrets.token_hex(8)
        self.sudoers = Path("/etc/sudoers.d") / mark
        self._turn = Path(tempfile.gettempdir(), "ramet-accounts.lock").open("w")    # there is only one doas.conf
        self._doas_before: bytes | None = None
        self._made_doas = False

    def __enter__(self) -> Accounts:
        fcntl.flock(self._turn, fcntl.LOCK_EX)      # another run of the tests on this machine
        try:
            for user in (self.asks, self.free, self.other):
                _run("useradd", "-m", "-s", "/bin/bash", "-c", _COMMENT, user)
                _run("chpasswd", stdin=f"{user}:{self.password}")
            if shutil.which("sudo"):
                self._write_sudoers()
            if shutil.which("doas"):
                self._doas_before = DOAS_CONF.read_bytes() if DOAS_CONF.exists() else None
                self._made_doas = True
                DOAS_CONF.write_text(f"permit {self.asks} as root\npermit nopass {self.asks} as {self.other}\n"
                                     f"permit nopass {self.free}\n")  # fmt: skip
                DOAS_CONF.chmod(0o600)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _write_sudoers(self) -> None:
        """One bad file in sudoers.d, and sudo refuses everybody: so it is checked before it is put there."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "sudoers"
            path.write_text(f"{self.asks} ALL=(ALL:ALL) ALL\n{self.free} ALL=(ALL:ALL) NOPASSWD: ALL\n"
                            f"Defaults:{self.asks} timestamp_timeout=0, passwd_tries=3\n")  # fmt: skip
            path.chmod(0o440)
            _run("visudo", "-cqf", str(path))
            shutil.copy(path, self.sudoers)
            self.sudoers.chmod(0o440)

    def __exit__(self, *_: object) -> None:
        self.sudoers.unlink(missing_ok=True)
        if self._made_doas:
            if self._doas_before is None:
                DOAS_CONF.unlink(missing_ok=True)
            else:
                DOAS_CONF.write_bytes(self._doas_before)
        try:
            for user in (self.asks, self.free, self.other):
                self._remove(user)
        finally:
            self._turn.close()

    def _remove(self, user: str) -> None:
        """Take an account away, if it was made. A process of its own may be about to end."""
        found: list[subprocess.CompletedProcess[str]] = []

        def is_removed() -> bool:
            found[:] = [subprocess.run(["userdel", "-r", user], capture_output=True, text=True)]
            return found[0].returncode in (0, 6)    # 6: there is none
        until(is_removed, lambda: f"{found[0]}")

    @contextlib.contextmanager
    def sudoers_also(self, *lines: str) -> Iterator[None]:
        """More rules for sudo, for a while; in them ASKS, FREE and OTHER stand for the accounts."""
        needs.program("sudo")
        names = {"ASKS": self.asks, "FREE": self.free, "OTHER": self.other}
        path = self.sudoers.with_name(self.sudoers.name + "more")
        with tempfile.NamedTemporaryFile("w") as draft:     # one bad file, and sudo refuses everybody
            draft.writelines(re.sub("ASKS|FREE|OTHER", lambda found: names[found[0]], line) + "\n" for line in lines)
            draft.flush()
            _run("visudo", "-cqf", draft.name)
            shutil.copy(draft.name, path)
        path.chmod(0o440)
        try:
            yield
        finally:
            path.unlink()

    def node(self, tree: Tree, user: str, **env: str) -> Node:
        """A node of an account, grown from this process without its password."""
        words = ["env", *(f"{key}={value}" for key, value in env.items())] if env else []
        return tree.command(["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--reset-env", *words],
                            python=self.python, name=user, cwd="/")  # fmt: skip


def system_python() -> str:
    """An interpreter that every account may run: not one below root's home. Skips the test where there is none."""
    for path in ("/usr/bin/python3", "/usr/local/bin/python3"):
        if os.access(path, os.X_OK):
            return path
    home = os.path.realpath(sys.executable)
    if not home.startswith("/root/"):
        return home
    needs.lacking("a Python that other accounts may run")
    raise AssertionError("not reached")
