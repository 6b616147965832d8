"""Prices as plain rows, for tables and programs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metering.prices import PriceBook, PriceRule, Rates, match_rule
from metering.usage import INPUT_UNCACHED, OUTPUT_TEXT
from proxy.cli_times import rfc3339
from proxy.price_review import source_of
from routing.upstreams import Model


def book_row(prices: PriceBook, time_ns: int) -> dict[str, Any]:
    """The book in force at a time, its rules, and the books that come later."""
    book = prices.at(time_ns)
    later = [each for each in prices.eras if each.effective_from_ns > time_ns]
    return {
        **_named(book),
        "rules": [_rule(each) for each in book.rules],
        "later": [_named(each) for each in later],
    }


def price_rows(book: PriceBook, models: Mapping[str, Model], name: str) -> list[dict[str, Any]]:
    """Every price of a model, by upstream; `name` is a public name or an upstream's."""
    rows = []
    for model in models.values():
        for upstream in model.upstreams:
            if name not in (upstream.public_name, upstream.model):
                continue
            names = {"model": upstream.model, "public_name": upstream.public_name}
            price = book.find(provider=upstream.provider, **names)
            rule = match_rule(book.rules, provider=upstream.provider, **names)
            rows.append(
                {
                    "provider": upstream.provider,
                    **names,
                    **_named(book),
                    "rule": None if rule is None else source_of(rule.place),
                    "multiplier_ppm": None if rule is None else rule.multiplier_ppm,
                    "cost": _rates(None if price is None else price.cost),
                    "sell": _rates(None if price is None else price.sell),
                }
            )
    return rows


def _named(book: PriceBook) -> dict[str, Any]:
    since_ns = book.effective_from_ns
    return {
        "effective_from": rfc3339(since_ns) if since_ns else None,
        "cost_version": book.cost_version,
        "sell_version": book.sell_version,
    }


def _rule(rule: PriceRule) -> dict[str, Any]:
    rates = rule.cost_rates()
    return {
        "model": rule.model,
        "provider": rule.provider,
        "source": source_of(rule.place),
        "input_pico": rates.get(INPUT_UNCACHED),
        "output_pico": rates.get(OUTPUT_TEXT),
        "multiplier_ppm": rule.multiplier_ppm,
        "has_conditions": rule.variants is not None,
    }


def _rates(rates: Rates | None) -> dict[str, Any] | None:
    """Every rate, and those of every condition, in pico-USD per unit."""
    if rates is None:
        return None
    conditions = {}
    variants = rates.variants
    if variants is not None:
        keys: list[tuple[str | None, str | None, int]] = [
            *((tier, None, 0) for tier in variants.tiers),
            *((None, region, 0) for region in variants.regions),
            *((None, None, passed) for passed in range(1, len(variants.context) + 1)),
        ]
        for key in keys:
            conditions[variants.words(key) or ""] = variants.rates(rates.rates_pico, key)
    return {"rates_pico": dict(rates.rates_pico), "conditions": conditions}
