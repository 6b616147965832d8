"""Lists of a shared account: parameters kept apart, pages filtered."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import InvalidRequest
from proxy.passthrough_lists import Page, own_rows, read_page, read_wanted, shown


def test_parameters_are_kept_apart() -> None:
    """Ours are taken out, the others go on in their order."""
    wanted = read_wanted("order=asc&limit=3&after=file-1&metadata[a]=b+c")

    assert (wanted.limit, wanted.after) == (3, "file-1")
    assert wanted.query("file-9") == "order=asc&metadata[a]=b+c&limit=100&after=file-9"
    assert read_wanted("").query(None) == "limit=100"


@pytest.mark.parametrize("query", ["limit=x", "limit=", "limit=-1", "before=file-1"])
def test_what_cannot_be_paged(query: str) -> None:
    """It is refused by name."""
    with pytest.raises(InvalidRequest) as caught:
        read_wanted(query)

    assert caught.value.param in ("limit", "before")


@pytest.mark.parametrize(("said", "limit"), [("0", 1), ("100", 100), ("10000", 100)])
def test_limits(said: str, limit: int) -> None:
    """At least one row, at most a page."""
    assert read_wanted(f"limit={said}").limit == limit


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"data": {}}', b"<html>"])
def test_what_is_no_list(raw: bytes) -> None:
    """It is not shown to anybody."""
    assert read_page(raw) is None


rows = st.lists(st.fixed_dictionaries({"id": st.sampled_from("abcdef") | st.integers()}))


@given(rows, st.sets(st.sampled_from("abcdef")), st.integers(1, 5))
def test_no_foreign_id_is_shown(listed: list[dict[str, object]], owned: set[str], n: int) -> None:
    """Not in a row and not as a cursor."""
    page = Page(tuple(listed), has_more=True, rest={})

    said = orjson.loads(shown(own_rows(page, owned), read_wanted(f"limit={n}"), has_more=False))

    assert {row["id"] for row in said["data"]} <= owned
    assert {said["first_id"], said["last_id"]} <= {*owned, None}
    assert len(said["data"]) <= n
