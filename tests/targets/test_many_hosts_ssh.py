"""Many hosts by a real sshd: most are well, some dead, hanging, refusing; one takes few at a time; shared connections."""
from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

import ramet
from support import remote
from support.eventually import HANGS_S, until
from targets.sshd import HOST, Sshd, free_port

CONFIG = """\
Host good*
  HostName {host}
  Port {port}
  IdentityFile {folder}/id
Host refused*
  HostName {host}
  Port {closed}
Host silent*
  HostName {host}
  Port {silent}
Host unknown*
  HostName no-such-host.invalid
Host wrong*
  HostName {host}
  Port {port}
  IdentityFile {folder}/stranger
Host *
  User {user}
  LogLevel ERROR
"""


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    with Sshd() as server:
        subprocess.run([server.keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(server.folder / "stranger")], check=True)
        yield server


@pytest.fixture
def config(sshd: Sshd, tmp_path: Path) -> Iterator[Path]:
    """A client configuration with hosts of every kind. One of them takes connections, and then says nothing."""
    with socket.socket() as silent, socket.socket() as closed:
        silent.bind((HOST, 0))
        silent.listen(50)
        closed.bind((HOST, 0))      # nobody listens, and nobody else can
        path = tmp_path / "many_hosts"
        ports = {name: at.getsockname()[1] for name, at in (("silent", silent), ("closed", closed))}
        path.write_text(CONFIG.format(host=HOST, port=sshd.port, folder=sshd.folder, user=sshd.user, **ports)
                        + sshd.client.read_text())
        yield path


def spec(name: str, config: Path, more: str = "") -> str:
    return f"ssh:{name}?ssh_args=-F%20{quote(str(config), safe='')}&python=python3&name={name}{more}"


def test_fifty_hosts_of_every_kind(config: Path) -> None:
    kinds = {"good": 38, "refused": 4, "silent": 3, "unknown": 3, "wrong": 2}
    targets = [spec(f"{kind}{number}", config, f"&connect_timeout_s={3 if kind == 'silent' else 90}")
               for kind, count in kinds.items() for number in range(count)]
    targets = targets[::3] + targets[1::3] + targets[2::3]
    progress: list[int] = []
    tries: list[str] = []
    with ramet.Tree(connecting_max=12) as tree:
        together = tree.connect_all(targets, None, retry=ramet.Retry(1, 0.05, 0.05),
                                    on_progress=lambda done, total, node, error: progress.append(done))
        calls = {node.name: node.start(remote.from_own_module) for node in together.nodes}
        settled = {node.name: (node, outcome) for node, outcome in together}
        assert len(settled) == 50
        for name, (node, outcome) in settled.items():
            kind = name.rstrip("0123456789")
            if kind == "good":
                assert outcome.value == node, outcome.error
                assert calls[name].result(HANGS_S) == 42
                continue
            error = outcome.error
            assert type(error) is (ramet.AuthenticationError if kind == "wrong" else ramet.ConnectError), error
            assert type(calls[name].exception(HANGS_S)) is type(error)
            assert {"refused": "nobody listens", "silent": "within 3 s", "unknown": "no host of the name",
                    "wrong": "took none of the keys"}[kind] in str(error).replace("no answer from", "within 3 s from")
            tries += [kind] * (1 + node._state.tried)
        assert {kind: tries.count(kind) for kind in kinds} == {"good": 0, "refused": 8, "silent": 6, "unknown": 3, "wrong": 2}
        assert progress == list(range(1, 51))
        assert len(together.result()) == 38


@contextlib.contextmanager
def narrow(sshd: Sshd, tmp_path: Path) -> Iterator[dict[str, object]]:
    """The same server, but it drops every connection while three aren't logged in yet. Gives options of ``ssh`` for it."""
    text = (sshd.folder / "sshd_config").read_text().replace("MaxStartups 300:30:500", "MaxStartups 3:100:3")
    assert "3:100:3" in text
    path, log = tmp_path / "sshd_config", tmp_path / "log"
    for _ in range(5):      # somebody else may take the port in between
        port = free_port()
        path.write_text(text.replace(f"Port {sshd.port}", f"Port {port}"))
        with log.open("wb") as file:
            argv = [sshd.program, "-D", "-e", "-f", str(path)]
            server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        until(lambda server=server: "Server listening on" in log.read_text() or server.poll() is not None, "it isn't up")
        if server.poll() is None:
            break
    try:
        yield {**sshd.by_key(python="python3", connect_timeout_s=90), "port": port}
    finally:
        server.terminate()
        server.wait()


def test_a_host_that_takes_few_at_a_time(sshd: Sshd, tmp_path: Path) -> None:
    with narrow(sshd, tmp_path) as options:
        with ramet.Tree(connecting_max=2) as tree:
            together = tree.connect_all([HOST] * 10, **options)
            assert len(together.result()) == 10, together.errors
        with ramet.Tree(connecting_max=10) as tree:
            together = tree.connect_all([HOST] * 10, retry=ramet.Retry(40, 0.2, 2), **options)
            assert len(together.result()) == 10, together.errors


def test_spread_over_ssh_with_dead_hosts(config: Path) -> None:
    with ramet.Tree() as tree:
        via = [tree.local(name="left"), tree.local(name="right")]
        targets = [spec(name, config) for name in ("good1", "refused1", "good2", "unknown1", "good3", "good4")]
        together = tree.spread(targets, None, via=via, fanout=3, retry=ramet.Retry(1, 0.05, 0.05))
        settled = {node.name: (node, outcome) for node, outcome in together}
        for name, (node, outcome) in settled.items():
            assert outcome.ok is name.startswith("good"), outcome.error
            assert not outcome.ok or node.call(os.getuid) == node.call(os.getuid)
            assert node.parent in via
        assert "nobody listens" in str(settled["refused1"][1].error)
        assert settled["refused1"][0]._state.tried == 1
        assert {node.parent.name for node in together.result() if node.parent} == {"left", "right"}


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short path: that of a socket may have 100 characters."""
    with tempfile.TemporaryDirectory(prefix="rmt") as folder:
        yield Path(folder)


def test_the_user_s_own_connection_sharing_is_used(sshd: Sshd, config: Path, short: Path) -> None:
    shared = config.with_name("shared")
    shared.write_text(f"ControlPath {short}/%C\nControlMaster auto\nControlPersist 2\n" + config.read_text())
    before = sshd.log().count("Accepted publickey")
    with ramet.Tree() as tree:
        first = tree.connect(spec("good1", shared)).wait(HANGS_S)
        more = tree.connect_all([spec("good1", shared)] * 4, None).result(HANGS_S)
        assert len({node.call(os.getpid) for node in [first, *more]}) == 5
        assert sshd.log().count("Accepted publickey") - before == 1
        first.close()
        assert [node.call(remote.add, 1, 1) for node in more] == [2] * 4
    # It is the user's to say how long that connection lasts: here for two seconds.
    until(lambda: not any(short.iterdir()), "it stays")
