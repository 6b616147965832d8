"""Conditions of a price that no request can meet, and regions that were left out of one.

Warnings: a rule may be for what passes elsewhere, too.
"""

from __future__ import annotations

from collections.abc import Mapping

from metering.price_variants import ANYWHERE, Variants
from metering.prices import PriceBook, PriceRule, match_rule
from proxy.config_decode import Findings, suggest
from proxy.config_yaml import Path
from proxy.settings import Provider
from routing.upstreams import Model, Upstream

GEOS = (ANYWHERE, "us")
"""Where Anthropic says that it served, and asks more for the latter."""


def warn_of_regions(
    models: Mapping[str, Model],
    prices: PriceBook,
    providers: Mapping[str, Provider],
    findings: Findings,
) -> None:
    """A region that has a price and no upstream, and an upstream's that has none beside others.

    Of rules that price some upstream: the others are for what is reported from outside. Anthropic
    serves in the regions of its own choice, or of the request's, and tells which.
    """
    here: dict[int, set[str]] = {}
    rules: dict[int, PriceRule] = {}
    for name, model in models.items():
        for at, upstream in enumerate(model.upstreams):
            rule = _rule_of(upstream, prices)
            index, variants = (None, None) if rule is None else (rule.place, rule.variants)
            if rule is None or index is None or variants is None or not variants.regions:
                continue
            known, rules[index] = here.setdefault(index, set()), rule
            provider = providers.get(upstream.provider)
            if provider is not None and provider.type == "anthropic":
                known |= {*GEOS} & variants.regions.keys()
            region = upstream.region
            if region is None:
                continue
            if region not in variants.regions and region not in known:
                findings.warn(
                    ("models", name, "upstreams", at, "region"),
                    f"{region!r} is billed at the list price: the rule of {upstream.model!r} "
                    f"prices {', '.join(map(repr, variants.regions))} and not it",
                    suggest(region, variants.regions)
                    or f"write region: {{{region}: {{factor: 1}}}} into the rule if that is so",
                )
            known.add(region)
    for index, known in here.items():
        _warn_of_unused(index, rules[index].variants, known, findings)


def _warn_of_unused(
    index: int, variants: Variants | None, known: set[str], findings: Findings
) -> None:
    for region in {} if variants is None else variants.regions:
        if region not in known:
            path: Path = ("pricing", "rules", index, "region", region)
            findings.warn(
                path,
                "no upstream of this rule stands in this region",
                suggest(region, known) or "set `region` at the upstream, or leave it out",
            )


def _rule_of(upstream: Upstream, prices: PriceBook) -> PriceRule | None:
    """The rule that prices it."""
    return match_rule(
        prices.rules,
        provider=upstream.provider,
        model=upstream.model,
        public_name=upstream.public_name,
    )
