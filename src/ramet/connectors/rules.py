"""Rules that connectors share: questions for passwords in any language, and what it means when a program ends. Data.

See ``kernel/dialogue.py`` for what a rule is.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ramet.secrets import Given, Secret, secret

Rule = dict[str, Any]

# Translators put spaces that no line is broken at between words, and before a colon.
_SPACE = "( |\u00a0|\u202f)"
#: A question for a password at the end of what was said. Whoever asks chooses the words, so they decide nothing else. In the
#: languages that sudo speaks: most programs are told to speak English, but not each of them, nor what runs before them.
PASSWORD = (
    f"(?i)(passw|passord|pasvort|pasahitz|kennwort|wachtwoord|l(ö|Ö)senord|adgangskode|salasan|heslo|geslo|jelsz|parol|lozink"
    f"|mot{_SPACE}de{_SPACE}passe|contras(e|i)|senha|has(l|ł)o|slapta(ž|Ž)od|m(ậ|Ậ)t{_SPACE}kh(ẩ|Ẩ)u|(п|П)арол|(л|Л)озинк"
    "|Κωδικ|κωδικ|συνθημ|Συνθημ|密码|密碼|パスワード|암호)"
    f"[^\n]{{0,120}}(:|：)(\t|{_SPACE})*\\Z"
)
# Not a part of a user's or host's name, which questions hold as well: "(duo@newton) Password:", "password for token:".
_A_WORD = "(?i)(?<![\\w.@-])(?<!for )(?:%s)(?![\\w.-]*@)[^\n]{0,%d}:[ \t]*\\Z"
NEW_PASSWORD = _A_WORD % ("(?:new|retype|current)\\b(?!@)[^\n]{0,40} password", 40)
SECOND_FACTOR = _A_WORD % ("verification code|one-time|otp\\b|token\\b|passcode|duo\\b|authenticator", 120)
#: What stands above such a question. Checked in the words of Linux-PAM, in the languages that it is often seen in.
EXPIRED = (
    "(?i)((required to|must) change (your|the) password|password (has )?expired"
    f"|(passwor[dt]|kennwort|mot{_SPACE}de{_SPACE}passe|contrase\\S{{1,2}}a|senha)[^\n]{{0,40}}"
    "(abgelaufen|expir\\S{1,2}|caducad)"
    ")[^\n]*\n"
)

#: For programs that say why they end in the user's language. gettext's own variable: the locale, and with it the encoding of
#: names, stays as it is.
NO_LANGUAGE = {"LANGUAGE": "C"}

#: In process ids of its own: a shell is process 1, which nobody inside can kill, and ends with the interpreter behind it. Else
#: an interpreter that hangs in C code would outlive a program that was killed: its guardian couldn't end it.
OWN_PROCESS_1 = ["sh", "-c", '"$@"; exit $?', "sh"]


def password_rules(
    source: str, given: bool, who: str, stage: str, second_factor: bool = False, alike: bool = False,
) -> list[Rule]:  # fmt: skip
    """What to do when a program asks for an account's password.

    Args:
        source: where it asks: "tty" or "stderr".
        given: whether there is a secret of the name "password".
        who: who asks, for errors: "sudo".
        second_factor: whether there is a secret of that name.
        alike: a question for a second factor looks like one for the password: who is asked twice may be asked for that.
    """
    refused = {"on": source, "error": "AuthenticationError", "stage": stage}
    expired = {"text": "the password has expired", "remedy": "log in once by hand and set a new one", **refused}
    rules: list[Rule] = [
        {"match": EXPIRED, **expired}, {"match": NEW_PASSWORD, **expired},
    ]  # fmt: skip
    for name, match, what, there in (("second_factor", SECOND_FACTOR, "second factor", second_factor),
                                     ("password", PASSWORD, "password", given)):
        if there:
            more = "; where a code is asked for besides, give it: second_factor=" if alike and name == "password" else ""
            rules.append({"match": match, "do": "send", "secret": name, "text": f"the {what} was refused",
                          "remedy": f"check the account and the {what}{more}", **refused})
        else:
            rules.append({"match": match, "text": f"{who} asks for a {what}, and none was given",
                          "remedy": f"give one: {name}=", **refused})
    return rules


def account_secrets(password: Given | None, second_factor: Given | None) -> dict[str, Secret]:
    """What was given for the questions of a program that changes the account.

    Raises:
        TypeError, ValueError: it can't be typed.
    """
    found = {"password": secret("password", password), "second_factor": secret("second_factor", second_factor)}
    return {name: value for name, value in found.items() if value is not None}


def exits(stage: str, status: int | list[int] | None, rows: Iterable[tuple[str, str, str, str]]) -> list[Rule]:
    """Rules for how a program ends; the first that matches counts.

    Args:
        stage: where in connecting that is.
        status: only when it ends with this status, or one of these; None: with any.
        rows: (error class, regular expression for what it said, the cause in words, the remedy). In the expression ``^`` and
            ``$`` are a line's.
    """
    when = {} if status is None else {"status": status}
    return [{"on": "exit", "match": f"(?m){match}", "error": error, "stage": stage, "text": cause, "remedy": remedy, **when}
            for error, match, cause, remedy in rows]  # fmt: skip


#: sudo and its like end with 1, not 127, when the interpreter isn't there.
NO_PYTHON = exits("find-python", 1, [
    ("PythonNotFoundError", ": command not found$|: No such file or directory$", "there is no such program over there",
     "say where a Python is: python="),
])  # fmt: skip

#: What a shell says that can't enter the folder of ``connectors.beginning_in``.
NO_FOLDER = exits("start", [1, 2], [
    ("ConnectError", "^sh: [^\n]{0,20}cd: ", "the folder can't be entered", "check workdir="),
])  # fmt: skip
