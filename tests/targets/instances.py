"""LXD and Incus for real: a daemon of each with a folder of its own, plain folders as storage, no network, no image server.

After shared recipes. Only root can. The instances have the small system of ``containers.py``: ``bare`` has no Python, ``full``
has the host's /usr, read-only.
"""
from __future__ import annotations

import os
import signal
import subprocess
import tarfile

from support import needs
from support.eventually import HANGS_S
from targets.containers import PATH, Target, run, wait_for

# No network is configured, so there is no bridge and no firewall rule; and nothing looks for newer images.
_PRESEED = b"""config: {images.auto_update_interval: "0"}
storage_pools: [{name: default, driver: dir}]
profiles:
- name: default
  config: {security.privileged: "true", raw.lxc: "lxc.init.cmd=/bin/sleep 1000000"}
  devices: {root: {path: /, pool: default, type: disk}}
- name: lent
  devices: {usr: {path: /usr, source: /usr, type: disk, readonly: "true"}}
"""
# Privileged: a user namespace would need ranges in /etc/subuid. The first process just waits, nothing has to boot.


class Daemon(Target):
    """A daemon, its instances ``bare`` and ``full``, the image ``rmt``, and the profile ``lent``, which gives the host's /usr.

    ``env`` is for whoever runs the client.
    """

    client = daemon = folder_variable = ""
    #: What follows the daemon's or the client's name for what only those who run it need.
    admin: tuple[str, ...] = ()

    def start(self) -> None:
        self.folder.chmod(0o711)
        (self.folder / "var").mkdir()
        # HOME: the client keeps its configuration below it.
        self.env = {self.folder_variable: f"{self.folder}/var", "HOME": str(self.folder), "PATH": PATH}
        with (self.folder / "log").open("wb") as log:
            # The group that may use the socket: the one that it would be by default need not exist.
            self.process = subprocess.Popen([needs.program(self.daemon), "--group", "root"], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env={**os.environ, **self.env})  # fmt: skip
        self.admin_call("waitready", "--timeout", "60")
        self.admin_call("init", "--preseed", stdin=_PRESEED)
        self.use("image", "import", "-q", *self._archives(), "--alias", "rmt")
        for instance, usr in self.lent.items():
            self.use("init", "-q", "rmt", instance)
            if usr:
                device = ("usr", "disk", f"source={usr}", "path=/usr", "readonly=true")
                self.use("config", "device", "add", "-q", instance, *device)
            self.use("start", instance)

    def _archives(self) -> tuple[str, str]:
        """An image is a description and a root folder."""
        text = f'architecture: {os.uname().machine}\ncreation_date: 1700000000\nproperties: {{os: rmt, release: "1"}}\n'
        (self.folder / "metadata.yaml").write_text(text)
        with tarfile.open(self.folder / "metadata.tar", "w") as archive:
            archive.add(self.folder / "metadata.yaml", "metadata.yaml")
        (self.folder / "root.tar").write_bytes(self.tar())
        return str(self.folder / "metadata.tar"), str(self.folder / "root.tar")

    def use(self, *argv: str, stdin: bytes | None = None, check: bool = True) -> str:
        """Run the client."""
        return run(self.client, *argv, stdin=stdin, env=self.env, check=check)

    def admin_call(self, *argv: str, stdin: bytes | None = None, check: bool = True) -> str:
        """Run what only those who run the daemon need."""
        return run(*self.admin, *argv, stdin=stdin, env=self.env, check=check)

    def stop(self) -> None:
        if not hasattr(self, "process"):
            return
        if self.process.poll() is None:
            for instance in self.use("list", "-f", "csv", "-c", "n", check=False).split():
                self.use("delete", "-f", instance, check=False)
            self.admin_call("shutdown", "--timeout", "15", check=False)     # unmounts what it has mounted
        try:
            self.process.wait(HANGS_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        wait_for(lambda: not self._in_use(), f"no program works in {self.folder}")


class Lxd(Daemon):
    """LXD."""

    client, daemon, folder_variable, admin = "lxc", "lxd", "LXD_DIR", ("lxd",)
    programs = ("lxd", "lxc")


class Incus(Daemon):
    """Incus. Debian keeps the daemon where no PATH leads."""

    client, daemon, folder_variable, admin = "incus", "incusd", "INCUS_DIR", ("incus", "admin")
    programs = ("incus", "incusd")
