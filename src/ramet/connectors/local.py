"""The connector ``local``: another interpreter on the same machine, under the same account. Pure."""
from __future__ import annotations

import os
from collections.abc import Mapping

from ramet.bootstrap import first_stage, wishes
from ramet.connectors import CONNECT_TIMEOUT_S, Plan, Python, make, python_words, shown
from ramet.kernel.settling import NAME_HERE

# The link of an interpreter that is started directly is its stdout, a socket.
_LINK_FD = 1

#: The first marker, from an interpreter of which it isn't known what code it takes.
_ANNOUNCE = """import posix,sys
posix.write(1,("\\nRAMET1 %x %s\\n"%(sys.hexversion,"pypy_version_info"in dir(sys)and"p"or"c")).encode())
"""


def plan(
    *,
    python: Python = None,
    env: Mapping[str, str | None] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    name: str | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> Plan:
    """Start an interpreter on the machine of the node that grows it.

    Args:
        python: which: a name, a path, the folder of a virtual environment, a version (``">=3.8"``), or a list with flags
            (``["python3", "-O"]``) or a wrapper (``["nice", "python3"]``) in it. Default: the interpreter that runs the
            growing node, without its flags.
        env: changes to the environment; None takes a variable away.
        cwd: the folder to start in. Default: the growing node's.
        name: the node's name.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable.
    """
    words = python_words(python)
    name, what = "local" if name is None else name, "local " + " ".join(words or ["python"])
    wish = wishes.find(words)
    if words and (wishes.flags(words) != words[1:] or (wish and wish.check)):   # a wrapper or a search, with a program behind
        argv = first_stage.command(words, NAME_HERE)
        return make(what, name, words, connect_timeout_s, argv=argv, command=shown(words), env=env, cwd=cwd)
    stub = first_stage.stub(_LINK_FD).decode()
    if words:
        stub = _ANNOUNCE + stub
    return make(what, name, words, connect_timeout_s, shape="socket", stub=stub, env=env, cwd=cwd)
