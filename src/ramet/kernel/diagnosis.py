"""What a failed connection says: the stage, the command, what was seen, the likely cause and the remedy.

Pure, but for looking whether a folder can be entered. Late part of the kernel; any thread.
"""
import errno
import os

from ramet.kernel import dialogue, errors

MYPY = False
if MYPY:
    from typing import Any, Dict, List, Optional

    Plan = Dict[str, Any]
    Rule = Dict[str, Any]

# How many lines of what was seen an error's text shows; all that was kept is in its attribute ``seen``.
lines_shown_max = 12
line_chars_max = 300

# How many descriptors are kept for the program itself when nodes take all others.
open_files_spared_max = 24

# A word of the command that is longer than this is a program, such as the first stage. Nobody wants to read it.
program_chars_min = 200

# Errors of starting a program of which the system's own words don't say enough: errno -> (cause, remedy).
_CAUSES = {
    errno.EMFILE: ("this process has too many open files", "raise its limit (ulimit -n), or close nodes that are done"),
    errno.ENFILE: ("this machine has too many open files", "connect fewer nodes at once"),
    errno.EAGAIN: ("this account or machine runs too many processes", "raise the limit (ulimit -u), or grow fewer nodes"),
    errno.ENOMEM: ("there is no memory for one more process", "grow fewer nodes on this machine"),
    errno.E2BIG: ("the command line and the environment are too long", "give fewer or shorter arguments, or a smaller env"),
}
# What may pass when other processes end.
_MAY_PASS = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.ELOOP)

# What an exit status means when no rule of the plan's says more: in the order of a dialogue's "exit" rules.
_NO_PYTHON = {"error": "PythonNotFoundError", "stage": "find-python",
              "remedy": "install Python 2.7, or 3.6 or newer, there, or say where it is: python="}
EXITS = [
    dict(_NO_PYTHON, on="exit", status=97, text="no Python interpreter was found over there"),
    dict(_NO_PYTHON, on="exit", match="Invalid command line arguments\\. Use -h option",
         text="what was started over there is MicroPython, which can't be a node"),
    dict(_NO_PYTHON, on="exit", match="No module named '?(encodings|site|zlib|_socket)|init_fs_encoding",
         text="the interpreter over there is broken or not complete"),
    {"on": "exit", "status": 98, "stage": "bootstrap", "text": "the kernel did not arrive whole, or can't be loaded there",
     "remedy": "the last lines say what the interpreter makes of it; if there are none, something on the way drops bytes"},
    {"on": "exit", "status": 1, "stage": "bootstrap", "match": "(?m)^  File \"<string>\", line 1, in <module>\\s*$",
     "text": "the interpreter over there runs, but can't carry out the first stage",
     "remedy": "the last lines are its own words: is the limit of open files low (ulimit -n), is its file gone?"},
    dict(_NO_PYTHON, on="exit", status=127, text="the program that should have run over there was not found"),
    dict(_NO_PYTHON, on="exit", status=126, text="the program that should have run over there can't be executed"),
    dict(_NO_PYTHON, on="exit", status=1, text="there is no such program over there, or it can't be executed",
         match="(?m)^[^\n]{1,200}: (Command not found|Permission denied|No such file or directory)\\.\\s*$"),    # csh
]  # type: Any


def connect_error(plan, rule, status=None, seen=""):
    # type: (Plan, Rule, Optional[int], str) -> errors.ConnectError
    """The error for a connection that failed, without any secret in it.

    Args:
        rule: with "error", "stage", "text", "remedy", "again", as a dialogue's rule.
        status: how the program ended, negative for a signal; None if it didn't.
        seen: the last lines.
    """
    secrets = list((plan.get("secrets") or {}).values())
    seen = dialogue.mask(seen.strip("\n"), secrets)
    for word in _words(plan):
        for part in [word] + word.split("'"):   # fish repeats the command that it doesn't find; sh has a part for its name
            if len(part) > program_chars_min:
                seen = seen.replace(part, "...")
    stage = rule.get("stage", "start")
    parts = ["%s: %s" % (plan.get("what", "a node"), rule.get("text") or "it failed"), "stage: " + stage]
    if plan.get("command"):
        parts.append("command: " + plan["command"])
    if status is not None:
        parts.append("exit status: %d" % status if status >= 0 else "ended by signal %d" % -status)
    lines = [line[:line_chars_max] for line in seen.split("\n") if line.strip()][-lines_shown_max:]
    if lines:
        parts.append("last lines seen:\n    " + "\n    ".join(lines))
    if rule.get("remedy"):
        parts.append("remedy: " + rule["remedy"])
    kind = getattr(errors, rule.get("error", ""), None)
    if not (isinstance(kind, type) and issubclass(kind, errors.ConnectError)):
        kind = errors.ConnectError
    error = kind(dialogue.mask("\n  ".join(parts), secrets), stage, seen)
    error.command, error.cause, error.remedy = [
        dialogue.mask(text or "", secrets) for text in (plan.get("command"), rule.get("text"), rule.get("remedy"))]
    error.status = status
    error.again = bool(rule.get("again"))
    return error


def start_error(plan, error):
    # type: (Plan, Any) -> errors.ConnectError
    """The error for a program that the system didn't start, from what it raised."""
    number = getattr(error, "errno", None)
    words = dialogue.to_text(dialogue.to_bytes(getattr(error, "strerror", None) or str(error)))
    text, remedy = _CAUSES.get(number or 0, ("the program %s can't be started: %s" % (" ".join(_words(plan)[:1]), words), ""))
    if number == errno.EMFILE and open_files_max():
        text += ": its limit is %d, of which %d are kept for the program itself" % (open_files_max(), open_files_spared())
    rule = {"text": text, "remedy": remedy, "again": number in _MAY_PASS}  # type: Rule
    folder = plan.get("cwd")
    if folder and number in _NOT_THERE and not os.access(dialogue.to_bytes(folder), os.X_OK):
        rule["text"] = "the folder %s can't be entered: %s" % (folder, words)
    elif number in _NOT_THERE and plan.get("stub"):
        rule = dict(_NO_PYTHON, remedy="say where an interpreter is: python=",
                    text="there is no Python that can be started at %s: %s" % (_words(plan)[0], words))
    elif number in _NOT_THERE:
        rule["text"] = "the program %s can't be started: %s" % (_words(plan)[0], words)
        rule["remedy"] = "see that it is installed on the machine where the node grows from, and in PATH there"
    return connect_error(plan, rule)


def open_files_max():
    # type: () -> int
    """How many descriptors this process may have; 0 if that isn't known, or unlimited."""
    try:
        import resource
        return max(0, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    except (ImportError, ValueError):
        return 0


def open_files_spared():
    # type: () -> int
    """How many of them no node may take: the program goes on opening files, and so do modules that are sent."""
    return min(open_files_spared_max, open_files_max() // 8)


def _words(plan):
    # type: (Plan) -> List[str]
    """The plan's argv as text; paths in it may be bytes."""
    return [dialogue.to_text(dialogue.to_bytes(word)) for word in plan.get("argv", ())] or [""]
