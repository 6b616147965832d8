"""What rating again comes to, computed apart from ours: docs/prices.md event by event.

Nothing here comes from `metering.settlement`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from metering.events import UsageEvent
from simulation.naive_prices import Amount, event_amounts, has_price
from simulation.rerates import Rerating

LATE = "sla_credit"


@dataclass
class Rated:
    """An event, what it was booked at, and what it comes to by now with its adjustments."""

    event: UsageEvent
    first: Mapping[str, Amount]
    now: dict[str, Amount]
    number: int = 0
    cost_version: str | None = None
    sell_version: str | None = None


@dataclass(frozen=True)
class Adjustment:
    """The `number`-th difference of an event, by unit."""

    event: UsageEvent
    number: int
    amounts: Mapping[str, Amount]
    cost_version: str | None
    sell_version: str | None


def begin(event: UsageEvent, amounts: Mapping[str, Amount]) -> Rated:
    """An event as it was booked."""
    return Rated(event, amounts, dict(amounts), 0, event.cost_version, event.sell_version)


def adjust(rated: Rated, asked: Rerating) -> Adjustment | None:
    """What this makes of the event, which is moved along; None where nothing changes."""
    event = rated.event
    if not asked.since_ns <= event.occurred_at < asked.until_ns:
        return None
    if asked.tenant not in (None, event.tenant):
        return None
    costs = "cost" in asked.sides and event.cost_version is not None
    sells = "sell" in asked.sides and event.billable
    prices = asked.prices_at(event.occurred_at)
    price = prices.of(event.model_upstream)
    if (costs or sells) and not has_price(event, price):
        return None
    wanted = _wanted(rated, event_amounts(event, price), costs=costs, sells=sells)
    more = {}
    for unit, each in wanted.items():
        held = rated.now[unit]
        if (each.sell, each.cost) != (held.sell, held.cost):
            sell, cost = each.sell - held.sell, each.cost - held.cost
            rate = 0 if each.rate is None and sell else each.rate  # free is a price, too
            more[unit] = replace(each, quantity=0, rate=rate, sell=sell, cost=cost)
            rated.now[unit] = replace(each, rate=rate)
    if not more:
        return None
    rated.number += 1
    if costs:
        rated.cost_version = prices.book.cost_version
    if sells:
        rated.sell_version = prices.book.sell_version
    return Adjustment(event, rated.number, more, rated.cost_version, rated.sell_version)


def _wanted(
    rated: Rated, new: Mapping[str, Amount], *, costs: bool, sells: bool
) -> dict[str, Amount]:
    """By unit, what it should come to; a side that is not asked for stays."""
    found = {}
    for unit, each in new.items():
        held = rated.now[unit]
        if unit == LATE:
            continue
        side = each if sells else held
        found[unit] = replace(side, cost=each.cost if costs else held.cost)
    if LATE in rated.first:  # the same share of the sale as when it was taken off
        off = rated.first[LATE].sell
        before = sum(each.sell for each in rated.first.values()) - off
        after = sum(each.sell for each in found.values())
        share = Fraction(off, before) if before else Fraction(0)
        found[LATE] = replace(rated.now[LATE], sell=round(share * after))
    return found
