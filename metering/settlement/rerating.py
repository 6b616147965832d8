"""Rating again what is booked, by another price book: what changes, as events of their own. Pure.

Rules: nothing that is booked is edited. A changed event gets an adjustment that carries, by unit,
the difference between what stands (the event, and all its adjustments so far) and what the other
book makes of it; so all of them together come to the new book, going back comes to nothing, and
doing it twice does nothing. What the other book has no price for stays as it is and is told: a
missing rate is no rate of zero. An adjustment counts in no window: caps judged the admission.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from metering.events import Kind, Reason, UsageEvent, encode, payload_hash, served_model
from metering.ids import uuid7
from metering.money import amount_nano, divide_half_even
from metering.price_variants import choose_tier
from metering.prices import PriceBook, Rates, RatesByModel
from metering.settlement.batches import Booking
from metering.settlement.entries import Arrival, Entry
from metering.settlement.rating import SLA_CREDIT, RatedEvent, UnitAmount
from metering.usage import TOKEN_CLASSES, TOOL_UNITS

_REASON = "rerate"


@dataclass(frozen=True, slots=True)
class Era:
    """The two sides of a book, from a time on; None for a side that is left as it stands."""

    effective_from_ns: int
    cost: RatesByModel | None
    sell: RatesByModel | None


@dataclass(frozen=True, slots=True)
class Standing:
    """A booked event with its adjustments: what it comes to by now, by unit.

    `adjusted` is how many adjustments there are, the versions are those of the last of them, and
    `booked` is what the event itself was booked at.
    """

    event: UsageEvent
    amounts: Mapping[str, UnitAmount]
    is_unpriced: bool
    adjusted: int = 0
    cost_version: str | None = None
    sell_version: str | None = None
    booked: Mapping[str, UnitAmount] = field(default_factory=dict)

    @property
    def sell_nano(self) -> int:
        """What it sells for."""
        return sum(each.sell_nano for each in self.amounts.values())

    @property
    def cost_nano(self) -> int:
        """What it costs us."""
        return sum(each.cost_nano for each in self.amounts.values())


@dataclass(frozen=True, slots=True)
class Change:
    """What another book makes of an event, less what stands."""

    standing: Standing
    amounts: Mapping[str, UnitAmount]
    cost_version: str | None
    sell_version: str | None

    @property
    def sell_nano(self) -> int:
        """How much more it sells for."""
        return sum(each.sell_nano for each in self.amounts.values())

    @property
    def cost_nano(self) -> int:
        """How much more it costs us."""
        return sum(each.cost_nano for each in self.amounts.values())


@dataclass(frozen=True, slots=True)
class Unpriced:
    """The other book has no rate for these units: the event stays as it is."""

    standing: Standing
    units: tuple[str, ...]


def eras_of(book: PriceBook) -> tuple[Era, ...]:
    """Both sides of a book and of those before and after it."""
    return tuple(
        [
            Era(
                each.effective_from_ns,
                RatesByModel(each.body(sell=False), version=each.cost_version),
                RatesByModel(each.body(sell=True), version=each.sell_version),
            )
            for each in book.eras
        ]
    )


def era_at(eras: Sequence[Era], time_ns: int) -> Era:
    """The era of a time, of those in their order; the first one before all of them."""
    held = [each for each in eras if each.effective_from_ns <= time_ns]
    return held[-1] if held else eras[0]


def original_of(event: UsageEvent) -> str | None:
    """The id of the event that this one adjusts; None for what is no adjustment of ours."""
    if event.kind != Kind.ADJUSTMENT or event.reason_code != Reason.RERATED:
        return None
    return (event.correction_reason or "").rpartition(" ")[2]


def stand(
    event: UsageEvent,
    amounts: Mapping[str, UnitAmount],
    *,
    is_unpriced: bool,
    adjustments: Sequence[tuple[UsageEvent, Mapping[str, UnitAmount]]] = (),
) -> Standing:
    """What an event comes to with these adjustments, in the order in which they were booked."""
    sums = dict(amounts)
    for _, more in adjustments:
        for unit, each in more.items():
            held = sums.get(unit, UnitAmount(0, each.sell_rate_pico, 0, 0))
            sums[unit] = UnitAmount(
                held.quantity,
                each.sell_rate_pico,
                held.sell_nano + each.sell_nano,
                held.cost_nano + each.cost_nano,
                each.variant,
            )
    last = adjustments[-1][0] if adjustments else event
    return Standing(
        event, sums, is_unpriced, len(adjustments), last.cost_version, last.sell_version, amounts
    )


def rerate(standing: Standing, era: Era) -> Change | Unpriced | None:
    """What this book makes of the event; None where it makes the same of it."""
    event = standing.event
    cost = _rates(event, era.cost) if _takes_cost(standing, era) else None
    sell = _rates(event, era.sell) if _takes_sell(standing, era) else None
    missing = {
        unit
        for takes, rates in ((_takes_cost(standing, era), cost), (_takes_sell(standing, era), sell))
        for unit, quantity in event.units.items()
        if takes and quantity and _lacks(unit, rates)
    }
    if missing:
        return Unpriced(standing, tuple(sorted(missing)))
    found: dict[str, UnitAmount] = {}
    for unit, quantity in event.units.items():
        held = standing.amounts.get(unit, UnitAmount(quantity, None, 0, 0))
        rate = held.sell_rate_pico if sell is None else sell.rates_pico.get(unit)
        if rate is None and held.sell_nano:
            rate = 0  # free from now on: without a rate it would be on no line
        sell_nano = held.sell_nano if sell is None else _amount(quantity, sell, unit)
        cost_nano = held.cost_nano if cost is None else _amount(quantity, cost, unit)
        variant = held.variant if sell is None or unit not in TOKEN_CLASSES else sell.variant
        found[unit] = UnitAmount(0, rate, sell_nano, cost_nano, variant)
    if SLA_CREDIT in standing.booked:
        found[SLA_CREDIT] = _credit(standing, found)
    changed = {unit: _less(each, standing.amounts.get(unit)) for unit, each in found.items()}
    changed = {unit: each for unit, each in changed.items() if each.sell_nano or each.cost_nano}
    if not changed:
        return None
    return Change(
        standing,
        changed,
        standing.cost_version if cost is None else cost.version,
        standing.sell_version if sell is None else sell.version,
    )


def booking(change: Change, shard: int) -> Booking:
    """The adjustment of a change, ready to be booked.

    Its id and body follow from the event and from how many adjustments there were: the same one
    made twice is booked once, and of two different ones only the first.
    """
    event = change.standing.event
    number = change.standing.adjusted + 1
    event_id = adjustment_id(event.event_id, event.occurred_at, number)
    made = UsageEvent(
        event_id=event_id,
        exchange_id=event_id,
        **{name: getattr(event, name) for name in _COPIED},
        kind=Kind.ADJUSTMENT,
        attempt=0,
        correction_reason=f"{_REASON} {number} of {event.event_id}",
        usage_source="provider",
        cost_version=change.cost_version,
        sell_version=change.sell_version,
        cost_nano=change.cost_nano,
        reason_code=Reason.RERATED,
    )
    body = encode(made)
    entry = Entry(shard, "0-0", body, payload_hash(body))
    was_unpriced = change.standing.is_unpriced and number == 1  # it takes the event off the list
    unpriced = tuple(sorted(change.amounts)) if was_unpriced else ()
    rated = RatedEvent(made, change.amounts, change.sell_nano, change.cost_nano, unpriced)
    return Booking(Arrival(entry, made, body), rated)


_COPIED = (
    "tenant",
    "project",
    "api_key_id",
    "request_id",
    "upstream_request_id",
    "session",
    "run",
    "step",
    "feature",
    "user",
    "vendor",
    "provider",
    "model_requested",
    "model_public",
    "model_upstream",
    "model_answered",
    "model_version",
    "region",
    "service_tier",
    "price_tier",
    "status",
    "cache_status",
    "billable",
    "occurred_at",
    "completed_at",
    "emitted_at",
)
"""What an adjustment has of its event: it stands in the same month, hour, project and report."""


def adjustment_id(event_id: str, occurred_at: int, number: int) -> str:
    """The id of an event's adjustment of this number, from 1 on."""
    random = hashlib.sha256(f"{_REASON} {number} of {event_id}".encode()).digest()[:10]
    return uuid7(occurred_at // 10**6, random)


def _takes_cost(standing: Standing, era: Era) -> bool:
    """Whether a provider was paid for it by our book: nobody was for an answer given again."""
    if era.cost is None or standing.event.reason_code == Reason.CACHE_HIT:
        return False
    return standing.cost_version is not None or standing.is_unpriced


def _takes_sell(standing: Standing, era: Era) -> bool:
    if era.sell is None or not standing.event.billable:
        return False
    return standing.sell_version is not None or standing.is_unpriced


def _rates(event: UsageEvent, card: RatesByModel | None) -> Rates | None:
    """The rates for this event: at the tier it was billed at, where this book has it, else at the
    one that the provider reported. The book that it was booked by makes the same of it again."""
    if card is None:
        return None
    rates = card.find(
        provider=event.provider, model=event.model_upstream, public_name=served_model(event)
    )
    if rates is None or rates.variants is None:
        return rates
    tier = event.price_tier
    is_own = card.version in (event.cost_version, event.sell_version)
    if tier not in rates.variants.tiers and not is_own:
        tier = choose_tier(
            rates.variants, rates.rates_pico, reported=event.service_tier, asked=tier, usual=None
        ).tier
    return rates.at(event.units, tier=tier, region=event.region)


def _lacks(unit: str, rates: Rates | None) -> bool:
    if rates is None:
        return True
    return unit not in rates.rates_pico and (unit in TOKEN_CLASSES or unit in TOOL_UNITS)


def _amount(quantity: int, rates: Rates, unit: str) -> int:
    rate = rates.rates_pico.get(unit)
    return 0 if rate is None else amount_nano(quantity, rate)


def _credit(standing: Standing, found: Mapping[str, UnitAmount]) -> UnitAmount:
    """What was taken off for a late answer: the same share of the sale as when it was booked, so
    that nothing is left of prices in between."""
    held = standing.booked[SLA_CREDIT]
    before = sum(each.sell_nano for each in standing.booked.values()) - held.sell_nano
    after = sum(each.sell_nano for each in found.values())
    sign = -1 if before < 0 else 1
    sell_nano = divide_half_even(sign * held.sell_nano * after, abs(before)) if before else 0
    return UnitAmount(0, held.sell_rate_pico, sell_nano, 0)


def _less(new: UnitAmount, held: UnitAmount | None) -> UnitAmount:
    if held is None:
        return new
    return UnitAmount(
        0,
        new.sell_rate_pico,
        new.sell_nano - held.sell_nano,
        new.cost_nano - held.cost_nano,
        new.variant,
    )
