"""Programs that need a system of their own, in namespaces that end with their first process: sudo-rs and pkexec.

    sudo_rs = SudoRs(folder)
    node = sudo_rs.enter(tree)          # root in a Debian that has sudo-rs, over which everything written is forgotten
    node.su(sudo_rs.asks).sudo(sudo_path="sudo-rs", password=sudo_rs.password)
"""
from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path

from ramet import Node, Tree
from support import needs, pythons

# A root under a layer that is kept in memory: nobody else's root is changed.
_LAYER = """
set -e
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir="$1",upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
cd /mnt/root
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mkdir -p srv/here srv/roots
mount --bind / srv/here
mount --rbind "$3" srv/roots
chroot . useradd -m -s /bin/bash rmtasks
chroot . useradd -m -s /bin/bash rmtfree
chroot . chpasswd < "$2"
printf '%s\\n' 'root ALL=(ALL:ALL) ALL' 'rmtasks ALL=(ALL:ALL) ALL' 'rmtfree ALL=(ALL:ALL) NOPASSWD: ALL' > etc/sudoers-rs
chmod 440 etc/sudoers-rs
shift 3
exec chroot . "$@"
"""

# A system bus and polkit's daemon with one rule, seen by nobody else.
_POLKIT = """
set -e
mount -t tmpfs tmpfs /run
mkdir /run/dbus
mount -t tmpfs -o mode=755 tmpfs /etc/polkit-1/rules.d
printf '%s\\n' 'polkit.addRule(function(action, subject) {' \
  '  if (action.id == "org.freedesktop.policykit.exec" && subject.user == "'"$2"'") return polkit.Result.YES; });' \
  > /etc/polkit-1/rules.d/10-rmt.rules
mount -t proc proc /proc
dbus-daemon --system --nofork --nopidfile < /dev/null > /dev/null 2>&1 &
until [ -S /run/dbus/system_bus_socket ]; do sleep 0.05; done
"$1" --no-debug < /dev/null > /dev/null 2>&1 &
until dbus-send --system --print-reply --dest=org.freedesktop.PolicyKit1 /org/freedesktop/PolicyKit1/Authority \
  org.freedesktop.DBus.Peer.Ping > /dev/null 2>&1; do sleep 0.05; done
shift 2
exec "$@"
"""

_ENTER = ["unshare", "-mpf", "--kill-child", "--propagation", "private", "sh", "-c"]
_POLKITD = "/usr/lib/polkit-1/polkitd"


class SudoRs:
    """A Debian with sudo-rs, of ``support.pythons.ROOTS``. Skips the test where there is none.

    Args:
        folder: for a file of root's alone, with the password.

    Attributes:
        asks: whom it asks for a password.
        free: whom it doesn't.
        password: of both.
    """

    asks, free = "rmtasks", "rmtfree"

    #: Where this machine's root folder is in there, and those of other systems.
    here, roots = Path("/srv/here"), Path("/srv/roots")

    def __init__(self, folder: Path) -> None:
        needs.root()
        roots = [root for root in sorted(pythons.ROOTS.glob("*")) if (root / "usr/bin/sudo-rs").exists()]
        if not roots:
            needs.lacking(f"a root with sudo-rs below {pythons.ROOTS}")
        self.password = secrets.token_hex(8)
        passwords = folder / "passwords"
        passwords.touch(mode=0o600)
        passwords.write_text(f"{self.asks}:{self.password}\n{self.free}:{self.password}\n")
        self._words = [*_ENTER, _LAYER, "sh", str(roots[0]), str(passwords), str(pythons.ROOTS)]
        if subprocess.run([*self._words, "true"], capture_output=True).returncode:
            needs.lacking("the right to mount an overlay")

    def enter(self, tree: Tree) -> Node:
        """A node of root's in there."""
        return tree.command(self._words, python="/usr/bin/python3", name="root", cwd="/")


def with_polkit(tree: Tree, user: str) -> Node:
    """A node of root's in a place where polkit lets one account be root. Skips the test where there is no polkit."""
    needs.root()
    for program in ("pkexec", "dbus-daemon", "dbus-send"):
        needs.program(program)
    if not os.access(_POLKITD, os.X_OK) or not Path("/etc/polkit-1/rules.d").is_dir():
        needs.lacking("polkitd")
    return tree.command([*_ENTER, _POLKIT, "sh", _POLKITD, user], python="/usr/bin/python3", name="root", cwd="/")
