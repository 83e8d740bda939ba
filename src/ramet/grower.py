"""``Grower``: what can grow children, the tree and every node: a method for each connector.

Each method takes what ``ramet.connectors.NAME.plan`` takes, and returns at once: the node connects in the background. All are
thread-safe.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ramet import admitting
from ramet.connecting import Connecting, Progress, Spread, Step, connect_all
from ramet.connectors import Plan, check_plan, registry, spec
from ramet.retrying import Retry, retry_from
from ramet.secrets import secret

if TYPE_CHECKING:
    import os

    from ramet.node import Node
    from ramet.tree import Tree

Connector = str | Plan | Callable[..., Plan]


def _planned(connector: Connector, args: Sequence[Any], options: Mapping[str, Any]) -> Plan:
    """A plan, and in it how to make it once more, for ``Node.raw``: that takes less memory than to keep the plan."""
    options = {key: secret(key, value) if key in spec.SECRETS else value for key, value in options.items()}
    if isinstance(connector, Mapping):
        plan = check_plan({key: value for key, value in connector.items() if key != "again"})
    else:
        plan = check_plan(_made(connector, args, options))
    return {**plan, "again": functools.partial(_planned, connector, args, options)}


def _made(connector: str | Callable[..., Plan], args: Sequence[Any], options: Mapping[str, Any]) -> Plan:
    """A connector's plan. Raises TypeError: the text names the option that there is none of, and those that there are."""
    function = registry.find(connector) if isinstance(connector, str) else connector
    try:
        return function(*args, **options)
    except TypeError:
        parameters = inspect.signature(function).parameters
        unknown = [key for key in options if key not in parameters]
        if not unknown or any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
            raise
        of = connector if isinstance(connector, str) else "this connector"
        raise TypeError(f"there is no option {unknown[0]!r} of {of}; there are {', '.join(parameters)}") from None


def _steps(text: str, retry: Retry | None, more: Mapping[str, Mapping[str, Any]] | None = None) -> list[Step]:
    """What a spec leads to, step by step.

    Args:
        retry: for the steps that don't say for themselves.
        more: options for steps, by connector.
    """
    found = []
    for connector, options in spec.parse(text):
        options = {**(more or {}).get(connector, {}), **options}
        own = options.pop("retry", retry)
        try:
            found.append((_planned(connector, (), options), retry_from(own)))
        except TypeError as error:
            raise ValueError(f"{text!r}: {connector}: {error}") from error
    return found


def _target(target: str, connector: Connector | None, options: Mapping[str, Any], retry: Retry) -> list[Step]:
    """One target of many."""
    if connector is None:
        for name, more in options.items():
            if name not in registry.names() or not isinstance(more, Mapping):
                raise TypeError(f"options for specs are given by connector, ssh={{'username': ...}}; not {name}=")
        return _steps(target, retry, options)
    if connector == "ssh" and isinstance(target, str) and target.partition(":")[0] in registry.names():
        raise ValueError(f"{target!r} is a spec, not a host: give connector=None for specs")
    first = registry.TARGETS.get(connector) if isinstance(connector, str) else None     # by name: local takes it no other way
    return [(_planned(connector, () if first else (target,), {**options, first: target} if first else options), retry)]


def _node_or_none(grower: Any) -> Node | None:
    return grower if grower is not grower._tree else None


class Grower:
    """What can grow children: the tree (from this program) and every node."""

    _tree: Tree
    _levels: dict[str, int]     # of loggers in nodes, by name; "" is the root
    id: int

    def grow(self, connector: Connector, *args: Any, **options: Any) -> Node:
        """Grow a node by any connector: the way for those that are somebody's own.

        Args:
            connector: its name, its function, or the plan that it has made (see docs/how-to/own-connector.md).
            args, options: what the function takes; and for all connectors ``retry``: how often to try again what may be
                better the next time, as a number or a ``ramet.Retry``. Calls wait as long.

        Raises:
            ValueError: there is no such connector, or its plan is broken. TypeError: it has no such option.
        """
        retry = retry_from(options.pop("retry", None))
        return self._tree._grow(self, _planned(connector, args, options), retry)

    def connect(self, text: str, options: Mapping[str, Mapping[str, Any]] | None = None) -> Node:
        """Grow several nodes, one through the other, from one string such as ``"ssh:user@web1:2222/sudo:root"``.

        Args:
            text: the spec.
            options: more options for its steps, by connector, such as secrets: ``{"sudo": {"password": ...}}``.

        Returns:
            The last of them.

        Raises:
            ValueError: the string names no connector, or an option that it doesn't have.
        """
        grower: Any = self
        for plan, retry in _steps(text, None, options):
            grower = self._tree._grow(grower, plan, retry)
        node: Node = grower
        return node

    def connect_all(self, targets: Iterable[str], connector: Connector | None = "ssh", *, timeout: float | None = None,
                    retry: int | Retry | None = None, on_progress: Progress | None = None, **options: Any) -> Connecting:
        """Grow many nodes. One that can't be reached spoils nothing.

        Args:
            targets: hosts; or whatever else the connector takes first.
            connector: how, as ``grow`` takes it; None: the targets are specs, as ``connect`` takes them.
            timeout: seconds that all may take together; what isn't connected then is given up. Each one's own time,
                ``connect_timeout_s``, counts from when it is its turn.
            retry: how often to try one again, and when; see ``grow``.
            on_progress: called with (how many are over, how many there are, node, error or None) for each that is connected, or
                can't be. Called by any thread; must not block.
            options: what the connector takes, for all of them. With specs: more options for their steps, by connector, such as
                secrets: ``ssh={"password": ...}``.

        Returns:
            At once, a ``Connecting``: iterate for (node, Outcome) as they connect, or wait for all with ``result()``. Calls may
            be made on its ``nodes`` at once.

        Raises:
            ValueError, TypeError: a target or an option is unusable; nothing is grown then.
        """
        self._tree._check_open()
        again = retry_from(retry)
        steps = [_target(target, connector, options, again) for target in targets]
        return connect_all(self._tree, _node_or_none(self), steps, timeout, on_progress)

    def spread(self, targets: Iterable[str], connector: Connector | None = "ssh", *, via: Iterable[Node | str] = (),
               fanout: int = 32, timeout: float | None = None, retry: int | Retry | None = None,
               on_progress: Progress | None = None, **options: Any) -> Connecting:
        """Grow many nodes through one another: those that are connected grow the next ones.

        What they need, the kernel and modules, passes each link once. A host that can't be reached holds up nobody; if one is
        lost, those that were to connect through it do so through another.

        Args:
            targets, connector, timeout, retry, on_progress, options: as ``connect_all`` takes them; a spec has one step.
            via: nodes, or specs of nodes, that grow the first of them. Default: this one does.
            fanout: how many nodes one of them grows at most.

        Returns:
            At once, a ``Connecting``; its ``nodes`` come to be one after the other.
        """
        self._tree._check_open()
        again = retry_from(retry)
        steps = [_target(target, connector, options, again) for target in targets]
        if any(len(chain) > 1 for chain in steps):
            raise ValueError("a spec for spread() has one step: what leads to it is for via=")
        nodes = [self.connect(one) if isinstance(one, str) else one for one in via]
        if any(node._tree is not self._tree for node in nodes):
            raise ValueError("via= takes nodes of this tree")
        return Spread(self._tree, _node_or_none(self), nodes, [chain[0] for chain in steps], fanout, timeout, on_progress)

    # ------------------------------------------------------------------ what is logged there

    def set_log_level(self, level: int | str, logger: str = "") -> None:
        """Change which log records are made: of a tree in all nodes, of a node in that one and all below it; also in nodes that
        are grown there later. Returns at once.

        Args:
            level: as ``logging`` has it: ``logging.DEBUG``, ``"DEBUG"``. 0 leaves it to the logger above.
            logger: the name of a logger over there; "" is the root, which decides for all that have no level of their own.

        Raises:
            ValueError, TypeError: there is no such level.
        """
        self._tree._listening.set_level(self, level, logger)

    # ------------------------------------------------------------------ machines

    def fork(self, *, preload: Sequence[str] = (), name: str | None = None, **options: Any) -> Node:
        """Fork an interpreter from one that has modules loaded, in milliseconds: for calls that shall not see one another.

        The first fork starts that one, the *template*, on the machine of this node. Forks are its children. It has one thread
        and runs nothing but imports; it ends with this node, or with ``node.parent.close()`` of one of its forks, and takes
        its forks along.

        Args:
            preload: names of modules that the template imports. Forks with other modules have another template.
            name: the node's name.
            options: as for ``local``: ``python=``, ``env=``, ``cwd=`` of the template.

        Raises:
            TypeError, ValueError: an option is unusable. ModuleNotShippedError: a module can't be sent.
        """
        return self._tree._templates.fork(self, preload, name, options)

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

    def attach(self, target: str, **options: Any) -> Node:
        """Come back to a node on the same machine and account that was detached, or kept, by its name, or its socket's path.
        Or be the guest of a tree that admits one under that name."""
        return self.grow("attach", target, **options)

    def admit(self, name: str, services: admitting.Services, **options: Any) -> Node:
        """Let other programs of this account, on the machine of this node, ask services of this tree, and nothing else of it.

        They come as guests, with ``ramet.attach(name)``, and ask ``.service(...)`` of what that returns. Waits until they can.

        Args:
            name: under which they find it: 1 to 64 of ``A-Z a-z 0-9 _ . @ : -``. Or the absolute path of a socket, in a folder
                that only this account may enter.
            services: names of services of this program; or a dict of name -> the node that serves it, or the tree.
                Each must also allow the node that is returned: ``allow=door``, "anyone", or what else fits.
            options: as of ``local()``, for the node that is grown for this.

        Returns:
            The door: the node that lets them in, and asks in their place. When it is closed, they are out.

        Raises:
            Error: the name is taken, or the socket's folder isn't safe. ConnectError: the node can't be grown.
            TypeError, ValueError: no services, too many, or of another tree.
        """
        return admitting.admit(self, name, services, options)

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

    def buildah(self, container: str | None = None, **options: Any) -> Node:
        """Start an interpreter in a working container of Buildah, or with ``image=`` in one of its own."""
        return self.grow("buildah", container, **options)

    def kubectl(self, pod: str, **options: Any) -> Node:
        """Start an interpreter in a pod of Kubernetes."""
        return self.grow("kubectl", pod, **options)

    def lxc(self, container: str, **options: Any) -> Node:
        """Start an interpreter in a running container of LXC."""
        return self.grow("lxc", container, **options)

    def lxd(self, container: str | None = None, **options: Any) -> Node:
        """Start an interpreter in a running instance of LXD, or with ``image=`` in one of its own."""
        return self.grow("lxd", container, **options)

    def incus(self, container: str | None = None, **options: Any) -> Node:
        """Start an interpreter in a running instance of Incus, or with ``image=`` in one of its own."""
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
