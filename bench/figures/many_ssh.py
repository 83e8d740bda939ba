"""Two hundred hosts at once over a loopback sshd, each with a first call. The floor is ``ssh host python3 -c pass``, as often.

Five rounds, each of which takes a minute: on a shared machine one such sample in four is a fifth off. All have 32
connections under way at a time.
"""

from __future__ import annotations

import many
import peers
from measuring import Figure

COUNT = 200
AT_ONCE = 32
ROUNDS = 5


def run() -> list[Figure]:
    if not peers.ssh_host():
        return []
    found: dict[str, list[dict[str, float]]] = {"ssh host python3 -c pass": [], "ramet": [], "Mitogen": []}
    for _ in range(ROUNDS):
        for samples, contender in zip(found.values(), ("bare", "ramet", "mitogen"), strict=True):
            samples.append(many.measured(contender, COUNT, AT_ONCE))
    threads = {name: max(int(one["threads"]) for one in found[name]) for name in ("ramet", "Mitogen")}
    wall = Figure(f"{COUNT} hosts over ssh + first call, {AT_ONCE} at a time", "ms", "ssh host python3 -c pass", "≤ 1.15×",
                  {name: [one["seconds"] * 1000 for one in samples] for name, samples in found.items()},
                  note=f"threads: ramet {threads['ramet']}, the keeper among them; Mitogen {threads['Mitogen']}")
    memory = Figure("the controller's memory for each of these hosts", "KB", "Mitogen", "",
                    {name: [one["kb"] for one in found[name]] for name in ("Mitogen", "ramet")})
    return [wall, memory]
