"""Where secrets come from, in real trees: programs that ask on a terminal, at any depth, from old nodes, many at once; what a
hostile node gets; sudo itself."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

import ramet
from ramet import AuthenticationError, Error, HostKeyError, Node, Secret, Tree, terminal
from ramet.cli import app
from ramet.connectors import ssh
from support import needs, remote, remote_answers
from targets.accounts import Accounts
from targets.sshd import HOST, Sshd

RIGHT = "s3cret-é"
#: Asks for a password on its terminal, three times at most, as sudo does; then for a code, where one is wanted.
ASKS = ('n=0; while :; do printf "[%s] Password: " "$0" >/dev/tty; read -r answer </dev/tty; echo "$0 $answer" >>"$1"; '
        f'[ "$answer" = "{RIGHT}" ] && break; n=$((n+1)); [ $n = 3 ] && exit 5; echo "Sorry." >/dev/tty; done; shift; '
        'exec "$@"')
RULES = [{"match": "Password: \\Z", "do": "send", "secret": "pw", "error": "AuthenticationError", "stage": "escalate",
          "text": "the password was refused"}]  # fmt: skip


def asking(parent: Any, name: str, log: Path, given: Any, **options: Any) -> Node:
    """A node behind a program that asks."""
    node: Node = parent.command(["sh", "-c", ASKS, name, str(log)], terminal=True, rules=RULES, secrets={"pw": given},
                                name=name, python=sys.executable, **options)
    return node


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


# ---------------------------------------------------------------------- from everywhere


def test_a_function_is_called_when_the_prompt_is_met(tree: Tree, tmp_path: Path) -> None:
    threads: list[str] = []

    def get() -> str:
        threads.append(threading.current_thread().name)
        return RIGHT
    quiet = tree.command(["env"], secrets={"pw": get}, rules=RULES, terminal=True)
    assert quiet.call(remote.add, 1, 1) == 2
    assert threads == []
    assert asking(tree, "a", tmp_path / "log", get).call(remote.add, 2, 3) == 5
    assert threads == ["ramet-asking"], "never the keeper"
    assert lines(tmp_path / "log") == [f"a {RIGHT}"]


def test_from_the_environment(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMET_TEST_SECRET", RIGHT)
    node = asking(tree, "a", tmp_path / "log", Secret.env("RAMET_TEST_SECRET"))
    assert node.call(remote.add, 2, 3) == 5
    monkeypatch.delenv("RAMET_TEST_SECRET")
    with pytest.raises(AuthenticationError, match="RAMET_TEST_SECRET isn't set") as caught:
        asking(tree, "b", tmp_path / "log", Secret.env("RAMET_TEST_SECRET")).wait(30)
    assert caught.value.stage == "escalate"


@pytest.mark.parametrize("wrong", [lambda: 7, lambda: "a\nb", lambda: 1 / 0])
def test_a_function_that_gives_none(tree: Tree, tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(AuthenticationError, match=r"a secret can't be had: .*raised (Type|Value|ZeroDivision)Error"):
        asking(tree, "a", tmp_path / "log", wrong).wait(30)
    assert lines(tmp_path / "log") == []


def test_what_was_refused_is_not_sent_again(tree: Tree, tmp_path: Path) -> None:
    calls: list[int] = []
    for name, given in (("a", "wr0ng"), ("b", lambda: calls.append(1) or "wr0ng")):
        with pytest.raises(AuthenticationError, match="the password was refused") as caught:
            asking(tree, name, tmp_path / "log", given).wait(30)
        assert "wr0ng" not in str(caught.value) + caught.value.seen
    assert lines(tmp_path / "log") == ["a wr0ng", "b wr0ng"] and len(calls) == 1


CODE_TOO = ('printf "[sudo] password for me: " >/dev/tty; read -r a </dev/tty; printf "\nVerification code: " >/dev/tty; '
            'read -r b </dev/tty; echo "$a $b" >>"$LOG"; '
            '[ "$a $b" = "s3cret 111111" ] || { echo "sudo: 1 incorrect password" >&2; exit 1; }; '
            'while [ "$1" != -- ]; do shift; done; shift; exec "$@"')


def test_each_question_gets_its_own_secret(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second factor is asked for behind the password: a code from a function, made anew for each connection."""
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    fake = tmp_path / "sudo"
    fake.write_text("#!/bin/sh\n" + CODE_TOO)
    fake.chmod(0o755)
    codes = iter(["111111", "222222"])
    options: dict[str, Any] = {"sudo_path": fake, "password": "s3cret", "second_factor": lambda: next(codes),
                               "python": sys.executable}
    assert tree.sudo(**options).call(remote.add, 2, 3) == 5
    with pytest.raises(AuthenticationError, match="the password was refused"):
        tree.sudo(**options).wait(30)
    with pytest.raises(AuthenticationError, match="sudo asks for a second factor, and none was given"):
        tree.sudo(**{**options, "second_factor": None}).wait(30)
    assert lines(tmp_path / "log") == ["s3cret 111111", "s3cret 222222"]


# ---------------------------------------------------------------------- the user's own terminal


AT_A_TERMINAL = """
import os, sys
import ramet
if __name__ == "__main__":
    one = ramet.Secret.ask("the password of all")
    rules = [{"match": "Password: $", "do": "send", "secret": "pw", "text": "refused", "error": "AuthenticationError"}]
    with ramet.Tree() as tree:
        nodes = [tree.command(["sh", "-c", os.environ["ASKS"], "h%d" % n, os.environ["LOG"]], terminal=True, rules=rules,
                              secrets={"pw": one}, python=sys.executable) for n in range(2)]
        print("sum", sum(node.call(max, 1, 2) for node in nodes))
"""


class Terminal:
    """A program with a terminal of its own."""

    def __init__(self, script: Path, log: Path) -> None:
        script.write_text(AT_A_TERMINAL)
        self.near, far = os.openpty()
        env = {**os.environ, "ASKS": ASKS, "LOG": str(log), "PYTHONPATH": str(Path(ramet.__file__).parent.parent)}
        argv = ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(far), sys.executable, str(script)]
        self.process = subprocess.Popen(argv, start_new_session=True, env=env)
        self.far = far
        self.said = b""

    def __enter__(self) -> Terminal:
        return self

    def until(self, text: bytes) -> None:
        while text not in self.said:
            self.said += os.read(self.near, 1000)

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.far)[3] & termios.ECHO)

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(30)
        os.close(self.near)
        os.close(self.far)


def test_the_user_types_it_once_and_it_is_not_shown(tmp_path: Path) -> None:
    with Terminal(tmp_path / "script.py", tmp_path / "log") as terminal:
        terminal.until(b"the password of all (for command sh, node ")
        assert not terminal.echoes()
        os.write(terminal.near, b"typo\n")
        terminal.until(b"refused the last one): ")
        os.write(terminal.near, RIGHT.encode() + b"\n")
        terminal.until(b"sum 4")
        assert terminal.process.wait(30) == 0
        assert terminal.echoes() and RIGHT.encode() not in terminal.said and b"typo" not in terminal.said
    assert len([line for line in lines(tmp_path / "log") if line.endswith("typo")]) == 1


def test_ctrl_c_at_the_question_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    with Terminal(tmp_path / "script.py", tmp_path / "log") as terminal:
        terminal.until(b"the password of all")
        os.write(terminal.near, b"\x03")
        assert terminal.process.wait(30) != 0
        assert terminal.echoes()
    assert lines(tmp_path / "log") == []


# ---------------------------------------------------------------------- one question for many


class User:
    """Answers questions, in this order; notes what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, question: str) -> str:
        self.asked.append(question)
        return self.answers.pop(0)


def test_one_question_serves_a_declared_group(tree: Tree, tmp_path: Path) -> None:
    user, other = User(RIGHT), User(RIGHT)
    one, another = Secret.ask("the hosts' password", how=user), Secret.ask("another group's password", how=other)
    nodes = [asking(tree, f"h{n}", tmp_path / "log", one) for n in range(12)]
    alike = asking(tree, "alike", tmp_path / "log", another)    # its prompt looks the same
    assert [node.call(remote.add, 1, n) for n, node in enumerate(nodes)] == [1 + n for n in range(12)]
    assert alike.call(remote.add, 1, 1) == 2
    assert len(user.asked) == 1 and user.asked[0].startswith("the hosts' password (for ")
    assert len(other.asked) == 1
    assert sorted(lines(tmp_path / "log")) == sorted([f"h{n} {RIGHT}" for n in range(12)] + [f"alike {RIGHT}"])


def test_a_mistyped_answer_goes_to_one_host_and_is_asked_for_again(tree: Tree, tmp_path: Path) -> None:
    user = User("typo", RIGHT)
    one = Secret.ask("the hosts' password", how=user)
    nodes = [asking(tree, f"h{n}", tmp_path / "log", one) for n in range(8)]
    assert [node.call(remote.add, 1, n) for n, node in enumerate(nodes)] == [1 + n for n in range(8)]
    assert len(user.asked) == 2 and "refused the last one" in user.asked[1]
    said = lines(tmp_path / "log")
    assert len([line for line in said if line.endswith("typo")]) == 1, "the others wait until one has taken it"
    assert len([line for line in said if line.endswith(RIGHT)]) == 8


def test_wrong_answers_are_bounded(tree: Tree, tmp_path: Path) -> None:
    user = User("one", "two")
    one = Secret.ask("the hosts' password", tries=2, how=user)
    nodes = [asking(tree, f"h{n}", tmp_path / "log", one) for n in range(5)]
    for node in nodes:
        with pytest.raises(AuthenticationError):
            node.wait(30)
    assert user.answers == [] and len(lines(tmp_path / "log")) == 2


def test_a_tree_that_closes_ends_the_question(tmp_path: Path) -> None:
    asked, wanted = threading.Event(), []

    def how(question: str) -> str:
        asked.set()
        while one._group is not None and one._group.wanted():
            threading.Event().wait(0.01)
        wanted.append("no more")
        return "too late"
    one = Secret.ask("the hosts' password", how=how)
    with Tree() as tree:
        node = asking(tree, "a", tmp_path / "log", one)
        assert asked.wait(60)
    with pytest.raises(Error):
        node.wait(60)
    for thread in threading.enumerate():
        if thread.name == "ramet-asking":
            thread.join(60)
    assert wanted == ["no more"] and lines(tmp_path / "log") == []


# ---------------------------------------------------------------------- deeper in the tree


@pytest.mark.parametrize("label", ["2.7", "3.6", "3.13"])
def test_nodes_play_dialogues_with_secrets_that_the_program_gets(tree: Tree, tmp_path: Path, label: str) -> None:
    """Through a node of an old Python and one more hop: the question goes up, its answer down."""
    middle = tree.local(python=needs.python(label)).local()
    user = User("typo", RIGHT)
    given = {"asked": Secret.ask("deep", how=user), "got": lambda: RIGHT, "given": RIGHT}
    nodes = [asking(middle, name, tmp_path / "log", secret) for name, secret in given.items()]
    assert [node.call(remote.add, 2, 3) for node in nodes] == [5, 5, 5]
    assert sorted(lines(tmp_path / "log")) == sorted(["asked typo", f"asked {RIGHT}", f"got {RIGHT}", f"given {RIGHT}"])
    assert nodes[0].local().call(remote.add, 1, 1) == 2
    with pytest.raises(AuthenticationError) as caught:
        asking(middle, "bad", tmp_path / "log", lambda: "wr0ng").wait(30)
    assert "wr0ng" not in str(caught.value) + caught.value.seen


def test_a_node_gets_no_secret_that_is_not_for_it(tree: Tree, tmp_path: Path) -> None:
    """It asks for those of others, of what has grown, under other names, too often; in odd forms, too."""
    middle, thief = tree.local(python=sys.executable), tree.local(python=sys.executable)
    waits = threading.Event()
    growing = asking(middle, "growing", tmp_path / "log", lambda: waits.wait(150) and RIGHT)
    grown = asking(middle, "grown", tmp_path / "log", lambda: RIGHT).wait(30)
    ids, names = [growing.id, grown.id, middle.id, thief.id, 0, 99, -1], ["pw", "password", "host key", ""]
    assert set(thief.options(timeout=90).call(remote_answers.ask_for, ids, names)) == {None}
    assert set(middle.options(timeout=90).call(remote_answers.ask_for, [grown.id, thief.id], names)) == {None}
    it = growing.id
    bodies: list[Any] = [None, 7, [], [it], [it, "pw", 1], [str(it), "pw", 1, ""], [it, ["pw"], 1, ""], [[it], "pw", 1, ""],
                         [it, "pw", 1, b""], [1 << 80, "pw", 1, ""], {"id": it}]
    assert set(thief.options(timeout=90).call(remote_answers.send, bodies)) <= {None, "dead"}
    assert set(middle.options(timeout=90).call(remote_answers.send, bodies)) <= {None, "dead"}
    refused = tree.stats()["refused"]
    assert refused >= len(ids) * len(names)
    waits.set()
    assert growing.call(remote.add, 2, 3) == 5
    assert lines(tmp_path / "log") == [f"grown {RIGHT}", f"growing {RIGHT}"]


def test_a_grower_is_given_a_secret_as_often_as_its_dialogue_may_type_it(tree: Tree, tmp_path: Path) -> None:
    """Even who grows the node can't have a second code, or have the user asked without end."""
    middle = tree.local(python=sys.executable)
    codes = iter(range(100))
    never = middle.command(["sh", "-c", "sleep 60"], terminal=True, rules=RULES, secrets={"pw": lambda: f"code-{next(codes)}"})
    middle.call(remote.add, 1)
    thief = tree.local(python=sys.executable)
    assert thief.options(timeout=90).call(remote_answers.ask_for, [never.id], ["pw"]) == [None], "it doesn't grow that node"
    assert middle.options(timeout=90).call(remote_answers.ask_for, [never.id], ["pw"], 5) == [b"code-0", None, None, None, None]
    assert next(codes) == 1
    never.close()


def test_a_nodes_wish_has_nothing_of_the_programs(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = tree.local(python=sys.executable)
    asked: list[str] = []
    monkeypatch.setattr(terminal, "ask", lambda *rest, **more: asked.append("asked"))
    said = node.call(remote_answers.wish, "ssh", {"host": "nowhere.invalid", "host_key_policy": "ask"})
    assert "asks nobody" in said
    for odd in (["env", "HOME"], {"env": "HOME"}, 7):
        assert "must be a text" in node.call(remote_answers.wish, "sudo", {"password": odd})
    assert "16,384 bytes" in node.call(remote_answers.wish, "command", {"argv": ["true"], "env": {"A": "x" * 16_384}})
    assert asked == [] and len(tree.nodes) == 1
    assert tree.stats()["refused"] == 5, "who goes on with such wishes is read slowly"


def test_a_node_that_dies_while_the_user_is_asked(tree: Tree, tmp_path: Path) -> None:
    middle = tree.local(python=sys.executable)
    asked, answer = threading.Event(), threading.Event()
    node = asking(middle, "a", tmp_path / "log", lambda: asked.set() or (answer.wait(150) and RIGHT))
    assert asked.wait(60)
    os.kill(middle.facts["pid"], signal.SIGKILL)
    with pytest.raises(Error):
        node.wait(30)
    answer.set()
    assert tree.local().call(remote.add, 1, 1) == 2


@pytest.mark.parametrize("label", ["2.7", "3.13"])
def test_a_module_with_a_secret_at_its_top_loads_in_a_node_and_has_none(tree: Tree, label: str) -> None:
    node = tree.local(python=needs.python(label))
    assert node.call(remote_answers.reveal_there) == "secrets stay in the program that grows the tree: a node has none of them"


# ---------------------------------------------------------------------- on the command line, and in specs


def fake_sudo(folder: Path) -> Path:
    fake = folder / "sudo"
    fake.write_text("#!/bin/sh\n" + ASKS.replace("$0", "sudo").replace('"$1"', f'"{folder}/log"').replace(
        "shift; exec", "while [ \"$1\" != -- ]; do shift; done; shift; exec"))
    fake.chmod(0o755)
    return fake


def test_specs_have_their_secrets_beside_them(tree: Tree, tmp_path: Path) -> None:
    spec = f"local:/sudo:?sudo_path={quote(str(fake_sudo(tmp_path)), safe='')}"
    node = tree.connect(spec, {"sudo": {"password": RIGHT, "python": sys.executable}, "ssh": {"password": "another"}})
    assert node.call(remote.add, 2, 3) == 5
    assert lines(tmp_path / "log") == [f"sudo {RIGHT}"]


def test_the_command_asks_once_for_all_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(terminal, "ask", lambda text, wanted, **_: asked.append(text) or bytearray(RIGHT.encode()))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "cli_asks_once.py").write_text("def main():\n    return 'done there'\n")
    query = f"sudo_path={quote(str(fake_sudo(tmp_path)), safe='')}&python={quote(sys.executable, safe='')}"
    done = CliRunner().invoke(app, ["run", "--ask-sudo-password", "-H", f"sudo:?{query}&name=a,sudo:?{query}&name=b",
                                    str(tmp_path / "cli_asks_once.py")])
    assert done.exit_code == 0, done.output
    assert done.stdout.count("done there") == 2
    assert len(asked) == 1 and asked[0].startswith("sudo password of these hosts (for sudo root, node ")


# ---------------------------------------------------------------------- a host that isn't known


def unknown(sshd: Sshd, policy: Any, known: Path) -> dict[str, Any]:
    options = sshd.by_key(host_key_policy=policy)
    options["ssh_args"] = [*options["ssh_args"], "-o", f"UserKnownHostsFile={known}"]
    return options


def fingerprint(sshd: Sshd) -> str:
    shown = subprocess.run([sshd.keygen, "-lf", str(sshd.folder / "hostkey.pub")], capture_output=True, text=True, check=True)
    return shown.stdout.split()[1]


def test_who_is_shown_the_fingerprint_decides(tree: Tree, sshd: Sshd, tmp_path: Path) -> None:
    asked: list[str] = []
    for number, answer in enumerate((True, False)):
        def decide(question: str, answer: bool = answer) -> bool:
            asked.append(question)
            return answer
        node = tree.ssh(HOST, **unknown(sshd, decide, tmp_path / str(number)))
        if answer:
            assert node.call(remote.add, 2, 3) == 5
        else:
            with pytest.raises(HostKeyError):
                node.wait(30)
    assert all(fingerprint(sshd) in question for question in asked) and len(asked) == 2
    assert (tmp_path / "0").exists() and not (tmp_path / "1").exists()


def test_through_a_node_the_program_decides(tree: Tree, sshd: Sshd, tmp_path: Path) -> None:
    asked: list[str] = []
    node = tree.local(python=needs.python("2.7")).ssh(
        HOST, **unknown(sshd, lambda question: asked.append(question) or True, tmp_path / "known"))
    assert node.call(remote.add, 2, 3) == 5
    assert len(asked) == 1 and fingerprint(sshd) in asked[0]


def test_a_demanded_fingerprint(tree: Tree, sshd: Sshd, tmp_path: Path) -> None:
    assert tree.ssh(HOST, **unknown(sshd, fingerprint(sshd), tmp_path / "a")).call(remote.add, 2, 3) == 5
    with pytest.raises(HostKeyError, match="another fingerprint"):
        tree.ssh(HOST, **unknown(sshd, "SHA256:" + "A" * 43, tmp_path / "b")).wait(30)


def test_the_user_is_shown_the_fingerprint(tree: Tree, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(terminal, "ask", lambda text, wanted, **_: shown.append(text) or bytearray(b"yes"))
    assert tree.ssh(HOST, **unknown(sshd, "ask", tmp_path / "a")).call(remote.add, 2, 3) == 5
    assert fingerprint(sshd) in shown[0] and shown[0].startswith(f"ssh {HOST}, node {HOST}:")


def test_policies_that_are_none() -> None:
    for wrong in ("SHA256:short", "perhaps", 7):
        with pytest.raises(ValueError, match="host_key_policy is one of"):
            ssh.plan(HOST, host_key_policy=wrong)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- sudo


@pytest.mark.xdist_group("accounts")
def test_sudo_asks_the_user_once_and_again_when_that_was_wrong(tree: Tree, accounts: Accounts) -> None:
    needs.program("sudo")
    user = User("wr0ng", accounts.password)
    one = Secret.ask("sudo", how=user)
    hosts = [accounts.node(tree, accounts.asks) for _ in range(3)]
    roots = [host.sudo(password=one, python=accounts.python) for host in hosts]
    assert [root.call(remote.whoami) for root in roots] == ["root"] * 3
    assert len(user.asked) == 2


