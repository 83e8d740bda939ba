"""``Grower``: what can grow children, the tree and every node: a method for each connector.

Each method takes what ``ramet.connectors.NAME.plan`` takes, and returns at once: the node connects in the background. All are
thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ramet.connectors import Plan, check_plan, registry, spec

if TYPE_CHECKING:
    import os

    from ramet.node import Node
    from ramet.tree import Tree


class Grower:
    """What can grow children: the tree (from this program) and every node."""

    _tree: Tree
    id: int

    def grow(self, connector: str | Plan | Callable[..., Plan], *args: Any, **options: Any) -> Node:
        """Grow a node by any connector: the way for those that are somebody's own.

        Args:
            connector: its name, its function, or the plan that it has made (see docs/how-to/own-connector.md).
            args, options: what the function takes.

        Raises:
            ValueError: there is no such connector, or its plan is broken. TypeError: it has no such option.
        """
        if isinstance(connector, Mapping):
            return self._tree._grow(self, check_plan(connector))
        function = registry.find(connector) if isinstance(connector, str) else connector
        return self._tree._grow(self, check_plan(function(*args, **options)))

    def connect(self, text: str) -> Node:
        """Grow several nodes, one through the other, from one string such as ``"ssh:user@web1:2222/sudo:root"``.

        Returns:
            The last of them.

        Raises:
            ValueError: the string names no connector, or an option that it doesn't have.
        """
        grower: Any = self
        for connector, options in spec.parse(text):
            try:
                grower = grower.grow(connector, **options)
            except TypeError as error:
                raise ValueError(f"{text!r}: {connector}: {error}") from error
        node: Node = grower
        return node

    # ------------------------------------------------------------------ machines

    def local(self, **options: Any) -> Node:
        """Start another interpreter on the same machine and account."""
        return self.grow("local", **options)

    def ssh(self, host: str, **options: Any) -> Node:
        """Start an interpreter on another host with the OpenSSH program."""
        return self.grow("ssh", host, **options)

    def command(self, argv: Sequence[str], **options: Any) -> Node:
        """Start an interpreter with any command that gives its stdio."""
        return self.grow("command", argv, **options)

    def wsl(self, distribution: str | None = None, **options: Any) -> Node:
        """Start an interpreter in a Linux of Windows, from another such Linux."""
        return self.grow("wsl", distribution, **options)

    # ------------------------------------------------------------------ accounts

    def sudo(self, username: str | None = None, **options: Any) -> Node:
        """Start an interpreter as another user, by sudo's rules; as root unless a name is given."""
        return self.grow("sudo", username, **options)

    def su(self, username: str = "root", **options: Any) -> Node:
        """Start an interpreter as another user, with that account's password, or from root without one."""
        return self.grow("su", username, **options)

    def doas(self, username: str | None = None, **options: Any) -> Node:
        """Start an interpreter as another user, by the rules of doas; as root unless a name is given."""
        return self.grow("doas", username, **options)

    def run0(self, username: str | None = None, **options: Any) -> Node:
        """Start an interpreter as another user with systemd's run0; as root unless a name is given."""
        return self.grow("run0", username, **options)

    def pkexec(self, username: str | None = None, **options: Any) -> Node:
        """Start an interpreter as another user, by polkit's rules; as root unless a name is given."""
        return self.grow("pkexec", username, **options)

    # ------------------------------------------------------------------ containers

    def docker(self, container: str | None = None, **options: Any) -> Node:
        """Start an interpreter in a container of Docker, or with ``image=`` in one of its own."""
        return self.grow("docker", container, **options)

    def podman(self, container: str | None = None, **options: Any) -> Node:
        """Start an interpreter in a container of Podman, or with ``image=`` in one of its own."""
        return self.grow("podman", container, **options)

    def buildah(self, container: str, **options: Any) -> Node:
        """Start an interpreter in a working container of Buildah."""
        return self.grow("buildah", container, **options)

    def kubectl(self, pod: str, **options: Any) -> Node:
        """Start an interpreter in a pod of Kubernetes."""
        return self.grow("kubectl", pod, **options)

    def lxc(self, container: str, **options: Any) -> Node:
        """Start an interpreter in a running container of LXC."""
        return self.grow("lxc", container, **options)

    def lxd(self, container: str, **options: Any) -> Node:
        """Start an interpreter in a running instance of LXD."""
        return self.grow("lxd", container, **options)

    def incus(self, container: str, **options: Any) -> Node:
        """Start an interpreter in a running instance of Incus."""
        return self.grow("incus", container, **options)

    def jail(self, container: str, **options: Any) -> Node:
        """Start an interpreter in a running jail of FreeBSD."""
        return self.grow("jail", container, **options)

    def machinectl(self, container: str, **options: Any) -> Node:
        """Start an interpreter in a running container that systemd knows."""
        return self.grow("machinectl", container, **options)

    def nspawn(self, container: str | os.PathLike[str], **options: Any) -> Node:
        """Start a container of systemd-nspawn for one interpreter."""
        return self.grow("nspawn", container, **options)

    def nsenter(self, target: int | str, **options: Any) -> Node:
        """Start an interpreter in the namespaces of a process or container."""
        return self.grow("nsenter", target, **options)

    def chroot(self, path: str | os.PathLike[str], **options: Any) -> Node:
        """Start an interpreter that sees another root folder."""
        return self.grow("chroot", path, **options)

    def unshare(self, namespaces: Sequence[str] = ("user", "mount"), **options: Any) -> Node:
        """Start an interpreter in namespaces of its own."""
        return self.grow("unshare", namespaces, **options)
