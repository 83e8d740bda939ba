"""Every kind of container that commands can be run in, in one form for the tests: how to grow in one, end it, look into it."""
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ramet import Node, Tree
from targets.containers import PATH, Buildah, Docker, Lxc, Podman, lending, run
from targets.instances import Incus, Lxd

PYTHON = "/usr/bin/python3"

TARGETS: dict[str, Callable[..., Any]] = {
    "podman": Podman, "docker": Docker, "lxc": Lxc, "lxd": Lxd, "incus": Incus, "buildah": Buildah,
}  # fmt: skip
#: Kind -> the words of its program that end a running container at once, and that start it anew.
_ENDING = {"podman": ("kill", "start"), "docker": ("kill", "start"), "lxd": ("stop -f", "start"), "incus": ("stop -f", "start")}


class Kind:
    """One kind of container: ``full`` has a Python, ``bare`` has none.

    Args:
        name: its connector's.
        target: what of ``TARGETS`` is up.

    Attributes:
        options: for the connector, so that it finds the tests' own daemon or folder.
        env: the same for programs that take it from their environment.
    """

    def __init__(self, name: str, target: Any) -> None:
        self.name = name
        self.target = target
        self.options: dict[str, Any] = {}
        self.env: dict[str, str] = getattr(target, "env", {})
        if name == "docker":
            self.options = {"host": target.host}
            self.env = {"DOCKER_HOST": target.host}
        elif name == "lxc":
            self.options = {"lxcpath": target.path}

    def grower(self, tree: Tree) -> Node:
        """A node whose programs find the tests' own daemon."""
        return tree.local(env=self.env, name="grower")

    def grow(self, tree: Tree | Node, container: str | None = "full", **options: Any) -> Node:
        """A node in a container."""
        grower = self.grower(tree) if isinstance(tree, Tree) and self.name not in ("docker", "lxc") else tree
        mine = self.options
        if self.name == "buildah":
            mine = {"buildah_args": lending(self.target.lent.get(container))}
        node = getattr(grower, self.name)(container, **{"python": PYTHON, **mine, **options})
        assert isinstance(node, Node)
        return node

    def end(self, container: str) -> None:
        """End a container at once, from outside."""
        if self.name == "lxc":
            run("lxc-stop", "-P", str(self.target.path), "-n", container, "-k")
        else:
            self.target.use(*_ENDING[self.name][0].split(), container)
        if self.name in ("podman", "docker"):
            self.target.use("wait", container)      # `kill` sends a signal: a moment later it is known that nothing runs there

    def begin(self, container: str) -> None:
        """Start it again."""
        if self.name == "lxc":
            run("lxc-start", "-P", str(self.target.path), "-n", container, "-d")
        else:
            self.target.use(_ENDING[self.name][1], container)

    def own(self) -> dict[str, Any]:
        """Options for a container of a node's own, with the host's /usr."""
        if self.name in ("lxd", "incus"):
            return {"image": "rmt", "launch_args": ["-p", "default", "-p", "lent"]}
        if self.name == "buildah":
            return {"image": "rmt-bb", "from_args": ["--pull-never"], "buildah_args": lending("/usr")}
        more = ["--network=none"] if self.name == "docker" else []
        image = "rmt-bb" if self.name == "docker" else "localhost/rmt-bb"
        return {"image": image, f"{self.name}_args": ["--pull=never", *lending("/usr"), *more]}

    def all(self) -> set[str]:
        """The names or ids of all containers."""
        listing = {"podman": "ps -aq", "docker": "ps -aq", "buildah": "containers -q"}.get(self.name, "list -f csv -c n")
        for attempts_left in range(9, -1, -1):
            try:
                return set(self.target.use(*listing.split()).split())
            except RuntimeError as error:       # buildah trips over one that is removed while it lists them
                if "container not known" not in str(error) or not attempts_left:
                    raise
        raise AssertionError("not reached")


def ordinary(tree: Tree, home: Path, **env: str) -> Node:
    """A node of an account that may do nothing in particular, and has a folder of its own for what programs note."""
    home.chmod(0o755)
    os.chown(home, 65534, 65534)
    words = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all", "env", f"PATH={PATH}",
             f"HOME={home}", *(f"{key}={value}" for key, value in env.items() if key not in ("HOME", "PATH"))]  # fmt: skip
    return tree.command(words, python=PYTHON, name="ordinary", cwd="/")
