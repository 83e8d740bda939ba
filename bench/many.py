"""Many hosts at once, by one contender, in a process of its own: ``python many.py ramet 200 32``. Prints what it took, as JSON.

A host is an alias of the benchmark's own sshd. So many connect at a time; in the end all are connected, with a call each.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import peers
import remote
from measuring import watch

PYTHON = "/usr/bin/python3"


def own_kb() -> int:
    """Memory that is this process's alone."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return sum(int(kb) for kb in re.findall(r"^Private_\w+: +(\d+) kB", rollup, re.MULTILINE))


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def bare(hosts: list[str], at_once: int) -> dict[str, float]:
    # A session each, as ramet and Mitogen give them: the scheduler shares a busy machine out by sessions.
    def one(host: str) -> None:
        subprocess.run(["ssh", *peers.ssh_options(), host, PYTHON, "-c", "pass"], check=True, stdin=subprocess.DEVNULL,
                       start_new_session=True)
    one(hosts[0])
    with ThreadPoolExecutor(at_once) as pool, watch() as w:
        list(pool.map(one, hosts))
    return {"seconds": w.seconds}


def ours(hosts: list[str], at_once: int) -> dict[str, float]:
    import ramet

    with ramet.Tree(connecting_max=at_once) as tree:
        options = {"ssh_args": peers.ssh_options(), "python": PYTHON}
        tree.ssh(hosts[0], **options).call(remote.nothing)
        before = own_kb()
        with watch() as w:
            nodes = tree.connect_all(hosts, **options).nodes
            outcomes = [outcome for _, outcome in tree.each(nodes, remote.nothing)]
        failed = [outcome.error for outcome in outcomes if outcome.error]
        assert not failed, f"{len(failed)} failed: {failed[0]}"
        return {"seconds": w.seconds, "kb": (own_kb() - before) / len(hosts), "threads": threads()}


def mitogen(hosts: list[str], at_once: int) -> dict[str, float]:
    with peers.mitogen_router() as router, ThreadPoolExecutor(at_once) as pool:
        def one(host: str) -> None:
            context = router.ssh(hostname=host, ssh_args=peers.ssh_options(), python_path=PYTHON, check_host_keys="ignore",
                                 connect_timeout=300)
            context.call(remote.nothing)
        one(hosts[0])
        before = own_kb()
        with watch() as w:
            list(pool.map(one, hosts))
        return {"seconds": w.seconds, "kb": (own_kb() - before) / len(hosts), "threads": threads()}


CONTENDERS: dict[str, Callable[[list[str], int], dict[str, float]]] = {"bare": bare, "ramet": ours, "mitogen": mitogen}


def measured(contender: str, count: int, at_once: int) -> dict[str, float]:
    """Run a contender in a process of its own."""
    argv = [sys.executable, __file__, contender, str(count), str(at_once)]
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    print(json.dumps(CONTENDERS[sys.argv[1]]([f"host{n}" for n in range(int(sys.argv[2]))], int(sys.argv[3]))))
