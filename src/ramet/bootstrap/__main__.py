"""``python -m ramet.bootstrap``: what each module of the kernel's core weighs, and how long the command lines are."""
from __future__ import annotations

import zlib

from ramet.bootstrap import first_stage, packing


def main() -> None:
    """Print the tables."""
    print(f"{'':24}" + "".join(f"{form:>10}{'zlib':>8}" for form in packing.FORMS))
    for name in packing.CORE:
        sizes = [packing.packed(name, form) for form in packing.FORMS]
        print(f"{name:24}" + "".join(f"{len(zlib.decompress(data)):10,}{len(data):8,}" for data in sizes))
    print()
    for form in packing.FORMS:
        print(f"all that is sent, with head and loader, as {form}: {len(packing.payload(form)):,} bytes")
    lines = [len(first_stage.shell_command(python, "web1", brief=True)) for python in (["python3"], None)]
    print(f"command line {lines[0]} characters, with search {lines[1]}")


if __name__ == "__main__":
    main()
