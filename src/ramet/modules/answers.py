"""Answers to nodes that ask for package data or for metadata of distributions; and what is sent ahead of such questions.

It decides whether a node may have it by the policy, and says in the log what was refused. Not thread-safe: the module
server has a lock.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Container

from ramet.kernel.importer import ABSENT
from ramet.modules import data, metadata
from ramet.modules.closure import REFUSED, Closure
from ramet.modules.find import NAME_CHARS_MAX, SHIPPED, Found, is_module_name
from ramet.modules.policy import Grant, Policy, distributions_of, normal

#: (wire) The forms of a MODULE_REQUEST that aren't for modules.
DATA, DIST = "data", "dist"
DATA_FORMS = (DATA, DIST)

Data = tuple[data.Records, data.Reasons]

_log = logging.getLogger("ramet.modules")


class DataServer:
    """See above.

    Args:
        find: a module's whereabouts by its name, without importing it.
    """

    def __init__(self, policy: Policy, find: Callable[[str], Found]) -> None:
        self.policy = policy
        self.find = find
        self._refusals: dict[int, int] = {}     # how many, by node
        self._asked: dict[int, dict[str, int]] = {}     # by node and package: how often

    def answer(self, form: str, name: object, node: int, grant: Grant) -> Data:
        """What a node gets: records by name, and reasons under the names by which nodes keep them."""
        said = name if isinstance(name, str) else ""
        said = said[:NAME_CHARS_MAX * 2 + 1]
        records, reasons = self._metadata(said, grant) if form == DIST else self._package_data(said, node, grant)
        for key, reason in reasons.items():
            if reason.startswith(REFUSED):
                self.log_refusal(node, key, reason.removeprefix(REFUSED))
        return records, {f"{key}/{form}": reason for key, reason in reasons.items()}

    def log_refusal(self, node: int, name: str, reason: str) -> None:
        """Say that a node asked for what it doesn't get: the first time, and whenever its count of such has doubled."""
        count = self._refusals[node] = self._refusals.get(node, 0) + 1
        if count & (count - 1) == 0:
            _log.warning("node %d asked for %.200r and doesn't get it: %s (refusal %d of this node)", node, name, reason, count)

    def forget(self, node: int) -> None:
        """The node is gone."""
        self._refusals.pop(node, None)
        self._asked.pop(node, None)

    # ------------------------------------------------------------------ package data

    def _package_data(self, name: str, node: int, grant: Grant) -> Data:
        asked = data.split(name)
        if asked is None or not is_module_name(asked[0]) or asked[0] == "__main__":
            return {}, {name: REFUSED + "this isn't a name of package data"}
        package, parts, listed = asked
        names = package.split(".")
        packages = [self.find(".".join(names[:count])) for count in range(1, len(names) + 1)]
        if packages[-1].kind not in SHIPPED or packages[-1].folders is None:
            return {}, {name: ABSENT}
        objection = self.policy.data_objection(packages, grant)
        if objection:
            return {}, {name: REFUSED + objection}
        counts = self._asked.setdefault(node, {})
        counts[package] = counts.get(package, -1) + 1
        return data.PackageData(packages[-1], self.policy).answer(parts, listed, counts[package])

    # ------------------------------------------------------------------ metadata

    def _metadata(self, name: str, grant: Grant) -> Data:
        distribution, colon, rest = name.partition(":")
        if (distribution, colon) == ("*", ":"):
            records: data.Records = {}
            for known in self.policy.has_from_here(grant):
                records |= self._records_of(known)
            return records | metadata.distribution_list(name, [key[:-1] for key in records]), {}
        if not colon or not metadata.is_distribution_name(distribution):
            return {}, {name: REFUSED + "this isn't the name of a distribution"}
        records = self._records_of(distribution, rest)
        objection = self.policy.metadata_objection(distribution, grant) if records else None
        if objection:
            return {}, {name: REFUSED + objection}
        return records, {} if records else {name: ABSENT}

    def _records_of(self, distribution: str, listed: str = "") -> data.Records:
        if not metadata.is_distribution_name(distribution):
            return {}
        records = metadata.distribution_records(distribution, False, listed)
        preferred = records and not listed and self.policy.prefer and any(
            map(self.policy.prefers, metadata.top_levels(distribution)))  # fmt: skip
        return metadata.distribution_records(distribution, True) if preferred else records

    def ahead(self, closure: Closure, installed: Container[str]) -> data.Records:
        """What modules of a closure will ask for when they are imported, it is expected: their own distribution's version.

        Of what isn't installed over there, and of all that wins over what is.
        """
        library = {name.partition(".")[0] for name in closure.library}
        asking = {name.partition(".")[0] for name in closure.asks_metadata}
        asking -= {top for top in asking & library if top in installed}
        asking |= {name.partition(".")[0] for name in closure.library if self.policy.prefers(name)}
        records: data.Records = {}
        for top in asking:
            records |= self._records_of(normal(top)) or self._of_other_name(top, top in library)
        return records

    def _of_other_name(self, top: str, installed: bool) -> data.Records:
        """Of a library whose distribution has another name. To find that takes a look at all distributions, 0.1 s."""
        records: data.Records = {}
        for distribution in distributions_of([top]) if installed else ():
            records |= self._records_of(distribution)
        return records
