"""What a user gets wrong, or the other side: each a specific error with stage, cause, remedy and the last lines seen; and the
tree lives on. All of it through the public API.
"""
from __future__ import annotations

import errno
import os
import socket
import statistics
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ramet
from ramet.kernel import limits
from support import needs, remote, remote_services, sources
from targets.sshd import HOST, Sshd, closed_port


@pytest.fixture
def tree() -> Iterator[ramet.Tree]:
    """A tree with a node that must work, before and after what the test does."""
    with ramet.Tree() as tree:
        good = tree.local(name="good")
        assert good.call(remote.add, 20, 22) == 42
        yield tree
        assert good.call(remote.add, 20, 22) == 42
        assert tree.local(name="new").call(remote.from_own_module) == 42


@pytest.fixture
def node(tree: ramet.Tree) -> ramet.Node:
    return tree.node(1)


def refused(node: ramet.Node, kind: type[ramet.ConnectError], stage: str, *words: str) -> None:
    """Connecting fails, in this way, for whoever asks."""
    for ask in (lambda: node.wait(60), lambda: node.call(remote.pid), lambda: node.local().call(remote.pid)):
        with pytest.raises(ramet.ConnectError) as caught:
            ask()
    with pytest.raises(ramet.ConnectError) as caught:
        node.wait()
    error = caught.value
    assert type(error) is kind, error
    assert error.stage == stage, error
    text = str(error)
    assert f"stage: {stage}" in text and "command: " in text
    assert "remedy: " in text, text
    for word in words:
        assert word in text, text
    assert type(node.error) is kind and str(node.error) == text
    assert type(node.start(remote.pid).exception(60)) is kind
    node.close()


# ---------------------------------------------------------------------- connecting


def test_a_host_that_does_not_resolve(tree: ramet.Tree) -> None:
    refused(tree.ssh("no-such-host.invalid"), ramet.ConnectError, "resolve", "no-such-host.invalid")


def test_a_host_that_refuses(tree: ramet.Tree) -> None:
    with closed_port() as port:
        refused(tree.ssh(HOST, port=port), ramet.ConnectError, "start", "nobody listens", "Connection refused")


def test_a_host_that_never_answers(tree: ramet.Tree) -> None:
    with socket.create_server((HOST, 0)) as server:
        node = tree.ssh(HOST, port=server.getsockname()[1], connect_timeout_s=0.5)
        refused(node, ramet.ConnectError, "start", "0.5 s")


def test_a_host_without_python(tree: ramet.Tree, sshd: Sshd) -> None:
    key = sshd.key("bare", command='PATH=/nowhere; eval "/bin/$SSH_ORIGINAL_COMMAND"')
    refused(tree.ssh(HOST, **sshd.by_key(key)), ramet.PythonNotFoundError, "find-python", "python=")
    refused(tree.ssh(HOST, **sshd.by_key(python="/no/python3")), ramet.PythonNotFoundError, "find-python", "/no/python3")


def test_a_changed_host_key(tree: ramet.Tree, sshd: Sshd) -> None:
    known = sshd.folder / "changed"
    known.write_text(f"[{HOST}]:{sshd.port} " + sshd.key("other").with_suffix(".pub").read_text())
    options = sshd.by_key()
    options["ssh_args"] += ["-o", f"UserKnownHostsFile={known}"]
    refused(tree.ssh(HOST, **options), ramet.HostKeyError, "authenticate", "ssh-keygen -R")


def test_a_password_that_was_not_given(tree: ramet.Tree, sshd: Sshd) -> None:
    node = tree.ssh(HOST, **sshd.by_password(password=None))
    refused(node, ramet.AuthenticationError, "authenticate", "no password was given")


def test_a_host_of_a_node_is_refused_like_one_of_ours(tree: ramet.Tree, node: ramet.Node, sshd: Sshd) -> None:
    refused(node.ssh("no-such-host.invalid"), ramet.ConnectError, "resolve", "no-such-host.invalid")
    refused(node.ssh(HOST, **sshd.by_key(python="/no/python3")), ramet.PythonNotFoundError, "find-python", "/no/python3")
    refused(node.local(python="/no/python3"), ramet.PythonNotFoundError, "find-python", "/no/python3")
    refused(node.local(python="2.7"), ramet.PythonNotFoundError, "find-python", "2.7")


def test_a_login_banner_of_a_megabyte(tree: ramet.Tree, sshd: Sshd) -> None:
    key = sshd.key("loud", command="head -c 1000000 /dev/zero | tr '\\0' b; eval \"$SSH_ORIGINAL_COMMAND\"")
    assert tree.ssh(HOST, **sshd.by_key(key)).call(remote.from_own_module) == 42


@pytest.mark.parametrize("python", ["/no/such/python", "nopython", "/etc/passwd", "/", "", "python3 -c"])
def test_a_wrong_python_path(tree: ramet.Tree, python: str) -> None:
    if python:
        refused(tree.local(python=python), ramet.PythonNotFoundError, "find-python", python)
    else:
        with pytest.raises(ValueError):
            tree.local(python=python)


def test_something_else_than_python(tree: ramet.Tree) -> None:
    refused(tree.local(python="/bin/cat"), ramet.ConnectError, "bootstrap")
    refused(tree.local(python="/bin/false"), ramet.ConnectError, "bootstrap", "status: 1")
    refused(tree.local(python="/bin/true"), ramet.ConnectError, "bootstrap", "status: 0")


@pytest.mark.parametrize("label", ["2.7", "3.6", "3.13"])
def test_a_first_stage_that_fails(label: str, tree: ramet.Tree, tmp_path: Path) -> None:
    """There is nothing yet that could make status 98 of it: it is Python's own 1, and its own words say why."""
    words = ["first stage", "status: 1", "OSError", "remedy: the last lines"]
    few = tree.command(["sh", "-c", 'ulimit -n 9; exec "$@"', "sh"], python=needs.python(label))
    refused(few, ramet.ConnectError, "bootstrap", os.strerror(errno.EBADF), "ulimit -n", *words)
    link, script = tmp_path / "python", tmp_path / "script"
    link.symlink_to(needs.python(label))
    # Between the first start of the interpreter and the second one its file is deleted.
    script.write_text("import os, sys\nargv = sys.argv[1:]\n"
                      "argv[2] = 'import posix;posix.unlink(\"%s\");' % argv[0] + argv[2]\nos.execv(argv[0], argv)\n")
    gone = tree.command([sys.executable, str(script)], python=str(link))
    refused(gone, ramet.ConnectError, "bootstrap", os.strerror(errno.ENOENT), "its file gone", *words[:2], words[3])


@pytest.mark.parametrize("command", ["cat /dev/urandom", "cat /dev/zero", "yes"])
def test_garbage_without_end_in_place_of_the_marker(tree: ramet.Tree, command: str) -> None:
    refused(tree.command(["sh", "-c", command]), ramet.ConnectError, "bootstrap", "16 MB", command)


def test_garbage_in_place_of_the_marker(tree: ramet.Tree) -> None:
    node = tree.command(["sh", "-c", "echo choose from the menu; echo oops >&2; exit 7"])
    refused(node, ramet.ConnectError, "bootstrap", "menu", "oops", "status: 7")


@pytest.mark.parametrize(("behind", "said"), [
    ("cat /dev/zero", "not a frame"), ("cat /dev/urandom", "not a frame"), ("yes", "not a frame"), ("exit 3", "status 3"),
    ("head -c 100 /dev/zero", "not a frame"), ("echo; exit 4", "status 4"), ("kill -9 $$", "signal 9"),
])  # fmt: skip
def test_garbage_behind_the_last_marker(tree: ramet.Tree, behind: str, said: str) -> None:
    """Something that says all that a kernel says, takes all that it takes, and then speaks no protocol."""
    says = (r"printf '\nRAMET1 30b07f0 c\n\nRAMET2\n'; exec 3<&0; "
            rf"head -c 1 <&3 >/dev/null; cat <&3 >/dev/null & sleep 0.3; {behind}")     # it comes all at once
    node = tree.command(["bash", "-c", says], name="liar")
    with pytest.raises(ramet.ConnectError) as caught:
        node.start(remote.pid).result(60)
    assert caught.value.stage == "bootstrap" and said in caught.value.cause
    assert str(node.error) == str(caught.value)


def test_silence_behind_the_last_marker(tree: ramet.Tree, node: ramet.Node) -> None:
    says = r"printf '\nRAMET1 30b07f0 c\n\nRAMET2\n'; sleep 1000"
    for grower in (tree, node):
        for timeout_s in (0.5, 5, 50):      # on a busy machine it isn't started in half a second
            silent = grower.command(["sh", "-c", says], connect_timeout_s=timeout_s)
            with pytest.raises(ramet.ConnectError) as caught:
                silent.wait()
            if caught.value.stage != "start":
                break
        refused(silent, ramet.ConnectError, "bootstrap", f"{timeout_s} s")


def test_a_node_that_is_closed_while_it_connects(tree: ramet.Tree, node: ramet.Node) -> None:
    for grower in (tree, node):
        slow = grower.command(["sh", "-c", "sleep 60"], name="slow")
        call = slow.start(remote.pid)
        slow.close()
        with pytest.raises(ramet.ClosedError, match="slow"):
            call.result(60)
        with pytest.raises(ramet.ClosedError, match="slow"):
            slow.wait(60)
        with pytest.raises(ramet.ClosedError, match="slow"):
            slow.call(remote.pid)


def test_silence(tree: ramet.Tree) -> None:
    node = tree.command(["sh", "-c", "sleep 60"], connect_timeout_s=0.4)
    refused(node, ramet.ConnectError, "start", "0.4 s", "connect_timeout_s")


@pytest.mark.parametrize("wrong", [{"connect_timeout_s": 0}, {"name": "a b"}, {"name": ""}, {"python": 3}, {"env": {"A": 1}},
                                   {"nonsense": 1}], ids=str)
def test_options_are_refused_where_they_are_given(tree: ramet.Tree, node: ramet.Node, wrong: dict[str, Any]) -> None:
    for grower in (tree, node):
        with pytest.raises((TypeError, ValueError)):
            grower.local(**wrong)


# ---------------------------------------------------------------------- messages and values


def test_a_message_over_the_limit(tree: ramet.Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    node = tree.local(name="limited")
    before = node.call(remote.set_message_limit, 100_000)
    with pytest.raises(ramet.ValueNotPortableError, match=r"message of \d+ bytes is over the limit of 100000"):
        node.call(remote.many_bytes, 200_000)
    assert node.call(remote.set_message_limit, before) == 100_000
    monkeypatch.setattr(limits, "message_bytes_max", 100_000)
    for send in (node.start, node.call, node.cast):
        with pytest.raises(ramet.ValueNotPortableError, match=r"message of \d+ bytes is over the limit of 100000"):
            send(remote.echo, b"x" * 200_000)
    assert node.call(remote.echo, b"x" * 90_000) == b"x" * 90_000


def test_a_message_over_the_limit_to_a_node_that_still_connects(tree: ramet.Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    node = tree.local(python=needs.python("2.7"))
    with monkeypatch.context() as patch:
        patch.setattr(limits, "message_bytes_max", 100_000)
        with pytest.raises(ramet.ValueNotPortableError, match="over the limit"):
            node.call(remote.echo, b"x" * 200_000)
    assert node.call(remote.add, 1) == 1


@pytest.mark.parametrize(("make", "where"), [
    (remote.lock, "result"), (remote.generator, "result['items'][0]"), (remote.endless, "result"), (remote.sour, "result[0]"),
], ids=["lock", "generator", "cycle", "sour"])  # fmt: skip
@pytest.mark.parametrize("python", ["2.7", "3.13"])
def test_a_result_that_can_not_travel(tree: ramet.Tree, make: Callable[[], Any], where: str, python: str) -> None:
    node = tree.local(python=needs.python(python))
    with pytest.raises(ramet.ValueNotPortableError) as caught:
        node.call(make)
    assert where in str(caught.value)
    assert node.call(remote.add, 1) == 1


@pytest.mark.parametrize(("value", "where"), [
    (threading.Lock(), "arguments[0]"), ({"a": [1, (n for n in ())]}, "arguments[0]['a'][1]"), (remote.endless(), "arguments"),
    (remote.sour(), "arguments[0][0]"), (os, "arguments[0]"), (remote.nested(10_000), "arguments[0]"),
    (types.SimpleNamespace(a=threading.Lock()), "arguments[0]"), (memoryview, None),
], ids=["lock", "generator", "cycle", "sour", "module", "deep", "inside", "class"])  # fmt: skip
def test_an_argument_that_can_not_travel(node: ramet.Node, value: Any, where: str | None) -> None:
    if where is None:
        with pytest.raises(ramet.ValueNotPortableError):
            node.call(remote.echo, value)
        return
    for ask in (lambda: node.call(remote.echo, value), lambda: node.start(remote.echo, value),
                lambda: node.cast(remote.echo, value)):
        with pytest.raises(ramet.ValueNotPortableError) as caught:
            ask()
        assert where in str(caught.value)
    with pytest.raises(ramet.ValueNotPortableError) as caught:
        node.call(remote.add, 1, b=value)
    assert "b" in str(caught.value)


@pytest.mark.parametrize("python", ["2.7", "3.13"])
def test_an_argument_of_a_node_s_own_calls_and_requests_that_can_not_travel(tree: ramet.Tree, python: str) -> None:
    """They named its place in the message: `value[1][2]`."""
    places = tree.local(python=needs.python(python)).call(remote_services.places_of_what_can_not_travel)
    assert places == ["arguments[2][1]['a']", "arguments[0][3]", "arguments['key'][0]", "arguments[0]"] * 4


@pytest.mark.parametrize("python", ["2.7", "3.6", "3.13"])
def test_values_nested_too_deeply(tree: ramet.Tree, python: str) -> None:
    node = tree.local(python=needs.python(python))
    with pytest.raises(ramet.ValueNotPortableError, match="deep|nested"):
        node.call(remote.nested, 100_000)
    assert node.call(remote.nested, 150) == remote.nested(150)
    assert node.call(remote.echo, remote.nested(150)) == remote.nested(150)


def test_an_exit_as_a_value_ends_nobody(node: ramet.Node) -> None:
    there = node.start(remote.returned_exit)
    error = there.exception(60)
    assert isinstance(there.result(), SystemExit) if error is None else isinstance(error, ramet.ValueNotPortableError)


# ---------------------------------------------------------------------- functions that fail, or are not there


@pytest.mark.parametrize("python", ["2.7", "3.6", "3.13"])
def test_failures_of_all_kinds_harm_nobody(tree: ramet.Tree, python: str) -> None:
    node = tree.local(python=needs.python(python))
    with pytest.raises(RuntimeError, match="recursion") as caught:
        node.call(remote.recurse)
    assert isinstance(caught.value, ramet.RemoteError) and "in recurse" in caught.value.traceback_text
    with pytest.raises(MemoryError):
        node.call(remote.fail_with_memory)
    with pytest.raises(ramet.RemoteError, match="text can't be made") as sour:
        node.call(remote.fail_sourly)
    assert sour.value.type_name == "support.remote.SourError"
    with pytest.raises(TypeError, match="argument"):
        node.call(remote.add)
    assert node.call(remote.replace_standard_streams) == "done"
    assert node.call(remote.add, 1) == 1


def test_a_function_that_is_not_over_there(tree: ramet.Tree) -> None:
    node = tree.local(python=needs.python("2.7"))
    with pytest.raises(ImportError, match="statistics") as caught:
        node.call(statistics.mean, [1])
    assert "standard library" in str(caught.value)
    with pytest.raises(AttributeError, match="cpu_count"):
        node.call(os.cpu_count)
    assert node.call(remote.add, 1) == 1


def test_a_function_of_a_module_that_nobody_has(node: ramet.Node) -> None:
    def lost() -> None: ...

    lost.__module__, lost.__qualname__ = "no_such_module_anywhere", "lost"
    assert node.call(lost) is None      # so it goes by value


@pytest.mark.parametrize("thing", [5, None, "os.getpid", types.SimpleNamespace(), (n for n in ())],
                         ids=["number", "none", "text", "instance", "generator"])
def test_what_is_no_function_of_a_module(node: ramet.Node, thing: Any) -> None:
    for send in (node.call, node.start, node.cast):
        with pytest.raises((ramet.ValueNotPortableError, TypeError)):
            send(thing)


THERE = "import os, sys\nif os.getpid() != {pid}:\n    "      # what only nodes do
BROKEN = {
    "breaks_there.py": THERE + "raise RuntimeError('broken on import')\ndef work(): return 1\n",
    "needs_it.py": "import breaks_there\ndef work(): return 2\n",
    "exits_there.py": THERE + "sys.exit('no main guard')\ndef work(): return 3\n",
    "lacks_a_part.py": THERE + "import no_such_part\ndef work(): return 4\n",
    "too_new.py": "def work(): return f'{{1}}'\n",
    "sound.py": "def work(): return 5\n",
}


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[Any]:
    files = {name: text.format(pid=os.getpid()) for name, text in BROKEN.items()}
    with sources.on_path(sources.write(tmp_path, files)):
        yield lambda name: __import__(name).work


def test_a_module_that_fails_on_import_there(node: ramet.Node, broken: Any) -> None:
    for _ in range(2):
        for module in ("breaks_there", "needs_it"):
            with pytest.raises(RuntimeError, match="broken on import") as caught:
                node.call(broken(module))
            assert isinstance(caught.value, ramet.RemoteError)
            assert "breaks_there.py" in caught.value.traceback_text and "line 3" in caught.value.traceback_text
            assert "raise RuntimeError('broken on import')" in caught.value.traceback_text
    with pytest.raises(ramet.RemoteError, match="no main guard") as plain:
        node.call(broken("exits_there"))
    assert plain.value.type_name == "builtins.SystemExit"
    with pytest.raises(ImportError, match="no_such_part"):
        node.call(broken("lacks_a_part"))
    assert node.call(broken("sound")) == 5


def test_a_module_that_the_node_can_not_parse(tree: ramet.Tree, broken: Any) -> None:
    node = tree.local(python=needs.python("2.7"))
    with pytest.raises(SyntaxError, match="invalid syntax") as caught:
        node.call(broken("too_new"))
    assert "too_new.py" in str(caught.value)
    assert node.call(broken("sound")) == 5


def test_a_forbidden_module(tree: ramet.Tree, node: ramet.Node, broken: Any) -> None:
    tree.modules.forbid("sound")
    for send in (node.call, node.start, node.cast):
        with pytest.raises(ramet.ModuleNotShippedError, match="sound"):
            send(broken("sound"))
    assert node.stats()["calls"] == 0       # what wasn't sent isn't under way
