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
