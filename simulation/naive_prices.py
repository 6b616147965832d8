"""What one event comes to, computed apart from ours: in fractions, from plain prices.

Nothing here comes from `metering.settlement` or from what finds and scales rates in `metering`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from metering.events import UsageEvent
from simulation.prices import TOKENS, Change, ModelPrice


@dataclass(frozen=True)
class Amount:
    """One unit of an event: at what rate (pico-USD, None without one) and what it comes to."""

    quantity: int
    rate: int | None
    sell: int
    cost: int
    variant: str | None = None


def event_amounts(event: UsageEvent, price: ModelPrice) -> dict[str, Amount]:
    """By unit. Python's `round` of a fraction goes to the even neighbour."""
    found = {}
    words = _words(event, price)
    for unit, quantity in event.units.items():
        if not quantity:
            continue
        cost = None if event.cost_version is None else _rate(event, price, unit, Fraction(1))
        sell = None
        if event.billable:
            sell = _rate(event, price, unit, Fraction(price.multiplier_ppm, 10**6))
        found[unit] = Amount(
            quantity,
            sell,
            0 if sell is None else round(Fraction(quantity * sell, 1000)),
            0 if cost is None else round(Fraction(quantity * cost, 1000)),
            words if event.billable and unit in TOKENS else None,
        )
    if event.billable and event.sla_credit_nano:
        off = event.sla_credit_nano
        found["sla_credit"] = Amount(off, -1000, -off, 0)
    return found


def has_price(event: UsageEvent, price: ModelPrice) -> bool:
    """Whether nothing of the event lacks a price that must have one. Tokens always have theirs
    here; a search that the list does not name has none."""
    return not event.units.get("web_search") or _listed(price, "web_search") is not None


def _rate(event: UsageEvent, price: ModelPrice, unit: str, times: Fraction) -> int | None:
    """The list's rate is scaled first, then what holds at a tier, length and region is applied."""
    rate = _listed(price, unit)
    if rate is None:
        return None
    rate = round(rate * times)
    if unit not in TOKENS:
        return rate
    factor = Fraction(1)
    for change in _changes(event, price):
        if change.rates is not None:
            like = "output_text" if unit == "output_image" else unit
            own = change.rates.get(unit, change.rates.get(like))
            rate = rate if own is None else round(own * times)
        elif unit.startswith("input_"):
            factor *= Fraction(change.input_ppm, 10**6)
        else:
            factor *= Fraction(change.output_ppm, 10**6)
    return round(rate * factor)


def _listed(price: ModelPrice, unit: str) -> int | None:
    if unit in price.classes:
        return price.classes[unit]
    if unit == "output_image":
        return price.classes.get("output_text", price.output)
    if unit.startswith("input_"):
        return price.input
    if unit.startswith("output_"):
        return price.output
    return None


def _changes(event: UsageEvent, price: ModelPrice) -> list[Change]:
    found = []
    if event.price_tier in price.tiers:
        found.append(price.tiers[event.price_tier])
    if (border := _border(event, price)) is not None:
        found.append(dict(price.context)[border])
    if event.region in price.regions:
        found.append(price.regions[event.region])
    return found


def _border(event: UsageEvent, price: ModelPrice) -> int | None:
    """The highest length that the prompt is above."""
    prompt = abs(sum(n for unit, n in event.units.items() if unit.startswith("input_")))
    return max((above for above, _ in price.context if prompt > above), default=None)


def _words(event: UsageEvent, price: ModelPrice) -> str | None:
    parts = []
    if event.price_tier in price.tiers:
        parts.append(f"service tier {event.price_tier}")
    if (border := _border(event, price)) is not None:
        parts.append(f"prompts above {border} tokens")
    if event.region in price.regions:
        parts.append(f"region {event.region}")
    return ", ".join(parts) or None


def totals(amounts: Mapping[str, Amount]) -> tuple[int, int]:
    """What all of it sells for and costs."""
    return sum(each.sell for each in amounts.values()), sum(each.cost for each in amounts.values())
