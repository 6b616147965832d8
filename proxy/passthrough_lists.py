"""Lists of an account that several tenants share: each sees its own rows, and pages through them.

The provider's pages are read one after the other, as large as it gives them, until there are as
many rows of the tenant as it asked for. Rules: no id of anybody else reaches the client, not as a
cursor either; what is asked for besides (`order`, `purpose`, ...) goes on as it is.

Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

import orjson

from proxy import json_bounds
from proxy.errors import InvalidRequest

PAGES_MAX = 20
"""Pages read for one request: 2000 rows of everybody's."""

PAGE_ROWS = 100
"""The most that OpenAI's lists give at once."""

ROWS_USUAL = 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asked of a list. `others` are the parameters that go on."""

    limit: int
    after: str | None
    others: tuple[tuple[str, str], ...]

    def query(self, after: str | None) -> str:
        """The query for the page behind this row."""
        cursor = [] if after is None else [("after", after)]
        return urlencode([*self.others, ("limit", str(PAGE_ROWS)), *cursor], safe="[]")


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the provider's."""

    rows: tuple[dict[str, Any], ...]
    has_more: bool
    rest: dict[str, Any]

    @property
    def last_id(self) -> str | None:
        """The cursor to the page behind it; None when there is none."""
        last = self.rows[-1].get("id") if self.rows and self.has_more else None
        return last if isinstance(last, str) else None

    @property
    def ids(self) -> list[str]:
        """The ids of its rows."""
        return [row["id"] for row in self.rows if isinstance(row.get("id"), str)]


def read_wanted(query: str) -> Wanted:
    """What the query of a list asks for; InvalidRequest for what cannot be kept apart."""
    limit, after = ROWS_USUAL, None
    others = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        match name:
            case "limit":
                if not (value.isascii() and value.isdigit() and 0 < len(value) <= 5):
                    raise InvalidRequest("`limit` must be a whole number.", param="limit")
                limit = max(1, min(int(value), PAGE_ROWS))
            case "after":
                after = value
            case "before":
                raise InvalidRequest(
                    "`before` is not supported here: the account behind this list is shared. Page "
                    "with `after`, or turn `order` round.",
                    param="before",
                )
            case _:
                others.append((name, value))
    return Wanted(limit, after or None, tuple(others))


def read_page(raw: bytes) -> Page | None:
    """A page of the provider's; None when it is no list."""
    if json_bounds.is_too_full(raw):
        return None
    try:
        answer = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
        return None
    rows = tuple(row for row in answer["data"] if isinstance(row, dict))
    return Page(rows, answer.get("has_more") is True, answer)


def shown(rows: list[dict[str, Any]], wanted: Wanted, *, has_more: bool) -> bytes:
    """The list as the client gets it."""
    some = rows[: wanted.limit]
    return orjson.dumps(
        {
            "object": "list",
            "data": some,
            "first_id": some[0].get("id") if some else None,
            "last_id": some[-1].get("id") if some else None,
            "has_more": has_more or len(rows) > wanted.limit,
        }
    )


def own_rows(page: Page, owned: Collection[str]) -> list[dict[str, Any]]:
    """The rows of a page that are the tenant's."""
    return [row for row in page.rows if row.get("id") in owned]
