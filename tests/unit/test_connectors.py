"""Connectors are data: options in, a plan out; what can't work is refused at once, and secrets stay where they belong."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ramet.bootstrap import first_stage
from ramet.connectors import NAME_CHARS_MAX, check_name, command, local, make, name_from, python_words, ssh
from ramet.kernel.dialogue import to_bytes
from ramet.kernel.settling import NAME_HERE, settled
from ramet.secrets import Secret

FIELDS = {"what", "name", "python", "timeout_s", "argv", "command", "shape", "stub", "form", "env", "cwd", "rules",
          "secrets"}  # fmt: skip

PLANS = [
    local.plan(), local.plan(python="python3", env={"A": None}, cwd="/"), local.plan(python=["nice", "python3"]),
    ssh.plan("web1"), ssh.plan("web1", password="hunter2", passphrase="opensesame"), command.plan(["env"]),
    command.plan(["x"], shell=True, terminal=True, rules=[{"match": "a", "text": "b"}], secrets={"pw": "hunter2"}),
]  # fmt: skip


def plain(value: Any) -> bool:
    """Whether a value is of types that travel to every Python."""
    if isinstance(value, dict):
        return type(value) is dict and all(type(key) is str and plain(item) for key, item in value.items())
    if isinstance(value, list):
        return type(value) is list and all(map(plain, value))
    return value is None or type(value) in (str, int, float, bool)


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_is_complete_and_travels(plan: dict[str, Any]) -> None:
    assert set(plan) == FIELDS
    assert plain({**plan, "secrets": {}})
    assert all(isinstance(secret, Secret) for secret in plan["secrets"].values())
    assert plan["shape"] in ("socket", "pipes", "pipes+tty")
    assert (plan["shape"] == "socket") == bool(plan["stub"]) == (not plan["argv"])


@pytest.mark.parametrize("plan", PLANS)
def test_secrets_are_in_one_place_only(plan: dict[str, Any]) -> None:
    shown = repr(plan)
    assert "hunter2" not in shown
    assert "opensesame" not in shown


@pytest.mark.parametrize("plan", PLANS)
def test_the_name_is_settled_last(plan: dict[str, Any]) -> None:
    argv = settled({**plan, "name": "web1-7"})["argv"]
    assert not any(NAME_HERE.encode() in to_bytes(word) for word in argv)
    assert any(b"(ramet:web1-7)" in to_bytes(word) for word in argv)
    assert plan["argv"] == [] or any(NAME_HERE in word for word in plan["argv"]), "the plan itself was changed"


def test_names_by_default() -> None:
    plans = local.plan(), ssh.plan("u@web1"), ssh.plan("fe80::1%eth0"), command.plan(["/bin/env"])
    assert [plan["name"] for plan in plans] == ["local", "web1", "fe80::1_eth0", "env"]
    assert local.plan(name="x")["name"] == "x"


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a)", "é", "x" * (NAME_CHARS_MAX + 1), "a\n", None, 7])
def test_names_that_are_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="a node's name is"):
        check_name(name)


def test_a_name_from_any_text() -> None:
    for text in ("", "a b", "ü/ü", "x" * 100, "\n", "web1.example.com"):
        assert check_name(name_from(text))


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True])
def test_a_time_that_is_none(seconds: float) -> None:
    for plan in (local.plan, lambda **options: ssh.plan("h", **options), lambda **options: command.plan(["a"], **options)):
        with pytest.raises(ValueError, match="connect_timeout_s"):
            plan(connect_timeout_s=seconds)


def test_a_time_that_no_system_waits_is_cut() -> None:
    assert local.plan(connect_timeout_s=10**9)["timeout_s"] == 86400


def test_python_in_every_form() -> None:
    assert python_words(None) is None
    assert python_words("python3 -O") == ["python3 -O"], "a text is one word: folders may have blanks in them"
    assert python_words(Path("/usr/bin/python3")) == ["/usr/bin/python3"]
    assert python_words(("python3", "-O")) == ["python3", "-O"]
    for wrong in ("", [], [""]):
        with pytest.raises(ValueError, match="python= is empty"):
            python_words(wrong)
    with pytest.raises(TypeError):
        python_words(["python3", 3])  # type: ignore[list-item]


def test_unknown_fields_are_a_mistake() -> None:
    with pytest.raises(TypeError, match="no field arg"):
        make("x", "x", None, 1.0, arg=[])


# ---------------------------------------------------------------------- local


def test_local_starts_an_interpreter_directly() -> None:
    plan = local.plan()
    assert plan["stub"] == first_stage.stub(1).decode()
    assert "RAMET1" in local.plan(python="python3")["stub"], "of another interpreter it isn't known what code it takes"
    assert compile(local.plan(python="python3")["stub"], "stub", "exec")


@pytest.mark.parametrize(("python", "directly"), [
    (["python3", "-O"], True), (["python3", "-X", "dev", "-W", "error"], True), (["python3", "-"], False),
    (["nice", "python3"], False), (["scl", "enable", "py", "--", "python3"], False), (["python3", "-c"], False),
])  # fmt: skip
def test_local_tells_flags_from_wrappers(python: list[str], directly: bool) -> None:
    plan = local.plan(python=python)
    assert bool(plan["stub"]) == directly
    assert plan["python"] == python


def test_local_refuses_what_is_no_environment() -> None:
    with pytest.raises(TypeError, match="env= maps"):
        local.plan(env={"A": 1})  # type: ignore[dict-item]


# ---------------------------------------------------------------------- ssh


def words(**options: Any) -> list[str]:
    """ssh's arguments up to the host, without what is always there."""
    argv = ssh.plan("web1", connect_timeout_s=10, **options)["argv"]
    assert argv[-3:-1] == ["--", "web1"]
    assert argv[1:4] == ["-T", "-e", "none"]
    assert argv[-5:-3] == ["-o", "ConnectTimeout=9"]
    return argv[4:-5]


@pytest.mark.parametrize(("options", "expected"), [
    ({}, ["-o", "BatchMode=yes"]),
    ({"port": 2222, "username": "u"}, ["-p", "2222", "-l", "u", "-o", "BatchMode=yes"]),
    ({"identity_file": "~/.ssh/id"}, ["-i", "~/.ssh/id", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]),
    ({"identity_file": ["a", Path("b")]}, ["-i", "a", "-i", "b", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]),
    ({"password": "x"}, ["-o", "NumberOfPasswordPrompts=1"]),
    ({"host_key_policy": "accept-new"}, ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new"]),
    ({"host_key_policy": "strict"}, ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]),
    ({"host_key_policy": "ignore"},
     ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]),
    ({"compression": True}, ["-o", "BatchMode=yes", "-o", "Compression=yes"]),
    ({"compression": False, "keepalive": 15}, ["-o", "BatchMode=yes", "-o", "Compression=no", "-o", "ServerAliveInterval=15"]),
    ({"second_factor": "123456"}, ["-o", "NumberOfPasswordPrompts=1"]),
    ({"ssh_args": ["-v", "-J", "bastion"]}, ["-v", "-J", "bastion", "-o", "BatchMode=yes"]),
])  # fmt: skip
def test_ssh_options(options: dict[str, Any], expected: list[str]) -> None:
    assert words(**options) == expected


def test_ssh_command() -> None:
    plan = ssh.plan("web1", python="python3", ssh_path="/opt/ssh")
    assert plan["argv"][0] == "/opt/ssh"
    assert plan["argv"][-1] == "exec " + first_stage.shell_command(["python3"], NAME_HERE, brief=True)
    assert plan["command"].endswith("-- web1 python3 …")
    assert plan["shape"] == "pipes"
    assert plan["env"] is None


def test_ssh_with_a_password_gets_a_terminal() -> None:
    plan = ssh.plan("web1", password="hunter2")
    assert plan["shape"] == "pipes+tty"
    assert plan["env"] == {"SSH_ASKPASS": None, "SSH_ASKPASS_REQUIRE": None}
    assert plan["secrets"]["password"].reveal() == "hunter2"
    assert "hunter2" not in repr(plan)


@pytest.mark.parametrize(("words", "strict"), [
    (["-J", "gate"], True), (["-Jgate"], True), (["-o", "ProxyJump=gate"], True), (["-oproxyjump=gate"], True),
    (["-o", "ProxyCommand=ssh gate -W %h:%p"], True), (["-o", "ProxyJump gate"], True),
    (["-v", "-F", "/x"], False), ([], False),
])  # fmt: skip
def test_ssh_through_another_host_answers_by_name_only(words: list[str], strict: bool) -> None:
    rules = ssh.plan("web1", password="x", ssh_args=words)["rules"]
    assert any("another host asks" in rule.get("text", "") for rule in rules) == strict


@pytest.mark.parametrize("host", ["", "-oProxyCommand=touch /tmp/x", "a b", "a\nb", "$(id)", "`id`", "a;b", "a|b", "a'b"])
def test_ssh_hosts_that_are_refused(host: str) -> None:
    with pytest.raises(ValueError, match="can't be a host"):
        ssh.plan(host)


@pytest.mark.parametrize(("options", "error", "says"), [
    ({"username": "-l"}, ValueError, "can't be a username"), ({"username": "a;b"}, ValueError, "can't be a username"),
    ({"port": 0}, ValueError, "port is"), ({"port": 65536}, ValueError, "port is"), ({"port": "22"}, ValueError, "port is"),
    ({"keepalive": 0}, ValueError, "keepalive is"), ({"host_key_policy": "maybe"}, ValueError, "host_key_policy is one of"),
    ({"ssh_args": "-v"}, TypeError, "ssh_args is a list"), ({"password": 7}, TypeError, "password must be"),
    ({"password": "a\nb"}, ValueError, "control character"), ({"passphrase": "a\0b"}, ValueError, "control character"),
    ({"python": "a\nb"}, ValueError, "no login shell"),
])  # fmt: skip
def test_ssh_options_that_are_refused(options: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        ssh.plan("web1", **options)


# ---------------------------------------------------------------------- command


def test_command_adds_the_interpreter() -> None:
    plan = command.plan(["docker", "exec", "-i", "app"], python=["python3", "-O"])
    assert plan["argv"] == ["docker", "exec", "-i", "app", *first_stage.command(["python3", "-O"], NAME_HERE)]
    assert plan["command"] == "docker exec -i app python3 -O …"
    assert plan["name"] == "docker"
    shell = command.plan(["ssh", "h"], shell=True)
    assert shell["argv"] == ["ssh", "h", first_stage.shell_command(None, NAME_HERE)]


@pytest.mark.parametrize(("argv", "options", "error"), [
    ([], {}, ValueError), ([""], {}, ValueError), ("docker exec", {}, TypeError), (["a", 1], {}, TypeError),
    (["a"], {"rules": [{"match": "("}]}, ValueError), (["a"], {"rules": [{"text": "x"}]}, ValueError),
])  # fmt: skip
def test_command_refuses(argv: Any, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        command.plan(argv, **options)


@pytest.mark.parametrize(("python", "most"), [("python3", 400), (None, 520)])
def test_the_command_that_ssh_is_given_is_short(python: str | None, most: int) -> None:
    command = ssh.plan("web1", python=python)["argv"][-1].replace(NAME_HERE, "web1")
    assert len(command) <= most and command.startswith("exec ")
