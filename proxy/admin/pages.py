"""Lists in pieces, amounts in both spellings, months: what many resources answer alike. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from metering.money import AMOUNT_NANO_MAX, format_usd, parse_decimal, usd_to_nano
from proxy.admin.errors import FieldRefused
from proxy.admin.routes import Param
from proxy.cli_times import parse_month

_Row = TypeVar("_Row")

LIMIT_USUAL, LIMIT_MAX = 100, 1_000

PAGE = (
    Param(
        "limit",
        f"Rows of a page; {LIMIT_USUAL} if left out",
        {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX},
    ),
    Param("cursor", "`next_cursor` of the page before", {"type": "string", "maxLength": 300}),
)

TENANT = Param("tenant", "Only of this tenant", {"type": "string", "maxLength": 64})
MONTH = Param(
    "month",
    "UTC month, as `2026-11`; the current one if left out",
    {"type": "string", "maxLength": 7},
)

AMOUNT = {
    "anyOf": [
        {"type": "string", "pattern": "^[0-9]{1,12}([.][0-9]{1,9})?$"},
        {"type": "number", "minimum": 0},
    ],
    "description": "USD, as a decimal string or a number",
}
REASON = {"type": "string", "minLength": 1, "maxLength": 500, "description": "Why, for the record"}
TIME = {"type": "string", "format": "date-time", "maxLength": 40}


def listed(row: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """The schema of a list."""
    return {
        "type": "object",
        "properties": {
            "data": {"type": "array", "items": dict(row or {"type": "object"})},
            "next_cursor": {"type": ["string", "null"]},
        },
    }


def limit_of(query: Mapping[str, str]) -> int:
    """How many rows are asked for."""
    return int(query.get("limit", LIMIT_USUAL))


def before_of(query: Mapping[str, str]) -> int | None:
    """The row before which a list of numbered rows goes on."""
    cursor = query.get("cursor")
    if cursor is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", cursor):
        raise FieldRefused("cursor must be a `next_cursor` of this list.", param="cursor")
    return int(cursor)


def page(
    rows: Sequence[_Row], key: Callable[[_Row], object], query: Mapping[str, str]
) -> dict[str, Any]:
    """A piece of a list whose rows have a key of their own, in the order of the list."""
    start, limit = 0, limit_of(query)
    if (cursor := query.get("cursor")) is not None:
        keys = [str(key(row)) for row in rows]
        if cursor not in keys:
            raise FieldRefused("That row is gone; begin again without a cursor.", param="cursor")
        start = keys.index(cursor) + 1
    part = rows[start : start + limit]
    more = start + limit < len(rows)
    return {"data": list(part), "next_cursor": str(key(part[-1])) if more and part else None}


def amounts(name: str, nano: int | None) -> dict[str, Any]:
    """`<name>_usd` and `<name>_nano`."""
    return {f"{name}_usd": None if nano is None else exact_usd(nano), f"{name}_nano": nano}


def exact_usd(nano: int) -> str:
    """USD to the last nano."""
    return format_usd(nano, places=9)


def with_usd(row: Any) -> Any:
    """The same with a `*_usd` beside each `*_nano`, at any depth."""
    if isinstance(row, Mapping):
        told: dict[str, Any] = {}
        for name, value in row.items():
            told[name] = with_usd(value)
            if str(name).endswith("_nano") and (value is None or isinstance(value, int)):
                usd = None if value is None else exact_usd(value)
                told.setdefault(f"{str(name).removesuffix('_nano')}_usd", usd)
        return told
    return [with_usd(each) for each in row] if isinstance(row, list | tuple) else row


def nano_of(value: object, name: str) -> int:
    """An amount of a body, more than nothing."""
    try:
        nano = usd_to_nano(parse_decimal(str(value)))
    except ValueError as error:
        raise FieldRefused(f"{name} {error}.", param=name) from None
    if not 0 < nano <= AMOUNT_NANO_MAX:
        raise FieldRefused(f"{name} must be more than 0, and no more than there is.", param=name)
    return nano


def month_of(query: Mapping[str, str], now_ns: int) -> str:
    """The month that is asked for."""
    try:
        return parse_month(query.get("month"), now_ns)
    except ValueError as error:
        raise FieldRefused(str(error), param="month") from None


def time_ns(text: str, name: str) -> int:
    """A time of a body or a query, RFC 3339 with its offset."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise FieldRefused(f"{name} must be like 2026-11-01T02:00:00Z.", param=name)
    return int(moment.timestamp()) * 10**9
