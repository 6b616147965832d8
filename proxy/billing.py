"""What an exchange comes to: the amounts to commit, and a usage event for each of its attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metering.caps import Vector
from metering.events import RECOVERED, UsageEvent, encode
from metering.ids import derived_id
from metering.recovery import encode_checkpoint
from proxy.attempts import Attempt, Facts, elapsed_ms
from proxy.charging import Charge, charge, charge_now, region_of, tier_told


@dataclass(frozen=True, slots=True)
class Bill:
    """A commit as it will be made: the true amounts, the events, and their place in the spool."""

    actual: Vector
    events: list[bytes]
    charges: list[Charge]
    spool_seq: int | None = None


def bill(
    facts: Facts, attempts: Sequence[Attempt], *, emitted_at: int, spool_seq: int | None
) -> Bill:
    """What an exchange comes to. Made once, so that committing it again is a repeat."""
    charges = [charge(attempt) for attempt in attempts]
    moment = _Moment(emitted_at, spool_seq, None if spool_seq is None else len(attempts))
    return Bill(
        actual=_total(charges),
        events=[
            encode(_usage_event(facts, attempt, charged, moment))
            for attempt, charged in zip(attempts, charges, strict=True)
        ],
        charges=charges,
        spool_seq=spool_seq,
    )


def checkpoint(facts: Facts, attempts: Sequence[Attempt], *, now_ns: int) -> bytes:
    """What an exchange would come to if our process ended here: recovered from, should it do so.

    The events have ids of their own, each the same at every checkpoint: the true event of the
    attempt may still come, and then takes the recovered one's place.
    """
    charges = [charge_now(attempt) for attempt in attempts]
    moment = _Moment(now_ns, None, None)
    events = []
    for attempt, charged in zip(attempts, charges, strict=True):
        event = _usage_event(facts, attempt, charged, moment)
        event.event_id = derived_id(attempt.event_id, RECOVERED)
        event.usage_source = RECOVERED
        events.append(encode(event))
    return encode_checkpoint(_total(charges), events)


def progress(attempts: Sequence[Attempt]) -> tuple[int, ...]:
    """Differs when a checkpoint would say more; () while there is nothing to say.

    That is before the first attempt, and while the meter is fed in another thread.
    """
    if not attempts or attempts[-1].meter.is_in_thread:
        return ()
    last = attempts[-1]
    return (last.number, last.is_sent, last.first_byte_at or 0, last.meter.output_tokens)


def _total(charges: Sequence[Charge]) -> Vector:
    return Vector(
        nano=sum([charged.sell_nano for charged in charges]),
        tokens=sum([charged.tokens for charged in charges]),
        requests=1,
    )


def _why(attempt: Attempt) -> dict[str, Any]:
    """The fields that say why this upstream was asked, and what was changed for it."""
    return {
        "retry_count": attempt.retry_count,
        "fallback_reason": attempt.fallback_reason,
        "degrade_step": attempt.degrade_step,
        "degrade_shadow": attempt.degrade_shadow,
        "admitted_by": attempt.admitted_by,
    }


@dataclass(frozen=True, slots=True)
class _Moment:
    emitted_at: int
    spool_seq: int | None
    spool_events: int | None


def _place(attempt: Attempt) -> dict[str, Any]:
    """Where it was sent, and where and how it was served, as events say it."""
    upstream = attempt.option.upstream
    return {
        "provider": upstream.provider,
        "model_public": upstream.public_name,
        "model_upstream": upstream.model,
        "region": region_of(attempt),
        "service_tier": tier_told(attempt),
    }


def _usage_event(facts: Facts, attempt: Attempt, charged: Charge, moment: _Moment) -> UsageEvent:
    price, reply = attempt.option.price, attempt.reply
    key, usage = facts.principal.key, charged.usage
    return UsageEvent(
        event_id=attempt.event_id,
        exchange_id=facts.exchange_id,
        attempt=attempt.number,
        request_id=facts.request_id,
        upstream_request_id=attempt.upstream_request_id,
        tenant=facts.principal.tenant.id,
        project=key.project,
        api_key_id=key.id,
        feature=facts.feature,
        user=facts.user,
        session=facts.session,
        run=facts.run,
        step=facts.step,
        occurred_at=facts.occurred_at,
        completed_at=(ended_at := attempt.ended_at or moment.emitted_at),
        emitted_at=moment.emitted_at,
        vendor=attempt.vendor,
        model_requested=facts.model_requested,
        **_place(attempt),
        model_answered=reply.model,
        model_version=reply.version,
        price_tier=charged.price_tier,
        units=charged.units,
        usage_source=usage.source,
        tokenizer=usage.tokenizer,
        counted=usage.counted,
        usage_suspect=usage.suspect,
        cost_version=price.cost.version if price else None,
        sell_version=price.sell.version if price else None,
        cost_nano=charged.cost_nano,
        admission_nano=charged.sell_nano,
        latency_ms=elapsed_ms(ended_at - attempt.started_at),
        ttft_ms=attempt.first_byte_at and elapsed_ms(attempt.first_byte_at - attempt.started_at),
        target_latency_ms=facts.target_latency_ms,
        sla_met=charged.sla_met,
        sla_credit_nano=charged.sla_credit_nano,
        status=charged.status,
        http_status=attempt.http_status,
        finish_reason=reply.finish_reason,
        client_retry_count=facts.client_retry_count,
        **_why(attempt),
        max_tokens_sent=attempt.max_tokens,
        cache_status=facts.cache_status,
        stream=facts.stream,
        client_disconnected=attempt.client_disconnected,
        billable=charged.billable,
        reason_code=charged.reason,
        proxy_id=facts.proxy_id,
        spool_seq=moment.spool_seq,
        spool_events=moment.spool_events,
    )
