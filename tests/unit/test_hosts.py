"""What is remembered of hosts: on disk and off it, bounded, without secrets; and what a node may tell of itself."""
from __future__ import annotations

from pathlib import Path

import pytest

import ramet
from ramet import codec, hosts
from ramet.connectors import command, local, ssh
from ramet.kernel import installed
from ramet.kernel.core import INSTALLED, Message

NAMES = ["django", "yaml"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "ramet"


def test_a_host_is_remembered_by_the_next_program(cache: Path) -> None:
    plan = ssh.plan("web1.example", username="alice", password="s3cret-pw")
    key = hosts.key_of(plan, None)
    first = hosts.Hosts(True)
    assert first.recall(key) == (None, None)
    assert first.note(key, "cp311", NAMES) == frozenset(NAMES)
    first.save()
    second = hosts.Hosts(True)
    assert second.recall(key) == (frozenset(NAMES), "cp311")
    assert second.offered(b"another") == {hosts.digest_of(NAMES): frozenset(NAMES)}
    for file in cache.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
        for word in (b"web1", b"alice", b"s3cret-pw"):
            assert word not in file.read_bytes()


def test_what_two_programs_wrote_is_kept_of_both() -> None:
    one, other = hosts.Hosts(True), hosts.Hosts(True)
    assert (one.recall(b"a"), other.recall(b"b")) == ((None, None), (None, None))
    one.note(b"a", "cp311", NAMES)
    other.note(b"b", "source", ["six"])
    one.save()
    other.save()
    both = hosts.Hosts(True)
    assert both.recall(b"a") == (frozenset(NAMES), "cp311") and both.recall(b"b") == (frozenset(["six"]), "source")


def test_nothing_is_written_where_nothing_is_new_or_it_was_switched_off(cache: Path) -> None:
    hosts.Hosts(True).save()
    off = hosts.Hosts(False)
    off.note(b"a", "cp311", NAMES)
    off.save()
    assert off.recall(b"a") == (frozenset(NAMES), "cp311") and not cache.exists()


@pytest.mark.parametrize("content", [b"", b"\x93", b"\x92\x01\x02", b"\x92\x91\x93\x01\x02\x03\x90", b"\x92\x90\x91\x91\x01"])
def test_a_file_that_can_not_be_read_is_no_memory(content: bytes) -> None:
    from ramet.bootstrap import cache
    cache.put(hosts._FILE, content)
    assert hosts.Hosts(True).recall(b"a") == (None, None)
    assert hosts.Hosts(True).offered(b"a") == {}


def test_the_memory_is_bounded() -> None:
    memory = hosts.Hosts(False)
    for n in range(hosts.HOSTS_MAX + 10):
        memory.note(b"%d" % n, "source", [f"name{n % (hosts.LISTS_MAX + 5)}"])
    assert memory.recall(b"9") == (None, None) and memory.recall(b"%d" % (hosts.HOSTS_MAX + 9))[0]
    assert len(memory._hosts) == hosts.HOSTS_MAX and len(memory._lists) == hosts.LISTS_MAX
    assert len(memory.offered(b"")) == hosts.OFFERED_MAX


def test_a_file_stays_within_its_bytes(cache: Path) -> None:
    memory = hosts.Hosts(True)
    for n in range(hosts.LISTS_MAX):
        memory.note(b"%d" % n, "source", sorted(f"a_rather_long_name_of_a_module_{n}_{i}" for i in range(2000)))
    memory.save()
    assert [file.stat().st_size < 1 << 20 for file in cache.iterdir()] == [True]
    assert hosts.Hosts(True).recall(b"%d" % (hosts.LISTS_MAX - 1))[0]     # what was used last is kept


def test_the_key_is_of_the_way_and_not_of_the_node() -> None:
    keys = [hosts.key_of(plan, None) for plan in (
        ssh.plan("web1"), ssh.plan("web1", username="root"), ssh.plan("web2"), ssh.plan("web1", python="python3.9"),
        local.plan(), local.plan(env={"PYTHONPATH": "/x"}), command.plan(["docker", "exec", "-i", "app"]))]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert hosts.key_of(ssh.plan("web1", name="other", password="x"), None) != b""
    assert hosts.key_of(ssh.plan("web1", name="other"), None) == keys[0] != hosts.key_of(ssh.plan("web1"), keys[0])
    one, other = (hosts.key_of(ssh.plan("web1", password=word), None) for word in ("x", "y"))
    assert one == other


NO_LISTS = [
    None, 7, "django", [1], ["b", "a"], ["a", "a"], ["a\nb"], ["a-b"], [""], ["\u00e4"], ["x" * 65], [["a"]], {"a": 1},
    [f"n{n:06}" for n in range(installed.NAMES_MAX + 1)],
]  # fmt: skip


@pytest.mark.parametrize("told", [*NO_LISTS, b"0123456789abcdef", b"x" * 300_000])
def test_what_is_no_list_of_names_is_refused(told: object) -> None:
    with ramet.Tree(remember=False) as tree:
        node = ramet.Node(tree, 1, "one", None, "test")
        tree._nodes[1] = node
        node._state.offered = {hosts.digest_of(NAMES): frozenset(NAMES)}
        tree._told.on_installed(message(1, told))
        assert node._state.installed is None and tree.stats()["refused"] == 1
        tree._told.on_installed(message(1, hosts.digest_of(NAMES)))
        assert node._state.installed == frozenset(NAMES)
        tree._told.on_installed(message(1, ["other"]))      # once only
        tree._told.on_installed(message(2, NAMES))          # no such node
        assert node._state.installed == frozenset(NAMES) and tree.stats()["refused"] == 3
        tree._nodes.clear()


def message(src: int, value: object) -> Message:
    return Message(src, src, INSTALLED, 0, 0, None, b"".join(map(bytes, codec.encode(value))))


def test_no_list_can_take_the_place_of_another_one() -> None:
    """The digest is made here, of what was told: a node can't say which list its digest stands for."""
    memory = hosts.Hosts(False)
    memory.note(b"honest", "cp311", NAMES)
    memory.note(b"hostile", "cp311", ["evil"])
    assert memory.offered(b"")[hosts.digest_of(NAMES)] == frozenset(NAMES)
    assert installed.told(NAMES, [hosts.digest_of(NAMES)]) == hosts.digest_of(NAMES)
    assert installed.told(NAMES, [hosts.digest_of(["evil"])]) == NAMES == installed.told(NAMES, ())
