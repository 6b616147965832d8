"""What came after a month was closed: the difference that the next statement says and books.

Pure. A closed statement is never written again. It is made anew by the terms that it was closed
with and all the events there are now; where that differs from what was said before, in the
statement itself and in later ones, the difference is a line of kind `adjustment` that names the
month. So all statements of a tenant together always come to what its events come to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from metering.money import format_short
from metering.plans import Term
from metering.settlement.charges import Line
from metering.settlement.statements import (
    MINIMUM,
    MINIMUM_NAME,
    Charged,
    Statement,
    coupon_component,
    coupon_name,
)


@dataclass(slots=True)
class Known:
    """What has been said of a month so far, by (plan version, component)."""

    sums: dict[str, int] = field(default_factory=dict)
    entries: dict[str, int] = field(default_factory=dict)
    list_nano: int = 0
    event_count: int = 0
    names: Mapping[str, str] = field(default_factory=dict)
    """What the month's charges are called (`names_of`)."""

    def add(self, found: Mapping[str, Any]) -> None:
        """Take in a statement's body, or what a later one said of the month."""
        for mine, theirs in ((self.sums, found["sums"]), (self.entries, found["entries"])):
            for key, amount in theirs.items():
                mine[key] = mine.get(key, 0) + amount
        self.list_nano += found["list_nano"]
        self.event_count += found["event_count"]


def known_of(period: str, bodies: Iterable[Mapping[str, Any]]) -> Known:
    """What the statements of a tenant say of a month, its own and those that came later."""
    known = Known()
    for body in bodies:
        if body["period"] == period:
            known.add(body)
        elif period in body["late"]:
            known.add(body["late"][period])
    return known


def late_of(known: Known, again: Statement) -> dict[str, Any] | None:
    """What the month comes to now beyond what is known of it; None when nothing came."""
    if again.event_count == known.event_count:
        return None
    return {
        "sums": _difference(known.sums, again.sums),
        "entries": _difference(known.entries, again.entries),
        "list_nano": again.list_nano - known.list_nano,
        "event_count": again.event_count - known.event_count,
    }


def names_of(terms: Iterable[Term]) -> dict[str, str]:
    """By plan version and component, what a person knows a charge as: its name, or its coupon."""
    found: dict[str, str] = {}
    for plan in {term.plan.version: term.plan for term in terms if term.plan}.values():
        for component in plan.components:
            found[f"{plan.version}:{component.id}"] = component.name
        for coupon in plan.coupons:
            found[f"{plan.version}:{coupon_component(coupon)}"] = coupon_name(coupon)
        found[f"{plan.version}:{MINIMUM}"] = MINIMUM_NAME
    return found


def _difference(known: Mapping[str, int], again: Mapping[str, int]) -> dict[str, int]:
    keys = sorted(known.keys() | again.keys())
    found = {key: again.get(key, 0) - known.get(key, 0) for key in keys}
    return {key: amount for key, amount in found.items() if amount}


def with_late(
    statement: Statement, late: Mapping[str, Mapping[str, Any]], known: Mapping[str, Known]
) -> Statement:
    """The statement with the lines of what came too late for earlier months."""
    start, end = statement.terms[0].start, statement.terms[-1].end
    lines = [
        _charged(month, key, amount, known[month], (start, end))
        for month in sorted(late)
        for key, amount in late[month]["sums"].items()
    ]
    return replace(statement, charged=(*statement.charged, *lines), late=dict(late))


def _charged(month: str, key: str, amount: int, known: Known, days: tuple[date, date]) -> Charged:
    version, _, component = key.partition(":")
    before = known.sums.get(key, 0)
    line = Line(
        component,
        "adjustment",
        known.names.get(key) or component or "Usage at list price",
        1,
        amount,
        f"{month} comes to {format_short(before + amount)} USD, billed {format_short(before)} USD",
        unit="late",
    )
    return Charged(line, *days, version=version, reference=month)
