"""An sshd of the tests' own: a free port of the loopback, keys in a folder of its own, a throwaway account where we are root.

    with Sshd() as sshd:
        tree.ssh("127.0.0.1", **sshd.by_key())
    with Sshd(["MaxSessions 1"], ["Match User x", "ForceCommand false"]) as strict:
        ...

As root there is an account with a password (``sshd.user``, ``sshd.password``) whose login shell can be changed; else
sshd runs as the user who runs the tests, and takes keys only. Neither the user's ~/.ssh nor known hosts play a part.
"""
from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from support import leaks, needs
from support.eventually import HANGS_S

HOST = "127.0.0.1"

_SERVER = """\
ListenAddress {host}
Port {port}
HostKey {folder}/hostkey
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
PasswordAuthentication {passwords}
KbdInteractiveAuthentication {passwords}
UsePAM {passwords}
PermitRootLogin prohibit-password
MaxSessions 100
MaxStartups 300:30:500
LoginGraceTime 30
PrintMotd no
PrintLastLog no
UseDNS no
SetEnv {mark_name}={mark}
"""

_CLIENT = """\
Host *
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking accept-new
  IdentitiesOnly yes
  IdentityAgent none
"""


def _run(*argv: str, stdin: str = "") -> str:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)} ended with status {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def hold_port() -> socket.socket:
    """A port of the loopback where nobody listens: ``getsockname()[1]``. As long as this socket is open, the system gives it to
    nobody who asks for any port, nor for a connection; but who asks for this very one, as servers do, may listen there."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)      # so that servers may, which set it, too
    held.bind((HOST, 0))
    return held


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port of the loopback where nobody listens, for as long as this lasts."""
    with hold_port() as held:
        yield held.getsockname()[1]


def free_port() -> int:
    """A port of the loopback where nobody listens now: another process may, a moment later."""
    with closed_port() as port:
        return port


class Sshd:
    """One server. Use it in ``with``.

    Args:
        before: lines of its configuration, in place of the usual ones with the same first word.
        behind: lines behind all others, such as ``Match`` blocks.
        pam: the text of a PAM service of its own, in place of the machine's "sshd".

    Attributes:
        port: where it listens.
        user: who to log in as: the throwaway account, or who runs the tests.
        password: that account's, or None where there is none.
        home: that account's home, or None.
        client: the path of a client configuration for it, for ``ssh -F``.
    """

    def __init__(self, before: Sequence[str] = (), behind: Sequence[str] = (), pam: str | None = None) -> None:
        self.program = needs.program("sshd")
        self.before, self.behind, self.pam = before, behind, pam
        needs.program("ssh")
        self.keygen = needs.program("ssh-keygen")
        self.root = os.geteuid() == 0
        self.folder = Path(tempfile.mkdtemp(prefix="ramet-sshd-"))
        self.folder.chmod(0o755)    # the account must be able to read authorized_keys
        self._port = hold_port()
        self.port = self._port.getsockname()[1]
        self.client = self.folder / "ssh_config"
        self.user = f"rmt{secrets.token_hex(4)}" if self.root else _run("id", "-un").strip()
        self.password = secrets.token_hex(8) if self.root else None
        self.home = self.folder / "home" if self.root else None
        self.process: subprocess.Popen[bytes] | None = None
        self._has_account = False
        self._authorized = self.folder / "authorized_keys"
        self._service = Path("/etc/pam.d", f"{self.user}-sshd")

    def __enter__(self) -> Sshd:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end_sessions()
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
        if self._has_account:
            deadline = time.monotonic() + 1
            while subprocess.run(["userdel", self.user], capture_output=True).returncode:
                if time.monotonic() > deadline:     # a process of its own has ended, and nobody has waited for it yet
                    _run("userdel", "--force", self.user)
                    break
                time.sleep(0.05)
        if self.pam is not None:
            self._service.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._port.close()

    def _end_sessions(self) -> None:
        """Those that are still there: first the account's own part of each, then sshd's ends by itself and is waited for."""
        deadline = time.monotonic() + 2
        while True:
            sessions = [process for process in leaks.processes() if f"sshd: {self.user}" in process.command]
            late = time.monotonic() > deadline
            for process in sessions:
                if late or "[priv]" not in process.command:
                    with contextlib.suppress(OSError):
                        os.kill(process.pid, signal.SIGKILL)
            if late or not sessions:
                return
            time.sleep(0.02)

    def _start(self) -> None:
        if self.root:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
            assert self.home is not None
            _run("useradd", "--no-create-home", "--home-dir", str(self.home), "--shell", "/bin/sh", self.user)
            self._has_account = True
            _run("chpasswd", stdin=f"{self.user}:{self.password}\n")
            self.home.mkdir(mode=0o755)
            shutil.chown(self.home, self.user)
        self.client.write_text(_CLIENT.format(folder=self.folder))
        argv = self._server()
        self._authorized.touch()
        self.key("id")
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + HANGS_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 1) as probe:
                if probe.recv(4) == b"SSH-":
                    return
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError("the server isn't up: " + self.log())
            time.sleep(0.05)

    def _server(self) -> list[str]:
        """Set it up, and give the command that starts it in the foreground."""
        _run(self.keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / "hostkey"))
        config = self.folder / "sshd_config"
        usual = _SERVER.format(host=HOST, port=self.port, folder=self.folder, mark=leaks.mark(),
                               mark_name=leaks.MARK_NAME, passwords="yes" if self.root else "no")
        ours = {line.split()[0] for line in self.before}    # of some words the last one counts
        lines = [*self.before, *(line for line in usual.splitlines() if line.split()[0] not in ours)]
        config.write_text("".join(f"{line}\n" for line in lines))
        with config.open("a") as more:      # from 9.8 on it would lock us out after the wrong passwords
            if "persourcepenalties" in _run(self.program, "-T", "-f", str(config)):
                more.write("PerSourcePenalties no\n")
        if self.pam is not None:
            self._own_service(self.pam)
        with config.open("a") as more:
            more.writelines(f"{line}\n" for line in self.behind)
        return [self.program, "-D", "-e", "-f", str(config)]

    def _own_service(self, rules: str) -> None:
        """sshd's service is called after the program: so it is started by a link of another name."""
        self._service.write_text(rules)
        link = self.folder / self._service.name
        link.symlink_to(self.program)
        self.program = str(link)

    def log(self) -> str:
        """What the server has written."""
        return (self.folder / "log").read_text(errors="replace")

    def key(self, name: str, command: str | None = None, passphrase: str = "") -> Path:
        """Make a key that is good for any account, and give its path.

        Args:
            command: what the server runs for whoever comes with it, whatever they ask for (``$SSH_ORIGINAL_COMMAND``).
        """
        path = self.folder / name
        _run(self.keygen, "-q", "-t", "ed25519", "-N", passphrase, "-C", name, "-f", str(path))
        forced = "" if command is None else 'command="' + command.replace('"', '\\"') + '" '
        with self._authorized.open("a") as file:
            file.write(forced + path.with_suffix(".pub").read_text())
        return path

    def by_key(self, key: Path | str = "id", **options: Any) -> dict[str, Any]:
        """Options of the connector ``ssh`` to log in with a key."""
        return {"port": self.port, "username": self.user, "identity_file": str(self.folder / key),
                "ssh_args": ["-F", str(self.client)], **options}

    def by_password(self, **options: Any) -> dict[str, Any]:
        """Options of the connector ``ssh`` to log in with the account's password. Skips the test where there is none."""
        needs.root()
        return {"port": self.port, "username": self.user, "password": self.password,
                "ssh_args": ["-F", str(self.client), "-o", "PubkeyAuthentication=no"], **options}

    def set_shell(self, name: str) -> None:
        """Give the account another login shell. Skips the test where that can't be done or there is no such shell."""
        needs.root()
        _run("usermod", "--shell", needs.program(name), self.user)


class Dropbear(Sshd):
    """Dropbear's server in place of OpenSSH's, with an account of the same kind. Only root can start it.

    Args:
        more: more of its arguments.
        admits: "root": it is root that its keys are good for. In the server's own namespace that account has the home of the
            throwaway one.
    """

    def __init__(self, *more: str, admits: str = "") -> None:
        needs.root()
        dropbear = needs.program("dropbear")
        super().__init__()
        self.program, self._more, self._admits = dropbear, more, admits

    def _server(self) -> list[str]:
        assert self.home is not None
        owner = self._admits or self.user
        folder = self.home / ".ssh"
        folder.mkdir(mode=0o700)
        self._authorized = folder / "authorized_keys"
        self._authorized.touch(mode=0o600)
        for path in self.home, folder, self._authorized:
            shutil.chown(path, owner)
        _run(needs.program("dropbearkey"), "-t", "ed25519", "-f", str(self.folder / "hostkey"))
        # -e: its environment, with the mark of this run, goes on to the sessions
        server = [self.program, "-F", "-E", "-e", "-m", "-r", str(self.folder / "hostkey"), "-p", f"{HOST}:{self.port}",
                  "-P", str(self.folder / "pid"), *self._more]  # fmt: skip
        return [*self._as_home_of(self._admits), *server] if self._admits else server

    def _as_home_of(self, user: str) -> list[str]:
        """The words that start a program where another account has our home, and nobody else sees it.

        All of /etc is its own there: a mount on /etc/passwd alone is gone as soon as anybody makes an account, by a rename.
        """
        mine = self.folder / "etc"
        _run("cp", "-a", "/etc", str(mine))
        passwd = mine / "passwd"
        passwd.write_text(re.sub(f"(?m)^({user}:.*):[^:\n]*:([^:\n]*)$", rf"\1:{self.home}:\2", passwd.read_text()))
        script = 'mount --bind "$0" /etc && exec "$@"'
        return ["unshare", "-m", "--propagation", "private", "sh", "-c", script, str(mine)]

    def _end_sessions(self) -> None:
        """Those that are still there: children of the server, which waits for them."""
        for process in leaks.processes():
            if self.process is not None and process.parent == self.process.pid:
                with contextlib.suppress(OSError):
                    os.kill(process.pid, signal.SIGKILL)
