"""Bytes: the command that ssh is given, and the kernel."""

from __future__ import annotations

from measuring import Figure
from ramet.bootstrap import first_stage, packing

# What BASELINE measured of Mitogen 0.3.54: its command line for ssh, and its core as it is sent.
MITOGEN_COMMAND_BYTES, MITOGEN_KERNEL_BYTES = 838, 19_348


def run() -> list[Figure]:
    command = Figure("first stage in the ssh command", "bytes", "Mitogen", "≤ 400, with a search ≤ 520")
    command.samples = {
        "Mitogen": [MITOGEN_COMMAND_BYTES], "ramet": [len(first_stage.shell_command(["python3"], "web1"))],
        "ramet, with a search": [len(first_stage.shell_command(None, "web1"))]}
    kernel = Figure("kernel, as source", "bytes", "Mitogen", "≤ 14,000")
    kernel.samples = {"Mitogen": [MITOGEN_KERNEL_BYTES], "ramet": [len(packing.payload("source"))]}
    return [command, kernel]
