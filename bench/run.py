"""Runs every benchmark and writes the table: ``make bench``, or ``make bench ARGS="calls with_django"`` for some of them.

A run of all takes about ten minutes. Only a run of all writes bench/RESULTS.md.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys
from datetime import date
from pathlib import Path

from measuring import Figure

HERE = Path(__file__).parent
NAMES = ("sizes", "start", "hundred", "calls", "streaming", "large", "with_django", "over_ssh", "far_connectors", "many_ssh",
         "memory", "forks", "beside")

HEAD = """# Results

Written by `make bench`. Each row was measured in one run, all contenders in turn in every round; a cell is the median and,
in brackets, the median ratio to the floor within the rounds. Compare ratios: absolute times drift by a factor of two on
a shared machine. What DESIGN section 12 aims at stands in the last column.

"""


def cell(figure: Figure, contender: str) -> str:
    value = figure.median(contender)
    text = f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    return text if contender == figure.floor else f"{text} ({figure.ratio(contender):.2f}×)"


def line(figure: Figure) -> str:
    others = [f"{name}: {cell(figure, name)}" for name in figure.samples if name not in (figure.floor, "ramet")]
    ours = cell(figure, "ramet") if "ramet" in figure.samples else ""
    note = f" ({figure.note})" if figure.note else ""
    return (f"| {figure.name}, {figure.unit}{note} | {figure.floor}: {cell(figure, figure.floor)} | {ours} "
            f"| {'; '.join(others)} | {figure.aim} |")


def machine() -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("ramet", "mitogen", "execnet", "msgpack"))
    return (f"{platform.python_implementation()} {platform.python_version()}, {versions}; {os.cpu_count()} cores, "
            f"{platform.system()} {platform.release()}, {date.today()}.\n")


def main(wanted: list[str]) -> None:
    unknown = set(wanted) - set(NAMES)
    if unknown:
        sys.exit(f"no such benchmark: {', '.join(unknown)}. There are: {', '.join(NAMES)}")
    sys.path.insert(0, str(HERE / "figures"))
    lines = ["| figure | floor | ramet | others | aim |", "|---|---|---|---|---|"]
    print("\n".join(lines))
    for name in wanted or NAMES:
        for figure in importlib.import_module(name).run():
            lines.append(line(figure))
            print(lines[-1], flush=True)
    if not wanted:
        (HERE / "RESULTS.md").write_text(HEAD + machine() + "\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
