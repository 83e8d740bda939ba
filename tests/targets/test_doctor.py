"""``ramet doctor``: each stage going well and each failing, here, over a real sshd, as another account and two hops away."""
from __future__ import annotations

import json
import sys
from typing import Any
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from ramet.cli import app, doctor
from support import needs
from targets.sshd import HOST, Sshd, closed_port


def examined(spec: str, *options: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, ["doctor", "--json", *options, spec])
    assert done.exit_code in (0, 1), done.output
    return done.exit_code, json.loads(done.stdout)


def by_key(sshd: Sshd, **more: str) -> str:
    options = {"identity_file": str(sshd.folder / "id"), "ssh_args": f"-F {sshd.client}", **more}
    query = "&".join(f"{key}={quote(value, safe='')}" for key, value in options.items())
    return f"ssh://{sshd.user}@{HOST}:{sshd.port}?{query}"


def verdicts(hop: dict[str, Any]) -> dict[str, str]:
    return {stage["stage"]: stage["verdict"] for stage in hop["stages"]}


def test_all_is_well_two_hops_away(sshd: Sshd) -> None:
    status, said = examined(f"{by_key(sshd)}/local:")
    assert (status, said["ok"], len(said["hops"])) == (0, True, 2)
    near, far = said["hops"]
    assert verdicts(near) == dict.fromkeys(("resolve", "start", "authenticate", "find-python", "bootstrap", "first call"), "ok")
    assert verdicts(far) == dict.fromkeys(("start", "find-python", "bootstrap", "first call"), "ok")
    for hop in (near, far):
        assert hop["python"].startswith("CPython ") and hop["executable"].startswith("/")
        assert hop["form"] in ("bytecode", "source") and hop["round_trip_ms"] > 0
        assert all(stage["ms"] >= 0 for stage in hop["stages"] if stage["stage"] not in ("resolve", "authenticate"))


def test_an_old_python_lacks_something() -> None:
    status, said = examined(f"local:?python={quote(needs.python('2.7'), safe='')}")
    hop = said["hops"][0]
    assert (status, hop["form"]) == (0, "source") and hop["python"].startswith("CPython 2.7")
    assert "Python 3.10" in hop["lacks"]


FAILING = [
    ("ssh:no-such-host.invalid", "resolve", "there is no host of the name no-such-host.invalid"),
    (f"ssh://{HOST}:{{port}}", "start", "nobody listens"),
    ("local:?python=%2Fno%2Fsuch%2Fpython3", "find-python", "there is no Python that can be started at /no/such/python3"),
    ("command:sleep", "bootstrap", "it ended before a kernel ran there"),
    ("local:/local:?cwd=%2Fno%2Fsuch", "start", "can't be entered"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "stage", "cause"), FAILING, ids=[stage + str(at) for at, (_, stage, _) in enumerate(FAILING)])
def test_a_stage_that_fails_is_named(spec: str, stage: str, cause: str) -> None:
    with closed_port() as port:
        status, said = examined(spec.format(port=port))
    hop = said["hops"][-1]
    assert (status, said["ok"], hop["ok"]) == (1, False, False)
    found = verdicts(hop)
    before = [name for name in found if doctor.STAGES.index(name) < doctor.STAGES.index(stage)]
    assert found == {**dict.fromkeys(found, "not reached"), **dict.fromkeys(before, "ok"), stage: "failed"}
    failed, = (row for row in hop["stages"] if row["stage"] == stage)
    assert cause in failed["detail"] and hop["error"]["cause"] == failed["detail"]
    assert hop["error"]["stage"] == stage


def test_who_is_not_let_in(sshd: Sshd) -> None:
    stranger = sshd.key("stranger2")
    authorized = sshd.folder / "authorized_keys"
    authorized.write_text("".join(line for line in authorized.read_text().splitlines(True) if "stranger2" not in line))
    status, said = examined(by_key(sshd, identity_file=str(stranger)))
    hop = said["hops"][0]
    assert status == 1 and verdicts(hop)["authenticate"] == "failed" and verdicts(hop)["start"] == "ok"
    assert "key" in hop["error"]["remedy"] and hop["error"]["status"] == 255


def test_another_account_that_is_not_there() -> None:
    needs.program("su")
    status, said = examined("su:no-such-account")
    assert status == 1 and verdicts(said["hops"][0])["escalate"] == "failed"
    assert "no such account" in said["hops"][0]["error"]["cause"]


def test_a_first_call_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.hostcheck, "look", sys.exit)
    status, said = examined("local:")
    found = verdicts(said["hops"][0])
    assert (status, found["bootstrap"], found["first call"]) == (1, "ok", "failed")


def test_for_people() -> None:
    done = CliRunner().invoke(app, ["doctor", "local:"])
    assert done.exit_code == 0 and "round trip" in done.stdout and "the kernel as bytecode" in done.stdout
    done = CliRunner().invoke(app, ["doctor", "local:?python=%2Fno%2Fsuch"])
    assert done.exit_code == 1
    assert "failed      find-python" in done.stdout and "not reached bootstrap" in done.stdout and "remedy" in done.stdout
    for wrong in ("", "teleport:moon", "local:?colour=red"):
        assert CliRunner().invoke(app, ["doctor", wrong]).exit_code == 2
