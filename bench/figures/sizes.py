"""Bytes: the command that ssh is given, and the kernel."""

from __future__ import annotations

from measuring import Figure
from ramet.bootstrap import packing
from ramet.connectors import ssh
from ramet.kernel.settling import NAME_HERE

# What BASELINE measured of Mitogen 0.3.54: its command line for ssh, and its core as it is sent.
MITOGEN_COMMAND_BYTES, MITOGEN_KERNEL_BYTES = 838, 19_348


def command_bytes(python: str | None) -> int:
    """What ssh is given to run on host "web1"."""
    return len(ssh.plan("web1", python=python)["argv"][-1].replace(NAME_HERE, "web1"))


def run() -> list[Figure]:
    command = Figure("first stage in the ssh command", "bytes", "Mitogen", "≤ 400, with a search ≤ 520")
    command.samples = {
        "Mitogen": [MITOGEN_COMMAND_BYTES], "ramet": [command_bytes("python3")],
        "ramet, with a search": [command_bytes(None)]}
    kernel = Figure("kernel, as source", "bytes", "Mitogen", "≤ 14,000")
    kernel.samples = {"Mitogen": [MITOGEN_KERNEL_BYTES], "ramet": [len(packing.payload("source"))]}
    return [command, kernel]
