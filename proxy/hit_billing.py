"""What an answer that was kept comes to, and the event that tells of it. Pure.

It costs us nothing: no provider was asked. It is billed for a share of the units that it was billed
for at first, rounded down, at the prices of now; a share of nothing is no charge. It never counts
as an inference, nor as a call of an API.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metering.caps import Vector
from metering.events import Reason, UsageEvent, encode
from metering.money import PPM
from metering.prices import Price
from metering.usage import TOKEN_CLASSES
from proxy.attempts import Attempt, Facts, elapsed_ms
from proxy.billing import Bill
from proxy.charging import Charge, region_of, tier_told

_NOT_AGAIN = frozenset({"api_call", "inference"})

_TEXTS = (
    "vendor",
    "provider",
    "model_public",
    "model_upstream",
    "model_answered",
    "model_version",
    "region",
    "service_tier",
    "price_tier",
    "finish_reason",
)


def facts_of(attempt: Attempt, charged: Charge) -> dict[str, Any]:
    """What is kept beside an answer: which upstream gave it, and what it was billed for."""
    upstream, reply = attempt.option.upstream, attempt.reply
    return {
        "vendor": attempt.vendor,
        "provider": upstream.provider,
        "model_public": upstream.public_name,
        "model_upstream": upstream.model,
        "model_answered": reply.model,
        "model_version": reply.version,
        "region": region_of(attempt),
        "service_tier": tier_told(attempt),
        "price_tier": charged.price_tier,
        "finish_reason": reply.finish_reason,
        "units": {unit: count for unit, count in charged.units.items() if unit not in _NOT_AGAIN},
    }


def share_of(units: object, billed_ppm: int) -> dict[str, int]:
    """The units that are billed once more."""
    counts = units.items() if isinstance(units, Mapping) else ()
    found = {
        str(unit): count * billed_ppm // PPM
        for unit, count in counts
        if type(count) is int and count > 0 and unit not in _NOT_AGAIN
    }
    return {unit: count for unit, count in found.items() if count}


def bill_of_hit(
    facts: Facts,
    kept: Mapping[str, Any],
    *,
    event_id: str,
    status: str,
    units: Mapping[str, int],
    price: Price | None,
    is_admitted: bool,
    now_ns: int,
    spool_seq: int | None,
) -> Bill:
    """The commit for an answer that was kept. `status` is its `cache_status`; where no cap has
    admitted it, it counts as no request."""
    texts = {name: kept[name] for name in _TEXTS if isinstance(kept.get(name), str)}
    if price is not None:  # as the worker rates the event
        price = price.at(units, tier=texts.get("price_tier"), region=texts.get("region"))
    sell_nano = price.sell.total_nano(units) if price is not None else 0
    is_billed = bool(units) and price is not None
    event = UsageEvent(
        event_id=event_id,
        exchange_id=facts.exchange_id,
        attempt=1 if is_admitted else 0,  # the windows count the first attempt of each
        request_id=facts.request_id,
        tenant=facts.principal.tenant.id,
        project=facts.principal.key.project,
        api_key_id=facts.principal.key.id,
        feature=facts.feature,
        user=facts.user,
        session=facts.session,
        run=facts.run,
        step=facts.step,
        occurred_at=facts.occurred_at,
        completed_at=now_ns,
        emitted_at=now_ns,
        model_requested=facts.model_requested,
        units=dict(units) if is_billed else {},
        sell_version=price.sell.version if is_billed and price is not None else None,
        admission_nano=sell_nano if is_billed else 0,
        latency_ms=elapsed_ms(now_ns - facts.occurred_at),
        client_retry_count=facts.client_retry_count,
        cache_status=status,
        stream=facts.stream,
        billable=is_billed,
        reason_code=Reason.RETRY if status == "replay" else Reason.CACHE_HIT,
        proxy_id=facts.proxy_id,
        spool_seq=spool_seq,
        spool_events=None if spool_seq is None else 1,
        **texts,
    )
    tokens = sum([count for unit, count in event.units.items() if unit in TOKEN_CLASSES])
    actual = Vector(event.admission_nano, tokens, 1 if is_admitted else 0)
    return Bill(actual, [encode(event)], [], spool_seq)
