"""By which price a request is billed that is relayed as it is. Pure.

Rules: what its answer tells is billed by the model's price, where that has a rate for it; else its
flat price is billed; else it is recorded with what was told, and marked as unpriced. A token is
never billed by a price that has no rate for tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from metering.prices import Price, PriceBook
from metering.usage import TOKEN_CLASSES
from proxy.passthrough_paths import Row, Spend
from proxy.passthrough_rules import flat_name, free_name
from proxy.passthrough_usage import NOTHING_TOLD, Usage
from routing.upstreams import Upstream

_CALLS = frozenset({"api_call", "inference"})
"""Units that every call has, whatever it tells."""


@dataclass(frozen=True, slots=True)
class Billing:
    """What is billed: under which name and price, which units; `told` is what was reported."""

    upstream: Upstream
    price: Price | None
    units: Mapping[str, int]
    told: Mapping[str, int]
    suspect: str | None = None


@dataclass(frozen=True, slots=True)
class Tariff:
    """The prices that a request may be billed by, found before it is sent.

    `count` is how many units of its row it asked for.
    """

    row: Row
    upstream: Upstream
    """The model, or what stands for it where none was named."""
    model_price: Price | None
    flat: Price | None
    count: int = 1

    @property
    def is_priced(self) -> bool:
        """Whether something has a price, so that it need not be free."""
        return self.flat is not None or self.model_price is not None

    def billing(self, usage: Usage = NOTHING_TOLD, *, images: int = 0) -> Billing:
        """What comes of what was told; without it, what is billed if nothing ever is."""
        row = self.row
        count = images if images and row.unit == "image" else self.count
        asked = {row.unit: count} if row.unit else {}
        if row.spend is Spend.NOTHING:
            return Billing(self.upstream, self.flat, {}, {})
        is_told = row.spend is Spend.ANSWER
        told = {**usage.units, **asked} if is_told else {}
        if is_told and self.model_price is not None and _covers(self.model_price, told):
            return Billing(self.upstream, self.model_price, told, usage.units, usage.suspect)
        if self.flat is not None:
            name = flat_name(row.family)
            upstream = replace(self.upstream, model=name, public_name=name)
            return Billing(upstream, self.flat, asked, usage.units, usage.suspect)
        suspect = usage.suspect or "nothing that was told has a price"
        return Billing(self.upstream, None, told, usage.units, suspect)


def tariff(
    prices: PriceBook, row: Row, *, provider: str, model: Upstream | None, count: int = 1
) -> Tariff:
    """The prices for a request of this row; `model` is where it leads, if it names one."""
    if row.spend is Spend.NOTHING:
        name = free_name(row.family)
        found = prices.find(provider=provider, model=name, public_name=name)
        return Tariff(row, Upstream(provider, name, name), None, found)
    name = flat_name(row.family)
    upstream = model or Upstream(provider, name, name)
    flat = prices.find(provider=provider, model=name, public_name=name)
    of_model = None
    if model is not None:
        of_model = prices.find(provider=provider, model=model.model, public_name=model.public_name)
    unit = row.unit or "api_call"
    has_flat = flat is not None and unit in flat.sell.rates_pico
    return Tariff(row, upstream, of_model, flat if has_flat else None, count)


def _covers(price: Price, told: Mapping[str, int]) -> bool:
    """Whether this price has a rate for what was told: each of its tokens, and something."""
    for rates in (price.sell.rates_pico, price.cost.rates_pico):
        if any(unit in TOKEN_CLASSES and unit not in rates for unit in told):
            return False
        if not any(unit in rates for unit in (*told, *_CALLS)):
            return False
    return True
