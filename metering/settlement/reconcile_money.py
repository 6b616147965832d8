"""What a comparison comes to in money: margins, who bears a difference, what to book, which prices
to change. Pure.

Rules: an allocation sums to what is allocated, to the nano-dollar (largest remainder). Corrections
move what things cost us and never what a tenant pays: a provider's bill is no reason to bill a
month again. Nothing here is applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from metering.money import PICO_PER_NANO, PPM, divide_half_even
from metering.settlement.exports.rows import REQUESTS, CostRow, UsageRow
from metering.settlement.reconcile import (
    FLOOR_NANO,
    INFO_PPM,
    Gap,
    Level,
    Line,
    Matched,
    OwnUsage,
    Terms,
    match,
    stem,
)
from metering.usage import (
    INPUT_AUDIO,
    INPUT_CACHE_READ,
    INPUT_CACHE_WRITE_1H,
    INPUT_CACHE_WRITE_5M,
    INPUT_UNCACHED,
    OUTPUT_AUDIO,
    OUTPUT_REASONING,
    OUTPUT_TEXT,
)

UNATTRIBUTED = "_unattributed"
"""The tenant in whose name a cost is booked that no tenant caused."""

MARGIN_PPM = 350_000
"""A margin that makes up for a model's drift, where the configuration names none."""

BOOKED = frozenset(
    {Gap.MISSING_HERE, Gap.MISSING_THERE, Gap.COUNT, Gap.SPLIT, Gap.PRICE, Gap.COST, Gap.UNPRICED}
)
"""Gaps of cost that a correction is proposed for."""

_UNIT_OF = {
    "input": INPUT_UNCACHED,
    "cached input": INPUT_CACHE_READ,
    "output": OUTPUT_TEXT,
    "audio input": INPUT_AUDIO,
    "audio output": OUTPUT_AUDIO,
    "uncached_input_tokens": INPUT_UNCACHED,
    "input_no_cache": INPUT_UNCACHED,
    "cache_read_input_tokens": INPUT_CACHE_READ,
    "input_cache_read": INPUT_CACHE_READ,
    "cache_creation.ephemeral_5m_input_tokens": INPUT_CACHE_WRITE_5M,
    "input_cache_write_5m": INPUT_CACHE_WRITE_5M,
    "cache_creation.ephemeral_1h_input_tokens": INPUT_CACHE_WRITE_1H,
    "input_cache_write_1h": INPUT_CACHE_WRITE_1H,
    "output_tokens": OUTPUT_TEXT,
}
"""What a cost is for, in the words of each provider."""

_Grain = tuple[str, str, str, str]
"""Tenant, project, key, and the model as we sent it."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A cost to book: what one (tenant, project, key) spent more, or less, on a model on a day."""

    day: str
    model: str
    tenant: str
    project: str
    key: str
    upstream: str
    cost_nano: int
    gap: str


@dataclass(frozen=True, slots=True)
class PriceChange:
    """A rate that the provider charges and our price book does not have."""

    model: str
    unit: str
    ours_pico: int
    theirs_pico: int
    quantity: int


def report(
    own: Sequence[OwnUsage],
    usage: Sequence[UsageRow],
    costs: Sequence[CostRow],
    terms: Terms,
    *,
    margin_ppm: int = MARGIN_PPM,
) -> dict[str, Any]:
    """All of a comparison, as what is stored and shown; amounts are integers."""
    matched = match(own, usage, costs, terms)
    compared = [one for one in own if one.day in terms.cost_days]
    corrections = propose_corrections(matched, compared)
    models = _models(matched, compared, alert_ppm=terms.alert_ppm, margin_ppm=margin_ppm)
    changes = price_changes(matched, own, costs, terms)
    everyday = set(terms.usage_days) | set(terms.cost_days)
    gaps = [line for line in (*matched.usage, *matched.costs) if line.gap is not None]
    return {
        "totals": _totals(matched.costs, compared),
        "lines": [asdict(line) for line in (*matched.usage, *matched.costs)],
        "gaps": {str(gap): sum(line.gap is gap for line in gaps) for gap in Gap},
        "alerts": sum(line.level is Level.ALERT for line in gaps),
        "models": models,
        "over_alert": [row["model"] for row in models if row["is_over"]],
        "tenants": _tenants(corrections, compared),
        "corrections": [asdict(one) for one in corrections],
        "price_changes": [asdict(one) for one in changes],
        "provisional": sorted(
            day
            for day in everyday
            if not (terms.usage_days.get(day, True) and terms.cost_days.get(day, True))
        ),
        "without_usage": sorted(everyday - set(terms.usage_days)),
        "without_costs": sorted(everyday - set(terms.cost_days)),
    }


def propose_corrections(matched: Matched, own: Iterable[OwnUsage]) -> list[Correction]:
    """What would make our cost the provider's, for every cost line that is final and off."""
    shares: dict[tuple[str, str], dict[_Grain, list[int]]] = {}
    for one in own:
        model = "" if one.day in matched.totals_only else matched.names[one.model]
        found = shares.setdefault((one.day, model), {})
        sums = found.setdefault((one.tenant, one.project, one.key, one.upstream), [0, 0])
        sums[0] += one.cost_nano
        sums[1] += one.quantity if one.unit != REQUESTS else 0
    corrections = []
    for line in matched.costs:
        if line.gap not in BOOKED or line.level in (Level.OK, Level.PROVISIONAL):
            continue
        grains = shares.get((line.day, line.model), {})
        nobody = (UNATTRIBUTED, "default", "none", line.model)
        for grain, amount in _shared(line.theirs - line.ours, grains, nobody).items():
            corrections.append(Correction(line.day, line.model, *grain, amount, str(line.gap)))
    return corrections


def allocate(amount: int, weights: Mapping[_Grain, int]) -> dict[_Grain, int]:
    """An amount in proportion to weights, none below zero and not all zero; sums to the amount."""
    total = sum(weights.values())
    sign, amount = (-1, -amount) if amount < 0 else (1, amount)
    shares = {grain: amount * weight // total for grain, weight in weights.items()}
    left = amount - sum(shares.values())
    by_rest = sorted(weights, key=lambda grain: (-(amount * weights[grain] % total), grain))
    for grain in by_rest[:left]:
        shares[grain] += 1
    return {grain: sign * share for grain, share in shares.items() if share}


def price_changes(
    matched: Matched, own: Iterable[OwnUsage], costs: Iterable[CostRow], terms: Terms
) -> list[PriceChange]:
    """Rates the provider charged, where its tokens were ours and its costs name what they are for.

    Only days that are final, and only what was counted alike there.
    """
    alike = {
        (line.day, line.model, line.unit): 0
        for line in matched.usage
        if line.level is Level.OK
        and line.gap is not Gap.KEY_UNKNOWN
        and terms.cost_days.get(line.day)
    }
    off = {
        (line.day, line.model, line.unit)
        for line in matched.usage
        if line.level is not Level.OK or line.gap is Gap.KEY_UNKNOWN
    }
    for line in matched.usage:
        place = (line.day, line.model, line.unit)
        if place in alike:
            alike[place] += line.theirs
    charged: dict[tuple[str, str, str], int] = {}
    known = {stem(name): name for name in matched.names.values()}
    for row in costs:
        unit = _UNIT_OF.get(row.what.lower(), "")
        name = row.model if row.model in matched.names.values() else known.get(stem(row.model), "")
        place = (row.day, name, unit)
        if place in alike and place not in off and row.currency == "USD" and terms.account.has(row):
            charged[place] = charged.get(place, 0) + row.amount_nano
    booked = _booked(matched, own, charged.keys())
    sums: dict[tuple[str, str], list[int]] = {}
    for place, theirs_nano in charged.items():
        found = sums.setdefault(place[1:], [0, 0, 0])
        for n, more in enumerate((alike[place], theirs_nano, booked.get(place, 0))):
            found[n] += more
    return [
        PriceChange(model, unit, _rate(ours_nano, quantity), _rate(theirs_nano, quantity), quantity)
        for (model, unit), (quantity, theirs_nano, ours_nano) in sorted(sums.items())
        if quantity and _is_off(ours_nano, theirs_nano)
    ]


def _booked(
    matched: Matched, own: Iterable[OwnUsage], places: Iterable[tuple[str, str, str]]
) -> dict[tuple[str, str, str], int]:
    wanted = set(places)
    found: dict[tuple[str, str, str], int] = {}
    for one in own:
        unit = OUTPUT_TEXT if one.unit == OUTPUT_REASONING else one.unit
        place = (one.day, matched.names[one.model], unit)
        if place in wanted:
            found[place] = found.get(place, 0) + one.cost_nano
    return found


def _rate(amount_nano: int, quantity: int) -> int:
    return divide_half_even(amount_nano * PICO_PER_NANO, quantity)


def _is_off(ours_nano: int, theirs_nano: int) -> bool:
    return abs(ours_nano - theirs_nano) * PPM >= INFO_PPM * max(theirs_nano, FLOOR_NANO // 10)


def _shared(
    amount: int, grains: Mapping[_Grain, Sequence[int]], nobody: _Grain
) -> dict[_Grain, int]:
    """Who bears it: by what each spent; by what each used, where that cost nothing yet."""
    for n in (0, 1):
        weights = {grain: max(sums[n], 0) for grain, sums in grains.items()}
        if any(weights.values()):
            return allocate(amount, weights)
    return {nobody: amount} if amount else {}


def _models(
    matched: Matched, own: Iterable[OwnUsage], *, alert_ppm: int, margin_ppm: int
) -> list[dict[str, Any]]:
    sold: dict[str, int] = {}
    for one in own:
        model = "" if one.day in matched.totals_only else matched.names[one.model]
        sold[model] = sold.get(model, 0) + one.sell_nano
    sums: dict[str, list[int]] = {model: [0, 0] for model in sold}
    for line in matched.costs:
        if line.gap not in (Gap.KEY_UNKNOWN, Gap.CURRENCY):
            found = sums.setdefault(line.model, [0, 0])
            found[0] += line.ours
            found[1] += line.theirs
    rows = []
    for model, (ours, theirs) in sorted(sums.items()):
        sell = sold.get(model, 0)
        drift_ppm = abs(ours - theirs) * PPM // max(theirs, FLOOR_NANO)
        true_ppm = _share(sell - theirs, sell)
        is_over = drift_ppm >= alert_ppm
        rows.append(
            {
                "model": model,
                "booked_nano": ours,
                "provider_nano": theirs,
                "sold_nano": sell,
                "drift_ppm": drift_ppm,
                "capture_ppm": _share(sell, theirs),
                "booked_margin_ppm": _share(sell - ours, sell),
                "true_margin_ppm": true_ppm,
                "is_over": is_over,
                "is_compensated": true_ppm is not None and true_ppm >= margin_ppm,
            }
        )
    return rows


def _share(part: int, whole: int) -> int | None:
    return part * PPM // whole if whole > 0 else None


def _tenants(corrections: Iterable[Correction], own: Iterable[OwnUsage]) -> list[dict[str, Any]]:
    """By tenant: booked cost, what it would be after the corrections, and what was sold."""
    sums: dict[str, list[int]] = {}
    for one in own:
        found = sums.setdefault(one.tenant, [0, 0, 0])
        found[0] += one.cost_nano
        found[1] += one.cost_nano
        found[2] += one.sell_nano
    for correction in corrections:
        sums.setdefault(correction.tenant, [0, 0, 0])[1] += correction.cost_nano
    return [
        {
            "tenant": tenant,
            "booked_nano": booked,
            "true_nano": true,
            "sold_nano": sold,
            "true_margin_ppm": _share(sold - true, sold),
        }
        for tenant, (booked, true, sold) in sorted(sums.items())
    ]


def _totals(costs: Iterable[Line], own: Iterable[OwnUsage]) -> dict[str, Any]:
    lines = [line for line in costs if line.gap not in (Gap.KEY_UNKNOWN, Gap.CURRENCY)]
    ours, theirs = sum(line.ours for line in lines), sum(line.theirs for line in lines)
    sold = sum(one.sell_nano for one in own)
    foreign = sum(line.theirs for line in costs if line.gap is Gap.KEY_UNKNOWN)
    return {
        "booked_nano": ours,
        "provider_nano": theirs,
        "sold_nano": sold,
        "foreign_nano": foreign,
        "drift_ppm": abs(ours - theirs) * PPM // max(theirs, FLOOR_NANO),
        "capture_ppm": _share(sold, theirs),
        "true_margin_ppm": _share(sold - theirs, sold),
    }
