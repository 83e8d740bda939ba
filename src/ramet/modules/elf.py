"""What a shared library says of itself: for which machine it is, which other libraries it needs, how new a libc.

Reads the ELF format, as far as the dynamic loader reads it. Pure: bytes in, facts out. Any thread.
"""
from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap

_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRTAB, _SONAME, _RPATH, _RUNPATH, _VERNEED, _VERNEEDNUM = 1, 5, 14, 15, 29, 0x6FFFFFFE, 0x6FFFFFFF
# Entries of a list, and characters of a name: more is no library's, and a damaged one might go in circles.
_LISTS_MAX = _NAME_MAX = 4096

MACHINES = {3: "i386", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv", 258: "loongarch"}


@dataclass(frozen=True, slots=True)
class Elf:
    """A shared library.

    Attributes:
        target: word size, byte order and machine, as they stand in the file; the interpreter's own must be the same.
        machine: the machine's name.
        soname: the name under which others need it; "" if it has none.
        needed: the libraries that it needs, by their names.
        search: folders to look for those in; ``$ORIGIN`` stands for the library's own.
        glibc: the newest version of glibc that it asks for; (0, 0) if it names none.
    """

    target: bytes
    machine: str
    soname: str
    needed: tuple[str, ...]
    search: tuple[str, ...]
    glibc: tuple[int, int]


def read(data: bytes | mmap) -> Elf:
    """Read a library.

    Raises:
        ValueError: it isn't an ELF file, or a damaged one.
    """
    try:
        return _Reader(data).read()
    except (struct.error, IndexError, OverflowError) as error:
        raise ValueError(f"it is damaged: {error}") from None


class _Reader:
    """One file, with its word size and byte order."""

    def __init__(self, data: bytes | mmap) -> None:
        if data[:4] != b"\x7fELF" or data[4] not in (1, 2) or data[5] not in (1, 2):
            raise ValueError("it isn't an ELF file")
        self.data = data
        self.order = "<" if data[5] == 1 else ">"
        self.wide = data[4] == 2
        self.segments: list[tuple[int, int, int, int]] = []     # type, offset, address, size in the file

    def unpack(self, form: str, at: int) -> tuple[int, ...]:
        return struct.unpack_from(self.order + form, self.data, at)

    def read(self) -> Elf:
        table, = self.unpack("Q" if self.wide else "I", 32 if self.wide else 28)
        size, count = self.unpack("HH", 54 if self.wide else 42)
        for at in range(table, table + size * count, size or 1):
            if self.wide:
                kind, _, offset, address, _, length = self.unpack("IIQQQQ", at)
            else:
                kind, offset, address, _, length = self.unpack("IIIII", at)
            self.segments.append((kind, offset, address, length))
        entries = list(self.dynamic())
        first = dict(reversed(entries))
        strings = self.offset(first.get(_STRTAB, 0))
        paths = ":".join(self.text(strings + value) for tag, value in entries if tag in (_RPATH, _RUNPATH))
        machine, = self.unpack("H", 18)
        return Elf(
            bytes(self.data[4:6]) + bytes(self.data[18:20]),
            MACHINES.get(machine, f"machine {machine}"),
            self.text(strings + first[_SONAME]) if _SONAME in first else "",
            tuple(self.text(strings + value) for tag, value in entries if tag == _NEEDED),
            tuple(path for path in paths.split(":") if path),
            max(self.versions(first, strings), default=(0, 0)),
        )

    def dynamic(self) -> Iterator[tuple[int, int]]:
        """The entries of the dynamic section: (tag, value)."""
        form, size = ("qQ", 16) if self.wide else ("iI", 8)
        for kind, offset, _, length in self.segments:
            if kind == _DYNAMIC:
                for at in range(offset, offset + min(length, size * _LISTS_MAX), size):
                    tag, value = self.unpack(form, at)
                    if not tag:
                        return
                    yield tag, value

    def versions(self, first: dict[int, int], strings: int) -> Iterator[tuple[int, int]]:
        """The versions of glibc that are asked for."""
        at = self.offset(first[_VERNEED]) if _VERNEED in first else 0
        seen = 0
        for _ in range(first.get(_VERNEEDNUM, 0)):
            _, count, _, aux, following = self.unpack("HHIII", at)
            aux += at
            for _ in range(count):
                seen += 1
                if seen > _LISTS_MAX:
                    raise ValueError("it is damaged: it asks for too many versions")
                _, _, _, name, further = self.unpack("IHHII", aux)
                numbers = re.match(r"GLIBC_(\d{1,4})\.(\d{1,4})\b", self.text(strings + name))
                if numbers:
                    yield int(numbers[1]), int(numbers[2])
                aux += further
            if not following:
                return
            at += following

    def offset(self, address: int) -> int:
        """Where in the file that is which is loaded to an address."""
        for kind, offset, start, length in self.segments:
            if kind == _LOAD and start <= address < start + length:
                return offset + address - start
        raise ValueError("it is damaged: an address is outside of what is loaded")

    def text(self, at: int) -> str:
        end = self.data.find(b"\0", at, at + _NAME_MAX)
        if at < 0 or end < 0:
            raise ValueError("it is damaged: a name has no end")
        return bytes(self.data[at:end]).decode("utf-8", "surrogateescape")
