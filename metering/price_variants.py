"""What a model costs beside its usual price: at a service tier, in a region, for a long prompt.

Rules: each condition that is met has either rates that take the place of the list price's, or
factors; at most one of service tier and length has rates of its own. The factors of all are
multiplied and applied at once, rounded half-even to whole pico-USD: their order is nothing. All of
it is about tokens: an image or a search costs the same everywhere. A batch is a service tier, as it
is to those who sell it.

Pure. The proxy and the worker read the same published mapping with `read_variants`, so that they
cannot differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from metering.money import PPM, divide_half_even, scale_rate
from metering.usage import INPUT_CLASSES, LATER_CLASSES, OUTPUT_CLASSES

OTHERWISE = "otherwise"
"""The service tier of a rule that stands for all those it does not name."""

FAST = "fast"
"""The service tier that OpenAI calls so, and Anthropic's `speed: fast`."""

ANYWHERE = "global"
"""What Anthropic calls inference that it may do anywhere, at the list price."""

PLACE = re.compile(r"[a-z]{2,8}(-[a-z0-9]{1,12})?")
"""What may name where something was done: a word from outside that enters events."""

STANDARD_TIERS = frozenset({"default", "standard", "standard_only", "auto", "on_demand"})
"""What vendors call what is billed at the list price, asked for or reported: OpenAI says `auto` and
`default`, Anthropic `standard_only` and `standard`, Groq `on_demand`."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """One change: a whole list of rates for tokens, or factors for each side."""

    rates_pico: Mapping[str, int] | None = None
    input_ppm: int = PPM
    output_ppm: int = PPM

    def body(self, multiplier_ppm: int) -> dict[str, Any]:
        """As it is published; a list is sold at the rule's multiplier, as the list price is."""
        if self.rates_pico is None:
            return {"input_ppm": self.input_ppm, "output_ppm": self.output_ppm}
        scaled = {unit: scale_rate(rate, multiplier_ppm) for unit, rate in self.rates_pico.items()}
        return {"rates_pico": scaled}


@dataclass(frozen=True, slots=True)
class ContextTier:
    """What holds for a request whose whole input is more than `above_tokens`."""

    above_tokens: int
    overlay: Overlay


@dataclass(frozen=True)
class Variants:
    """Every condition of a rule. `context` goes up."""

    context: tuple[ContextTier, ...] = ()
    tiers: Mapping[str, Overlay] = field(default_factory=dict)
    regions: Mapping[str, Overlay] = field(default_factory=dict)

    def body(self, multiplier_ppm: int = PPM) -> dict[str, Any]:
        """The conditions as plain values, for hashing and publishing."""
        return {
            "context": [
                [each.above_tokens, each.overlay.body(multiplier_ppm)] for each in self.context
            ],
            "tiers": {name: each.body(multiplier_ppm) for name, each in self.tiers.items()},
            "regions": {name: each.body(multiplier_ppm) for name, each in self.regions.items()},
        }

    def key(
        self, tier: str | None, region: str | None, input_tokens: int
    ) -> tuple[str | None, str | None, int]:
        """What decides on the rates: a tier and a region that are known here, and how many of the
        context tiers were passed. Names from outside end here."""
        passed = 0
        for each in self.context:
            if input_tokens <= each.above_tokens:
                break
            passed += 1
        return (
            tier if tier in self.tiers else None,
            region if region in self.regions else None,
            passed,
        )

    def rates(
        self, rates_pico: Mapping[str, int], key: tuple[str | None, str | None, int]
    ) -> dict[str, int]:
        """The rates under this key, from those of the list price."""
        tier, region, passed = key
        overlays = [] if tier is None else [self.tiers[tier]]
        if passed:
            overlays.append(self.context[passed - 1].overlay)
        if region is not None:
            overlays.append(self.regions[region])
        found, input_factor, output_factor, scale = dict(rates_pico), 1, 1, 1
        for each in overlays:
            if each.rates_pico is not None:
                found.update(each.rates_pico)
            input_factor *= each.input_ppm
            output_factor *= each.output_ppm
            scale *= PPM
        for units, factor in ((INPUT_CLASSES, input_factor), (OUTPUT_CLASSES, output_factor)):
            for unit in units:
                if unit in found:
                    found[unit] = divide_half_even(found[unit] * factor, scale)
        return found

    def words(self, key: tuple[str | None, str | None, int]) -> str | None:
        """The key for whoever reads an invoice; None for the list price."""
        tier, region, passed = key
        parts = [] if tier is None else [f"service tier {tier}"]
        if passed:
            parts.append(f"prompts above {self.context[passed - 1].above_tokens} tokens")
        if region is not None:
            parts.append(f"region {region}")
        return ", ".join(parts) or None

    @cached_property
    def borders(self) -> tuple[int, ...]:
        """Every length of a prompt at which some rate changes."""
        return tuple([each.above_tokens for each in self.context])


def read_variants(body: Mapping[str, Any] | None) -> Variants | None:
    """The conditions that were published; None for a rule without any."""
    if body is None:
        return None
    return Variants(
        context=tuple([ContextTier(above, _read_overlay(each)) for above, each in body["context"]]),
        tiers={name: _read_overlay(each) for name, each in body["tiers"].items()},
        regions={name: _read_overlay(each) for name, each in body["regions"].items()},
    )


def with_later_classes(rates_pico: Mapping[str, int]) -> dict[str, int]:
    """The rates as they were published, with those of classes that they do not name."""
    return {
        **{unit: rates_pico[like] for unit, like in LATER_CLASSES.items() if like in rates_pico},
        **rates_pico,
    }


@dataclass(frozen=True, slots=True)
class TierChoice:
    """The service tier to rate by, None for the list price; `doubt` says why it is a guess."""

    tier: str | None
    doubt: str | None = None


USUAL_CHOICE = TierChoice(None)


def is_standard(tier: str | None) -> bool:
    """Whether this word means the list price, or says nothing."""
    return tier is None or tier.lower() in STANDARD_TIERS


def priced_tier(variants: Variants | None, tier: str) -> str | None:
    """By which of the rule's tiers this one is priced, None where by none."""
    tiers = {} if variants is None else variants.tiers
    name = tier.lower()
    return name if name in tiers else OTHERWISE if OTHERWISE in tiers else None


def choose_tier(
    variants: Variants | None,
    rates_pico: Mapping[str, int],
    *,
    reported: str | None,
    asked: str | None,
    usual: str | None,
) -> TierChoice:
    """The tier that a request is billed at: the one the provider reported, else the one that was
    asked for, else the usual one of the rule. One that has no price is billed at the asked one,
    else at the dearest there is, and doubted: never at the list price in silence."""
    if reported is not None and reported.lower() != "auto":
        if is_standard(reported):
            return USUAL_CHOICE
        if (found := priced_tier(variants, reported)) is not None:
            return TierChoice(found)
        if asked is None or (found := priced_tier(variants, asked)) is None:
            found = _dearest_tier(variants, rates_pico)
        return TierChoice(found, f"the service tier `{reported}` has no price")
    if asked is None or asked.lower() == "auto":
        return USUAL_CHOICE if usual is None else TierChoice(usual)
    if is_standard(asked):
        return USUAL_CHOICE
    if (found := priced_tier(variants, asked)) is not None:
        return TierChoice(found)
    return TierChoice(
        _dearest_tier(variants, rates_pico), f"the service tier `{asked}` has no price"
    )


def _dearest_tier(variants: Variants | None, rates_pico: Mapping[str, int]) -> str | None:
    """The dearest by a token of each side; None where that is the list price."""
    if variants is None:
        return None

    def weight(tier: str | None) -> int:
        rates = variants.rates(rates_pico, (tier, None, 0))
        return sum(max(rates.get(unit, 0) for unit in side) for side in _SIDES)

    names: tuple[str | None, ...] = (None, *sorted(variants.tiers))
    return max(names, key=weight)


_SIDES = (INPUT_CLASSES, OUTPUT_CLASSES)


def _read_overlay(body: Mapping[str, Any]) -> Overlay:
    if "rates_pico" in body:
        return Overlay(with_later_classes(body["rates_pico"]))
    return Overlay(None, body["input_ppm"], body["output_ppm"])
