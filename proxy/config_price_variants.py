"""The conditions of a price rule: service tiers, regions, long prompts, fees of tools.

Rules: a condition has factors or rates of its own, never both; rates name every class that the rule
names, so that no discount is lost by leaving a line out; of service tier and length only one may
have rates, for two lists cannot hold at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from metering.money import PPM, to_ppm
from metering.price_variants import OTHERWISE, STANDARD_TIERS, ContextTier, Overlay, Variants
from metering.usage import (
    INPUT_AUDIO,
    INPUT_CACHE_READ,
    INPUT_CACHE_WRITE_1H,
    INPUT_CACHE_WRITE_5M,
    INPUT_CLASSES,
    INPUT_IMAGE,
    LATER_CLASSES,
    OUTPUT_AUDIO,
    OUTPUT_CLASSES,
    OUTPUT_IMAGE,
    OUTPUT_REASONING,
    TOOL_UNITS,
)
from proxy.config_decode import Findings, suggest
from proxy.config_prices_shape import ContextTierShape, FactorsShape, OverlayShape, RuleShape
from proxy.config_rates import checked_pico, checked_unit_pico
from proxy.config_yaml import Path

FACTOR_MAX = 100

CONTEXT_TIERS_MAX = 16
"""More lengths than any list price has."""

KNOWN_TIERS = ("flex", "priority", "batch", "scale", "fast", "reserved", "performance", OTHERWISE)
"""What vendors report; another may be written, and is doubted."""

TOKEN_KEYS = {
    "cache_read": INPUT_CACHE_READ,
    "cache_write_5m": INPUT_CACHE_WRITE_5M,
    "cache_write_1h": INPUT_CACHE_WRITE_1H,
    "input_audio": INPUT_AUDIO,
    "input_image": INPUT_IMAGE,
    "output_reasoning": OUTPUT_REASONING,
    "output_audio": OUTPUT_AUDIO,
    "output_image": OUTPUT_IMAGE,
}
"""Rates of single token classes by the head of their keys; all may be left out."""

_Rates = OverlayShape | ContextTierShape

_SIDES = ("input", "output", *TOKEN_KEYS)


def build_variants(rule: RuleShape, path: Path, findings: Findings) -> Variants | None:
    """The conditions of this rule; None where it has none."""
    if not (rule.context_tiers or rule.service_tier or rule.region):
        return None
    context = _context(rule, path, findings)
    tiers = {}
    for written, shape in rule.service_tier.items():
        at, name = (*path, "service_tier", written), written.lower()
        if name in STANDARD_TIERS or not name:
            findings.fault(
                at, f"{written!r} is the list price", "write its rates into the rule itself"
            )
        elif name not in KNOWN_TIERS:
            findings.warn(
                at,
                f"no vendor that we know has a service tier {written!r}",
                suggest(name, KNOWN_TIERS),
            )
        if name in tiers:
            findings.fault(at, f"service tier {name!r} is there twice", "keep one of the two")
        tiers[name] = _overlay(rule, shape, at, findings)
    _check_one_list(rule, context, tiers, path, findings)
    regions = {
        name: _factors(shape, (*path, "region", name), findings)
        for name, shape in rule.region.items()
    }
    return Variants(context, tiers, regions)


def check_no_variants(rule: RuleShape, path: Path, findings: Findings) -> None:
    """A rule without token rates has nothing that conditions could change."""
    for key in ("context_tiers", "service_tier", "usual_service_tier", "region"):
        if getattr(rule, key):
            findings.fault((*path, key), "is about tokens, and this rule has no rates for them")


def usual_tier(rule: RuleShape, path: Path, findings: Findings) -> str | None:
    """The tier of requests that name none."""
    written = rule.usual_service_tier
    if written is None or written.lower() in STANDARD_TIERS:
        return None
    names = {name.lower() for name in rule.service_tier}
    if written.lower() not in names:
        findings.fault(
            (*path, "usual_service_tier"),
            f"the rule has no service tier {written!r}",
            suggest(written, names) or "add it to service_tier",
        )
        return None
    return written.lower()


def tool_fees(rule: RuleShape, path: Path, findings: Findings) -> dict[str, int]:
    """The provider's fees for its own tools, in pico-USD for each use."""
    found: dict[str, int] = {}
    for unit in TOOL_UNITS if rule.per_thousand is not None else ():
        rate: Decimal | None = getattr(rule.per_thousand, unit)
        at = (*path, "per_thousand", unit)
        if rate is not None:
            each = checked_unit_pico(rate.scaleb(-3), at, findings, is_free=rule.free)
            if each is not None:
                found[unit] = each
    return found


def _context(rule: RuleShape, path: Path, findings: Findings) -> tuple[ContextTier, ...]:
    found: list[ContextTier] = []
    if len(rule.context_tiers) > CONTEXT_TIERS_MAX:
        findings.fault((*path, "context_tiers"), f"are more than {CONTEXT_TIERS_MAX}")
        return ()
    for index, shape in enumerate(rule.context_tiers):
        at = (*path, "context_tiers", index)
        if shape.above_tokens < 1:
            findings.fault((*at, "above_tokens"), "must be at least 1")
        if found and shape.above_tokens <= found[-1].above_tokens:
            findings.fault((*at, "above_tokens"), "must be more than that of the tier before")
        found.append(ContextTier(shape.above_tokens, _overlay(rule, shape, at, findings)))
    return tuple(found)


def _overlay(rule: RuleShape, shape: _Rates, path: Path, findings: Findings) -> Overlay:
    written = [side for side in _SIDES if getattr(shape, f"{side}_per_mtok") is not None]
    if not written:
        return _factors(shape, path, findings)
    if _has_factors(shape):
        findings.fault(path, "has rates and factors", "keep one of the two")
        return Overlay()
    named = [
        side
        for side in _SIDES
        if side in ("input", "output")
        or getattr(rule, f"{side}_rate") is not None
        or getattr(rule, f"{side}_per_mtok") is not None
    ]
    lacking = [f"{side}_per_mtok" for side in named if side not in written]
    if lacking and not any(findings.is_broken((*path, key)) for key in lacking):
        findings.fault(
            path,
            f"{', '.join(lacking)} is missing: the rule has a rate for it",
            "write every rate that the rule has, or factors",
        )
    rates = {}
    for side in written:
        key = f"{side}_per_mtok"
        rate = checked_pico(getattr(shape, key), (*path, key), findings, is_free=rule.free)
        rates[side] = rate or 0
    found = dict.fromkeys(INPUT_CLASSES, rates.get("input", 0))
    found |= dict.fromkeys(OUTPUT_CLASSES, rates.get("output", 0))
    found = {unit: rate for unit, rate in found.items() if unit not in LATER_CLASSES}
    return Overlay(
        {**found, **{TOKEN_KEYS[side]: rates[side] for side in written if side in TOKEN_KEYS}}
    )


def _has_factors(shape: _Rates | FactorsShape) -> bool:
    return any(each is not None for each in (shape.factor, shape.input_factor, shape.output_factor))


def _factors(shape: _Rates | FactorsShape, path: Path, findings: Findings) -> Overlay:
    both = shape.factor
    if both is not None and (shape.input_factor is not None or shape.output_factor is not None):
        findings.fault(path, "has `factor` and one for a side", "keep one of the two")
        return Overlay()
    if not _has_factors(shape):
        keys = ("factor", "input_factor", "output_factor")
        if not any(findings.is_broken((*path, key)) for key in keys):
            findings.fault(path, "says no price", "write `factor: 0.5`, or rates")
        return Overlay()
    sides = []
    for side in ("input", "output"):
        own = getattr(shape, f"{side}_factor")
        key = "factor" if own is None else f"{side}_factor"
        written = both if own is None else own
        sides.append(
            _factor_ppm(Decimal(1) if written is None else written, (*path, key), findings)
        )
        if both is not None:
            return Overlay(None, sides[0], sides[0])
    return Overlay(None, *sides)


def _factor_ppm(factor: Decimal, path: Path, findings: Findings) -> int:
    if factor <= 0:
        findings.fault(path, "must be more than zero", "half the list price is 0.5")
        return PPM
    if factor > FACTOR_MAX:
        findings.fault(path, f"must be at most {FACTOR_MAX}", "10 % on top is 1.1")
        return PPM
    try:
        return to_ppm(factor)
    except ValueError as error:
        findings.fault(path, f"{error} (1/{PPM})")
        return PPM


def _check_one_list(
    rule: RuleShape,
    context: Sequence[ContextTier],
    tiers: dict[str, Overlay],
    path: Path,
    findings: Findings,
) -> None:
    """Two lists of rates cannot hold at once."""
    lists = [name for name, each in tiers.items() if each.rates_pico is not None]
    if lists and any(each.overlay.rates_pico is not None for each in context):
        findings.fault(
            (*path, "service_tier"),
            f"{lists[0]!r} has rates, and so have context_tiers: a long prompt at this tier would "
            "have two prices",
            "write one of the two as factors: input_factor: 2, output_factor: 1.5",
        )
