"""What docs/decisions/0001 and 0002 rest on: the kernel as source and as bytecode, and one start against two or a fork.

    env -u PYTHONUNBUFFERED -u PYTHONDONTWRITEBYTECODE .venv/bin/python bench/kernel_forms.py [PYTHON ...]

Prints, for each interpreter, the fastest of many runs in milliseconds; of starts the processor time, which a busy machine
disturbs less. Nothing is installed and nothing is left behind.
"""
from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "src"), str(Path(__file__).parents[1] / "tests")]

from ramet.bootstrap import first_stage, packing  # noqa: E402
from ramet.kernel import stub  # noqa: E402
from support import booting  # noqa: E402

RUNS = 15

#: Inflates, unmarshals and compiles (or unmarshals once more) what the file holds, and prints the fastest of five.
LOAD = """
import marshal, sys, time, zlib
data = open(sys.argv[1], "rb").read()
clock = getattr(time, "perf_counter", time.time)
best = 9e9
for _ in range(5):
    start = clock()
    form, _, text = zlib.decompress(data).partition(b"\\0")
    if form == b"source":
        for code in text.split(b"\\0")[1::2]:
            compile(code, "x", "exec", 0, 1)
    else:
        marshal.loads(text)
    best = min(best, clock() - start)
print("%.1f" % (best * 1000))
"""

#: Makes a payload with the interpreter that runs this, from the sources of this tree.
PACK = """
import sys, types
sys.modules["ramet"] = types.ModuleType("ramet")
sys.modules["ramet"].__path__ = [sys.argv[1] + "/ramet"]
from ramet.bootstrap import packing
from ramet.kernel import stub
sys.stdout.buffer.write(packing.payload(packing.FORMS[-1])[stub.HEAD_BYTES:])
"""

#: A kernel that ends at once, and the first stage that feeds the stub from a second process.
NOTHING = [("ramet.kernel.start", "import os\ndef main(*args): os._exit(0)\n")]
FORKING = (
    first_stage.command(["python3"], "x")[2]
    .replace('write(w,b"', 's=b"').replace('");dup2(r,0);', '"\nif not fork():write(w,s);exit()\ndup2(r,0);')
)


def fastest(argv: list[str], sent: bytes = b"") -> float:
    best = 9e9
    for _ in range(RUNS):
        start = processor_s()
        subprocess.run(argv, input=sent, stdout=subprocess.DEVNULL, env=booting.environment(), check=True)
        best = min(best, processor_s() - start)
    return best * 1000


def processor_s() -> float:
    """What all children so far have used, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def forms(pythons: list[str], folder: Path) -> None:
    source = packing.payload("source")[stub.HEAD_BYTES:]
    (folder / "source").write_bytes(source)
    print(f"kernel as source: {len(source):,} bytes, {len(zlib.decompress(source)):,} inflated")
    print(f"{'':44}{'source ms':>12}{'bytecode ms':>12}{'bytes':>10}")
    for python in pythons:
        env = booting.environment(XDG_CACHE_HOME=str(folder))
        times = [subprocess.check_output([python, "-c", LOAD, str(folder / "source")], text=True, env=env).strip()]
        packed = subprocess.run([python, "-c", PACK, sys.path[0]], capture_output=True, env=env).stdout
        if packed:
            (folder / "bytecode").write_bytes(packed)
            times += [subprocess.check_output([python, "-c", LOAD, str(folder / "bytecode")], text=True, env=env).strip()]
            times += [f"{len(packed):,}"]
        print(f"{python[-44:]:44}" + "".join(f"{text:>12}" for text in times))


def starts(pythons: list[str]) -> None:
    payload = packing.build("source", NOTHING) + b"!"
    print(f"\n{'':44}{'-c pass':>9}{'-S -c pass':>12}{'two starts':>12}{'with fork':>11}{'one start':>11}   ms")
    for python in pythons:
        words = first_stage.command([python], "x")
        forking = [FORKING if word == words[2] else word for word in words]
        times = [fastest([python, "-c", "pass"]), fastest([python, "-S", "-c", "pass"]), fastest(words, payload),
                 fastest(forking, payload)]  # fmt: skip
        times.append(min(one_start(python, payload) for _ in range(RUNS)))
        print(f"{python[-44:]:44}{times[0]:9.1f}{times[1]:12.1f}{times[2]:12.1f}{times[3]:11.1f}{times[4]:11.1f}")


def one_start(python: str, payload: bytes) -> float:
    """As the connector ``local`` starts an interpreter: its link is a socket, the stub lies in a pipe."""
    start = processor_s()
    near, far = socket.socketpair()
    with near, far:
        near.sendall(payload)
        subprocess.run([python + "(ramet:x)", "-B"], executable=os.path.realpath(python) if "venv" not in python else python,
                       input=stub.program(1), stdout=far.fileno(), env=booting.environment(), check=True)  # fmt: skip
    return (processor_s() - start) * 1000


if __name__ == "__main__":
    found = sys.argv[1:] or [sys.executable]
    with tempfile.TemporaryDirectory() as name:
        forms(found, Path(name))
        starts(found)
