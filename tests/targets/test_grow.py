"""Growing for real: local interpreters, any command, sshd; every way to fail, and nothing left behind by any of them.

(The leak check of conftest.py looks at descriptors, threads and processes after each test.)
"""
from __future__ import annotations

import errno
import os
import sys
import time
from typing import Any

import pytest

from ramet.connectors import command, local
from ramet.kernel import diagnosis, dialogue, errors, limits, loop_late, settling
from ramet.kernel.errors import ClosedError, ConnectError, PythonNotFoundError
from ramet.kernel.loop import Loop
from ramet.kernel.spawn import Process
from support import needs, pythons
from targets.growing import Keeper, Outcome, grow


def failure(plan: dict[str, Any], kind: type[ConnectError], stage: str, **options: Any) -> ConnectError:
    """The error of a growth that must fail in this way; what every such error has is looked at."""
    error = grow(plan, **options).error
    assert type(error) is kind, error
    assert error.stage == stage, error
    text = str(error)
    assert text.startswith(plan["what"] + ": ")
    assert f"stage: {stage}" in text
    assert "dup2(0,9)" not in text, "the first stage is shown"
    for secret in plan["secrets"].values():
        assert secret.reveal() not in text + error.seen
    return error


# ---------------------------------------------------------------------- local


def test_local() -> None:
    outcome = grow(local.plan())
    assert outcome.error is None
    assert outcome.form == f"cp3{sys.version_info[1]}"


def test_local_starts_one_process_and_shows_the_name() -> None:
    with Keeper() as keeper:
        outcome = Outcome(keeper.loop, local.plan(name="a.node-1")).wait()
        with open(f"/proc/{outcome.process.pid}/cmdline") as file:
            words = file.read().split("\0")
        assert words[0].endswith("(ramet:a.node-1)")
        assert words[1:] == ["-B", ""]
        assert os.path.samefile(f"/proc/{outcome.process.pid}/exe", os.path.realpath(sys.executable))
        assert os.getsid(outcome.process.pid) == outcome.process.pid
        assert outcome.echo() == b"hello"
        assert outcome.close() == 0


@pytest.mark.parametrize("label", [*pythons.WANTED])
def test_local_other_python(label: str) -> None:
    path = needs.python(label)
    outcome = grow(local.plan(python=path))
    assert outcome.error is None, outcome.error
    real = pythons.interpreters()
    version = next(have for have, where in real if where == path)
    expected = "source" if version.startswith("pypy") or version == "2.7" else "cp" + version.replace(".", "")
    assert outcome.form == expected


@pytest.mark.parametrize("python", [
    ["python3", "-O", "-X", "utf8"], ["nice", "python3"], ["env", "A=b", "python3", "-W", "error"],
])  # fmt: skip
def test_local_flags_and_wrappers(python: list[str]) -> None:
    assert grow(local.plan(python=python)).error is None


def test_local_through_a_script(tmp_path: Any) -> None:
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    script.chmod(0o755)
    assert grow(local.plan(python=str(script))).error is None


def test_local_virtual_environment(tmp_path: Any) -> None:
    folder = tmp_path / "venv" / "bin"
    folder.mkdir(parents=True)
    base = os.path.realpath(sys.executable)
    (folder / "python").symlink_to(base)
    (folder.parent / "pyvenv.cfg").write_text(f"home = {os.path.dirname(base)}\n")
    program, argv, _ = settling.interpreter(local.plan(python=folder / "python", name="n"))
    assert program == bytes(folder / "python")
    assert argv == [program + b"(ramet:n)", "-B"]
    assert grow(local.plan(python=folder / "python")).error is None


def test_local_behind_a_link_that_lies_elsewhere(tmp_path: Any) -> None:
    link = tmp_path / "mypython"
    link.symlink_to(sys.executable)
    assert grow(local.plan(python=link, cwd="/", env={"HOME": None, "X": "é"})).error is None


def test_local_python_is_not_there() -> None:
    error = failure(local.plan(python="nopython"), PythonNotFoundError, "find-python")
    assert "nopython" in str(error)
    failure(local.plan(python="/no/such/python"), PythonNotFoundError, "find-python")
    failure(local.plan(python="/etc/passwd"), PythonNotFoundError, "find-python")
    failure(local.plan(python="/etc"), PythonNotFoundError, "find-python")


def test_local_folder_is_not_there() -> None:
    assert "/no/such" in str(failure(local.plan(cwd="/no/such"), ConnectError, "start"))


def test_local_broken_interpreter() -> None:
    error = failure(local.plan(env={"PYTHONHOME": "/nowhere"}), PythonNotFoundError, "bootstrap")
    assert "encodings" in error.seen


@pytest.mark.parametrize("words", ["ImportError: No module named zlib", "ModuleNotFoundError: No module named 'zlib'"])
def test_an_interpreter_without_zlib_is_not_complete(words: str) -> None:
    """The first bytes of the kernel import it: whatever the exit status, it isn't the link that is to blame."""
    for status in (1, 98):
        rule = dialogue.verdict(diagnosis.EXITS, status, f'  File "<string>", line 1, in <module>\n{words}')
        assert rule is not None and "not complete" in rule["text"], rule


def test_local_environment_with_a_zero_byte() -> None:
    failure(local.plan(env={"A": "a\0b"}), ConnectError, "start")


def test_too_many_open_files() -> None:
    import resource

    with Keeper() as keeper:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        import subprocess  # noqa: F401  (it is imported late)
        used = max(map(int, os.listdir("/proc/self/fd")))
        try:
            for spare in range(1, 12):
                resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, hard))
                outcome = Outcome(keeper.loop, local.plan()).wait()
                if outcome.error is None:
                    outcome.close()
                    break
                assert "too many open files" in str(outcome.error)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_arguments_too_long() -> None:
    assert "too long" in str(failure(command.plan(["echo", "x" * 3_000_000]), ConnectError, "start"))


def test_a_folder_of_path_that_is_of_no_use_hides_nothing(tmp_path: Any, request: pytest.FixtureRequest) -> None:
    """Of its errors on the way along PATH the system reports "Permission denied" first."""
    sealed, plain = tmp_path / "sealed", tmp_path / "plain"
    sealed.mkdir(mode=0)        # stops all but root
    request.addfinalizer(lambda: sealed.chmod(0o700))
    plain.mkdir()
    for program in ("echo", "nosuchprogram"):
        (plain / program).write_text("not a program")      # stops root, too
    env = {"PATH": f"{sealed}:{plain}:{os.environ['PATH']}"}
    assert "too long" in str(failure(command.plan(["echo", "x" * 3_000_000], env=env), ConnectError, "start"))
    for terminal in (False, True):
        error = str(failure(command.plan(["nosuchprogram"], env=env, terminal=terminal), ConnectError, "start"))
        assert os.strerror(errno.ENOENT) in error and "in PATH there" in error
        assert grow(command.plan(["nice"], env=env, terminal=terminal, python=sys.executable)).error is None


def test_a_program_by_its_path_is_taken_from_the_folder_it_is_started_in(tmp_path: Any) -> None:
    (tmp_path / "here").write_text('#!/bin/sh\nexec "$@"\n')
    for terminal in (False, True):
        (tmp_path / "here").chmod(0o644)
        said = str(failure(command.plan(["./here"], cwd=tmp_path, terminal=terminal), ConnectError, "start"))
        assert terminal or "Permission denied" in said      # with one, that there is none which can be started
        (tmp_path / "here").chmod(0o755)
        assert grow(command.plan(["./here"], cwd=tmp_path, terminal=terminal, python=sys.executable)).error is None


def test_a_payload_that_takes_long_to_swallow() -> None:
    behind = os.urandom(1 << 20) * 8
    with Keeper() as keeper:
        outcome = Outcome(keeper.loop, local.plan(), behind=behind)
        # the stand-in echoes, so it stops reading when nobody reads what it sends: it must be up by then
        time.sleep(0.5)
        outcome.growth.abort("enough")
        outcome.wait()
        if outcome.error is None:
            outcome.process.kill()
            outcome.close()


def test_a_hundred_at_once() -> None:
    with Keeper() as keeper:
        outcomes = [Outcome(keeper.loop, local.plan(name=f"n{number}", connect_timeout_s=150)) for number in range(100)]
        for outcome in outcomes:
            assert outcome.wait().error is None, outcome.error
            assert outcome.echo() == b"hello"
        for outcome in outcomes:
            outcome.close()


# ---------------------------------------------------------------------- any command


def test_command() -> None:
    assert grow(command.plan(["env"])).error is None
    assert grow(command.plan(["env", "X=1"], python="python3")).error is None
    assert grow(command.plan(["sh", "-c"], shell=True)).error is None


def test_command_on_a_terminal_with_a_question() -> None:
    """The secret is read from the terminal; the link stays clean, and the terminal doesn't echo."""
    asks = 'printf "Password: " >/dev/tty; read answer </dev/tty; [ "$answer" = s3cret ] || exit 5; exec "$@"'
    rules = [{"match": "Password: $", "do": "send", "secret": "pw", "error": "AuthenticationError", "text": "refused"}]
    plan = command.plan(["sh", "-c", asks, "sh"], terminal=True, rules=rules, secrets={"pw": "s3cret"})
    outcome = grow(plan)
    assert outcome.error is None, outcome.error
    assert "s3cret" not in outcome.growth.asked.text()


def test_command_asks_again() -> None:
    asks = 'while :; do printf "Password: " >/dev/tty; read answer </dev/tty; done'
    rules = [{"match": "Password: $", "do": "send", "secret": "pw", "error": "AuthenticationError",
              "stage": "escalate", "text": "refused"}]  # fmt: skip
    plan = command.plan(["sh", "-c", asks], terminal=True, rules=rules, secrets={"pw": "s3cret"})
    failure(plan, errors.AuthenticationError, "escalate")


def test_command_echoes_the_secret_and_it_is_masked() -> None:
    asks = 'printf "Password: " >/dev/tty; read answer </dev/tty; echo "no: $answer" >&2; echo "no: $answer"; exit 5'
    rules = [{"match": "Password: $", "do": "send", "secret": "pw"}]
    plan = command.plan(["sh", "-c", asks], terminal=True, rules=rules, secrets={"pw": "s3cret"})
    error = failure(plan, ConnectError, "bootstrap")
    assert error.seen.count("no: ********") == 2
    assert "exit status: 5" in str(error)


def test_command_is_not_there() -> None:
    failure(command.plan(["no-such-program"]), ConnectError, "start")
    failure(command.plan(["no-such-program"], terminal=True), ConnectError, "start")
    failure(command.plan(["/etc/passwd"]), ConnectError, "start")


def test_no_python_there() -> None:
    error = failure(command.plan(["env", "PATH=/nowhere", "/bin/sh", "-c"], shell=True), PythonNotFoundError, "find-python")
    assert "exit status: 127" in str(error)     # `sh` itself isn't in that PATH
    failure(command.plan(["env"], python="nopython"), PythonNotFoundError, "find-python")
    search = ["/bin/sh", "-c", 'PATH=/nowhere; shift 2; a=$1; shift; eval "$a"', "sh"]
    failure(command.plan(search), PythonNotFoundError, "find-python")


def test_garbage_in_place_of_the_marker() -> None:
    error = failure(command.plan(["sh", "-c", "echo welcome to the jungle; echo RAMET1; echo oops >&2; exit 3"]),
                    ConnectError, "bootstrap")
    assert "welcome to the jungle" in str(error)
    assert "oops" in str(error)
    assert "exit status: 3" in str(error)
    assert "something else than a Python interpreter answered" in str(error)


def test_garbage_in_place_of_the_second_marker() -> None:
    program = r"printf '\nRAMET1 30b07f0 c\n'; echo what; head -c 20 >/dev/null; echo is that"
    error = failure(command.plan(["sh", "-c", program]), ConnectError, "bootstrap")
    assert "what" in error.seen
    assert "is that" in error.seen


def test_garbage_without_end() -> None:
    outcome = grow(command.plan(["sh", "-c", "exec cat /dev/urandom"]))
    assert type(outcome.error) is ConnectError
    assert "16 MB" in str(outcome.error)
    assert len(outcome.error.seen) <= limits.tail_bytes_max


def test_a_banner_of_a_megabyte() -> None:
    banner = "head -c 1000000 /dev/zero | tr '\\0' b; " + 'exec "$@"'
    outcome = grow(command.plan(["sh", "-c", banner, "sh"]))
    assert outcome.error is None, outcome.error
    assert "bbbb" in outcome.growth.said.text()


def test_too_old_a_python() -> None:
    for version in ("2060cf0", "3050af0"):
        program = rf"printf '\nRAMET1 {version} c\n'; sleep 60"
        failure(command.plan(["sh", "-c", program]), PythonNotFoundError, "find-python")


@pytest.mark.parametrize("program", ["sleep 60", "sleep 60 & exec sleep 60", "trap '' TERM HUP INT; sleep 60", "kill -STOP $$"])
def test_timeout(program: str) -> None:
    outcome = grow(command.plan(["sh", "-c", program], connect_timeout_s=0.3))
    assert outcome.error.stage == "start"
    assert "within 0.3 s" in str(outcome.error)
    assert outcome.took_s < 50      # not the program's 60


def test_timeout_of_the_kernel() -> None:
    program = r"printf '\nRAMET1 30b07f0 c\n'; sleep 1000"
    for timeout_s in (2, 20):       # on a busy machine it may say nothing in two seconds
        outcome = grow(command.plan(["sh", "-c", program], connect_timeout_s=timeout_s))
        if outcome.error.stage != "start":
            break
    assert type(outcome.error) is ConnectError and outcome.error.stage == "bootstrap", outcome.error


def test_output_closed_but_running() -> None:
    outcome = grow(command.plan(["sh", "-c", "echo bye; exec >&-; exec sleep 60"]))
    assert "runs on" in str(outcome.error)
    assert outcome.took_s < 50      # not the program's 60


def test_killed_from_outside() -> None:
    error = failure(command.plan(["sh", "-c", "kill -9 $$"]), ConnectError, "bootstrap")
    assert "ended by signal 9" in str(error)


@pytest.mark.parametrize("after_s", [0, 0.005, 0.02, 0.05])
def test_abort_at_any_time(after_s: float) -> None:
    with Keeper() as keeper:
        outcome = Outcome(keeper.loop, command.plan(["env"]))
        time.sleep(after_s)
        reason = ClosedError("no longer wanted")
        outcome.growth.abort(reason)
        outcome.wait()
        if outcome.error is None:
            outcome.close()
        else:
            assert outcome.error is reason
        outcome.growth.abort("twice is harmless")
        time.sleep(0.05)
        assert outcome.calls == 1


def test_a_broken_rule_or_payload_is_reported() -> None:
    failure({**command.plan(["env"]), "rules": [{"match": "("}]}, ConnectError, "start")

    def broken(form: str) -> bytes:
        raise RuntimeError("no kernel today")

    assert "no kernel today" in str(failure(local.plan(), ConnectError, "bootstrap", payload=broken))


def test_a_node_that_dies_later_is_noticed_and_its_last_words_kept() -> None:
    with Keeper() as keeper:
        outcome = Outcome(keeper.loop, command.plan(["sh", "-c", 'echo words >&2; "$@"', "sh"])).wait()
        heard: list[bytes] = []
        outcome.process.on_stderr = heard.append
        outcome.process.kill()
        assert outcome.close() == -9
        assert outcome.process.poll() == -9
        assert outcome.process.stderr_tail() == "words\n"


@pytest.mark.parametrize("where", ["stderr", "tty"])
def test_who_floods_stderr_or_the_terminal_is_read_with_rests(where: str) -> None:
    raised: list[BaseException] = []
    heard: list[bytes] = []
    loop, now = Loop(raised.append), [0.0]      # no thread: it and time go on when this test says so
    loop.now = lambda: now[0]
    plan = command.plan(["sh", "-c", "exec yes >&2" if where == "stderr" else "exec yes >/dev/tty"], terminal=where == "tty")
    process = Process(loop, settling.settled(plan))
    setattr(process, "on_" + where, heard.append)
    for times in range(1, 4):
        while len(heard) < times:
            loop.once()
        for _ in range(5):
            loop.once()         # it wants to go on, and waits for the time that doesn't pass
        assert len(heard) == times
        now[0] += 1
    process.kill()
    while process.poll() is None:
        loop.once()
        now[0] += 1
    for fd in (process.fd_in, process.fd_out):
        os.close(fd)
    loop_late.close(loop)
    assert not raised
