"""A machine whose first process is systemd, booted by systemd-nspawn; in it a second one, which its systemd knows by name.

After a shared recipe. Only root can, and it needs a Debian 13 with systemd in ``pythons.ROOTS``/trixie-systemd (`make targets`
makes it): run0 came with systemd 256. That root isn't changed: what is written goes to an overlay of the test's own.
"""
from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from pathlib import Path

from support import needs, pythons
from targets.containers import Target, overlay, run, wait_for

USER = "rmtu"
NAME = "rmtboot"
INNER = "rmtinner"
#: Where the roots of other systems are, in both machines.
WITHIN = Path("/srv/roots")

# The user may use run0 without a password, but nobody else may.
_RULES = f"""polkit.addRule(function(action, subject) {{
  if (subject.user == "{USER}" && action.id == "org.freedesktop.systemd1.manage-units") return polkit.Result.YES; }});
"""
# What would only take time, or do something later.
_NO_UNITS = ("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "systemd-networkd-wait-online.service")


class Booted(Target):
    """The machine ``NAME``, whose first process the host knows as ``leader``; in it ``INNER``. Both have ``USER``."""

    programs = ("systemd-nspawn", "nsenter", "unshare", "mount")

    def __init__(self) -> None:
        self.base = pythons.ROOTS / "trixie-systemd"
        if not (self.base / "usr/bin/run0").exists():
            needs.lacking(f"a Debian 13 with systemd in {self.base} (make targets makes it)")
        super().__init__()

    def start(self) -> None:
        root = self._overlay("outer")
        (root / "etc/polkit-1/rules.d").mkdir(parents=True, exist_ok=True)
        (root / "etc/polkit-1/rules.d/49-rmt.rules").write_text(_RULES)
        (root / f"etc/sudoers.d/{USER}").write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
        inner = self._overlay("inner")
        (inner / "etc/hostname").write_text(f"{INNER}\n")
        self._boot(root, inner)

    def _overlay(self, name: str) -> Path:
        """A copy of the root that costs nothing."""
        root = overlay(self.base, self.folder, name)
        (root / "etc/machine-id").write_text("")
        (root / "etc/hostname").write_text(f"{NAME}\n")
        (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {NAME} {INNER}\n")
        (root / "etc/systemd/logind.conf.d").mkdir()     # a user's last process ends its session's, too
        (root / "etc/systemd/logind.conf.d/rmt.conf").write_text("[Login]\nUserStopDelaySec=0\n")
        for unit in _NO_UNITS:
            (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
        if subprocess.run(["chroot", str(root), "id", USER], capture_output=True).returncode:
            run("chroot", str(root), "useradd", "-m", "-s", "/bin/bash", USER)
        return root

    def _boot(self, root: Path, inner: Path) -> None:
        self.machine = f"rmt{secrets.token_hex(4)}"     # not after the folder, whose name may end with "_": no host's may
        # The guest's systemd wants cgroups v2 only, also where the host has v1 and v2 side by side.
        environment = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [needs.program("systemd-nspawn"), "-D", str(root), "--register=no", "--keep-unit", "--boot", "--console=pipe",
                 "--private-network", f"--machine={self.machine}", f"--hostname={NAME}", f"--bind={inner}:/srv/{INNER}",
                 *(f"--bind-ro={root}:{WITHIN / root.name}" for root in sorted({root for _, root, _ in pythons.in_roots()}))],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)  # fmt: skip
        wait_for(self._has_leader, "systemd-nspawn starts: " + (self.folder / "log").read_text()[-1000:])
        wait_for(self._is_up, "the machine boots: " + (self.folder / "log").read_text()[-1000:])
        self.inside("systemctl", "start", "polkit.service")     # else it is started by the test that first needs it

    def _has_leader(self) -> bool:
        """Its first process is the one child of systemd-nspawn."""
        if self.process.poll() is not None:
            raise RuntimeError("systemd-nspawn: " + (self.folder / "log").read_text()[-1000:])
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        self.leader = int(children[0]) if children else 0
        return bool(children)

    def _is_up(self) -> bool:
        self._has_leader()      # anew: systemd-nspawn's first child is another one, which starts it
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"/proc/{self.leader}/ns/pid") == os.readlink("/proc/self/ns/pid"):
                return False        # that one, which is still in this machine: which may be up, too
        return self.leader > 0 and self.inside("systemctl", "is-active", "multi-user.target", check=False).strip() == "active"

    def inside(self, *argv: str, check: bool = True) -> str:
        """Run a program in the machine."""
        enter = ("nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w")
        return run(*enter, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *argv, check=check)

    def begin_inner(self) -> None:
        """Boot the machine in the machine, as systemd-nspawn@.service would."""
        self.inside("systemd-run", "--quiet", f"--unit={INNER}", "--property=Delegate=yes", "--property=KillMode=mixed",
                    "systemd-nspawn", "-D", f"/srv/{INNER}", f"--machine={INNER}", "--boot", "--private-network",
                    "--console=pipe", "--keep-unit", f"--bind-ro={WITHIN}")  # fmt: skip
        up = ("systemctl", "-M", INNER, "is-active", "multi-user.target")
        wait_for(lambda: self.inside(*up, check=False).strip() == "active", "the inner machine boots")

    def end_inner(self) -> None:
        """Have it go down; that takes a moment."""
        self.inside("machinectl", "terminate", INNER)

    def units(self) -> list[str]:
        """What systemd-run and run0 have made."""
        lines = self.inside("systemctl", "list-units", "--plain", "--no-legend", "run-*.service").split("\n")
        return [line for line in lines if line.startswith("run-")]

    def stop(self) -> None:
        if not hasattr(self, "process"):
            return
        if self.process.poll() is None:
            self.process.terminate()        # systemd-nspawn then has it power off
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        left = Path("/run/systemd/nspawn/propagate") / self.machine
        if left.is_dir():
            left.rmdir()
