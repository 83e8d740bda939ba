"""Secrets with the real things: a keyring's file, and PAM that asks sudo, su and doas for a code behind the password."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ramet
from ramet import AuthenticationError, Node, Secret, Tree
from support import needs, remote
from support.watch import Watch
from targets.accounts import Accounts
from targets.second_factor import SecondFactor

pytestmark = pytest.mark.xdist_group("accounts")


# ---------------------------------------------------------------------- a keyring

BY_KEYRING = """
import sys
import ramet
from support import remote
if __name__ == "__main__":
    user, python = sys.argv[1:]
    with ramet.Tree() as tree:
        argv = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--reset-env"]
        asks = tree.command(argv, python=python, cwd="/")
        kept = ramet.Secret.keyring("sudo", user)
        print(asks.sudo(password=kept, python=python).call(remote.whoami), repr(kept))
        try:
            asks.sudo(password=ramet.Secret.keyring("sudo", "nobody"), python=python).wait(60)
        except ramet.AuthenticationError as error:
            print(error.cause)
"""


def test_what_the_keyring_holds(accounts: Accounts, tmp_path: Path) -> None:
    """Put there by its own command, in a home of its own, by a backend that keeps a file."""
    needs.program("sudo")
    for package in ("keyring", "keyrings.alt"):
        needs.distribution(package, "the extra test")
    folders = [str(Path(ramet.__file__).parent.parent), str(Path(__file__).parent.parent)]
    env = {**os.environ, "PYTHON_KEYRING_BACKEND": "keyrings.alt.file.PlaintextKeyring", "HOME": str(tmp_path),
           "XDG_DATA_HOME": str(tmp_path / "data"), "XDG_CONFIG_HOME": str(tmp_path / "config"),
           "PYTHONPATH": os.pathsep.join(folders)}  # fmt: skip
    put = subprocess.run([sys.executable, "-m", "keyring", "set", "sudo", accounts.asks], env=env, capture_output=True,
                         input=accounts.password.encode())  # fmt: skip
    assert put.returncode == 0, put.stderr.decode()
    assert [path.name for path in (tmp_path / "data").rglob("*") if path.is_file()] == ["keyring_pass.cfg"]
    (tmp_path / "script.py").write_text(BY_KEYRING)
    with Watch([accounts.password]) as watch:
        done = subprocess.run([sys.executable, str(tmp_path / "script.py"), accounts.asks, accounts.python], env=env,
                              capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"root <Secret.keyring('sudo', '{accounts.asks}')>",
        "a secret can't be had: the keyring has nothing for 'nobody' of 'sudo': keyring set sudo nobody",
    ]
    assert accounts.password not in done.stdout + done.stderr
    assert watch.found == []


# ---------------------------------------------------------------------- a second factor

#: Runs the rest of its arguments where /etc/pam.d/NAME is another file, for nobody else.
ANOTHER_PAM = ["unshare", "--mount", "--propagation", "private", "sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"']


@pytest.fixture
def factor(tmp_path: Path) -> SecondFactor:
    return SecondFactor(tmp_path)


def grow(tree: Tree, accounts: Accounts, how: str, service: Path, **secrets: Any) -> Node:
    """By a program that PAM lets in after two questions."""
    needs.program(how)
    user = accounts.asks
    argv = [*ANOTHER_PAM, str(service), f"/etc/pam.d/{how}", "setpriv", "--reuid", user, "--regid", user, "--init-groups",
            "--reset-env"]  # fmt: skip
    asks = tree.command(argv, python=accounts.python, name=user, cwd="/")
    node: Node = getattr(asks, how)(*[accounts.other] * (how == "su"), python=accounts.python, **secrets)
    return node


@pytest.mark.parametrize("how", ["sudo", "su", "doas"])
def test_a_code_is_asked_for_behind_the_password(
    tree: Tree, accounts: Accounts, factor: SecondFactor, tmp_path: Path, how: str,
) -> None:  # fmt: skip
    needs.program(how)
    service = tmp_path / "service"
    service.write_text(factor.service("Verification code: "))
    codes: list[str] = []

    def code() -> str:
        codes.append(factor.code())
        return codes[-1]
    with Watch([accounts.password]) as watch:
        node = grow(tree, accounts, how, service, password=accounts.password, second_factor=code)
        assert node.call(remote.whoami) == (accounts.other if how == "su" else "root")
    assert len(codes) == 1, "it is made when it is asked for, once"
    assert watch.found == []
    assert node.local().call(remote.from_own_module) == remote.from_own_module()

    wrong = f"{(int(factor.code()) + 500_000) % 1_000_000:06d}"
    # sudo puts its own question for a password in place of PAM's for a code where it is told what to ask with
    none = "the password was refused.*second_factor=" if how == "sudo" else "asks for a second factor, and none was given"
    for secrets, says in (({"second_factor": wrong}, "refused"), ({}, none)):
        with pytest.raises(AuthenticationError, match=f"(?s){says}") as caught:
            grow(tree, accounts, how, service, password=accounts.password, **secrets).wait(60)
        assert caught.value.stage == "escalate"
        assert wrong not in str(caught.value) + caught.value.seen
        assert accounts.password not in str(caught.value) + caught.value.seen


def test_one_question_serves_those_behind_a_second_factor(
    tree: Tree, accounts: Accounts, factor: SecondFactor, tmp_path: Path,
) -> None:  # fmt: skip
    """The user types the password once for all of the group; codes are made for each."""
    needs.program("sudo")
    service = tmp_path / "service"
    service.write_text(factor.service())
    asked: list[str] = []
    one = Secret.ask("sudo", how=lambda question: asked.append(question) or accounts.password)
    roots = [grow(tree, accounts, "sudo", service, password=one, second_factor=factor.code) for _ in range(3)]
    assert [root.call(remote.whoami) for root in roots] == ["root"] * 3
    assert len(asked) == 1
