"""Trying again: how long is waited, and for what."""
from __future__ import annotations

import errno
from typing import Any

import pytest

import ramet
from ramet.connectors import ssh
from ramet.kernel import dialogue, failures, remote_errors, values
from ramet.kernel.diagnosis import connect_error, start_error
from ramet.retrying import may_pass, retry_from

PLAN = {"what": "ssh web1", "command": "ssh web1 ...", "argv": ["ssh"]}


def test_the_wait_doubles_up_to_its_bound_and_ends() -> None:
    retry = ramet.Retry(6, first_s=1, most_s=10)
    assert [retry.wait_s(tried, lambda: 0.0) for tried in range(7)] == [1, 2, 4, 8, 10, 10, None]
    assert [retry.wait_s(tried, lambda: 1.0) for tried in range(3)] == [0.5, 1, 2]
    assert ramet.Retry(0).wait_s(0) is None
    assert ramet.Retry(100, most_s=30).wait_s(99, lambda: 0.0) == 30


def test_chance_spreads_those_that_failed_together() -> None:
    waits = [ramet.Retry(3).wait_s(1) for _ in range(50)]
    assert len(set(waits)) > 40
    assert all(wait is not None and 1 <= wait <= 2 for wait in waits)


@pytest.mark.parametrize("given", [-1, 101, True, "2", 1.5])
def test_what_retry_takes(given: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"retry=|times from 0 to 100"):
        retry_from(given)


@pytest.mark.parametrize("waits", [(0, 1), (2, 1), (1, float("inf")), (float("nan"), 1)])
def test_waits_that_make_no_sense(waits: Any) -> None:
    with pytest.raises(ValueError, match="seconds above 0"):
        ramet.Retry(1, *waits)


#: What ssh says, and whether it may be better the next time.
SSH_SAID = [
    ("ssh: connect to host web1 port 22: Connection refused", True),
    ("ssh: connect to host web1 port 22: Connection timed out", True),
    ("ssh: connect to host web1 port 22: No route to host", True),
    ("kex_exchange_identification: read: Connection reset by peer", True),
    ("Connection closed by 10.0.0.1 port 22", True),
    ("client_loop: send disconnect: Broken pipe", True),
    ("mux_client_request_session: session request failed: Session open refused by peer", True),
    ("ssh: Could not resolve hostname web1: Temporary failure in name resolution", True),
    ("ssh: Could not resolve hostname web1: Name or service not known", False),
    ("root@web1: Permission denied (publickey,password).", False),
    ("Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures", False),
    ("@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @", False),
    ("Host key verification failed.", False),
    ("Unable to negotiate with 10.0.0.1 port 22: no matching host key type found. Their offer: ssh-rsa", False),
    ("command-line: line 0: Bad configuration option: nonsense", False),
    ("something new", False),
]


@pytest.mark.parametrize(("said", "expected"), SSH_SAID)
def test_which_of_the_failures_of_ssh_may_pass(said: str, expected: bool) -> None:
    plan = ssh.plan("web1")
    rule = dialogue.verdict(plan["rules"], 255, said)
    assert rule is not None
    assert may_pass(connect_error(plan, rule, 255, said)) is expected


@pytest.mark.parametrize(("number", "expected"), [(errno.EMFILE, True), (errno.EAGAIN, True), (errno.ENOMEM, True),
                                                  (errno.ENOENT, False), (errno.EACCES, False), (errno.E2BIG, False)])
def test_which_failures_to_start_a_program_may_pass(number: int, expected: bool) -> None:
    assert may_pass(start_error(PLAN, OSError(number, "said the system"))) is expected


def test_other_errors_never_pass() -> None:
    assert not may_pass(ramet.ConnectError("of somebody's own"))
    assert not may_pass(ValueError())


def test_another_node_s_word_on_it_is_kept() -> None:
    error = connect_error(PLAN, {"text": "refused", "again": True})
    arrived = remote_errors.unpack(values.decode(b"".join(failures.pack(error))), "gate")
    assert isinstance(arrived, ramet.ConnectError)
    assert may_pass(arrived)
    assert not may_pass(remote_errors.unpack(values.decode(b"".join(failures.pack(ramet.ConnectError("x")))), "gate"))
