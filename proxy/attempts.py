"""One attempt: what was sent where, how it ended, and the usage event that records it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from metering.caps import AdmittedBy, Cap, Scope, Vector
from metering.events import RECOVERED, Reason, Status, UsageEvent, encode
from metering.ids import derived_id
from metering.meter import Meter
from metering.money import PPM, divide_half_even
from metering.recovery import encode_checkpoint
from metering.tenants import Principal
from metering.usage import INPUT_CLASSES, TOKEN_CLASSES, MeteredUsage
from proxy.reply import Reply
from routing.fallback import Outcome
from routing.policy import Option


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an exchange before anything is sent. Labels come from the client."""

    exchange_id: str
    request_id: str
    principal: Principal
    proxy_id: str
    occurred_at: int
    model_requested: str
    stream: bool
    user: str | None = None
    feature: str | None = None
    session: str | None = None
    run: str | None = None
    step: int | None = None
    client_retry_count: int | None = None
    caps: tuple[Cap, ...] = ()
    """What it stands under, the same object for the same caps; the tenant's first."""
    stops: tuple[Scope, ...] = ()
    """The scopes it runs in, beside the tenant, that can be paused or killed."""
    target_latency_ms: int | None = None
    """How fast its answer is to be."""
    credit_target_ms: int | None = None
    """How fast it has to be for its whole price."""


@dataclass(frozen=True, slots=True)
class Promise:
    """How fast an answer was to be, since when, and what it costs less when it was not."""

    target_ms: int
    asked_at: int
    credit_ppm: int = 0
    credit_target_ms: int | None = None
    """The time that was promised; None where nothing is credited."""


@dataclass(slots=True)
class Attempt:
    """One send to one upstream, filled in as it goes. Times are UTC nanoseconds."""

    number: int
    event_id: str
    option: Option
    vendor: str
    meter: Meter
    started_at: int
    fallback_reason: str | None = None
    degrade_step: str | None = None
    degrade_shadow: str | None = None
    admitted_by: AdmittedBy = AdmittedBy.CAPS
    max_tokens: int | None = None
    """What a choice was bounded by, where that is not the client's own limit."""
    upstream_label: str | None = None
    """What metrics call its upstream, where the model's name is the client's own word."""
    is_inference: bool = True
    """Whether a model answers it; other calls are counted as calls only."""
    is_sent: bool = False
    first_byte_at: int | None = None
    ended_at: int | None = None
    http_status: int | None = None
    upstream_request_id: str | None = None
    retry_after_s: float | None = None
    outcome: Outcome | None = None
    client_disconnected: bool = False
    promise: Promise | None = None
    reply: Reply = field(default_factory=Reply)

    def mark_sent(self) -> None:
        """The request is on its way: from here on the upstream may be working for us."""
        self.is_sent = True

    @property
    def waited_ms(self) -> int | None:
        """What the client waited for from this upstream: the first byte of a stream, the end of a
        whole answer; None where nothing came."""
        until = self.first_byte_at
        return None if until is None else _ms(until - self.started_at)

    @property
    def is_in_time(self) -> bool | None:
        """Whether the promise was kept, by what the client has waited in all; None without one, and
        where it got no answer."""
        if self.promise is None or self.first_byte_at is None:
            return None
        return _ms(self.first_byte_at - self.promise.asked_at) <= self.promise.target_ms

    @property
    def earns_credit(self) -> bool:
        """Whether it came later than was promised, and than it was asked for: a request may waive a
        credit, and cannot make one up."""
        promise, came_at = self.promise, self.first_byte_at
        if promise is None or promise.credit_target_ms is None or came_at is None:
            return False
        return _ms(came_at - promise.asked_at) > max(promise.target_ms, promise.credit_target_ms)


@dataclass(frozen=True, slots=True)
class Charge:
    """What an attempt comes to: nano-USD and tokens, zero unless billable."""

    usage: MeteredUsage
    units: dict[str, int]
    sell_nano: int
    cost_nano: int
    tokens: int
    billable: bool
    reason: Reason
    status: Status
    sla_met: bool | None = None
    sla_credit_nano: int = 0
    """What was taken off `sell_nano` because the answer was late."""


def promise_of(facts: Facts, credit_ppm: int) -> Promise | None:
    """How fast the answers of this exchange are to be."""
    target_ms = facts.target_latency_ms
    if target_ms is None:
        return None
    return Promise(target_ms, facts.occurred_at, credit_ppm, facts.credit_target_ms)


_BILLED = {
    Outcome.SERVED: Reason.SERVED,
    Outcome.TRUNCATED: Reason.PARTIAL,
    Outcome.UNTRANSLATED: Reason.PARTIAL,
    Outcome.CLIENT_GONE: Reason.PARTIAL,
    Outcome.EXHAUSTED: Reason.STOPPED_AT_CAP,
    Outcome.STOPPED: Reason.STOPPED_BY_FLAG,
}
"""Outcomes that are billed for what was metered, once the request is out and was not refused."""

_STATUS = {
    Outcome.SERVED: Status.SUCCESS,
    Outcome.TRUNCATED: Status.TRUNCATED,
    Outcome.UNTRANSLATED: Status.TRUNCATED,
    Outcome.CLIENT_GONE: Status.CANCELLED,
    Outcome.EXHAUSTED: Status.STOPPED,
    Outcome.STOPPED: Status.STOPPED,
}


def charge(attempt: Attempt) -> Charge:
    """What to bill for an attempt.

    Served, truncated, stopped and abandoned attempts are billed for what was metered; the last two
    at least for their input, which the upstream has read. What failed before the first byte, and
    what the upstream answered with an error, is not.
    """
    return _charge(attempt, attempt.outcome, attempt.meter.final())


def charge_now(attempt: Attempt) -> Charge:
    """What to bill for an attempt if our process ends here, in the middle of it.

    What the client has had is billed like a stream that broke. Where it has had nothing, that was
    our doing: the tenant is billed nothing, and what the upstream has read is a cost of ours.
    """
    usage = attempt.meter.so_far()
    if attempt.outcome is not None or not attempt.is_sent:
        return _charge(attempt, attempt.outcome, usage)
    charged = _charge(attempt, Outcome.TRUNCATED, usage)
    if not charged.billable:
        return replace(charged, status=Status.ERROR)
    if attempt.first_byte_at is not None:
        return charged
    tokens = {unit: count for unit, count in usage.units.items() if unit in INPUT_CLASSES}
    return replace(
        charged,
        units=tokens,
        sell_nano=0,
        cost_nano=attempt.option.price.cost.total_nano(tokens) if attempt.option.price else 0,
        tokens=sum(tokens.values()),
        billable=False,
        reason=Reason.RECOVERED_UNCONFIRMED,
        status=Status.ERROR,
    )


def _charge(attempt: Attempt, outcome: Outcome | None, usage: MeteredUsage) -> Charge:
    reason, is_billed = _reason(attempt, outcome)
    status = Status.ERROR if outcome is None else _STATUS.get(outcome, Status.ERROR)
    if not is_billed:
        return Charge(usage, {}, 0, 0, 0, billable=False, reason=reason, status=status)
    tokens = {unit: count for unit, count in usage.units.items() if count}
    units = {**tokens, "api_call": 1}
    if outcome is Outcome.SERVED and attempt.is_inference:
        units["inference"] = 1
    price = attempt.option.price
    sell_nano = price.sell.total_nano(units) if price else 0
    sla_met = attempt.is_in_time if outcome is Outcome.SERVED else None
    credit_nano = _credit_nano(attempt, sell_nano) if sla_met is False else 0
    return Charge(
        usage=usage,
        units=units,
        sell_nano=sell_nano - credit_nano,
        cost_nano=price.cost.total_nano(units) if price else 0,
        tokens=sum([count for unit, count in tokens.items() if unit in TOKEN_CLASSES]),
        billable=True,
        reason=reason,
        status=status,
        sla_met=sla_met,
        sla_credit_nano=credit_nano,
    )


def _credit_nano(attempt: Attempt, sell_nano: int) -> int:
    if attempt.promise is None or not attempt.earns_credit:
        return 0
    return divide_half_even(sell_nano * attempt.promise.credit_ppm, PPM)


def _reason(attempt: Attempt, outcome: Outcome | None) -> tuple[Reason, bool]:
    """Why an attempt is billed or not, and whether it is."""
    if not attempt.is_sent:
        return Reason.NOT_SENT, False
    if outcome is None:
        return Reason.INTERNAL_ERROR, False
    if outcome is Outcome.REFUSED:
        return Reason.UPSTREAM_REFUSED, False
    if outcome not in _BILLED or (attempt.http_status or 200) // 100 != 2:
        return Reason.UPSTREAM_ERROR, False
    return _BILLED[outcome], True


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


@dataclass(frozen=True, slots=True)
class _Moment:
    emitted_at: int
    spool_seq: int | None
    spool_events: int | None


def _usage_event(facts: Facts, attempt: Attempt, charged: Charge, moment: _Moment) -> UsageEvent:
    upstream, price, reply = attempt.option.upstream, attempt.option.price, attempt.reply
    key, usage = facts.principal.key, charged.usage
    ended_at = attempt.ended_at or moment.emitted_at
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
        completed_at=ended_at,
        emitted_at=moment.emitted_at,
        vendor=attempt.vendor,
        provider=upstream.provider,
        model_requested=facts.model_requested,
        model_public=upstream.public_name,
        model_upstream=upstream.model,
        model_answered=reply.model,
        model_version=reply.version,
        service_tier=reply.service_tier,
        units=charged.units,
        usage_source=usage.source,
        tokenizer=usage.tokenizer,
        counted=usage.counted,
        usage_suspect=usage.suspect,
        cost_version=price.cost.version if price else None,
        sell_version=price.sell.version if price else None,
        cost_nano=charged.cost_nano,
        admission_nano=charged.sell_nano,
        latency_ms=_ms(ended_at - attempt.started_at),
        ttft_ms=attempt.first_byte_at and _ms(attempt.first_byte_at - attempt.started_at),
        target_latency_ms=facts.target_latency_ms,
        sla_met=charged.sla_met,
        sla_credit_nano=charged.sla_credit_nano,
        status=charged.status,
        http_status=attempt.http_status,
        finish_reason=reply.finish_reason,
        client_retry_count=facts.client_retry_count,
        fallback_reason=attempt.fallback_reason,
        degrade_step=attempt.degrade_step,
        degrade_shadow=attempt.degrade_shadow,
        admitted_by=attempt.admitted_by,
        max_tokens_sent=attempt.max_tokens,
        stream=facts.stream,
        client_disconnected=attempt.client_disconnected,
        billable=charged.billable,
        reason_code=charged.reason,
        proxy_id=facts.proxy_id,
        spool_seq=moment.spool_seq,
        spool_events=moment.spool_events,
    )


def _ms(duration_ns: int) -> int:
    """A wall clock may jump back; a latency is never negative."""
    return max(0, duration_ns) // 1_000_000
