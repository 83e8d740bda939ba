"""What OpenSSH asks, and what it says when it fails, as rules for the dialogue engine. Data.

The texts are those of OpenSSH 5.3 to 10; its client isn't translated, but the questions that a host's PAM asks are. The
host chooses the words of those. A jump host asks on the same terminal: where one is known of, only those questions are
answered that ssh itself puts the name of the right host before.
"""
from __future__ import annotations

import re
from collections.abc import Mapping

from ramet.connectors.rules import EXPIRED, NEW_PASSWORD, PASSWORD, SECOND_FACTOR, Rule

_SET_A_NEW_ONE = {"text": "the password has expired", "remedy": "log in once by hand with ssh and set a new one"}
_EXPIRED_ACCOUNT = {"text": "the account has expired", "remedy": "ask who runs the host"}

#: What a host does instead of running what it is told: the words for whoever wonders why no Python answers.
_FORCED = "the host may run a command of its own for this account or key (ForceCommand, command=)"


def question_rules(secrets: Mapping[str, object], host: str | None = None) -> list[Rule]:
    """What to do at each question on the terminal, in the order in which they are tried.

    Args:
        secrets: "password", "passphrase", "second_factor" and "host key", as far as they were given.
        host: the only host whose questions for a password or second factor may be answered; None: any.
    """
    refused = {"error": "AuthenticationError", "stage": "authenticate"}
    rules: list[Rule] = [
        {"match": "\\(yes/no(/\\[fingerprint\\])?\\)\\?[ \t]*\\Z", **_UNKNOWN_HOST,
         **({"do": "send", "secret": "host key", "open": True} if "host key" in secrets else {})},
        {"match": "Please type 'yes'[^\n]{0,300}:[ \t]*\\Z", **_UNKNOWN_HOST, "text": "the host's key has another fingerprint"},
        # A host's own words have ssh's "(user@host) " before them: the passphrase isn't for the host.
        {"match": "(?i)\\A\\s*enter passphrase for [^\n]{1,4000}:[ \t]*\\Z", "do": "send", "max": 8, "secret": "passphrase",
         "text": "the passphrase was refused", **refused},
        {"match": "(?i)enter pin for [^\n]{1,4000}:[ \t]*\\Z", "text": "the security key wants its PIN",
         "remedy": "use ssh-agent, which asks for it once", **refused},
        {"on": "stderr", "match": "(?m)^Your account has expired; please contact", **_EXPIRED_ACCOUNT, **refused},
        {"match": EXPIRED, **_SET_A_NEW_ONE, **refused}, {"match": NEW_PASSWORD, **_SET_A_NEW_ONE, **refused},
    ]  # fmt: skip
    if host is not None:
        rules += _questions_of_others(re.escape(host.rpartition("@")[2]))
    # Which of the two was wrong, the host doesn't say.
    either = "the password or the second factor" if {"password", "second_factor"} <= set(secrets) else ""
    for factor, match, what in (("second_factor", SECOND_FACTOR, "second factor"), ("password", PASSWORD, "password")):
        if factor in secrets:
            which = either or f"the {what}"
            rules.append({"match": match, "do": "send", "secret": factor, "text": f"{which} was refused",
                          "remedy": f"check the user and {which}", **refused})
        else:
            rules.append({"match": match, "text": f"the host asks for a {what}, and none was given",
                          "remedy": f"give one ({factor}=), or a key that the host takes alone", **refused})
    return rules


def _questions_of_others(named: str) -> list[Rule]:
    """Fail at questions that are not the host's. ssh puts "(user@host) " before a host's own words (from 8.4 on); these can
    hold line ends and such a name, but nothing of theirs comes before ssh's. It asks "user@host's password: " itself."""
    other: Rule = {"error": "AuthenticationError", "stage": "authenticate", "text": "another host asks, such as the jump host",
                   "remedy": "connect to that one first: tree.ssh(gate).ssh(host, password=...); if it is this host, by an "
                             "alias, give the name that ssh shows"}
    right = f"\\([^\n@]{{0,200}}@{named}\\) |[^\n ]{{0,200}}@{named}'s password"
    return [{"match": f"(?im)^\\([^\n@]{{0,200}}@(?!{named}\\) )[^\n]{{0,300}}\\) ", **other},
            {"match": f"(?im)^(?!{right}|enter p)[^\n]{{1,4000}}:[ \t]*\\Z", **other}]  # fmt: skip


_UNKNOWN_HOST: Rule = {
    "error": "HostKeyError", "stage": "authenticate", "text": "the host isn't known yet",
    "remedy": "connect once by hand with ssh and look at the fingerprint, or give host_key_policy=\"accept-new\"",
}  # fmt: skip

# The connection through a jump host has no address of its own.
_JUMP = "[\\s\\S]{0,2000}UNKNOWN port 65535"

#: What ssh says when it ends by itself: (error, stage, patterns, cause, remedy).
_WHEN_IT_ENDS: list[tuple[str, str, list[str], str, str]] = [
    ("HostKeyError", "authenticate", ["Host key verification failed" + _JUMP],
     "the jump host's key isn't the one on record, or isn't known",
     "connect to the jump host once by hand with ssh"),
    ("ConnectError", "start", ["open failed: administratively prohibited[\\s\\S]{0,2000}stdio forwarding failed"],
     "the jump host forwards nothing", "allow it there (AllowTcpForwarding), or grow through it: tree.ssh(gate).ssh(host)"),
    ("ConnectError", "start", ["open failed[\\s\\S]{0,2000}stdio forwarding failed"],
     "the jump host doesn't reach {where}", "check host and port as they are seen from the jump host"),
    ("ConnectError", "resolve", ["Could not resolve hostname" + _JUMP],
     "there is no jump host of that name", "check the name, and the name service of the machine that connects"),
    ("AuthenticationError", "authenticate", ["(Permission denied|Too many authentication failures)" + _JUMP],
     "the jump host didn't let us in",
     "see that ssh to the jump host asks nothing, or connect to it first, as a node of its own"),
    ("ConnectError", "start", ["ssh: connect to host" + _JUMP],
     "the jump host doesn't answer", "check its name and port, and that sshd runs there"),
    ("HostKeyError", "authenticate",
     ["HOST IDENTIFICATION HAS CHANGED", "[Hh]ost key for [^\n]{1,200} has changed"],
     "the host key isn't the one on record: the host was installed anew, or somebody is in between",
     "if the change is right, remove the old key: ssh-keygen -R {host}"),
    ("HostKeyError", "authenticate", ["REVOKED HOST KEY", "[Hh]ost key [^\n]{0,200}revoked"],
     "the host key is revoked", "ask who runs the host"),
    ("HostKeyError", "authenticate", ["Host key verification failed", "No [^\n]{1,200} host key is known for"],
     _UNKNOWN_HOST["text"], _UNKNOWN_HOST["remedy"]),
    ("ConnectError", "resolve",
     ["[Tt]emporary failure in name resolution"], "the name service didn't answer",
     "check the name service of the machine that connects"),
    ("ConnectError", "resolve",
     ["[Cc]ould not resolve hostname", "[Nn]ame or service not known", "nodename nor servname", "No address associated"],
     "there is no host of the name {host}", "check the name, and the name service of the machine that connects"),
    ("AuthenticationError", "authenticate", ["UNPROTECTED PRIVATE KEY", "bad permissions"],
     "the key was not used: others may read its file", "chmod 600 the identity file"),
    ("AuthenticationError", "authenticate", ["Identity file [^\n]{1,500} not accessible[\\s\\S]{0,2000}Permission denied"],
     "the identity file can't be read", "check identity_file=: it is a path on the machine that connects"),
    ("AuthenticationError", "authenticate", ["password has expired", "must change your password"],
     _SET_A_NEW_ONE["text"], _SET_A_NEW_ONE["remedy"]),
    ("AuthenticationError", "authenticate", ["[Aa]ccount has expired"],
     _EXPIRED_ACCOUNT["text"], _EXPIRED_ACCOUNT["remedy"]),
    ("ConnectError", "start", ["[Ss]ession open refused by peer[\\s\\S]{0,2000}(Permission denied|[Tt]oo many auth)"],
     "the host allows no more sessions on the shared connection, and a connection of its own wasn't let in",
     "raise MaxSessions there, or give what a new connection needs: password=, identity_file="),
    ("AuthenticationError", "authenticate", ["Too many authentication failures"],
     "more keys were offered than the host allows", "say which key it is: identity_file="),
    ("AuthenticationError", "authenticate", ["Permission denied \\((?![^)]{0,200}publickey)[^)]{0,200}keyboard-interactive"],
     "{questions}", "give what it asks for: password=, second_factor="),
    ("AuthenticationError", "authenticate",
     ["Permission denied", "No more authentication methods", "Authentication failed",
      "[Nn]o supported authentication methods"], "{denied}", "{remedy}"),
    ("ConnectError", "start", ["Connection refused"], "nobody listens at {where}", "check the port, and that sshd runs"),
    ("ConnectError", "start", ["(Connection|Operation) timed out"], "no answer from {where}",
     "check the address, firewalls, and whether the host is up; or allow more time: connect_timeout_s="),
    ("ConnectError", "start", ["No route to host", "Network is (unreachable|down)", "Host is down"],
     "no way leads to {where}", "check the address and the network"),
    ("ConnectError", "start", ["open refused by peer", "administratively prohibited"],
     "the host allows no more sessions on the shared connection", "raise MaxSessions there"),
    ("ConnectError", "start", ["channel \\d+: open failed"],
     "the host allows no sessions on this connection", "raise MaxSessions there"),
    ("ConnectError", "start", ["kex_exchange_identification", "ssh_exchange_identification", "banner (exchange|line)"],
     "what listens at {where} isn't an SSH server, or it takes no more connections now",
     ("check the port; if many connect to it at once, or through it: Tree(connecting_max=10), or raise MaxStartups there; "
     "if many failed before, it may shut them out for a while (PerSourcePenalties)")),
    ("ConnectError", "start", ["[Nn]o matching [^\n]{1,200} found", "Unable to negotiate"],
     "client and host have no method in common", "allow an older one: ssh_args=['-o', 'HostKeyAlgorithms=...']"),
    ("ConnectError", "start", ["Cannot execute command-line and remote command"],
     "the ssh configuration has a command of its own for this host", "give ssh_args=['-o', 'RemoteCommand=none']"),
    ("ConnectError", "start",
     ["[Bb]ad configuration option", "Bad owner or permissions", "command-line[:,]? line", "[Cc]an't open user config",
      "(unknown|illegal) option", "Bad port", "usage: ssh"],
     "ssh doesn't take its options or its configuration", "see the last lines; ssh -G shows what it makes of them"),
    ("ConnectError", "start",
     ["[Cc]onnection (closed|reset)", "[Cc]onnection to [^\n]{1,200} (closed|lost)", "[Bb]roken pipe", "not responding",
      "stdio forwarding failed"], "the connection to {where} was lost", "try again; see sshd's log there"),
    ("ConnectError", "start", [""], "ssh failed", "see what it says by hand, with -v"),
]  # fmt: skip

#: Causes that may pass by themselves, so that another try may help.
_MAY_PASS = {
    "the name service didn't answer", "nobody listens at {where}", "no answer from {where}", "no way leads to {where}",
    "the host allows no more sessions on the shared connection", "the connection to {where} was lost",
    "the jump host doesn't answer", "the jump host doesn't reach {where}",
    "what listens at {where} isn't an SSH server, or it takes no more connections now",
}  # fmt: skip


def exit_rules(host: str, port: int | None, secrets: Mapping[str, object]) -> list[Rule]:
    """What it means when ssh ends with its own status, 255, by what it said; the first that matches counts."""
    if "password" in secrets:
        denied, remedy = "the password was refused", "check user and password, and that the host allows passwords"
    elif "passphrase" in secrets:
        denied, remedy = "the host took none of the keys", "check the user, the identity file and its passphrase"
    else:
        denied = "the host took none of the keys, and no password was given"
        remedy = "check user and key with ssh -v, or give a password (password=)"
    questions = "the host asks more than for a key (keyboard-interactive): a password, a second factor"
    where = host if port is None else f"{host}, port {port}"
    words = {"host": host, "where": where, "questions": questions, "denied": denied, "remedy": remedy}
    rules: list[Rule] = [
        {"on": "exit", "status": 255, "match": "|".join(patterns), "error": error, "stage": stage,
         "text": cause.format_map(words), "remedy": hint.format_map(words), "again": cause in _MAY_PASS}
        for error, stage, patterns, cause, hint in _WHEN_IT_ENDS
    ]  # fmt: skip
    rules += [
        {"on": "exit", "status": 1, "match": "account is (currently )?not available|nologin", "stage": "start",
         "text": "the account has no login shell", "remedy": "use another account, or give it a shell"},
        {"on": "exit", "status": 1, "match": "password has expired|[Pp]assword change required",
         "error": "AuthenticationError", "stage": "authenticate", **_SET_A_NEW_ONE},
        {"on": "exit", "match": "allows sftp connections only", "stage": "start",
         "text": "the host allows nothing but file transfer with this account or key", "remedy": "use another account or key"},
        {"on": "else", "match": "\\A\\s*(Warning: Permanently added[^\n]*(\n\\s*)?)?\\Z", "stage": "bootstrap",
         "text": "the host ended the session without a word",
         "remedy": f"see whether the account has a login shell; {_FORCED}"},
        {"on": "else", "stage": "bootstrap", "text": "something else than a Python interpreter answered",
         "remedy": f"{_FORCED}; see the last lines, and run the command there by hand"},
        {"on": "late", "remedy": f"see the last lines, if there are any; allow more time (connect_timeout_s=); or {_FORCED}"},
    ]  # fmt: skip
    return rules
