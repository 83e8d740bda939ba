"""The dialogue engine: prompts however they come, secrets sent once and never shown."""
from __future__ import annotations

from typing import Any

import pytest

from ramet.connectors.rules import password_rules
from ramet.connectors.ssh_rules import exit_rules, question_rules
from ramet.kernel.dialogue import Decision, Dialogue, Tail, mask, to_text, verdict

PASSWORD: dict[str, Any] = {"match": "[Pp]assword: *\\Z", "do": "send", "secret": "pw",
                            "error": "AuthenticationError", "stage": "authenticate", "text": "refused"}  # fmt: skip
SECRETS = {"pw": "tr0ub4dor"}


def said(decisions: list[Decision]) -> list[object]:
    return [decision.data if decision.do == "send" else decision.rule.get("text") for decision in decisions]


def by_bytes(dialogue: Dialogue, data: bytes, source: str = "tty") -> list[object]:
    """One byte at a time; nothing may be decided before the last one."""
    for at in range(len(data) - 1):
        assert dialogue.feed(source, data[at : at + 1]) == []
    return said(dialogue.feed(source, data[-1:]))


@pytest.mark.parametrize("prompt", [
    b"Password: ", b"\r\nroot@web1's password: ", b"\x1b[1mPassword: \x1b[0m"[:-4], b"Pass\x00word:",
    b"\x1b]0;title\x07Password:", b"noise\nmore \xff\xfe noise\nPassword: ", b"P\x1b[31mass\x1b[0mword: ",
])  # fmt: skip
def test_a_prompt_is_answered_whole_or_in_single_bytes(prompt: bytes) -> None:
    assert said(Dialogue([PASSWORD], SECRETS).feed("tty", prompt)) == [b"tr0ub4dor\n"]
    loose = Dialogue([dict(PASSWORD, match="[Pp]assword: ?\\Z")], SECRETS)
    whole = [decision for at in range(len(prompt)) for decision in loose.feed("tty", prompt[at : at + 1])]
    assert said(whole) == [b"tr0ub4dor\n"]


def test_nothing_is_answered_before_the_prompt_is_complete() -> None:
    assert by_bytes(Dialogue([PASSWORD], SECRETS), b"user@h Password:") == [b"tr0ub4dor\n"]


def test_an_escape_behind_the_prompt_does_not_hide_it() -> None:
    dialogue = Dialogue([PASSWORD], SECRETS)
    assert said(dialogue.feed("tty", b"Password: \x1b[")) == [b"tr0ub4dor\n"]
    assert dialogue.feed("tty", b"0m") == []


def test_the_same_question_again_means_refused() -> None:
    dialogue = Dialogue([PASSWORD], SECRETS)
    dialogue.feed("tty", b"Password: ")
    decisions = dialogue.feed("tty", b"\r\nSorry, try again.\r\nPassword: ")
    assert [d.do for d in decisions] == ["fail"]
    assert decisions[0].rule["error"] == "AuthenticationError"


def test_two_questions_in_one_read_send_the_secret_once() -> None:
    rule = dict(PASSWORD, match="Password:")
    assert said(Dialogue([rule], SECRETS).feed("tty", b"Password: Password: Password: ")) == [b"tr0ub4dor\n", "refused"]


def test_max_allows_more() -> None:
    dialogue = Dialogue([dict(PASSWORD, max=3)], SECRETS)
    answers = [said(dialogue.feed("tty", b"Password:")) for _ in range(4)]
    assert answers == [[b"tr0ub4dor\n"]] * 3 + [["refused"]]


def test_echo_is_not_taken_for_a_question() -> None:
    dialogue = Dialogue([PASSWORD], {"pw": "my password:"})
    assert said(dialogue.feed("tty", b"Password:")) == [b"my password:\n"]
    assert dialogue.feed("tty", b"my password:") == []
    assert dialogue.feed("tty", b"\r\nwelcome") == []


def test_rules_are_tried_in_order_and_for_their_source() -> None:
    rules = [{"match": "passphrase.*:", "text": "first"}, {"match": "pass", "text": "second"},
             {"on": "stderr", "match": "denied", "text": "third"}]  # fmt: skip
    assert said(Dialogue(rules).feed("tty", b"passphrase for key:")) == ["first"]
    assert said(Dialogue(rules).feed("tty", b"pass")) == ["second"]
    assert said(Dialogue(rules).feed("stderr", b"denied")) == ["third"]
    assert Dialogue(rules).feed("tty", b"denied") == []


def test_skip_takes_text_out_of_sight() -> None:
    rules = [{"match": "last password change:[^\n]*\n", "do": "skip"}, PASSWORD]
    dialogue = Dialogue(rules, SECRETS)
    assert dialogue.feed("tty", b"last password change: yesterday\n") == []
    assert said(dialogue.feed("tty", b"password:")) == [b"tr0ub4dor\n"]


def test_an_answer_that_is_no_secret() -> None:
    rules = [{"match": "continue\\?", "do": "send", "send": "yes"}]
    assert said(Dialogue(rules).feed("tty", b"continue?")) == [b"yes\n"]


def test_nothing_follows_a_failure() -> None:
    rules = [{"match": "no", "text": "no"}, {"match": "yes", "do": "send", "send": "x"}]
    assert said(Dialogue(rules).feed("tty", b"no yes yes")) == ["no"]


def test_a_pattern_that_matches_nothing_at_all_is_harmless() -> None:
    assert Dialogue([{"match": "", "do": "skip"}, {"match": "x*", "text": "x"}]).feed("tty", b"abc") == []


def test_a_broken_rule_says_which() -> None:
    with pytest.raises(ValueError, match=r"pattern \('\('\): "):
        Dialogue([{"match": "("}])
    with pytest.raises(ValueError, match="no usable pattern"):
        Dialogue([{"text": "none"}])


def test_secrets_are_never_shown() -> None:
    dialogue = Dialogue([PASSWORD], SECRETS)
    decisions = dialogue.feed("tty", b"Password:")
    assert "tr0ub4dor" not in repr(dialogue) + repr(decisions) + str(decisions[0])
    assert mask("it said tr0ub4dor; tr0ub4dor2", SECRETS.values()) == "it said ********; ********2"


def test_memory_is_bounded() -> None:
    dialogue = Dialogue([PASSWORD], SECRETS)
    for _ in range(100):
        dialogue.feed("tty", b"x" * 100_000)
        dialogue.feed("tty", b"\x1b]" + b"y" * 100_000)
    assert sum(len(data) for data in [*dialogue._seen.values(), *dialogue._held.values()]) < 5_000
    assert said(dialogue.feed("tty", b"\nPassword: ")) == [b"tr0ub4dor\n"]


def test_tail_keeps_whole_lines_of_the_end() -> None:
    tail = Tail(20)
    tail.add(b"one\r\ntwo\n")
    assert tail.text() == "one\ntwo\n"
    tail.add(b"three \x1b[1mfour\x1b[0m five\nsix\n")
    assert tail.text() == "six\n"
    tail.add(b"z" * 100)
    assert tail.text() == "z" * 20


def test_tail_tells_whether_something_was_dropped() -> None:
    tail = Tail(20)
    tail.add(b"x" * 20)
    assert not tail.cut
    tail.add(b"y")
    assert tail.cut and tail.data == b"x" * 19 + b"y"
    tail = Tail(20)
    tail.add(b"x" * 21)
    assert tail.cut, "the first time, too"


def test_text_for_people() -> None:
    assert to_text(b"a\x1b[31mb\x1b[0m\rc\x07\xff\x1b") == "ab\nc\ufffd"


# ---------------------------------------------------------------------- verdicts, and ssh's rules


@pytest.mark.parametrize(("rule", "fits"), [
    ({"on": "exit", "status": 255}, True), ({"on": "exit", "status": [1, 255]}, True), ({"on": "exit"}, True),
    ({"on": "exit", "status": 1}, False), ({"on": "exit", "status": 255, "match": "denied"}, True),
    ({"on": "exit", "match": "refused"}, False), ({"status": 255}, False), ({"on": "tty", "match": "denied"}, False),
])  # fmt: skip
def test_which_exit_rule_fits(rule: dict[str, Any], fits: bool) -> None:
    assert verdict([rule], 255, "Permission denied") == (rule if fits else None)


#: What OpenSSH (5.3 to 10) writes, and what it means.
SSH_SAYS = [
    ("ssh: Could not resolve hostname nosuch: Name or service not known", "ConnectError", "resolve"),
    ("ssh: Could not resolve hostname nosuch: Temporary failure in name resolution", "ConnectError", "resolve"),
    ("ssh: Could not resolve hostname h: nodename nor servname provided, or not known", "ConnectError", "resolve"),
    ("ssh: connect to host h port 22: Connection refused", "ConnectError", "start"),
    ("ssh: connect to host h port 22: Connection timed out", "ConnectError", "start"),
    ("ssh: connect to host h port 22: No route to host", "ConnectError", "start"),
    ("ssh: connect to host h port 22: Network is unreachable", "ConnectError", "start"),
    ("kex_exchange_identification: Connection closed by remote host", "ConnectError", "start"),
    ("kex_exchange_identification: read: Connection reset by peer", "ConnectError", "start"),
    ("Connection closed by 10.0.0.1 port 22", "ConnectError", "start"),
    ("Connection to h closed by remote host.", "ConnectError", "start"),
    ("client_loop: send disconnect: Broken pipe", "ConnectError", "start"),
    ("Timeout, server h not responding.", "ConnectError", "start"),
    ("u@h: Permission denied (publickey,password).", "AuthenticationError", "authenticate"),
    ("Permission denied (publickey,gssapi-keyex,gssapi-with-mic).", "AuthenticationError", "authenticate"),
    ("Received disconnect from h port 22:2: Too many authentication failures", "AuthenticationError", "authenticate"),
    ("@ WARNING: UNPROTECTED PRIVATE KEY FILE! @\nu@h: Permission denied (publickey).", "AuthenticationError",
     "authenticate"),
    ("Warning: Identity file /x not accessible: No such file or directory.\nu@h: Permission denied (publickey).",
     "AuthenticationError", "authenticate"),
    ("Host key verification failed.", "HostKeyError", "authenticate"),
    ("No ED25519 host key is known for h and you have requested strict checking.\nHost key verification failed.",
     "HostKeyError", "authenticate"),
    ("@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nHost key verification failed.", "HostKeyError",
     "authenticate"),
    ("@       WARNING: REVOKED HOST KEY DETECTED!               @\nHost key verification failed.", "HostKeyError",
     "authenticate"),
    ("Unable to negotiate with h port 22: no matching host key type found. Their offer: ssh-rsa", "ConnectError", "start"),
    ("command-line: line 0: Bad configuration option: nosuch", "ConnectError", "start"),
    ("Bad owner or permissions on /home/u/.ssh/config", "ConnectError", "start"),
    ("Cannot execute command-line and remote command.", "ConnectError", "start"),
    ("u@h: Permission denied (keyboard-interactive).", "AuthenticationError", "authenticate"),
    ("Your account has expired; please contact your system administrator.\nConnection closed by h port 22",
     "AuthenticationError", "authenticate"),
    ("mux_client_request_session: session request failed: Session open refused by peer\nu@h: Permission denied (publickey).",
     "ConnectError", "start"),
    ("channel 0: open failed: connect failed: open failed", "ConnectError", "start"),
    ("ssh: Could not resolve hostname g: Name or service not known\nConnection closed by UNKNOWN port 65535", "ConnectError",
     "resolve"),
    (("u@g: Permission denied (publickey).\nkex_exchange_identification: Connection closed by remote host\n"
     "Connection closed by UNKNOWN port 65535"), "AuthenticationError", "authenticate"),
    (("channel 0: open failed: connect failed: Connection refused\nstdio forwarding failed\n"
     "Connection closed by UNKNOWN port 65535"), "ConnectError", "start"),
    ("something never seen", "ConnectError", "start"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "error", "stage"), SSH_SAYS)
def test_what_ssh_says_when_it_fails(text: str, error: str, stage: str) -> None:
    rule = verdict(exit_rules("h", None, {}), 255, text)
    assert rule is not None
    assert (rule["error"], rule["stage"]) == (error, stage)
    assert rule["text"]
    assert rule["remedy"]


def test_how_it_ended_when_nothing_else_fits() -> None:
    rules = exit_rules("h", None, {})
    assert verdict(rules, 4, "This is a menu") is None
    texts = [rule["text"] for text in ("", "Warning: Permanently added 'h' (ED25519) to the list of known hosts.", "A menu")
             if (rule := verdict(rules, 4, text, "else"))]  # fmt: skip
    assert texts == ["the host ended the session without a word"] * 2 + ["something else than a Python interpreter answered"]
    late = verdict(rules, None, "", "late")
    assert late and "ForceCommand" in late["remedy"]
    assert Dialogue([{"on": "late", "match": "a"}, {"on": "else", "match": "a"}]).feed("late", b"a") == []


def test_a_remote_program_may_say_so_too_without_it_being_ssh() -> None:
    assert verdict(exit_rules("h", None, {}), 1, "Permission denied (publickey)") is None


@pytest.mark.parametrize("prompt", [
    "u@h's password: ", "(u@h) Password: ", "Password:", "Passwort: ", "(u@h) Mot de passe : ", "Contraseña: ",
    "Hasło: ", "Пароль: ", "密码：", "パスワード: ", "Password for u@h:",
])  # fmt: skip
def test_ssh_password_prompts(prompt: str) -> None:
    secrets = {"password": "pw-123"}
    assert said(Dialogue(question_rules(secrets), secrets).feed("tty", prompt.encode())) == [b"pw-123\n"]
    decisions = Dialogue(question_rules({"passphrase": "x"}), {"passphrase": "x"}).feed("tty", prompt.encode())
    assert [d.rule["error"] for d in decisions] == ["AuthenticationError"]


@pytest.mark.parametrize(("prompt", "error"), [
    ("Are you sure you want to continue connecting (yes/no/[fingerprint])? ", "HostKeyError"),
    ("Are you sure you want to continue connecting (yes/no)? ", "HostKeyError"),
    ("(u@h) Verification code: ", "AuthenticationError"), ("Enter PIN for ED25519-SK key /k: ", "AuthenticationError"),
    ("New password: ", None), ("Current password: ", "AuthenticationError"),
    ("(current) UNIX password: ", "AuthenticationError"), ("(u@h) New UNIX password: ", "AuthenticationError"),
    ("Enter passphrase for key '/home/u/.ssh/id': ", None),
])  # fmt: skip
def test_ssh_questions_that_a_password_does_not_answer(prompt: str, error: str | None) -> None:
    secrets = {"password": "pw-123"}
    decisions = Dialogue(question_rules(secrets), secrets).feed("tty", prompt.encode())
    if error:
        assert [d.rule["error"] for d in decisions] == [error]
    else:
        assert b"pw-123\n" not in said(decisions)


def test_a_security_key() -> None:
    """As recorded in cockpit-project/cockpit issue 17362: a touch is waited for, a PIN is nobody's to give."""
    touch = b"Confirm user presence for key ED25519-SK SHA256:fAxxFFykCijTdrVUUjbbi2TWfCWtOiafhuBhgG7siGg\r\n"
    for secrets in ({"password": "pw-123"}, {"passphrase": "x", "second_factor": "y"}):
        dialogue = Dialogue(question_rules(secrets), secrets)
        assert dialogue.feed("tty", touch) + dialogue.feed("tty", b"User presence confirmed\r\n") == []
        pin = dialogue.feed("tty", b"Enter PIN for ED25519-SK key /var/home/lis/.ssh/id_ed25519_sk: ")
        assert [decision.rule["text"] for decision in pin] == ["the security key wants its PIN"]


NAMES = ("duo", "current", "token", "otp", "hotpot1", "newton", "new", "web-new", "my.token.example.com", "passcode")


@pytest.mark.parametrize("name", NAMES)
def test_names_of_users_and_hosts_in_a_question_mean_nothing(name: str) -> None:
    secrets = {"password": "pw-123"}
    for prompt in (f"(u@{name}) Password: ", f"({name}@h) Password: ", f"u@{name}'s password: ", f"{name}@h's password: ",
                   f"[sudo] password for {name}: "):  # fmt: skip
        for rules in (question_rules(secrets), password_rules("tty", True, "sudo", "escalate")):
            assert said(Dialogue(rules, secrets).feed("tty", prompt.encode())) == [b"pw-123\n"], prompt


@pytest.mark.parametrize("prompt", [
    "Verification code: ", "(u@h) Verification code: ", "(u@h) One-time password (OATH) for `u': ", "Enter OTP: ", "Token: ",
    "Passcode or option (1-3): ", "(duo@newton) Duo passcode: ", "Enter your authenticator code: ",
])  # fmt: skip
def test_questions_for_a_second_factor(prompt: str) -> None:
    secrets = {"password": "pw-123", "second_factor": "654321"}
    assert said(Dialogue(question_rules(secrets), secrets).feed("tty", prompt.encode())) == [b"654321\n"]
    decisions = Dialogue(question_rules({"password": "x"}), {"password": "x"}).feed("tty", prompt.encode())
    assert [d.rule["text"] for d in decisions] == ["the host asks for a second factor, and none was given"]


@pytest.mark.parametrize("told", [
    "You are required to change your password immediately (administrator enforced).\r\n",
    "(u@h) You are required to change your password immediately (administrator enforced).\r\nChanging password for u.\r\n",
    "WARNING: Your password has expired.\r\n", "Password expired. Change your password now.\r\n",
    "Sie m\u00fcssen Ihr Passwort sofort \u00e4ndern (Passwort abgelaufen).\r\n",
])  # fmt: skip
def test_an_expired_password_is_not_typed_again(told: str) -> None:
    secrets = {"password": "pw-123"}
    for rules in (question_rules(secrets), password_rules("tty", True, "sudo", "escalate")):
        dialogue = Dialogue(rules, secrets)
        assert said(dialogue.feed("tty", b"Password: ")) == [b"pw-123\n"]
        assert said(dialogue.feed("tty", f"\r\n{told}Current password: ".encode())) == ["the password has expired"]


@pytest.mark.parametrize(("prompt", "answered"), [
    ("root@db1's password: ", True), ("(root@db1) Password: ", True), ("\r\n(root@DB1) Verification code: ", True),
    ("u@gate's password: ", False), ("(u@gate) Password: ", False), ("Password: ", False), ("(u@gate.db1) Password: ", False),
    ("(u@gate) look:\r\n(root@db1) Password: ", False), ("(u@gate) (root@db1) Password: ", False),
    ("(u@gate) look:\r\nroot@db1's password: ", False), ("(db1@gate) Password for root@db1's password: ", False),
    ("x root@db1's password: ", False),
])  # fmt: skip
def test_behind_a_jump_host_only_the_host_is_answered(prompt: str, answered: bool) -> None:
    secrets = {"password": "pw-123", "second_factor": "pw-123"}
    dialogue = Dialogue(question_rules(secrets, "root@db1"), secrets)
    decisions = dialogue.feed("tty", prompt.encode())
    assert [d.do for d in decisions] == ["send" if answered else "fail"]


@pytest.mark.parametrize(("prompt", "answered"), [
    ("Enter passphrase for key '/home/u/.ssh/id': ", True), ("\r\nEnter passphrase for /home/u/.ssh/id: ", True),
    ("(u@h) Enter passphrase for key '/home/u/.ssh/id': ", False),
    ("(u@h) \r\nEnter passphrase for key '/home/u/.ssh/id': ", False),
])  # fmt: skip
def test_a_passphrase_is_for_the_ssh_program_alone(prompt: str, answered: bool) -> None:
    secrets = {"passphrase": "open sesame", "password": "pw-123"}
    for host in (None, "h"):
        assert said(Dialogue(question_rules(secrets, host), secrets).feed("tty", prompt.encode()))[:1] != [b"pw-123\n"]
    decisions = Dialogue(question_rules(secrets), secrets).feed("tty", prompt.encode())
    assert said(decisions) == ([b"open sesame\n"] if answered else [])
