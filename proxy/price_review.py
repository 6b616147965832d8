"""The quarterly look at prices: is what we charge by still what vendors list, and does it earn?

Pure: rules and list prices, what the ledger says was sold, and what providers said of their bills.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from metering.list_prices import ListPrices
from metering.money import PPM, divide_half_even
from metering.prices import PriceBook, match_rule
from metering.usage import INPUT_UNCACHED, OUTPUT_TEXT
from proxy.settings import Provider
from routing.upstreams import Model

DRIFT_PPM = 150_000
"""From here on a model's cost is not explained by our prices: it is listed."""

SIDES = {"input": INPUT_UNCACHED, "output": OUTPUT_TEXT}


def review_rows(
    prices: PriceBook,
    models: Mapping[str, Model],
    providers: Mapping[str, Provider],
    listed: ListPrices,
    *,
    now_ns: int,
) -> list[dict[str, Any]]:
    """One row for each upstream that is served: our price, and how far the list's is from it."""
    rows = []
    for model in models.values():
        for upstream in model.upstreams:
            names = {"model": upstream.model, "public_name": upstream.public_name}
            rule = match_rule(prices.rules, provider=upstream.provider, **names)
            price = prices.find(provider=upstream.provider, **names)
            provider = providers.get(upstream.provider)
            base_url = "" if provider is None else provider.base_url
            known = listed.find(base_url=base_url, model=upstream.model)
            begun = [each for each in known if each.effective_from_ns <= now_ns]
            row: dict[str, Any] = {
                "provider": upstream.provider,
                "model": upstream.model,
                "public_name": upstream.public_name,
                "rule": None if rule is None else source_of(rule.place),
                "multiplier_ppm": None if rule is None else rule.multiplier_ppm,
            }
            for side, unit in SIDES.items():
                ours = None if price is None else price.cost.rates_pico.get(unit)
                theirs = begun[-1].rates_pico.get(unit) if begun else None
                row[f"{side}_pico"], row[f"{side}_list_pico"] = ours, theirs
                row[f"{side}_off_ppm"] = _off(ours, theirs)
            rows.append(row)
    return rows


def source_of(place: int | None) -> str:
    """Where a rule stands."""
    return "list price" if place is None else f"pricing.rules[{place}]"


def margin_rows(usage: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each model earned, from a report of usage by model."""
    rows = []
    for row in usage:
        sold, cost = int(row["admission_nano"]), int(row["cost_nano"])
        margin = divide_half_even((sold - cost) * PPM, sold) if sold > 0 else None
        rows.append(
            {
                "model": row["model"],
                "requests": row["requests"],
                "cost_nano": cost,
                "sell_nano": sold,
                "margin_ppm": margin,
            }
        )
    return rows


def drifting(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Models whose cost was more than 15 % off at the provider's last comparison, newest first in
    `runs`: candidates for another price, or for being given up."""
    found: list[dict[str, Any]] = []
    seen: set[str] = set()
    for run in runs:
        if run["provider"] in seen:
            continue
        seen.add(run["provider"])
        found += [
            {
                "provider": run["provider"],
                "reconciliation": run["id"],
                "since": run["since"],
                "until": run["until"],
                **{name: row[name] for name in _DRIFT},
            }
            for row in run["models"]
            if row["drift_ppm"] >= DRIFT_PPM
        ]
    return found


def to_look_at(review: Mapping[str, Any]) -> dict[str, Any]:
    """What of a whole review a person has to decide about, by names: upstreams off the vendor's
    list, those without a price, models sold below cost, and models whose cost has drifted."""
    prices, margins = review["prices"], review["margins"]
    off = [each for each in prices if any(each[f"{side}_off_ppm"] for side in SIDES)]
    bare = [each for each in prices if each["input_pico"] is None and each["output_pico"] is None]
    losing = [each["model"] for each in margins if each["cost_nano"] > each["sell_nano"]]
    return {
        "since": review["since"],
        "off_the_list": _labels(off),
        "without_price": _labels(bare),
        "below_cost": losing,
        "drifting": sorted({f"{e['provider']}/{e['model']}" for e in review["drifting"]}),
    }


def _labels(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted({f"{each['provider']}/{each['model']}" for each in rows})


_DRIFT = ("model", "booked_nano", "provider_nano", "drift_ppm", "true_margin_ppm")


def _off(ours: int | None, theirs: int | None) -> int | None:
    if ours is None or not theirs:
        return None
    return divide_half_even((ours - theirs) * PPM, theirs)
