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
    from ramet.kernel import channels, core, nursery, proxies, streams
    from ramet.kernel import handles as more
    told = {name: int(number) for name, number in re.findall(r"^### ([A-Z_]+) \((\d+)\)", PROTOCOL, re.MULTILINE)}
    coded = {**vars(core), **vars(proxies), **vars(nursery), **vars(more)}
    handles = {name: value for name, value in coded.items() if value in range(1, 1000) and name.isupper()}
    handles.update(ITEMS=streams.ITEMS, CREDIT=streams.CREDIT, CHANNEL=channels.CHANNEL)
    flags = {"CONTINUES", "CONTROL", "DEAD", "ERROR", "LONG", "MAGIC", "MORE", "HEADER_BYTES"}
    assert told == {name: value for name, value in handles.items() if name not in flags}


def test_the_protocol_page_has_the_header_and_the_flags() -> None:
    from ramet.kernel import fragments, frames, limits
    rows = re.findall(r"^\| (\d+) \| (\d+) \| [a-z ]+ \|", PROTOCOL, re.MULTILINE)
    ends = [int(offset) + int(size) for offset, size in rows]
    assert [0, *ends[:-1]] == [int(offset) for offset, _ in rows] and ends[-1] == frames.HEADER_BYTES
    flags = dict(re.findall(r"^\| (\d+) \| ([A-Z]+) \|", PROTOCOL, re.MULTILINE))
    assert {name: int(number) for number, name in flags.items()} == {
        name: getattr(frames, name, None) or fragments.PIECE for name in flags.values()}
    assert f"at most {limits.frame_bytes_max:,}" in PROTOCOL


def test_the_protocol_page_has_every_kind_of_value() -> None:
    from ramet.kernel import instances, portable, values
    told = set(re.findall(r"\b([A-Za-z])\b", " ".join(re.findall(r"^\| ([A-Za-z](?:, [A-Za-z])*) \|", PROTOCOL, re.MULTILINE))))
    coded = {kind.decode() for kind in values.KINDS.values()} | set(portable.UNPACK) | set(instances.UNPACK)
    assert coded <= told | set("ac"), coded - told
    assert len(coded) > 20


def section(title: str, text: str = PROTOCOL) -> str:
    """What stands below a heading, up to the next one of its level or above."""
    level, rest = re.search(rf"^(#+) {re.escape(title)}\n(.*)", text, re.MULTILINE | re.DOTALL).groups()  # type: ignore[union-attr]
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]  # type: ignore[no-any-return]


def first_column(text: str) -> set[str]:
    """The words of the first column of all tables in a text."""
    cells = re.findall(r"^\| ([^|\n]+) \|", text, re.MULTILINE)
    return {word.strip("` *-") for cell in cells for word in re.split(r"[, ]+", cell)}


def test_the_protocol_page_has_every_limit_and_its_value() -> None:
    from ramet.kernel import limits
    told = dict(re.findall(r"^\| (\w+) \*? ?\| ([\d,.]+) \|", section("Limits"), re.MULTILINE))
    coded = {name: value for name, value in vars(limits).items() if isinstance(value, int | float)}
    used = set(re.findall(r"\w+", "".join(p.read_text() for p in (TOP / "src/ramet").rglob("*.py") if p.name != "limits.py")))
    assert {name: float(value.replace(",", "")) for name, value in told.items()} == {
        name: float(value) for name, value in coded.items() if name in used}


def test_the_protocol_page_has_what_travels_in_dicts() -> None:
    from ramet import connectors
    from ramet.kernel import failures, start
    assert set(start.facts()) <= first_column(section("HELLO (2) ←"))
    assert set(connectors.make("", "a", None, 1.0)) == first_column(section("GROW (7) →")) - {"key"}
    error = ValueError("x")
    error.__cause__ = error.__context__ = KeyError("y")
    error.__notes__ = ["z"]  # type: ignore[attr-defined]
    assert set(failures.describe(error)) <= first_column(section("Failure"))
    assert set(failures.ATTRIBUTES) <= set(re.findall(r"\w+", section("Failure")))


def test_the_protocol_page_has_what_goes_before_the_first_frame() -> None:
    from ramet.kernel import diagnosis, stub
    assert f"| head | {stub.HEAD_BYTES} |" in PROTOCOL
    statuses = {rule["status"] for rule in diagnosis.EXITS if rule.get("status", 0) > 1}
    assert statuses <= set(map(int, re.findall(r"\d+", section("From the child")))), statuses


def test_every_error_is_explained() -> None:
    from ramet.kernel import errors
    coded = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert coded - {"Error"} <= first_column((TOP / "docs/how-to/errors.md").read_text())


def test_every_stage_is_named() -> None:
    from ramet.kernel import errors
    stages = set(re.findall('"([a-z-]+)"', errors.ConnectError.__doc__ or ""))
    assert {"resolve", "escalate", "bootstrap"} <= stages
    for page in "how-to/errors.md", "glossary.md":
        line = next(line for line in (TOP / "docs" / page).read_text().splitlines() if "find-python" in line)
        assert stages <= set(re.findall("[a-z-]+", line)), page


def test_every_option_of_a_connector_is_explained() -> None:
    import inspect

    from ramet.connectors import command, ssh
    for plan, page in (ssh.plan, "ssh.md"), (command.plan, "anything-else.md"):
        assert set(inspect.signature(plan).parameters) <= first_column((TOP / "docs/how-to" / page).read_text()), page


@pytest.mark.parametrize("page", ["accounts.md", "containers.md"])
def test_the_options_of_a_family_of_connectors_are_the_ones_that_its_page_tells(page: str) -> None:
    """Of each connector those, and no others: its targets as in `docker(container=None)`, the rest in the table of options."""
    import importlib
    import inspect

    text = (TOP / "docs/how-to" / page).read_text()
    told = {name: set(re.findall(r"(\w+)(?:=\w+|=\".*?\")?(?:, |$)", targets))
            for name, targets in re.findall(r"^\| `(\w+)\(([^)]*)\)` \|", text, re.MULTILINE)}  # fmt: skip
    for options, of in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ([a-z0-9, ]+) \|", text, re.MULTILINE):
        for name in set(of.split(", ")) & set(told):
            told[name] |= set(re.findall(r"\w+", options))
    assert len(told) > 4
    for name, options in told.items():
        plan = importlib.import_module(f"ramet.connectors.{name}").plan
        coded = {option for option in inspect.signature(plan).parameters
                 if not option.endswith("_path") and option not in ("name", "python", "connect_timeout_s")}
        own = {option for option in coded if option.endswith("_args")} - options
        assert coded - own == options, name
        assert len(own) == 1, name
        assert own == {f"{name}_args"} or f"`{own.pop()}`" in text, name


def test_every_option_of_the_command_is_explained_and_every_example_can_be_parsed() -> None:
    import shlex

    import typer

    from ramet import cli
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    run = commands["run"]
    told = first_column((TOP / "docs/how-to/command-line.md").read_text())
    options = {name.strip("-") for command in (run, commands["cache"]) for parameter in command.params
               for name in parameter.opts if name.startswith("-")}  # fmt: skip
    assert options - {"help", "h"} <= told, options - told
    examples = [line for page in PAGES for line in re.findall(r"^ramet run (.+)$", page.read_text(), re.MULTILINE)]
    for example in examples:
        words = shlex.split(example.partition("|")[0], comments=True)
        assert run.make_context("run", words).params["target"], example
    assert len(examples) > 4


def test_every_public_name_is_told_of() -> None:
    import ramet
    words = set(re.findall(r"\w+", "".join(page.read_text() for page in PAGES)))
    assert set(ramet.__all__) <= words
    methods = {name for kind in (ramet.Tree, ramet.Node, ramet.Call) for name, value in vars(kind).items()
               if not name.startswith("_") and callable(value)}
    assert methods <= words, methods - words


def test_files_that_pages_name_are_there() -> None:
    folders = "kernel|modules|bootstrap|connectors|cli"
    for page in PAGES:
        for name in re.findall(rf"`((?:(?:{folders})/)?\w+\.py)`", page.read_text()):
            below = [TOP / "src/ramet", *(TOP / "src/ramet" / folder for folder in folders.split("|"))]
            assert any((folder / name).exists() for folder in below) or f'title="{name}"' in page.read_text(), (page, name)
