"""Rating: what an event sells for and what it costs, by unit, at the prices it was admitted under.

Pure. Each (event, unit) is rounded half-even to nano-USD once and every total is a sum of those.
The event's own totals are kept beside ours; where they differ, the difference is a value that the
worker reports, never something that is quietly put right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from metering.events import Reason, UsageEvent, served_model
from metering.money import PICO_PER_NANO, amount_nano
from metering.prices import Rates, RatesByModel
from metering.settlement.event_checks import QUANTITY_MAX
from metering.usage import TOKEN_CLASSES, TOOL_UNITS

_NO_RATES: Mapping[str, int] = MappingProxyType({})

SLA_CREDIT = "sla_credit"
"""The unit under which an invoice shows what late answers cost less; no unit of an event."""


@dataclass(slots=True)
class UnitAmount:
    """One unit of one event, rated. `sell_rate_pico` is None where there was no rate to apply.

    Never changed; not frozen for the sake of speed, see `entries.Entry`.
    """

    quantity: int
    sell_rate_pico: int | None
    sell_nano: int
    cost_nano: int
    variant: str | None = None
    """Which of the model's rates these are, in words; None for the list price."""


@dataclass(slots=True)
class RatedEvent:
    """An event with what it comes to. `unpriced` names the units that found no rate."""

    event: UsageEvent
    amounts: Mapping[str, UnitAmount]
    sell_nano: int
    cost_nano: int
    unpriced: tuple[str, ...]

    @property
    def sell_difference_nano(self) -> int:
        """What we book as sell, less what the proxy counted against the caps."""
        return self.sell_nano - self.event.admission_nano

    @property
    def cost_difference_nano(self) -> int:
        """What we book as cost, less what the proxy wrote."""
        return self.cost_nano - self.event.cost_nano

    @property
    def differs(self) -> bool:
        """Whether the proxy and the ledger disagree about this event; of an adjustment no proxy
        said anything."""
        if self.event.reason_code == Reason.RERATED:
            return False
        return bool(self.sell_difference_nano or self.cost_difference_nano)


def versions_needed(event: UsageEvent) -> tuple[str, ...]:
    """The price versions without which the event cannot be rated."""
    versions = (event.cost_version, event.sell_version if event.billable else None)
    return tuple(version for version in versions if version is not None)


def rate(event: UsageEvent, cost: RatesByModel | None, sell: RatesByModel | None) -> RatedEvent:
    """The event at these prices; None stands for a version that the event does not name.

    What is not billable sells for nothing and costs what its units say. ValueError when an amount
    is too large to be usage.
    """
    return rate_at(event, _find(event, cost), _find(event, sell))


def rate_at(event: UsageEvent, cost: Rates | None, sell: Rates | None) -> RatedEvent:
    """`rate` with the rates of the event's model already found, at its tier, region and length."""
    cost, sell = _at(event, cost), _at(event, sell)
    is_billable, variant = event.billable, None if sell is None else sell.variant
    cost_rates = _NO_RATES if cost is None else cost.rates_pico
    sell_rates = _NO_RATES if sell is None or not is_billable else sell.rates_pico
    amounts: dict[str, UnitAmount] = {}
    unpriced: list[str] = []
    sell_nano = cost_nano = 0
    for unit, quantity in event.units.items():
        if quantity:
            cost_rate, sell_rate = cost_rates.get(unit), sell_rates.get(unit)
            if cost_rate is None or sell_rate is None:
                unpriced += _lacking(event, unit, cost=cost, sell=sell)
            unit_cost = 0 if cost_rate is None else amount_nano(quantity, cost_rate)
            unit_sell = unit_cost
            if sell_rate != cost_rate:
                unit_sell = 0 if sell_rate is None else amount_nano(quantity, sell_rate)
            words = variant if variant is None or unit in TOKEN_CLASSES else None
            amounts[unit] = UnitAmount(quantity, sell_rate, unit_sell, unit_cost, words)
            sell_nano += unit_sell
            cost_nano += unit_cost
    if is_billable and event.sla_credit_nano:
        amounts[SLA_CREDIT] = _sla_credit(event, amounts)
        sell_nano += amounts[SLA_CREDIT].sell_nano
    if not -QUANTITY_MAX <= sell_nano <= QUANTITY_MAX >= abs(cost_nano):
        raise ValueError(f"an event that sells for {sell_nano} nano-USD is not usage")
    return RatedEvent(event, amounts, sell_nano, cost_nano, tuple(unpriced))


def _lacking(
    event: UsageEvent, unit: str, *, cost: Rates | None, sell: Rates | None
) -> tuple[str, ...]:
    """The unit, where a rate that it must have was not found."""
    is_kept = event.reason_code == Reason.CACHE_HIT  # it was given again: nobody was paid for it
    lacks_cost = _rate_of(unit, cost) is None and not is_kept and _must_have_rate(unit, cost)
    lacks_sell = _rate_of(unit, sell) is None and event.billable and _must_have_rate(unit, sell)
    return (unit,) if lacks_cost or lacks_sell else ()


def _at(event: UsageEvent, rates: Rates | None) -> Rates | None:
    if rates is None or rates.variants is None:
        return rates
    return rates.at(event.units, tier=event.price_tier, region=event.region)


def _sla_credit(event: UsageEvent, amounts: Mapping[str, UnitAmount]) -> UnitAmount:
    """What is taken off because the answer was late, as a unit of one nano-USD each."""
    credit_nano = event.sla_credit_nano
    sold_nano = sum([one.sell_nano for one in amounts.values()])
    if SLA_CREDIT in amounts or abs(credit_nano) > abs(sold_nano) or credit_nano * sold_nano < 0:
        raise ValueError(f"a credit of {credit_nano} nano-USD on a sale of {sold_nano} is none")
    return UnitAmount(credit_nano, -PICO_PER_NANO, -credit_nano, 0)


def _rate_of(unit: str, rates: Rates | None) -> int | None:
    return None if rates is None else rates.rates_pico.get(unit)


def _must_have_rate(unit: str, rates: Rates | None) -> bool:
    """A token is never free for want of a rate, and without any rates nothing is.

    A unit that is no token (seconds, images) is priced only where a rate names it: without one
    it is a plain count, as `Rates.rate` has it, but for what a provider charges beside tokens.
    """
    return rates is None or unit in TOKEN_CLASSES or unit in TOOL_UNITS


_Question = tuple[str | None, str | None, str, str, str]
"""What an event's rates depend on: versions of cost and sell, provider, upstream model, model."""


class RateCards:
    """The price versions at hand, and the rates found in them.

    A version never changes, so neither does what was found in it; the memory of found rates is
    dropped whole at `FOUND_MAX`, because model names come from outside.
    """

    FOUND_MAX = 20_000

    def __init__(self) -> None:
        self._versions: dict[str, RatesByModel] = {}
        self._found: dict[_Question, tuple[Rates | None, Rates | None]] = {}

    def add(self, card: RatesByModel) -> None:
        """Take a version in."""
        self._versions[card.version] = card

    def missing(self, event: UsageEvent) -> tuple[str, ...]:
        """The versions that the event needs and that are not here yet."""
        return tuple(name for name in versions_needed(event) if name not in self._versions)

    def lacking(self, events: Iterable[UsageEvent]) -> set[str]:
        """What is `missing` of all of these; they need few versions between them."""
        needed = {(each.cost_version, each.sell_version, each.billable): each for each in events}
        return {name for each in needed.values() for name in self.missing(each)}

    def rate(self, event: UsageEvent) -> RatedEvent:
        """The event at its own versions' prices, all of which must be here."""
        question = (
            event.cost_version,
            event.sell_version if event.billable else None,
            event.provider,
            event.model_upstream,
            event.model_public or event.model_requested,  # `served_model`
        )
        found = self._found.get(question)
        if found is None:
            found = self._look_up(event, question)
        return rate_at(event, *found)

    def _look_up(self, event: UsageEvent, question: _Question) -> tuple[Rates | None, Rates | None]:
        if len(self._found) >= self.FOUND_MAX:
            self._found.clear()
        cost, sell = (
            None if version is None else _find(event, self._versions[version])
            for version in question[:2]
        )
        self._found[question] = (cost, sell)
        return cost, sell


def _find(event: UsageEvent, card: RatesByModel | None) -> Rates | None:
    if card is None:
        return None
    return card.find(
        provider=event.provider, model=event.model_upstream, public_name=served_model(event)
    )
