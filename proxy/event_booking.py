"""From a sound item to what is recorded of it: whose it is, what it costs, the event.

Rules: the tenant is the key's, or one that the key may act for; labels follow the pins of the key
as those of requests do; what is used already is booked whatever the caps say, and counts there.
A token is never free for want of a price; another unit without one is a plain count, and the sender
is told.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metering.caps import ScopeKind, Vector
from metering.events import Kind, Reason, UsageEvent
from metering.ids import derived_id
from metering.money import AMOUNT_NANO_MAX
from metering.price_variants import USUAL_CHOICE, TierChoice
from metering.prices import Price, PriceBook
from metering.tenant_caps import Labels
from metering.tenants import DEFAULT_PROJECT, ApiKey, Principal, Tenant
from metering.usage import TOKEN_CLASSES
from proxy.event_items import LABELS, Item, ItemError, exchange_of

EXTERNAL = "external"
"""The provider of what nobody else is named for; a price rule may be for it."""


@dataclass(frozen=True, slots=True)
class Booked:
    """One item as it will be recorded. `event` still lacks its place in the spool."""

    item: Item
    tenant: Tenant
    project: str
    labels: Labels
    exchange_id: str
    actual: Vector
    event: UsageEvent
    is_unpriced: bool


def book(
    item: Item,
    principal: Principal,
    tenants: Mapping[str, Tenant],
    prices: PriceBook,
    *,
    now_ns: int,
    proxy_id: str,
) -> Booked:
    """What an item comes to; ItemError when it may not be booked as it is."""
    tenant = _tenant_of(item, principal, tenants)
    project = _project_of(item, principal, tenant)
    labels = _labels_of(item, principal.key)
    name, provider = item.model_name, item.provider or EXTERNAL
    occurred_at = now_ns if item.occurred_at is None else item.occurred_at
    price = prices.at(occurred_at).find(provider=provider, model=name, public_name=name)
    is_unpriced = _is_unpriced(item, price, tenant)
    units = {unit: count for unit, count in item.units.items() if count}
    price, choice = _at(price, item, units)
    tokens = sum(units.get(unit, 0) for unit in TOKEN_CLASSES)
    sell_nano = price.sell.total_nano(units) if price else 0
    cost_nano = price.cost.total_nano(units) if price else 0
    if max(sell_nano, cost_nano) > AMOUNT_NANO_MAX:
        raise ItemError("amount_too_large", "Nothing costs as much: check `value`.", "value")
    exchange_id = exchange_of(tenant.id, item.source, item.id)
    event = UsageEvent(
        event_id=derived_id(exchange_id, Kind.CUSTOM),
        exchange_id=exchange_id,
        kind=Kind.CUSTOM,
        attempt=0,  # it is no request: the windows count the first attempt of each
        tenant=tenant.id,
        project=project,
        api_key_id=principal.key.id,
        request_id=item.id,
        upstream_request_id=item.source or None,
        occurred_at=occurred_at,
        completed_at=occurred_at,
        emitted_at=now_ns,
        step=item.step,
        provider=provider,
        model_requested=item.model or item.meter,
        model_public=name,
        model_upstream=name,
        region=item.region,
        service_tier=item.service_tier,
        price_tier=choice.tier,
        units=units,
        usage_source="reported",
        usage_suspect=choice.doubt,
        cost_version=price.cost.version if price else None,
        sell_version=price.sell.version if price else None,
        cost_nano=cost_nano,
        admission_nano=sell_nano,
        admitted_by="none",
        reason_code=Reason.REPORTED,
        proxy_id=proxy_id,
        **labels._asdict(),
    )
    actual = Vector(nano=sell_nano, tokens=tokens)
    return Booked(item, tenant, project, labels, exchange_id, actual, event, is_unpriced)


def _at(
    price: Price | None, item: Item, units: Mapping[str, int]
) -> tuple[Price | None, TierChoice]:
    """The price that holds for these units, and the service tier it is of."""
    if price is None:
        return None, USUAL_CHOICE
    choice = price.choose_tier(reported=item.service_tier, asked=None)
    return price.at(units, tier=choice.tier, region=item.region), choice


def _tenant_of(item: Item, principal: Principal, tenants: Mapping[str, Tenant]) -> Tenant:
    own = principal.tenant
    if item.tenant in (None, own.id):
        return own
    other = tenants.get(item.tenant) if item.tenant in principal.key.act_for else None
    if other is None:
        raise ItemError(
            "tenant_mismatch",
            "`tenant_id` is not the tenant of this key; leave it out, or use a key that may act "
            "for that tenant.",
            "tenant_id",
        )
    return other


def _project_of(item: Item, principal: Principal, tenant: Tenant) -> str:
    """The key's project; for another tenant one of its own."""
    if tenant is not principal.tenant:
        if item.project in (None, DEFAULT_PROJECT, *tenant.projects):
            return item.project or DEFAULT_PROJECT
        raise ItemError(
            "invalid_dimension", "That tenant has no such project.", "dimensions.project"
        )
    if item.project in (None, principal.key.project):
        return principal.key.project
    raise ItemError(
        "label_pinned",
        "`project` is not the project of this key; leave it out, or use another key.",
        "dimensions.project",
    )


def _labels_of(item: Item, key: ApiKey) -> Labels:
    found: list[str | None] = []
    for name in LABELS:
        said, pin = getattr(item, name), key.pins.get(ScopeKind(name))
        if pin is not None and said not in (None, pin):
            raise ItemError(
                "label_pinned",
                f"`{name}` is not the one that this key is pinned to; leave it out, or use "
                "another key.",
                f"dimensions.{name}",
            )
        found.append(said if pin is None else pin)
    return Labels(*found)


def _is_unpriced(item: Item, price: Price | None, tenant: Tenant) -> bool:
    rates = {} if price is None else price.sell.rates_pico
    lacking = [unit for unit in item.units if unit not in rates]
    tokens = [unit for unit in lacking if unit in TOKEN_CLASSES]
    if tokens and (price is not None or tenant.has_money_cap):
        raise ItemError(
            "model_not_priced",
            f"`{item.model_name}` has no price for {tokens[0]}; an operator can add one to "
            "`pricing.rules`.",
            "dimensions.model",
        )
    is_by_units = rates and rates.keys().isdisjoint(TOKEN_CLASSES)
    if is_by_units and lacking == [*item.units]:
        raise ItemError(
            "unit_not_priced",
            f"`{item.model_name}` is priced by {', '.join(sorted(rates))}, and not by "
            f"{', '.join(lacking)}: report that unit in `units`, or name what is priced so.",
            "units" if len(lacking) > 1 else "value",
        )
    return bool(lacking)
