"""Prices as plain numbers, and the price book of ours that is made of them.

What the naive computation reads is what stands here, never the book.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from metering.price_variants import ContextTier, Overlay, Variants
from metering.prices import PriceBook, PriceRule

TOKENS = (
    "input_uncached",
    "input_cache_read",
    "input_cache_write_5m",
    "input_audio",
    "output_text",
    "output_reasoning",
    "output_image",
)


@dataclass(frozen=True)
class Change:
    """Rates in the place of the list's, or factors (parts per million) for input and output."""

    rates: Mapping[str, int] | None = None
    input_ppm: int = 1_000_000
    output_ppm: int = 1_000_000

    def overlay(self) -> Overlay:
        return Overlay(self.rates, self.input_ppm, self.output_ppm)


@dataclass(frozen=True)
class ModelPrice:
    """What a model costs, in pico-USD per unit, and the factor that it is sold at."""

    name: str
    """The upstream's name; `pattern` is how the book names it."""
    pattern: str
    input: int
    output: int
    classes: Mapping[str, int]
    multiplier_ppm: int
    tiers: Mapping[str, Change] = field(default_factory=dict)
    context: tuple[tuple[int, Change], ...] = ()
    regions: Mapping[str, Change] = field(default_factory=dict)

    def rule(self) -> PriceRule:
        variants = Variants(
            tuple(ContextTier(above, each.overlay()) for above, each in self.context),
            {name: each.overlay() for name, each in self.tiers.items()},
            {name: each.overlay() for name, each in self.regions.items()},
        )
        return PriceRule(
            model=self.pattern,
            input_rate_pico=self.input,
            output_rate_pico=self.output,
            class_rates_pico=self.classes,
            multiplier_ppm=self.multiplier_ppm,
            variants=variants if self.has_variants else None,
        )

    @property
    def has_variants(self) -> bool:
        return bool(self.tiers or self.context or self.regions)


@dataclass(frozen=True)
class Prices:
    """One price book, in force from a moment on."""

    since_ns: int
    models: tuple[ModelPrice, ...]
    book: PriceBook

    def of(self, model: str) -> ModelPrice:
        return next(each for each in self.models if each.name == model)


def make_prices(chance: random.Random, since_ns: int) -> Prices:
    """Three models, one of them by a glob; the last one without other rates than the list's."""
    models = (
        _model(chance, "model-a", "model-a", with_variants=True),
        _model(chance, "model-b", "model-b", with_variants=chance.random() < 0.5),
        _model(chance, "big-1", "big-*", with_variants=False),
    )
    rules = [each.rule() for each in models]
    chance.shuffle(rules)
    return Prices(since_ns, models, PriceBook(tuple(rules), effective_from_ns=since_ns))


def _model(chance: random.Random, name: str, pattern: str, *, with_variants: bool) -> ModelPrice:
    classes = {
        unit: chance.randrange(1, 5_000_000)
        for unit in chance.sample(TOKENS, chance.randrange(0, 4))
    }
    if chance.random() < 0.6:
        classes["api_call"] = chance.randrange(0, 10**9)
    if chance.random() < 0.3:
        classes["web_search"] = 10_000_000_000
    tiers: dict[str, Change] = {}
    context: list[tuple[int, Change]] = []
    regions: dict[str, Change] = {}
    if with_variants:
        by_list = chance.random() < 0.4
        tiers["batch"] = _factors(chance)
        tiers["priority"] = _rates(chance) if by_list else _factors(chance)
        borders = sorted(chance.sample(range(50, 3_000), chance.randrange(0, 3)))
        make = _factors if by_list else _rates
        context = [(above, make(chance)) for above in borders]
        regions["eu"] = Change(None, 1_100_000, 1_100_000)
    return ModelPrice(
        name,
        pattern,
        chance.randrange(0, 5_000_000),
        chance.randrange(1, 20_000_000),
        classes,
        chance.choice([1_000_000, 1_250_000, 1_333_333, 900_001]),
        tiers,
        tuple(context),
        regions,
    )


def _factors(chance: random.Random) -> Change:
    return Change(None, chance.randrange(100_000, 3_000_000), chance.randrange(100_000, 3_000_000))


def _rates(chance: random.Random) -> Change:
    units = chance.sample(TOKENS, chance.randrange(1, len(TOKENS)))
    return Change({unit: chance.randrange(1, 9_000_000) for unit in units})
