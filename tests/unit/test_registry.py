"""Connectors by name: ramet's with the exact command of each, those of others by entry point, and what a broken one says."""
from __future__ import annotations

import importlib.metadata
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ramet
from ramet import Tree
from ramet.connectors import Plan, behind, check_plan, registry
from ramet.connectors.spec import parse
from ramet.grower import Grower
from ramet.kernel.diagnosis import EXITS
from support import source

PYTHON = "/usr/bin/python3"
IN_TMP = 'sh -c cd -- "$1" && shift && exec "$@" sh /tmp'
OWN = 'sh -c n=ramet-$(od -An -N6 -tx1 /dev/urandom|tr -d " \\n"); exec 3>&1; { '
#: What the first stage is made of stands behind these words.
COMMANDS: list[tuple[str, dict[str, Any], str]] = [
    ("sudo", {}, "sudo -n --"),
    ("sudo", {"username": "db", "group": "ops", "set_home": True, "preserve_env": ["A", "B"], "sudo_args": ["-T", "5"]},
     "sudo -n -u db -g ops -H --preserve-env=A,B -T 5 --"),
    ("sudo", {"password": "hunter2"}, "sudo -p [sudo] password for %p:  --"),
    ("sudo", {"selinux_role": "r", "selinux_type": "t", "preserve_env": True, "login": True}, "sudo -n -i -E -r r -t t --"),
    ("su", {"login": True, "shell": "/bin/sh"}, "su -l -s /bin/sh root -c"),
    ("doas", {"username": "db"}, "doas -n -u db --"),
    ("run0", {"username": "db", "workdir": "/", "env": {"A": "b"}},
     "run0 --pipe --no-ask-password --user db --chdir / --setenv A=b --"),
    ("pkexec", {}, "pkexec --disable-internal-agent"),
    ("docker", {"container": "app", "user": "0:0", "workdir": Path("/srv"), "env": {"A": "b"}, "context": "far"},
     "docker --context far exec -i --user 0:0 --workdir /srv --env A=b app"),
    ("docker", {"image": "img", "docker_args": ["--network=none"]},
     f"docker run --rm -i --network=none --entrypoint {PYTHON} img"),
    ("podman", {"container": "app", "remote": True, "privileged": True}, "podman --remote exec -i --privileged app"),
    ("buildah", {"container": "w", "isolation": "chroot"}, "buildah run --isolation chroot -- w"),
    ("kubectl", {"pod": "deployment/app", "container": "c", "namespace": "n", "context": "x", "kubeconfig": "/k"},
     "kubectl --kubeconfig /k --context x --namespace n exec -i deployment/app --container c --"),
    ("lxc", {"container": "c", "uid": 0, "lxcpath": "/var/lib/lxc"}, "lxc-attach -n c -P /var/lib/lxc -u 0 --clear-env --"),
    ("lxc", {"container": "c", "workdir": "/tmp", "env": {"A": "b", "C": "d e"}},
     f"lxc-attach -n c --clear-env -- {IN_TMP} env A=b C=d e"),
    ("lxd", {"container": "far:c", "uid": 5, "workdir": "/tmp", "project": "p"},
     "lxc --project p exec far:c -T --user 5 -- " + IN_TMP),
    ("incus", {"image": "img", "launch_args": ["-p", "my own"]},
     f"{OWN}incus launch --quiet --ephemeral -p 'my own' img \"$n\" </dev/null >&2 && printf m && incus exec \"$n\" -T --"),
    ("buildah", {"image": "img", "from_args": ["--pull-never"]},
     f"{OWN}buildah from --quiet --name \"$n\" --pull-never img </dev/null >&2 && printf m && buildah run -- \"$n\""),
    ("incus", {"container": "c", "env": {"A": "b"}}, "incus exec c -T --env A=b --"),
    ("kubectl", {"pod": "p", "workdir": "/tmp"}, f"kubectl exec -i p -- {IN_TMP}"),
    ("jail", {"container": "j", "username": "www", "env": {"A": "b"}}, "jexec -U www j env A=b"),
    ("machinectl", {"container": "m", "user": "db", "group": "db", "env": {"A": "b"}},
     "systemd-run --machine=m --pipe --quiet --collect --wait --uid db --gid db --setenv A=b --"),
    ("nspawn", {"container": "/srv/root", "read_only": True},
     "systemd-nspawn --quiet --pipe --as-pid2 --register=no --keep-unit --directory /srv/root --read-only --"),
    ("nspawn", {"container": "name"}, "systemd-nspawn --quiet --pipe --as-pid2 --register=no --keep-unit --machine name --"),
    ("nsenter", {"target": 12, "namespaces": ["net"], "root": False, "uid": 0}, "nsenter --target 12 --net --setuid 0 --"),
    ("nsenter", {"target": "c", "kind": "lxc", "namespaces": ["net"], "finder_args": ["-P", "/a b"]},
     "sh -c p=$(lxc-info --no-humanize --pid -P '/a b' --name \"$1\") && [ \"${p:-0}\" -gt 0 ]"),
    ("chroot", {"path": "/srv/root/", "userspec": "nobody"}, "chroot --userspec nobody /srv/root/"),
    ("unshare", {"namespaces": ["user", "net"]}, "unshare --user --net --map-root-user --"),
    ("wsl", {"distribution": "Debian", "username": "me"}, "wsl.exe --distribution Debian --user me --exec"),
]  # fmt: skip


@pytest.mark.parametrize(("connector", "options", "words"), COMMANDS)
def test_the_command_of_each(connector: str, options: dict[str, Any], words: str) -> None:
    plan = registry.find(connector)(**options, python=PYTHON)
    assert " ".join(plan["argv"]).startswith(words + " "), plan["argv"]
    assert check_plan(plan) == plan
    assert "hunter2" not in repr({**plan, "secrets": {}})
    assert plan["shape"] == ("pipes+tty" if "password" in options else "pipes")


def test_no_pattern_takes_a_time_that_is_up_to_the_host() -> None:
    """What is searched, in 48 KB, is a host's words: where its first words come again and again, or what two repeats both take,
    it is searched to its end from each of them. No other thread runs meanwhile."""
    rules = [rule for connector, options, _ in COMMANDS for rule in registry.find(connector)(**options)["rules"]]
    for rule in rules + registry.find("ssh")("web1")["rules"] + EXITS:
        match = rule.get("match", "") if rule.get("on") in ("exit", "else", "late") else ""
        without_end = re.findall(r"(?:\[[^]]*\]|\\S|(?<!\\)\.)[*+]", match.replace("[0-9]+", ""))
        assert match.startswith("\\A") or not without_end, match
        assert "*\\s*" not in match, match


def test_every_connector_has_a_method_a_target_and_a_test() -> None:
    files = (source.TOP / "src/ramet/connectors").glob("*.py")
    with_plan = {path.stem for path in files if "\ndef plan(" in path.read_text()}
    assert with_plan == set(registry.TARGETS)
    for name in registry.TARGETS:
        method = getattr(Grower, name)
        parameters = list(inspect.signature(registry.find(name)).parameters)
        assert parameters[0] == registry.TARGETS[name] or name == "local"
        assert method.__doc__
    assert {name for name, _, _ in COMMANDS} | {"local", "ssh", "command", "attach"} == set(registry.TARGETS)


@pytest.mark.parametrize("connector", sorted(set(registry.TARGETS) - {"local", "unshare", "command"}))
@pytest.mark.parametrize("bad", ["", "-oProxyCommand=x", "a\0b"])
def test_a_target_is_never_an_option(connector: str, bad: str) -> None:
    with pytest.raises(ValueError, match="empty|option|not|begins"):
        registry.find(connector)(bad)


def telegraph(station: str, *, speed: int = 20, python: Any = None, name: str | None = None,
              connect_timeout_s: float = 30.0) -> Plan:  # fmt: skip
    """A connector of one's own."""
    return behind(f"telegraph {station}", ["env", f"SPEED={speed}"], station, name, python, connect_timeout_s)


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    entries = [importlib.metadata.EntryPoint("telegraph", f"{__name__}:telegraph", registry.GROUP),
               importlib.metadata.EntryPoint("broken", "no_such_module:plan", registry.GROUP)]  # fmt: skip
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: entries if group == registry.GROUP else [])
    registry._added.cache_clear()
    yield
    registry._added.cache_clear()


def test_connectors_of_others(added: None) -> None:
    assert registry.names()[-2:] == ["telegraph", "broken"]
    assert parse("telegraph:paris?speed=30") == [("telegraph", {"station": "paris", "speed": 30})]
    with pytest.raises(ValueError, match="needs a station"):
        parse("telegraph")
    with pytest.raises(ValueError, match="can't be loaded: ModuleNotFoundError"):
        registry.find("broken")
    with pytest.raises(ValueError, match="can't be loaded"):
        parse("broken:x")
    with pytest.raises(ValueError, match="there is no connector 'morse'"):
        registry.find("morse")


def test_growing_by_somebody_elses(added: None) -> None:
    import os

    with Tree() as tree:
        for node in (tree.grow("telegraph", "paris", speed=7), tree.grow(telegraph, "rome", speed=7),
                     tree.grow(telegraph("oslo", speed=7)), tree.connect("telegraph:bonn?speed=7")):  # fmt: skip
            assert node.call(os.getenv, "SPEED") == "7"
        assert sorted(node.name for node in tree.nodes) == ["bonn", "oslo", "paris", "rome"]


@pytest.mark.parametrize("broken", [{}, {"what": "x"}, {**telegraph("x"), "shape": "round"}, {**telegraph("x"), "argv": []},
                                    {**telegraph("x"), "colour": "red"}, {**telegraph("x"), "name": ""},
                                    {**telegraph("x"), "rules": [{"match": "("}]}])  # fmt: skip
def test_a_broken_plan_is_refused(broken: Plan) -> None:
    with Tree() as tree, pytest.raises(ValueError, match="plan|name|rule"):
        tree.grow(broken)


def test_an_option_that_there_is_none_of(added: None) -> None:
    there = "python, env, cwd, name, connect_timeout_s"
    with Tree() as tree:
        with pytest.raises(TypeError, match=f"^there is no option 'colour' of local; there are {there}$"):
            tree.grow("local", colour="red")
        with pytest.raises(TypeError, match="there is no option 'password' of docker") as caught:
            tree.docker("app", password="hunter2")
        assert "hunter2" not in str(caught.value)
        with pytest.raises(ValueError, match="^'telegraph:paris.colour=red': telegraph: there is no option 'colour'"):
            tree.connect("telegraph:paris?colour=red")
        with pytest.raises(TypeError, match="there is no option 'colour' of this connector; there are station"):
            tree.grow(telegraph, "paris", colour="red")
        with pytest.raises(TypeError, match="^there is no option 'colour' of fork; there are preload, name, python, env"):
            tree.fork(colour="red")
        with pytest.raises(TypeError, match="missing"):
            tree.grow("ssh")


def test_what_a_spec_makes_of_options() -> None:
    steps = dict(parse("sudo:db?login=yes&preserve_env=A%20B/unshare:net%20uts?map_root=no/docker?image=img%3A1/lxd:c?uid=5"))
    assert steps["sudo"] == {"username": "db", "login": True, "preserve_env": ["A", "B"]}
    assert steps["unshare"] == {"namespaces": ["net", "uts"], "map_root": False}
    assert steps["docker"] == {"image": "img:1"}
    assert steps["lxd"] == {"container": "c", "uid": 5}
    with pytest.raises(ValueError, match="password doesn't belong in a spec"):
        parse("sudo:db?password=x")
    assert ramet.Tree.connect is Grower.connect
