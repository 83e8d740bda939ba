"""Two hundred hosts at once over a loopback sshd, each with a first call. The floor is ``ssh host python3 -c pass``, as often.

One round: it takes a minute for each contender. All have 32 connections under way at a time.
"""

from __future__ import annotations

import many
import peers
from measuring import Figure

COUNT = 200
AT_ONCE = 32


def run() -> list[Figure]:
    if not peers.ssh_host():
        return []
    found = {name: many.measured(contender, COUNT, AT_ONCE)
             for name, contender in (("ssh host python3 -c pass", "bare"), ("ramet", "ramet"), ("Mitogen", "mitogen"))}
    threads = {name: int(one["threads"]) for name, one in found.items() if "threads" in one}
    wall = Figure(f"{COUNT} hosts over ssh + first call, {AT_ONCE} at a time", "ms", "ssh host python3 -c pass", "≤ 1.15×",
                  {name: [one["seconds"] * 1000] for name, one in found.items()},
                  note=f"threads: ramet {threads['ramet']}, the keeper among them; Mitogen {threads['Mitogen']}")
    memory = Figure("the controller's memory for each of these hosts", "KB", "Mitogen", "",
                    {name: [found[name]["kb"]] for name in ("Mitogen", "ramet")})
    return [wall, memory]
