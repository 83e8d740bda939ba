"""Metadata of distributions as records that a node can load: the texts of a ``.dist-info`` or ``.egg-info`` folder.

Whether a node may have them was asked before (``policy``). Thread-safe: it reads only.
"""
from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Iterable

from ramet.kernel import values
from ramet.kernel.importer import OWN, SCHEME
from ramet.modules.data import CODE, Records, record
from ramet.modules.find import lacks_descriptor

DISTRIBUTION_CHARS_MAX = 200
#: The texts of a distribution that travel with its name. Not ``direct_url.json``: it may hold a path or a password.
TEXTS = ("METADATA", "PKG-INFO", "entry_points.txt", "top_level.txt", "WHEEL", "INSTALLER", "requires.txt")
#: Lists of files, which are sent if asked for: long, and seldom wanted.
LISTS = ("RECORD", "SOURCES.txt", "installed-files.txt")


def is_distribution_name(name: str) -> bool:
    """Whether this is the normalized name of a distribution."""
    return len(name) <= DISTRIBUTION_CHARS_MAX and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) is not None


def distribution_records(name: str, wins: bool, listed: str = "") -> Records:
    """A distribution's metadata, or one of its lists of files; nothing if it isn't installed here.

    Args:
        wins: over one of that name that is installed over there.
        listed: one of ``LISTS``; "" for the texts.
    """
    try:
        known = importlib.metadata.distribution(name)
        if listed:
            text = known.read_text(listed) if listed in LISTS else None
            return {} if text is None else {f"{name}:{listed}": record(f"{name}:{listed}", text.encode())}
        texts = {file: text for file in TEXTS if (text := known.read_text(file)) is not None}
    except (importlib.metadata.PackageNotFoundError, OSError, ValueError) as error:
        if lacks_descriptor(error):
            raise   # nodes remember that there is none
        return {}
    if not texts.keys() & {"METADATA", "PKG-INFO"}:
        text = known.read_text("")      # of old setuptools, the whole of it is one file
        texts |= {"PKG-INFO": text} if text else {}
    if "top_level.txt" not in texts:
        texts["top_level.txt"] = "\n".join(_tops_in(known))
    where = SCHEME + str(getattr(known, "_path", name)).replace(os.sep, "/")
    return {f"{name}:": record(f"{name}:", b"".join(values.encode(texts)), OWN if wins else 0, where)}


def _tops_in(known: importlib.metadata.Distribution) -> list[str]:
    """What the list of files says of it: else each node would have to ask for that list."""
    firsts = {file.parts[0] for file in known.files or () if file.suffix in CODE and ".." not in file.parts}
    return sorted({first.partition(".")[0] for first in firsts if "-" not in first})


def top_levels(name: str) -> list[str]:
    """The top-level modules of a distribution that is installed here."""
    known = importlib.metadata.distribution(name)
    return (known.read_text("top_level.txt") or "").split() or _tops_in(known)


def distribution_list(key: str, names: Iterable[str]) -> Records:
    """The answer to the question for all that a node may know of."""
    return {key: record(key, "\0".join(sorted(names)).encode())}
