"""The documentation hangs together: every page is linked from its index, every relative link leads somewhere."""
from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.source import TOP

PAGES = [*sorted(TOP.glob("*.md")), *sorted((TOP / "docs").rglob("*.md"))]
INDEXES = [TOP / "docs/decisions/index.md", TOP / "docs/how-to/index.md"]


def links(page: Path) -> list[str]:
    return [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    dead = [link for link in links(page) if link and not (page.parent / link).exists()]
    assert not dead, dead


@pytest.mark.parametrize("index", INDEXES, ids=lambda page: str(page.relative_to(TOP)))
def test_an_index_links_every_page_beside_it(index: Path) -> None:
    beside = {page.name for page in index.parent.glob("*.md")} - {"index.md"}
    assert beside <= set(links(index)), beside - set(links(index))


def test_the_glossary_has_the_words_of_the_design() -> None:
    terms = re.findall(r"^(\w[\w ]*)\n:   ", (TOP / "docs/glossary.md").read_text(), re.MULTILINE)
    design = {"tree", "controller", "node", "kernel", "first stage", "connector", "dialogue", "link", "frame", "message",
              "handle", "call", "stream", "channel", "lane", "module server", "module cache"}  # fmt: skip
    assert design <= set(terms)
    assert len(terms) == len(set(terms))


PROTOCOL = (TOP / "docs/protocol.md").read_text()


def test_the_protocol_page_has_every_message_by_its_number() -> None:
    from ramet.kernel import core
    told = {name: int(number) for name, number in re.findall(r"^### ([A-Z_]+) \((\d+)\)", PROTOCOL, re.MULTILINE)}
    handles = {name: value for name, value in vars(core).items() if value in range(1, 1000) and name.isupper()}
    flags = {"CONTINUES", "CONTROL", "DEAD", "ERROR", "MORE", "HEADER_BYTES"}
    assert told == {name: value for name, value in handles.items() if name not in flags}


def test_the_protocol_page_has_the_header_and_the_flags() -> None:
    from ramet.kernel import frames, limits
    rows = re.findall(r"^\| (\d+) \| (\d+) \| [a-z ]+ \|", PROTOCOL, re.MULTILINE)
    ends = [int(offset) + int(size) for offset, size in rows]
    assert [0, *ends[:-1]] == [int(offset) for offset, _ in rows] and ends[-1] == frames.HEADER_BYTES
    flags = dict(re.findall(r"^\| (\d+) \| ([A-Z]+) \|", PROTOCOL, re.MULTILINE))
    assert {name: int(number) for number, name in flags.items()} == {name: getattr(frames, name) for name in flags.values()}
    assert f"at most {limits.frame_bytes_max:,}" in PROTOCOL


def test_the_protocol_page_has_every_kind_of_value() -> None:
    told = set(re.findall(r"\b([A-Za-z])\b", " ".join(re.findall(r"^\| ([A-Za-z](?:, [A-Za-z])*) \|", PROTOCOL, re.MULTILINE))))
    tables = "".join((TOP / "src/ramet/kernel" / name).read_text() for name in ("values.py", "portable.py"))
    rows = re.findall(r"^([A-Za-z]) (?:([a-z]) )?  +\S.{30,}?(?:  +([A-Za-z]) (?:([a-z]) )?  +\S.*)?$", tables, re.MULTILINE)
    coded = {kind for row in rows for kind in row if kind}
    assert coded <= told, coded - told
    assert len(coded) > 20
