"""Names of nodes: no two are the same, whatever they were made of, in whichever order."""
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import ramet
from ramet.naming import Names


@given(st.lists(st.sampled_from(["db", "db-1", "db-2", "db-02", "db-3", "db-2-2", "db-", "-2", "2"]), max_size=30))
def test_names_are_unique(wished: list[str]) -> None:
    names = Names()
    made = [names.unique(name) for name in wished]
    assert len(set(made)) == len(made)
    assert all(name == wish or name.startswith(wish + "-") for name, wish in zip(made, wished, strict=True))
    assert len(names._last) <= len(set(wished)), "a program may grow any number of nodes of one name"


def test_who_wishes_for_a_name_first_gets_it() -> None:
    names = Names()
    assert [names.unique(name) for name in ("db", "db", "db-2", "db-2", "db")] == ["db", "db-2", "db-2-2", "db-2-3", "db-3"]
    names = Names()
    assert [names.unique(name) for name in ("db-2", "db-02", "db", "db", "db")] == ["db-2", "db-02", "db", "db-3", "db-4"]


def test_nodes_have_them() -> None:
    with ramet.Tree(remember=False) as tree:
        assert [tree.local(name=name).name for name in ("a", "a", "a-2")] == ["a", "a-2", "a-2-2"]
