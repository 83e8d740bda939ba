"""What OpenSSH asks, and what it says when it fails, as rules for the dialogue engine. Data.

The texts are those of OpenSSH 5.3 to 10; its client isn't translated, but the questions that a host's PAM asks are. The
host chooses the words of those, so a password goes to whoever is asked for it by the host that it was given for, never
to another.
"""
from __future__ import annotations

from collections.abc import Mapping

from ramet.connectors.rules import NEW_PASSWORD, PASSWORD, SECOND_FACTOR, Rule


def question_rules(secrets: Mapping[str, str]) -> list[Rule]:
    """What to do at each question on the terminal, in the order in which they are tried.

    Args:
        secrets: "password" and "passphrase", as far as they were given.
    """
    refused = {"error": "AuthenticationError", "stage": "authenticate"}
    rules: list[Rule] = [
        {"match": "\\(yes/no(/\\[fingerprint\\])?\\)\\?[ \t]*\\Z", **_UNKNOWN_HOST},
        {"match": "(?i)enter passphrase for [^\n]{1,4000}:[ \t]*\\Z", "do": "send", "max": 8, "secret": "passphrase",
         "text": "the passphrase was refused", **refused},
        {"match": "(?i)enter pin for [^\n]{1,4000}:[ \t]*\\Z", "text": "the security key wants its PIN",
         "remedy": "use ssh-agent, which asks for it once", **refused},
        {"match": NEW_PASSWORD, "text": "the password has expired",
         "remedy": "log in once by hand with ssh and set a new one", **refused},
        {"match": SECOND_FACTOR,
         "text": "the host asks for a second factor", "remedy": "use a key, or a master connection that is open", **refused},
    ]  # fmt: skip
    if "password" in secrets:
        rules.append({"match": PASSWORD, "do": "send", "secret": "password", "text": "the password was refused",
                      "remedy": "check user and password", **refused})
    else:
        rules.append({"match": PASSWORD, "text": "the host asks for a password, and none was given",
                      "remedy": "give one (password=), or a key that the host takes", **refused})
    return rules


_UNKNOWN_HOST: Rule = {
    "error": "HostKeyError", "stage": "authenticate", "text": "the host isn't known yet",
    "remedy": "connect once by hand with ssh and look at the fingerprint, or give host_key_policy=\"accept-new\"",
}  # fmt: skip

#: What ssh says when it ends by itself: (error, stage, patterns, cause, remedy).
_WHEN_IT_ENDS: list[tuple[str, str, list[str], str, str]] = [
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
    ("AuthenticationError", "authenticate", ["Identity file [^\n]{1,500} not accessible[\\s\\S]*Permission denied"],
     "the identity file can't be read", "check identity_file=: it is a path on the machine that connects"),
    ("AuthenticationError", "authenticate", ["password has expired", "must change your password"],
     "the password has expired", "log in once by hand with ssh and set a new one"),
    ("AuthenticationError", "authenticate", ["Too many authentication failures"],
     "more keys were offered than the host allows", "say which key it is: identity_file="),
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
    ("ConnectError", "start", ["kex_exchange_identification", "ssh_exchange_identification", "banner (exchange|line)"],
     "what listens at {where} isn't an SSH server, or it takes no more connections now",
     "check the port; if many connect to it at once, or through it: Tree(connecting_max=10), or raise MaxStartups there"),
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
    "what listens at {where} isn't an SSH server, or it takes no more connections now",
}  # fmt: skip


def exit_rules(host: str, port: int | None, secrets: Mapping[str, str]) -> list[Rule]:
    """What it means when ssh ends with its own status, 255, by what it said; the first that matches counts."""
    if "password" in secrets:
        denied, remedy = "the password was refused", "check user and password, and that the host allows passwords"
    elif "passphrase" in secrets:
        denied, remedy = "the host took none of the keys", "check the user, the identity file and its passphrase"
    else:
        denied = "the host took none of the keys, and no password was given"
        remedy = "check user and key with ssh -v, or give a password (password=)"
    words = {"host": host, "where": host if port is None else f"{host}, port {port}", "denied": denied, "remedy": remedy}
    rules: list[Rule] = [
        {"on": "exit", "status": 255, "match": "|".join(patterns), "error": error, "stage": stage,
         "text": cause.format_map(words), "remedy": hint.format_map(words), "again": cause in _MAY_PASS}
        for error, stage, patterns, cause, hint in _WHEN_IT_ENDS
    ]  # fmt: skip
    rules.append({"on": "exit", "status": 1, "match": "account is (currently )?not available|nologin", "stage": "start",
                  "text": "the account has no login shell", "remedy": "use another account, or give it a shell"})
    return rules
