"""`passthrough` of the file to its terms, and what is absurd or unsafe in them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal

from metering.money import usd_to_nano
from metering.prices import PriceBook
from metering.tenants import Tenant
from proxy.config_decode import Findings, suggest
from proxy.config_passthrough_shape import PassthroughShape
from proxy.config_shape import FileShape
from proxy.config_yaml import Path
from proxy.passthrough_paths import FAMILIES
from proxy.passthrough_rules import ALLOWED, Passthrough, Terms
from proxy.settings import Provider
from routing.upstreams import Model

SECTION = "passthrough"
USD_MAX = 1_000
"""For one request: more was meant per month."""

TYPES = ("openai", "simulator")
"""Vendors that have OpenAI's paths at their `base_url`."""


def build_passthrough(shape: FileShape, findings: Findings) -> Passthrough | None:
    """The terms; None without the section."""
    written = shape.passthrough
    if written is None:
        return None
    _check_families((SECTION, "allow"), written.allow or (), findings)
    _check_families((SECTION, "paths"), written.paths, findings)
    return Passthrough(
        provider=written.provider,
        hold_nano=_nano((SECTION, "hold_usd"), written.hold_usd, findings),
        terms=_terms(written, findings),
        allowed=frozenset(ALLOWED if written.allow is None else written.allow),
        own_accounts=dict(written.tenants),
        objects_max=written.objects_max,
    )


def with_flat_prices(prices: PriceBook, passthrough: Passthrough | None) -> PriceBook:
    """The book with the flat prices of paths behind its own rules, which go first."""
    if passthrough is None:
        return prices
    flat = tuple(passthrough.price_rules())
    others = tuple([replace(each, rules=(*each.rules, *flat)) for each in prices.others])
    return replace(prices, rules=(*prices.rules, *flat), others=others)


def check_passthrough(
    passthrough: Passthrough | None,
    providers: Mapping[str, Provider],
    models: Mapping[str, Model],
    tenants: Mapping[str, Tenant],
    findings: Findings,
) -> None:
    """What spans sections: accounts that are there, speak OpenAI's API and are not shared."""
    if passthrough is None:
        return
    _check_account((SECTION, "provider"), passthrough.provider, providers, findings)
    taken = {passthrough.provider: "the account of all the others"}
    for tenant, provider in passthrough.own_accounts.items():
        path: Path = (SECTION, "tenants", tenant)
        if tenant not in tenants:
            findings.fault(path, f"unknown tenant {tenant!r}", suggest(tenant, tenants))
        _check_account(path, provider, providers, findings)
        if provider in taken:
            findings.fault(
                path,
                f"{provider!r} is {taken[provider]}, so others could read what is kept there",
                "give the tenant a provider with a credential of its own",
            )
            continue
        taken[provider] = f"the account of tenant {tenant!r}"
        _check_unshared(path, tenant, provider, models=models, tenants=tenants, findings=findings)


def _check_unshared(
    path: Path,
    tenant: str,
    provider: str,
    *,
    models: Mapping[str, Model],
    tenants: Mapping[str, Tenant],
    findings: Findings,
) -> None:
    """What others ask of a model there would be stored where this tenant reads."""
    for name, model in models.items():
        if all(each.provider != provider for each in model.upstreams):
            continue
        others = [each.id for each in tenants.values() if each.id != tenant and each.may_use(name)]
        if others:
            findings.fault(
                path,
                f"model {name!r} has an upstream at {provider!r}, and {others[0]!r} may use it",
                "leave that model out of the others' `tenants[].models`",
            )


def _check_account(
    path: Path, name: str, providers: Mapping[str, Provider], findings: Findings
) -> None:
    provider = providers.get(name)
    if provider is None:
        findings.fault(path, f"unknown provider {name!r}", suggest(name, providers))
    elif provider.type not in TYPES:
        findings.fault(
            path,
            f"{name!r} is of type {provider.type}, which does not have OpenAI's paths",
            "name a provider of type openai",
        )


def _check_families(path: Path, names: Iterable[str], findings: Findings) -> None:
    for index, name in enumerate(names):
        if name not in FAMILIES:
            at: Path = (*path, index if path[-1] == "allow" else name)
            hint = suggest(name, FAMILIES) or f"one of {', '.join(FAMILIES)}"
            findings.fault(at, f"unknown family of paths {name!r}", hint)


def _terms(written: PassthroughShape, findings: Findings) -> dict[str, Terms]:
    found = {}
    for family, terms in written.paths.items():
        path: Path = (SECTION, "paths", family)
        hold_nano = _nano((*path, "hold_usd"), terms.hold_usd, findings)
        price_nano = _nano((*path, "price_usd"), terms.price_usd, findings)
        if hold_nano is not None and price_nano is not None and price_nano > hold_nano:
            findings.fault(
                (*path, "price_usd"),
                f"{terms.price_usd} USD is more than the {terms.hold_usd} USD that are held",
                "hold at least the price",
            )
        found[family] = Terms(hold_nano, price_nano)
    return found


def _nano(path: Path, usd: Decimal | None, findings: Findings) -> int | None:
    if usd is None:
        return None
    if not 0 <= usd <= USD_MAX:
        findings.fault(path, f"must be from 0 to {USD_MAX} USD for one request, not {usd}")
        return None
    try:
        return usd_to_nano(usd)
    except ValueError as error:
        findings.fault(path, str(error))
        return None
