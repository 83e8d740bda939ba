"""Remembered hosts: what was installed where a plan led to, which form of code was taken there, and which interpreter was found
there by its version, the last time.

With it, everything that a first call needs goes along with it. It is a forecast: where it is wrong, a node has more or less
than it needs, and asks for the rest. It must not know of nodes or links. Thread-safe: one lock.

A list of what is installed is kept once, by its digest, however many hosts have it. On disk, in the user's cache directory,
there is one file: hosts by the digest of how they are reached (plans hold names, accounts and environments, which aren't
anybody's business), the lists, and paths of interpreters.
"""
from __future__ import annotations

import hashlib
import itertools
import re
import sys
import threading
from typing import Any

from ramet import codec
from ramet.bootstrap import cache
from ramet.bootstrap.wishes import KNOWN_HERE
from ramet.kernel.installed import CHARS_MAX, DIGEST_BYTES, NAME_CHARS_MAX, NAMES_MAX

HOSTS_MAX = 2000
LISTS_MAX = 64
FILE_BYTES_MAX = 700_000

# How many digests a node is told: what most hosts have is one of the lists that were used last.
OFFERED_MAX = 8

_FILE = cache.name_of("hosts", 2)     # 2: the version of what it holds
# Of a plan, what decides where it leads and what runs there. No secret, and nothing of the node.
_FIELDS = ("argv", "cwd", "env", "python", "shape", "what")
_NAME = re.compile(f"[A-Za-z0-9_]{{1,{NAME_CHARS_MAX}}}", re.ASCII)

_FORM = re.compile(r"cp\d{2,4}", re.ASCII)

# An interpreter's path as it may stand in a command line for any shell, without quotes.
_PATH = re.compile(r"/[A-Za-z0-9_@%+=:,./-]{1,200}", re.ASCII)

Installed = frozenset[str]


def digest_of(names: list[str]) -> bytes:
    """What names a list, here and in nodes."""
    return hashlib.sha256("\n".join(names).encode("ascii")).digest()[:DIGEST_BYTES]


def is_list(names: Any) -> bool:
    """Whether this is a list as a node may tell it: of names, sorted. Another one could have the digest of such a list."""
    return (isinstance(names, list) and len(names) <= NAMES_MAX
            and all(isinstance(name, str) and _NAME.fullmatch(name) for name in names)
            and all(one < other for one, other in itertools.pairwise(names)) and sum(map(len, names)) <= CHARS_MAX)


def key_of(plan: dict[str, Any], parent: bytes | None) -> bytes:
    """How a node is reached, as a digest: by its plan, from a parent that is reached so (None: from this program)."""
    here = sys.executable if parent is None and plan["shape"] == "socket" else ""   # it is started directly
    return hashlib.sha256(repr((parent, here, [(field, plan[field]) for field in _FIELDS])).encode(
        "utf-8", "surrogatepass")).digest()[:DIGEST_BYTES]


def form_in(facts: dict[str, Any]) -> str:
    """In which form a node takes code, by the facts that it tells. Source does for all."""
    form = facts.get("form")
    return form if isinstance(form, str) and _FORM.fullmatch(form) else "source"


def searches(plan: dict[str, Any]) -> bool:
    """Whether a plan looks for an interpreter by its version."""
    return any(KNOWN_HERE in word for word in plan["argv"])


def with_known(plan: dict[str, Any], path: str) -> dict[str, Any]:
    """The plan with an interpreter to try first, where it looks for one by its version; "" for none."""
    return {**plan, "argv": [word.replace(KNOWN_HERE, path) for word in plan["argv"]]}


class Hosts:
    """What is remembered of hosts, by ``key_of`` their plans.

    Args:
        on_disk: whether it is read from, and kept in, the user's cache directory; else it lasts as long as this object.
    """

    def __init__(self, on_disk: bool) -> None:
        self.on_disk = on_disk
        self.changed = False
        self._lock = threading.Lock()
        self._read = not on_disk
        self._hosts: dict[bytes, tuple[bytes, str]] = {}    # key -> digest of the list, form; what was used last is last
        self._lists: dict[bytes, Installed] = {}            # likewise
        self._found: dict[bytes, str] = {}                  # key -> the interpreter that was found there by its version

    def recall(self, key: bytes) -> tuple[Installed | None, str | None]:
        """What is installed there, and the form; None where it isn't known."""
        with self._lock:
            self._load()
            digest, form = self._hosts.get(key, (b"", None))
            return self._lists.get(digest), form

    def found(self, key: bytes) -> str:
        """The interpreter that was found there the last time by its version; "" if none is known."""
        with self._lock:
            self._load()
            return self._found.get(key, "")

    def note_found(self, key: bytes, path: Any) -> None:
        """Remember where an interpreter was found by its version.

        Args:
            path: as the node tells it: it may be anything.
        """
        if isinstance(path, str) and _PATH.fullmatch(path):
            with self._lock:
                self._load()
                self.changed |= self._found.get(key) != path
                self._found.pop(key, None)
                self._found[key] = path
                _cut(self._found, HOSTS_MAX)

    def offered(self, key: bytes) -> dict[bytes, Installed]:
        """The lists that a node there is likely to have, by digest: its own first."""
        with self._lock:
            self._load()
            likely = [self._hosts[key][0]] if key in self._hosts else []
            likely += reversed(self._lists)
            return {digest: self._lists[digest] for digest in dict.fromkeys(likely[:OFFERED_MAX]) if digest in self._lists}

    def note(self, key: bytes, form: str, names: list[str] | None, known: Installed | None = None) -> Installed:
        """Remember what a host told.

        Args:
            names: a list for which ``is_list`` holds; or None, and ``known`` is one of those that were ``offered``.
        """
        told = sorted(known or ()) if names is None else names
        digest = digest_of(told)
        with self._lock:
            self._load()
            self.changed |= self._hosts.get(key) != (digest, form) or digest not in self._lists
            found = self._lists.pop(digest, None)
            if found is None:
                found = frozenset(told)
            self._lists[digest] = found     # at the end, as the one that was used last
            self._hosts.pop(key, None)
            self._hosts[key] = digest, form
            _cut(self._lists, LISTS_MAX)
            _cut(self._hosts, HOSTS_MAX)
            return found

    def save(self) -> None:
        """Write it to the disk, if something is new. What other programs have written meanwhile stays."""
        with self._lock:
            if not self.changed or not self.on_disk:
                return
            self.changed = False
            hosts, lists, found = _parsed(cache.get(_FILE))
            found = {**{key: path for key, path in found.items() if key not in self._found}, **self._found}
            lists = {**{digest: names for digest, names in lists.items() if digest not in self._lists}, **self._lists}
            hosts = {**{key: host for key, host in hosts.items() if key not in self._hosts}, **self._hosts}
        _cut(hosts, HOSTS_MAX)
        _cut(found, HOSTS_MAX)
        size = 0
        kept: dict[bytes, list[str]] = {}
        for digest in list(reversed(lists))[:LISTS_MAX]:
            size += sum(len(name) + 3 for name in lists[digest])
            if size <= FILE_BYTES_MAX:
                kept[digest] = sorted(lists[digest])
        table = [[key, digest, form] for key, (digest, form) in hosts.items() if digest in kept]
        cache.put(_FILE, b"".join(codec.encode([table, list(reversed(kept.values())), found])))

    def _load(self) -> None:
        if not self._read:
            self._read = True
            self._hosts, self._lists, self._found = _parsed(cache.get(_FILE))


def _parsed(data: bytes | None) -> tuple[dict[bytes, tuple[bytes, str]], dict[bytes, Installed], dict[bytes, str]]:
    """The file's content; nothing of it if anything is odd."""
    try:
        table, told, found = codec.decode(data or b"")
        lists = {digest_of(names): frozenset(names) for names in told if is_list(names)}
        paths = {bytes(key): path for key, path in found.items() if _PATH.fullmatch(path)}
        return {bytes(key): (bytes(digest), str(form)) for key, digest, form in table}, lists, paths
    except Exception:
        return {}, {}, {}


def _cut(table: dict[bytes, Any], count: int) -> None:
    for key in list(table)[:-count]:
        del table[key]
