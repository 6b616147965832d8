"""Which paths are relayed, told from what stands on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.passthrough_paths import FAMILIES, ID, OWN, PART, ROWS, Row, Spend, Target, find


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_is_found(row: Row) -> None:
    """By its method and a path of its shape, with the ids that must be the tenant's."""
    path = row.template.replace(OWN, "own_1").replace(PART, "part_1")

    found = find(row.method, path)

    assert found == Target(row, path, ("own_1",) * row.template.count(OWN))


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "files", {"GET", "POST"}),
        ("POST", "files/file-1", {"GET", "DELETE"}),
        ("DELETE", "threads/runs", {"GET", "POST", "DELETE"}),
    ],
)
def test_other_methods(method: str, path: str, allowed: set[str]) -> None:
    """A path that is there tells which methods it has; an id may look like a word."""
    found = find(method, path)

    assert isinstance(found, frozenset | Target)
    if isinstance(found, frozenset):
        assert found == allowed


def test_words_go_before_ids() -> None:
    """`threads/runs` makes a run; it is no thread of that name."""
    found = find("POST", "threads/runs")

    assert isinstance(found, Target)
    assert (found.row.family, found.owned) == ("runs", ())


@given(st.text(max_size=40))
def test_what_is_found_is_put_together_from_checked_parts(path: str) -> None:
    """Whatever is asked for, the upstream's path has the signs of ids and slashes only."""
    found = find("GET", path)

    if isinstance(found, Target):
        assert found.path == path
        assert all(ID.fullmatch(part) for part in found.path.split("/"))


def test_what_spends_later_can_only_be_posted() -> None:
    """Reading and deleting spend nothing, and no row makes an object by reading."""
    assert {row.method for row in ROWS if row.spend is not Spend.NOTHING} == {"POST"}
    assert {row.method for row in ROWS if row.makes} == {"POST"}
    assert all(row.learns or not row.lists or row.method == "GET" for row in ROWS)


def test_families_are_plain_words() -> None:
    """They are keys of the configuration."""
    assert all(name.replace("_", "").isalpha() and name.islower() for name in FAMILIES)
