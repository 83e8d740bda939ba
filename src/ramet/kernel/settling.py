"""Settling: what a plan leaves open because only the machine knows on which it is carried out, such as where its program is.

Late part of the kernel; pure but for looking at files. Any thread. It must not know how a program is started: ``spawn`` does.
"""
import os
import sys

from ramet.kernel import compat, dialogue

MYPY = False
if MYPY:
    from typing import Any, Dict, List, Optional, Tuple

    Plan = Dict[str, Any]

# Stands in a plan's argv for the name of the node, which is settled last.
NAME_HERE = "RAMET.NAME"


def find_program(name, plan):
    # type: (Any, Plan) -> Optional[bytes]
    """Where a program is: the name itself if it holds a slash, else looked for along the plan's PATH. None: nowhere.

    Paths are bytes here: in the C locale an old Python can't look at others in any other way.
    """
    program = dialogue.to_bytes(name)
    path = (plan.get("env") or {}).get("PATH") or os.environ.get("PATH") or os.defpath
    for folder in [b""] if b"/" in program else dialogue.to_bytes(path).split(b":"):
        found = os.path.join(folder, program)
        if os.access(found, os.X_OK) and not os.path.isdir(found):
            return os.path.abspath(found)
    return None


def interpreter(plan):
    # type: (Plan) -> Tuple[Optional[bytes], List[Any], Optional[str]]
    """How to start an interpreter so that ``ps`` shows a node's name and nothing else is changed by that.

    An interpreter finds its prefix from argv[0]. So argv[0] is its path with the name behind it: a virtual environment's
    own path, else the real path behind links (a relocated interpreter isn't found from where a link to it is). A script
    that starts one (pyenv's shims, say) loses argv[0], and PyPy finds nothing from a path where no file is, so there the
    name is an argument.

    Args:
        plan: its ``python`` is the program asked for and its flags; None for the interpreter that runs this.

    Returns:
        the file to execute (None if it wasn't found), argv, and the form of its code (None if that isn't known).
    """
    words = list(plan.get("python") or (sys.executable or "python3",))
    words[0] = os.path.expanduser(words[0])
    if os.path.isdir(dialogue.to_bytes(words[0])):      # a virtual environment
        words[0] = os.path.join(words[0], "bin", "python")
    found = find_program(words[0], plan)
    if not found:
        return None, words, None
    label = dialogue.to_bytes("(ramet:%s)" % plan["name"])
    form = None if plan.get("python") else compat.form_tag()
    with open(found, "rb") as file:
        head = file.read(65536)     # all of PyPy's, which only loads libpypy3-c.so
    if head[:2] == b"#!" or b"pypy" in head + os.path.basename(os.path.realpath(found)):
        return found, [found] + words[1:] + ["-B", "-", label], form
    folder = os.path.dirname(found)
    if not any(os.path.exists(os.path.join(place, b"pyvenv.cfg")) for place in (folder, os.path.dirname(folder))):
        found = os.path.realpath(found)
    return found, [found + label] + words[1:] + ["-B"], form


def settled(plan):
    # type: (Plan) -> Plan
    """A copy of the plan with what only the machine knows on which it is carried out: where its program is.

    Found here, not by trying each folder of PATH: then one that can't be entered hides why the program itself can't be started.
    """
    plan = dict(plan)
    if plan.get("stub"):
        plan["executable"], plan["argv"], form = interpreter(plan)
        plan["form"] = plan.get("form") or form
    else:
        plan["argv"] = [word.replace(NAME_HERE, plan["name"]) for word in plan["argv"]]
        name = plan["argv"][0] if plan["argv"] else ""
        plan["executable"] = name if "/" in name else find_program(name, plan)
    if not plan.get("command"):
        plan["command"] = dialogue.to_text(b" ".join(map(dialogue.to_bytes, plan["argv"])))
    return plan
