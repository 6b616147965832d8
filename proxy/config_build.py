"""From the file's shape to the settings, and the checks that span its sections.

Every check reports to `Findings`; nothing here raises for what a person wrote.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Container, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Any

from metering.ids import is_id
from metering.money import format_short, to_ppm
from metering.prices import PriceBook
from metering.redis_url import parse_redis_url, redis_url_shape
from metering.tenants import Tenant
from proxy.config_admin import build_admin, build_admin_keys
from proxy.config_alerts import build_sinks
from proxy.config_anomalies import build_tolerances
from proxy.config_cache import build_cache, build_cache_url
from proxy.config_conditions import warn_of_regions
from proxy.config_cost import build_cost_rules, build_credit_ppm, check_margins
from proxy.config_decode import Findings
from proxy.config_degrade import check_degradation, targets_of
from proxy.config_invoices import build_invoicing
from proxy.config_jobs import build_jobs, build_retention
from proxy.config_ledger import ledger_url_fault
from proxy.config_limits import check_output
from proxy.config_list_prices import build_book
from proxy.config_models import build_model, check_fallbacks
from proxy.config_network import (
    build_egress,
    build_tls,
    check_listening,
    check_redis_files,
)
from proxy.config_passthrough import (
    build_passthrough,
    check_passthrough,
)
from proxy.config_plans import build_assignments, build_plans
from proxy.config_prices import RULES
from proxy.config_providers import build_provider
from proxy.config_routing import check_choices
from proxy.config_shape import FileShape, ServerShape
from proxy.config_slips import warn_of_cache_rates, warn_of_long_prompts, warn_of_unset
from proxy.config_stripe import build_stripe
from proxy.config_telemetry import build_telemetry
from proxy.config_tenants import Tenants, build_tenants
from proxy.config_webhooks import build_webhooks
from proxy.config_yaml import Path
from proxy.settings import Metering, Provider, RedisSettings, Secret, Server, Settings
from routing.upstreams import Model, Upstream, candidates

_AS_WRITTEN = (
    "default_output_tokens",
    "default_tool_uses",
    "clamp_max_tokens",
    "min_output_tokens",
    "stream_slice_tokens",
    "on_exhausted",
)
"""What of `limits` are settings as they stand."""


def build(
    shape: FileShape, findings: Findings, *, source: FilePath, data_dir: FilePath, now_ns: int
) -> Settings:
    """The settings; sound only when `findings` holds no fault afterwards."""
    _check_rest(shape, data_dir, findings)
    directory = source.parent.resolve()
    providers = {
        name: build_provider(name, provider, findings, directory)
        for name, provider in shape.providers.items()
    }
    models = {
        name: build_model(name, model, shape, findings) for name, model in shape.models.items()
    }
    check_fallbacks(models, findings)
    passthrough = build_passthrough(shape, findings)
    prices = build_book(shape, models, providers, findings, flat=passthrough, now_ns=now_ns)
    cost_rules = build_cost_rules(shape.cost_to_serve, findings)
    tenants = build_tenants(shape, findings)
    if all(rule.model for rule in prices.rules) and not findings.is_broken(RULES):
        _check_priced(tenants.by_id, models, prices, providers, findings)
        check_degradation(tenants.places, models, prices, findings)
        check_margins(cost_rules, models, prices, findings)
        warn_of_cache_rates(models, prices, providers, findings)
        warn_of_long_prompts(models, prices, findings)
        warn_of_regions(models, prices, providers, findings)
        keys = {who.id: [key.id for key in who.keys] for who in tenants.by_id.values()}
        check_choices(models, prices, keys, findings)
        _warn_of_tiny(tenants, models, prices, shape.limits.min_output_tokens, findings)
    check_output(shape.limits, findings)
    _warn_of_few_tokens(tenants, shape.limits.min_output_tokens, findings)
    if tenants.minted_keys and not is_loopback(shape.server.host):
        _warn_of_minted(shape, findings)
    _warn_of_gaps(shape, providers, findings)
    check_passthrough(passthrough, providers, models, tenants.by_id, findings)
    return Settings(
        source=source,
        server=_server(shape.server, findings, directory),
        data_dir=data_dir,
        redis=_redis(shape, findings),
        ledger_url=shape.ledger.url or f"sqlite:///{data_dir / 'ledger.db'}",
        providers=providers,
        models=models,
        prices=prices,
        tenants=tenants.by_id,
        metering=Metering(**vars(shape.metering)),
        **{name: getattr(shape.limits, name) for name in _AS_WRITTEN},
        cost_rules=cost_rules,
        sla_credit_ppm=build_credit_ppm(shape.sla, findings),
        minted_keys=tenants.minted_keys,
        tolerances=build_tolerances(shape.anomalies, tenants.by_id, findings),
        passthrough=passthrough,
        egress=build_egress(shape.egress, findings, directory),
        sinks=build_sinks(shape.alerts, findings),
        cache=build_cache(shape, findings),
        cache_url=build_cache_url(shape, findings),
        **_billing(shape, findings, directory, now_ns),
        **_beside(shape, findings, directory),
    )


def _beside(shape: FileShape, findings: Findings, directory: FilePath) -> dict[str, Any]:
    """What goes on beside requests: the worker's clock, traces, the console."""
    return {
        "jobs": build_jobs(shape, findings),
        "retention": build_retention(shape.retention, findings, directory),
        "telemetry": build_telemetry(shape.telemetry, findings),
        "admin": build_admin(shape, findings),
        "admin_keys": build_admin_keys(shape, findings),
    }


def _billing(
    shape: FileShape, findings: Findings, directory: FilePath, now_ns: int
) -> dict[str, Any]:
    """What tenants pay by, who is told, and what their invoices say."""
    plans = build_plans(shape, findings)
    today = datetime.fromtimestamp(now_ns // 1_000_000_000, UTC).date()
    return {
        "plans": plans,
        "assignments": build_assignments(shape.tenants, plans, findings, today=today),
        "stripe": build_stripe(shape, findings),
        "webhooks": build_webhooks(shape.webhooks, findings),
        "invoicing": build_invoicing(shape, findings, directory),
    }


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; a name other than localhost is not trusted."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _server(written: ServerShape, findings: Findings, directory: FilePath) -> Server:
    tls = build_tls(written.tls, findings, directory)
    seconds = ("keepalive_s", "keepalive_after_s", "max_drain_s")
    own = {**{name: float(getattr(written, name)) for name in seconds}, "tls": tls}
    own["deadline_s"] = None if written.deadline_s is None else float(written.deadline_s)
    return Server(**{**vars(written), **own})


def _redis(shape: FileShape, findings: Findings) -> RedisSettings:
    redis = shape.redis
    share_ppm = 0
    try:
        share_ppm = to_ppm(redis.outage_share)
    except ValueError as error:
        findings.fault(("redis", "outage_share"), str(error))
    return RedisSettings(
        url=None if redis.url is None else Secret(redis.url),
        prefix=redis.prefix,
        shards=redis.shards,
        timeout_ms=redis.timeout_ms,
        on_outage=redis.on_outage,
        outage_share_ppm=share_ppm,
    )


def _check_rest(shape: FileShape, data_dir: FilePath, findings: Findings) -> None:
    """Checks of single values that need more than a type."""
    for path, name in (
        (("metering", "queue"), shape.metering.queue),
        (("redis", "prefix"), shape.redis.prefix),
    ):
        if not is_id(name):
            findings.fault(
                path, f"{name!r} cannot be part of a Redis key", "use letters, digits, . _ -"
            )
    if shape.redis.url is not None:
        try:
            check_redis_files(parse_redis_url(shape.redis.url))
        except ValueError as error:
            shape_of_it = redis_url_shape(shape.redis.url)
            findings.fault(("redis", "url"), str(error), f"write it like {shape_of_it}")
    _check_ledger_url(shape.ledger.url, data_dir, findings)
    check_listening(shape.server, findings)


def _check_ledger_url(url: str | None, data_dir: FilePath, findings: Findings) -> None:
    if url is not None and (fault := ledger_url_fault(url, data_dir)) is not None:
        findings.fault(("ledger", "url"), *fault)


def _check_priced(
    tenants: Mapping[str, Tenant],
    models: Mapping[str, Model],
    prices: PriceBook,
    providers: Container[str],
    findings: Findings,
) -> None:
    """Every upstream that a tenant may reach has a price: one fault or warning for each.

    Under a money cap it is refused, so that is a fault; without one it is served for nothing.
    """
    capped: dict[Upstream, list[str]] = {}
    uncapped: dict[Upstream, list[str]] = {}
    registered: dict[Upstream, list[str]] = {}
    for tenant in tenants.values():
        unpriced = capped if tenant.has_money_cap else uncapped
        if tenant.has_money_cap and tenant.is_registered:  # nobody who edits a file can mend it
            unpriced = registered
        for upstream in _reachable(tenant, models):
            price = prices.find(
                provider=upstream.provider, model=upstream.model, public_name=upstream.public_name
            )
            if price is None and upstream.provider in providers and upstream.model:
                unpriced.setdefault(upstream, []).append(tenant.id)
    for upstream in {**capped, **registered, **uncapped}:
        index = models[upstream.public_name].upstreams.index(upstream)
        path = ("models", upstream.public_name, "upstreams", index, "model")
        hint = (
            f"add to pricing.rules: {{model: {upstream.model}, input_per_mtok: ..., "
            "output_per_mtok: ...}"
        )
        if upstream in capped:
            who = _who(capped[upstream])
            message = f"no price for {upstream.label}, which {who} may use under a money cap"
            findings.fault(path, message, hint)
        elif upstream in registered:
            who = _who(registered[upstream])
            message = f"no price for {upstream.label}: {who}, of the registry, is refused there"
            findings.warn(path, message, hint)
        else:
            who = _who(uncapped[upstream])
            message = (
                f"no price for {upstream.label}, which {who} may use without a money cap: "
                "served unpriced, billed nothing, listed as unpriced"
            )
            findings.warn(path, message, hint)


def _warn_of_tiny(
    tenants: Tenants,
    models: Mapping[str, Model],
    prices: PriceBook,
    output_tokens: int,
    findings: Findings,
) -> None:
    """A money cap below the price of the smallest request to a model never lets one through."""
    told: set[Path] = set()
    for path, tenant, limit in _money_caps(tenants):
        for upstream in {} if path in told else _reachable(tenant, models):
            price = prices.find(
                provider=upstream.provider, model=upstream.model, public_name=upstream.public_name
            )
            smallest = price and price.sell.hold_nano(input_tokens=1, output_tokens=output_tokens)
            if smallest and smallest > limit:
                told.add(path)
                findings.warn(
                    path,
                    f"below the price of the smallest request to {upstream.public_name!r}, "
                    f"${format_short(smallest)} with {output_tokens} output tokens",
                    "raise it, or lower limits.min_output_tokens",
                )
                break


def _warn_of_few_tokens(tenants: Tenants, output_tokens: int, findings: Findings) -> None:
    """A cap of fewer tokens than the smallest request takes lets none through, either."""
    smallest = 1 + output_tokens
    for path in dict.fromkeys(
        (*cap.path, "tokens")
        for _, cap in tenants.caps
        if (cap.rule.limit.tokens or smallest) < smallest
    ):
        findings.warn(
            path,
            f"fewer than the {smallest} tokens of the smallest request, one and its answer",
            "raise it, or lower limits.min_output_tokens",
        )


def _money_caps(tenants: Tenants) -> Iterator[tuple[Path, Tenant, int]]:
    """Every money cap but none of zero, which is how a tenant is shut out; where it is written."""
    for index, tenant in enumerate(tenants.by_id.values()):
        if tenant.limits.daily_cap_nano:
            yield ("tenants", index, "limits", "tenant"), tenant, tenant.limits.daily_cap_nano
    for tenant_id, cap in tenants.caps:
        if cap.rule.limit.nano and tenant_id in tenants.by_id:
            yield (*cap.path, "usd"), tenants.by_id[tenant_id], cap.rule.limit.nano


def _who(tenants: list[str]) -> str:
    more = f" and {len(tenants) - 1} more" if len(tenants) > 1 else ""
    return f"tenant {tenants[0]!r}{more}"


def _reachable(tenant: Tenant, models: Mapping[str, Model]) -> dict[Upstream, None]:
    """Upstreams of the models it may ask for, of their fallbacks, and of those steps lead to."""
    names = [name for name in models if tenant.may_use(name)]
    names += targets_of(tenant, models)
    found = [each for name in names for each in candidates(models, name)]
    return dict.fromkeys([each for each in found if each.terms.is_enabled])


def _warn_of_minted(shape: FileShape, findings: Findings) -> None:
    for tenant_index, tenant in enumerate(shape.tenants):
        for key_index, key in enumerate(tenant.keys):
            if key.mint:
                findings.warn(
                    ("tenants", tenant_index, "keys", key_index, "mint"),
                    f"a minted key is for trying out, and server.host {shape.server.host!r} "
                    "is reachable from outside: it is switched off there",
                    f"make one with `weir keys new --tenant {tenant.id}` and write its sha256",
                )


def _warn_of_gaps(shape: FileShape, providers: Mapping[str, Provider], findings: Findings) -> None:
    if findings.document.tree is None and not findings.faults:
        findings.warn((), "the file is empty: no models and no tenants, every request is refused")
        return
    is_sound = not findings.faults  # else the section may just be misspelt
    if is_sound and not shape.models:
        findings.warn(("models",), "no models: there is nothing to ask for")
    if is_sound and not shape.tenants:
        findings.warn(("tenants",), "no tenants: every request is refused")
    warn_of_unset(providers, findings)
