"""The price book: which rates hold for a model, and the hash that names a version of them.

A rule's `model` matches the upstream model, then the public name; exact before glob, the longest
glob wins; of two alike, the one with a `provider` goes first, then the one written first.
`input_rate` and its kin are what the provider charges us (cost); sell = cost x multiplier, each
rate rounded half-even to whole pico-USD so that an invoice's `quantity x rate_pico` can be checked
by hand.
A rule may have other rates for a service tier, a region or a long prompt
(`metering.price_variants`); those of an event are picked by `Rates.at`, here and by the worker.
A version is the first 12 hex digits of the SHA-256 of the canonical body. Cost and sell have
versions of their own: a changed margin leaves the cost version alone.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import orjson

from metering.money import PPM, amount_nano, hold_nano, scale_rate
from metering.price_variants import (
    TierChoice,
    Variants,
    choose_tier,
    priced_tier,
    read_variants,
    with_later_classes,
)
from metering.usage import (
    INPUT_CLASSES,
    LATER_CLASSES,
    OUTPUT_CLASSES,
    TOKEN_CLASSES,
    input_total,
)

VERSION_LENGTH = 12

FOUND_MAX = 20_000
"""Prices that are remembered by name."""


@dataclass(frozen=True, slots=True)
class PriceRule:
    """Rates for the models that `model` (exact or glob) names, in pico-USD per token or unit.

    A token class without a rate of its own takes `input` or `output`, whichever side it is on:
    dearer than a discount would be, never free. `multiplier_ppm` makes sell from cost.
    Without `has_token_rates` it prices other units only, and a token finds no rate in it.
    """

    model: str
    input_rate_pico: int
    output_rate_pico: int
    provider: str | None = None
    class_rates_pico: Mapping[str, int] = field(default_factory=dict)
    multiplier_ppm: int = 1_000_000
    has_token_rates: bool = True
    variants: Variants | None = None
    usual_tier: str | None = None
    """The service tier of requests that name none, where their answers do not tell."""
    place: int | None = field(default=None, compare=False)
    """Which of the file's rules it is; None for one that stands in no file."""

    @property
    def is_glob(self) -> bool:
        """Whether `model` is a pattern rather than a name."""
        return any(sign in self.model for sign in "*?[")

    def cost_rates(self) -> dict[str, int]:
        """Pico-USD per unit of every token class, and of whatever else the rule prices."""
        if not self.has_token_rates:
            return dict(self.class_rates_pico)
        rates = dict.fromkeys(INPUT_CLASSES, self.input_rate_pico)
        rates.update(dict.fromkeys(OUTPUT_CLASSES, self.output_rate_pico))
        rates.update(self.class_rates_pico)
        return rates

    def body(self, *, sell: bool) -> dict[str, Any]:
        """The rule as a canonical mapping of plain values, for hashing and publishing."""
        rates, multiplier_ppm = self.cost_rates(), PPM
        if sell:
            multiplier_ppm = self.multiplier_ppm
            rates = {unit: scale_rate(rate, multiplier_ppm) for unit, rate in rates.items()}
        body = {"model": self.model, "provider": self.provider, "rates_pico": rates}
        for unit in LATER_CLASSES:  # where it has no rate of its own, versions keep their names
            if unit not in self.class_rates_pico:
                rates.pop(unit, None)
        if self.variants is not None:  # without any, old versions keep their names
            body["variants"] = self.variants.body(multiplier_ppm)
        return body


@dataclass(frozen=True)
class Rates:
    """Pico-USD per unit, by unit; the price of one model in one version.

    `variants` are the other rates it may have, `variant` says in words which of them these are.
    `hold_nano` has `fees_nano` on top.
    """

    rates_pico: Mapping[str, int]
    version: str
    variants: Variants | None = None
    variant: str | None = None
    fees_nano: int = 0

    def at(self, units: Mapping[str, int], *, tier: str | None, region: str | None) -> Rates:
        """The rates for an event of these units, at this service tier of the rule and there. What
        takes an event back has the rates of the event."""
        if self.variants is None:
            return self
        return self._under(self.variants.key(tier, region, abs(input_total(units))))

    def dearest(
        self,
        *,
        tier: str | None,
        region: str | None,
        tokens: tuple[int, int],
        fees_nano: int = 0,
        or_in: Iterable[str] = (),
    ) -> Rates:
        """What to hold by: the dearest rate of each unit for a prompt of between so many tokens, at
        this tier or at the list price: who asks for a cheaper tier may be answered without it.
        `or_in` are the regions in which it may be served as well."""
        if self.variants is None:
            return self if not fees_nano else replace(self, fees_nano=fees_nano)
        least, most = tokens
        inside = [each + 1 for each in self.variants.borders if least <= each < most]
        found = [
            self._under(self.variants.key(each, place, count))
            for each in dict.fromkeys((tier, None))
            for place in dict.fromkeys((region, *or_in))
            for count in (least, *inside, most)
        ]
        if not fees_nano and all(each is found[0] for each in found):
            return found[0]
        dearest = {unit: max(each.rates_pico[unit] for each in found) for unit in self.rates_pico}
        return Rates(dearest, self.version, fees_nano=fees_nano)

    def _under(self, key: tuple[str | None, str | None, int]) -> Rates:
        found = self._variants_found.get(key)
        if found is None:
            assert self.variants is not None
            found = self._variants_found[key] = Rates(
                MappingProxyType(self.variants.rates(self.rates_pico, key)),
                self.version,
                variant=self.variants.words(key),
            )
        return found

    @cached_property
    def _variants_found(self) -> dict[tuple[str | None, str | None, int], Rates]:
        """No more than the rule names: a key has no word from outside."""
        return {}

    def rate(self, units: Mapping[str, int]) -> dict[str, int]:
        """Nano-USD per unit class for these quantities; KeyError names a class without a rate."""
        return {
            unit: amount_nano(quantity, self.rates_pico[unit])
            for unit, quantity in units.items()
            if unit in self.rates_pico or unit in TOKEN_CLASSES
        }

    def total_nano(self, units: Mapping[str, int]) -> int:
        """The sum of `rate`: what one event comes to."""
        rates, total = self.rates_pico, 0
        for unit, quantity in units.items():
            if unit in rates or unit in TOKEN_CLASSES:
                total += amount_nano(quantity, rates[unit])
        return total

    def hold_nano(self, *, input_tokens: int, output_tokens: int) -> int:
        """An upper bound: every token at the dearest class of its side, rounded up."""
        dearest_input, dearest_output = self._dearest
        nano = hold_nano(input_tokens, dearest_input) + self.fees_nano
        return nano + hold_nano(output_tokens, dearest_output) if output_tokens else nano

    @property
    def output_rate_pico(self) -> int:
        """What `hold_nano` takes for a token of output."""
        return self._dearest[1]

    @cached_property
    def _dearest(self) -> tuple[int, int]:
        """The dearest rate of each side, in pico-USD per token."""
        return (
            max(self.rates_pico[name] for name in INPUT_CLASSES),
            max(self.rates_pico[name] for name in OUTPUT_CLASSES),
        )


@dataclass(frozen=True, slots=True)
class Price:
    """Both sides of a model's price: what it costs us and what the tenant pays."""

    cost: Rates
    sell: Rates
    usual_tier: str | None = None
    """The service tier of requests that name none."""

    def at(
        self, units: Mapping[str, int], *, tier: str | None = None, region: str | None = None
    ) -> Price:
        """The price of an event of these units, at this tier of the rule and in this region."""
        if self.sell.variants is None:
            return self
        return Price(
            self.cost.at(units, tier=tier, region=region),
            self.sell.at(units, tier=tier, region=region),
        )

    def choose_tier(self, *, reported: str | None, asked: str | None) -> TierChoice:
        """The tier of the rule that a request is billed at."""
        sell = self.sell
        return choose_tier(
            sell.variants, sell.rates_pico, reported=reported, asked=asked, usual=self.usual_tier
        )

    def prices_region(self, region: str) -> bool:
        """Whether it has a price of its own there."""
        return self.sell.variants is not None and region in self.sell.variants.regions

    def takes_tier(self, asked: str) -> bool:
        """Whether there is a price for this service tier."""
        return priced_tier(self.sell.variants, asked) is not None


@dataclass(frozen=True)
class PriceBook:
    """Every rule in force; finds a price and names its versions.

    `others` are the books in force before and after this one, each without any of its own: rules
    with a date make several books, and each is published and named for itself.
    """

    rules: tuple[PriceRule, ...] = ()
    effective_from_ns: int = 0
    others: tuple[PriceBook, ...] = ()

    def at(self, time_ns: int) -> PriceBook:
        """The book in force at this time; the first one before that."""
        if not self.others:
            return self
        held = [each for each in self.eras if each.effective_from_ns <= time_ns]
        return held[-1] if held else self.eras[0]

    @cached_property
    def eras(self) -> tuple[PriceBook, ...]:
        """This book and the others, in the order in which they come into force."""
        books = (self, *self.others)
        return tuple(sorted(books, key=lambda each: each.effective_from_ns))

    @cached_property
    def bodies(self) -> dict[str, bytes]:
        """The canonical body of both sides of every era, by version: what is to be published."""
        return {
            version: each.body(sell=sell)
            for each in self.eras
            if each.rules or not self.others  # nobody names a version without a price in it
            for version, sell in ((each.cost_version, False), (each.sell_version, True))
        }

    def find(self, *, provider: str, model: str, public_name: str) -> Price | None:
        """The price of an upstream model, or None; `public_name` is what the client asked for."""
        key = (provider, model, public_name)
        if key not in self._found:
            if len(self._found) >= FOUND_MAX:  # names may come from outside
                self._found.clear()
            self._found[key] = self._search(provider, model, public_name)
        return self._found[key]

    @cached_property
    def cost_version(self) -> str:
        """Names the cost side: first 12 hex digits of its body's SHA-256."""
        return version_of(self.body(sell=False))

    @cached_property
    def sell_version(self) -> str:
        """Names the sell side: first 12 hex digits of its body's SHA-256."""
        return version_of(self.body(sell=True))

    def body(self, *, sell: bool) -> bytes:
        """The canonical JSON of one side: sorted keys, integers and strings only."""
        return orjson.dumps(
            {
                "schema": 1 if all(rule.variants is None for rule in self.rules) else VARIANTS,
                "side": "sell" if sell else "cost",
                "currency": "USD",
                "effective_from_ns": str(self.effective_from_ns),
                "rules": [rule.body(sell=sell) for rule in self.rules],
            },
            option=orjson.OPT_SORT_KEYS,
        )

    @cached_property
    def _found(self) -> dict[tuple[str, str, str], Price | None]:
        return {}

    def _search(self, provider: str, model: str, public_name: str) -> Price | None:
        rule = match_rule(self.rules, provider=provider, model=model, public_name=public_name)
        if rule is None:
            return None
        return Price(
            cost=_read_rates(rule.body(sell=False), self.cost_version),
            sell=_read_rates(rule.body(sell=True), self.sell_version),
            usual_tier=rule.usual_tier,
        )


VARIANTS = 2
"""The schema of a body with other rates than the list price. A worker that does not know it must
not rate by what it does know of it."""


def _read_rates(rule: Mapping[str, Any], version: str) -> Rates:
    """The rates of one rule as it is published: what proxies and workers rate with."""
    rates = MappingProxyType(with_later_classes(rule["rates_pico"]))
    return Rates(rates, version, read_variants(rule.get("variants")))


def match_rule(
    rules: tuple[PriceRule, ...], *, provider: str, model: str, public_name: str
) -> PriceRule | None:
    """The rule for a model by the order in the module's docstring, or None."""
    best: tuple[tuple[bool, int, int, bool], PriceRule] | None = None
    for rule in rules:
        if rule.provider not in (None, provider):
            continue
        for order, name in enumerate((model, public_name)):
            if not (fnmatch.fnmatchcase(name, rule.model) if rule.is_glob else name == rule.model):
                continue
            length = len(rule.model) if rule.is_glob else 0
            key = (rule.is_glob, -length, order, rule.provider is None)
            if best is None or key < best[0]:
                best = key, rule
    return None if best is None else best[1]


def version_of(body: bytes) -> str:
    """The name of a version: the first 12 hex digits of the SHA-256 of its canonical body."""
    return hashlib.sha256(body).hexdigest()[:VERSION_LENGTH]


class RatesByModel:
    """One side of a published price book, read back: what the worker rates with.

    `body` is the canonical JSON that was published under `prices:<version>`; ValueError when it
    does not hash to `version`.
    """

    def __init__(self, body: bytes, *, version: str) -> None:
        if version_of(body) != version:
            raise ValueError(f"price body does not hash to version {version}")
        book = orjson.loads(body)
        if book.get("schema") not in (1, VARIANTS):
            raise ValueError(f"price body {version} has schema {book.get('schema')!r}: upgrade")
        self.version = version
        self._rules = tuple(
            (rule["model"], rule["provider"], _read_rates(rule, version)) for rule in book["rules"]
        )
        self._match = tuple(
            PriceRule(model=model, provider=provider, input_rate_pico=0, output_rate_pico=0)
            for model, provider, _ in self._rules
        )

    def find(self, *, provider: str, model: str, public_name: str) -> Rates | None:
        """The rates of an upstream model in this version, or None."""
        rule = match_rule(self._match, provider=provider, model=model, public_name=public_name)
        return None if rule is None else self._rules[self._match.index(rule)][2]
