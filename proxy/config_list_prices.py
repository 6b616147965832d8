"""List prices for the models that a file serves and has no rule for.

Only upstreams of the file get one, each for its own account: what the package knows of other
models is in no price book, so that a new release changes nobody's prices but theirs.
"""

from __future__ import annotations

from collections.abc import Mapping

from metering.list_prices import packaged_list_prices
from metering.money import to_ppm
from metering.price_eras import DatedRule
from metering.prices import PriceBook
from proxy.config_decode import Findings
from proxy.config_passthrough import with_flat_prices
from proxy.config_prices import build_prices
from proxy.config_shape import FileShape
from proxy.passthrough_rules import Passthrough
from proxy.settings import Provider
from routing.upstreams import Model

_MULTIPLIER_MAX = 1000


def build_book(
    shape: FileShape,
    models: Mapping[str, Model],
    providers: Mapping[str, Provider],
    findings: Findings,
    *,
    flat: Passthrough | None,
    now_ns: int,
) -> PriceBook:
    """The price book of the file in force at `now_ns`, with the flat prices of paths behind its
    rules, and list prices where it wants them."""
    book = build_prices(
        shape,
        findings,
        now_ns=now_ns,
        listed=lambda: listed_rules(shape, models, providers, findings),
    )
    return with_flat_prices(book, flat)


def listed_rules(
    shape: FileShape,
    models: Mapping[str, Model],
    providers: Mapping[str, Provider],
    findings: Findings,
) -> list[DatedRule]:
    """A rule for each price that each served upstream has, or had, in its vendor's list."""
    multiplier = shape.pricing.list_multiplier
    path = ("pricing", "list_multiplier")
    if not 0 < multiplier <= _MULTIPLIER_MAX:
        findings.fault(path, f"must be more than 0, and at most {_MULTIPLIER_MAX}")
        return []
    try:
        multiplier_ppm = to_ppm(multiplier)
    except ValueError as error:
        findings.fault(path, str(error))
        return []
    prices = packaged_list_prices()
    found = []
    for model in models.values():
        for upstream in model.upstreams:
            provider = providers.get(upstream.provider)
            if provider is None or not upstream.model:
                continue
            for price in prices.find(base_url=provider.base_url, model=upstream.model):
                rule = price.rule(
                    model=upstream.model, provider=provider.name, multiplier_ppm=multiplier_ppm
                )
                found.append(DatedRule(price.effective_from_ns, rule, upstream.public_name))
    return found
