"""The rows of a provider's export, in our words. Pure.

Rules: a day is UTC; quantities are those of our token classes, disjoint, so that sums are sums;
amounts are nano-USD, rounded once per row. A row that cannot be read is a fault of the whole
export: half of one would look like a gap.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from metering.money import NANO_PER_USD, divide_half_even, parse_decimal

REQUESTS = "requests"
"""The unit that counts calls of the provider."""

USAGE, COST = "usage", "cost"
"""The two kinds of exports."""


class ExportError(ValueError):
    """What the provider sent, or what lies in the file, is no export that we know."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """So many units on a day. `tier`, `project` and `key` are empty where the row names none."""

    day: str
    model: str
    unit: str
    quantity: int
    tier: str = ""
    project: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class CostRow:
    """What was charged on a day; `model` is empty for charges that belong to none."""

    day: str
    model: str
    amount_nano: int
    currency: str = "USD"
    what: str = ""
    project: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Export:
    """One answer of a provider, or one file: the days from `since` to before `until`."""

    kind: str
    since: str
    until: str
    usage: tuple[UsageRow, ...] = ()
    costs: tuple[CostRow, ...] = ()

    def encode(self) -> bytes:
        """As JSON, the same bytes for the same rows."""
        body = {
            "kind": self.kind,
            "since": self.since,
            "until": self.until,
            "usage": [asdict(row) for row in self.usage],
            "costs": [asdict(row) for row in self.costs],
        }
        return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Export:
        """What `encode` wrote."""
        body = json.loads(data)
        return cls(
            body["kind"],
            body["since"],
            body["until"],
            tuple(UsageRow(**row) for row in body["usage"]),
            tuple(CostRow(**row) for row in body["costs"]),
        )


def read_json(data: bytes) -> dict[str, Any]:
    """A page as a mapping, its numbers exact: an amount is never a float."""
    try:
        body = json.loads(data, parse_float=Decimal)
    except ValueError as error:
        raise ExportError(f"not JSON: {error}") from None
    if not isinstance(body, dict):
        raise ExportError("a page is a JSON object")
    return body


def read_table(text: str) -> list[dict[str, str]]:
    """The rows of a CSV file by the names of their columns; commas, semicolons or tabs."""
    text = text.removeprefix("\ufeff")
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    rows = list(csv.DictReader(io.StringIO(text), delimiter=delimiter, restval=""))
    if any(None in row for row in rows):
        raise ExportError("a row has more cells than the head of the table")
    return [{name.strip(): (cell or "").strip() for name, cell in row.items()} for row in rows]


def count(row: Mapping[str, Any], name: str) -> int:
    """A whole number of the row, also when it is written `59200.0`; 0 where there is none."""
    value = row.get(name)
    if value is None or value == "":
        return 0
    try:
        exact = parse_decimal(str(value).replace(",", ""))
    except ValueError:
        raise ExportError(f"{name} is {value!r}, not a number") from None
    if exact != exact.to_integral_value() or exact < 0:
        raise ExportError(f"{name} is {value}, not a count")
    return int(exact)


def nano(value: object, *, per_usd: int = 1) -> int:
    """An amount in nano-USD, half-even; `per_usd` is 100 for one in cents."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise ExportError(f"an amount is {value!r}, not a number")
    try:
        exact = parse_decimal(str(value))
    except ValueError:
        raise ExportError(f"an amount is {value!r}, not a number") from None
    if abs(exact.adjusted()) > 30:
        raise ExportError(f"{exact} is not an amount of this world")
    numerator, denominator = exact.as_integer_ratio()
    return divide_half_even(numerator * NANO_PER_USD, denominator * per_usd)


def day_of(value: object) -> str:
    """The UTC day of Unix seconds or of an RFC 3339 time; ExportError for what is neither."""
    try:
        if isinstance(value, int | Decimal) or str(value).replace(".", "", 1).isdigit():
            moment = datetime.fromtimestamp(int(Decimal(str(value))), UTC)
        else:
            moment = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        raise ExportError(f"{value!r} is no time") from None
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return moment.date().isoformat()


def next_day(day: str, days: int = 1) -> str:
    """The day after; before, for a negative number."""
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat()


def days_between(since: str, until: str) -> list[str]:
    """Every day from `since` to before `until`."""
    first, end = date.fromisoformat(since), date.fromisoformat(until)
    return [(first + timedelta(days=n)).isoformat() for n in range((end - first).days)]


def spanning(
    kind: str, days: Iterable[str], usage: Iterable[UsageRow], costs: Iterable[CostRow]
) -> Export:
    """What a file says: it covers the days from the first to the last that it names."""
    named = sorted(days)
    if not named:
        raise ExportError("the file has no rows")
    return Export(kind, named[0], next_day(named[-1]), tuple(usage), tuple(costs))


def text(row: Mapping[str, Any], name: str) -> str:
    """A name in the row; empty where it is absent or null."""
    value = row.get(name)
    return "" if value is None else str(value)
