"""Specs: several connectors in one string, and errors that say how to write it."""
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramet.connectors.registry import TARGETS
from ramet.connectors.spec import parse

GOOD: list[tuple[str, list[tuple[str, dict[str, Any]]]]] = [
    ("ssh://user@web1:2222/sudo:root/docker:app",
     [("ssh", {"host": "web1", "username": "user", "port": 2222}), ("sudo", {"username": "root"}),
      ("docker", {"container": "app"})]),
    ("ssh:host/local:", [("ssh", {"host": "host"}), ("local", {})]),
    ("ssh:bastion/ssh:db1/sudo:postgres",
     [("ssh", {"host": "bastion"}), ("ssh", {"host": "db1"}), ("sudo", {"username": "postgres"})]),
    ("local", [("local", {})]),
    ("local:", [("local", {})]),
    ("local:python2.7", [("local", {"python": "python2.7"})]),
    ("local:%2Fusr%2Fbin%2Fpython3", [("local", {"python": "/usr/bin/python3"})]),
    ("local/local/local", [("local", {})] * 3),
    ("ssh://web1/", [("ssh", {"host": "web1"})]),
    ("local:/ssh://u@h:1/ssh://v@i", [("local", {}), ("ssh", {"host": "h", "username": "u", "port": 1}),
                                      ("ssh", {"host": "i", "username": "v"})]),
    ("sudo", [("sudo", {})]),
    ("ssh:[::1]", [("ssh", {"host": "::1"})]),
    ("ssh:u@[fe80::1%25eth0]:22", [("ssh", {"host": "fe80::1%eth0", "username": "u", "port": 22})]),
    ("ssh:user@domain@web1", [("ssh", {"host": "web1", "username": "user@domain"})]),
    ("ssh:h?port=22&python=python3.9", [("ssh", {"host": "h", "port": 22, "python": "python3.9"})]),
    ("ssh:h?compression=yes&connect_timeout_s=2.5&host_key_policy=accept-new",
     [("ssh", {"host": "h", "compression": True, "connect_timeout_s": 2.5, "host_key_policy": "accept-new"})]),
    ("ssh?host=h", [("ssh", {"host": "h"})]),
    ("ssh:h?ssh_args=-4%20-v", [("ssh", {"host": "h", "ssh_args": ["-4", "-v"]})]),
    ("command:nice%20-n5?name=low", [("command", {"argv": ["nice", "-n5"], "name": "low"})]),
    ("docker:a%2Fb", [("docker", {"container": "a/b"})]),
    ("  local ", [("local", {})]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "steps"), GOOD)
def test_good_specs(text: str, steps: list[tuple[str, dict[str, Any]]]) -> None:
    assert parse(text) == steps


@pytest.mark.parametrize(("text", "says"), [
    ("", "empty"), ("   ", "empty"), ("web1", "write 'ssh:web1'"), ("sssh:web1", "no connector 'sssh'; there are local,"),
    ("ssh:", "write 'ssh:HOST'"), ("ssh", "write 'ssh:HOST'"), ("ssh:u@", "needs a host"), ("lxc:", "'lxc:CONTAINER'"),
    ("ssh:h:port", "port is a number, not 'port'"), ("ssh:h:", "port is a number"), ("ssh:h//local:", "'' is no step"),
    ("/local", "'' is no step"), ("local:/usr/bin/python3", "%2F"), ("ssh:h?port", "write option=value"),
    ("ssh:h:22?port=22", "port is given twice"), ("ssh:h?compression=maybe", "yes or no"), ("ssh:::1", "in brackets"),
    ("lo cal", "no step"), ("ssh:h?connect_timeout_s=soon", "is a number"),
])  # fmt: skip
def test_what_is_wrong_is_said(text: str, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert says in str(caught.value)


@pytest.mark.parametrize("text", [
    "ssh:user:hunter2@web1", "ssh://user:hunter2@web1/local:", "ssh:user%3Ahunter2@web1", "ssh:h?password=hunter2",
    "foo:x/ssh:user:hunter2@web1", "ssh:h?retry=x&password=hunter2", "ssh:h?password=x&hunter2",
    "ssh:h?port=x/ssh:a:hunter2@web1", "ssh:user:hunter2/x@web1", "ssh:user:x/hunter2@web1", "ssh://user:12/3/hunter2@web1",
    "ssh:user:hunter2?x@web1", "ssh:user:hunter2?x=y@web1",
])  # fmt: skip
def test_a_password_in_a_spec_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="doesn't belong in a spec") as caught:
        parse(text)
    assert "hunter2" not in str(caught.value)


def test_a_port_before_another_step_is_no_password() -> None:
    assert [name for name, _ in parse("ssh:web1:2222/ssh:ann@web2/sudo:root")] == ["ssh", "ssh", "sudo"]
    assert parse("ssh:web1:2222/docker?image=python@sha256:ab")[1] == ("docker", {"image": "python@sha256:ab"})
    assert parse("ssh:jump:2222/ssh?host=web1&username=ann@corp")[1][1]["username"] == "ann@corp"
    with pytest.raises(ValueError, match="ann@web2"):
        parse("ssh:[::1]/ann@web2")
    with pytest.raises(ValueError, match="each further host is a step of its own"):
        parse("ssh:web1:2222/ann@web2")


def test_not_a_text() -> None:
    with pytest.raises(ValueError, match="a spec is a text"):
        parse(None)  # type: ignore[arg-type]


@given(st.text(max_size=60) | st.lists(st.sampled_from([*TARGETS, ":", "/", "//", "://", "?", "=", "@", "[", "%", "&", "h"]),
                                       max_size=12).map("".join))  # fmt: skip
def test_garbage_parses_or_raises_one_error(text: str) -> None:
    try:
        steps = parse(text)
    except ValueError:
        return
    assert steps
    assert all(connector in TARGETS for connector, _ in steps)
