"""What is told of an exchange: headers to its client, a line to the log, counts to the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metering.caps import CapState
from metering.money import format_usd
from proxy.attempts import Attempt, Facts
from proxy.charging import Charge
from proxy.degraded import NOTHING, Steps, step_headers
from proxy.door import Door
from proxy.limit_words import limit_headers
from routing.fallback import FALLS_BACK


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an exchange that was served: what the client still has to get.

    `body` and `headers` are those of a whole answer; for a stream `tail` is its withheld end.
    """

    status: int
    headers: dict[str, str]
    body: bytes | None = None
    tail: bytes = b""


@dataclass(slots=True)
class Told:
    """What the headers of an answer say, as far as it is known."""

    steps: Steps = NOTHING
    """What became of the steps near a cap."""
    clamped_tokens: int | None = None
    """What `max_tokens` was cut to, per choice."""
    overrun_nano: int = 0
    """By how much it came to more than was held under a cap at its end."""
    sell_nano: int | None = None
    """What it came to; None as long as it runs."""


def headers(
    facts: Facts, attempt: Attempt, states: Sequence[CapState], told: Told
) -> dict[str, str]:
    """The `x-weir-*` headers of an answer."""
    upstream, price = attempt.option.upstream, attempt.option.price
    named = {"x-weir-model": upstream.public_name, "x-weir-provider": upstream.provider}
    if told.steps is not NOTHING:
        named |= step_headers(
            told.steps,
            asked=facts.model_requested,
            served=upstream.public_name,
            has_failed=attempt.number > 1 or attempt.outcome in FALLS_BACK,
        )
    if attempt.number > 1:
        named["x-weir-attempts"] = str(attempt.number)
    if told.clamped_tokens is not None:
        named["x-weir-max-tokens-clamped"] = str(told.clamped_tokens)
    if price is not None:
        named["x-weir-price-version"] = price.sell.version
        if told.sell_nano is not None:
            named["x-weir-cost-usd"] = format_usd(told.sell_nano, places=9)
    if facts.explained is not None:
        named["x-weir-route"] = facts.explained
    if states:
        named |= limit_headers(states)
    return named


def tell(
    door: Door, facts: Facts, attempts: Sequence[Attempt], charges: Sequence[Charge], told: Told
) -> None:
    """An exchange has ended: its metrics, and its line in the log."""
    attempt, charged = attempts[-1], charges[-1]
    door.metrics.exchange(facts, attempts, charges, steps=told.steps)
    if door.tracer is not None:
        door.tracer.told(facts, attempts, charges)
    is_clamped = told.clamped_tokens is not None
    if is_clamped or told.overrun_nano:
        door.metrics.means(facts, is_clamped=is_clamped, overrun_nano=told.overrun_nano)
    door.log.info(
        "exchange",
        request_id=facts.request_id,
        tenant=facts.principal.tenant.id,
        exchange_id=facts.exchange_id,
        model=facts.model_requested,
        upstream=attempt.option.upstream.label,
        outcome=attempt.outcome,
        attempts=len(attempts),
        units=charged.units,
        usage_source=charged.usage.source,
        drift_tokens=charged.usage.drift_tokens,
        sell_usd=format_usd(told.sell_nano or 0, places=9),
        duration_ms=((attempt.ended_at or 0) - facts.occurred_at) // 1_000_000,
    )


def tell_refusal(door: Door, code: str) -> None:
    """A request gets an error of ours."""
    door.metrics.refused(code)
    if door.tracer is not None:
        door.tracer.refused(code)


def tell_failure(log: Any, attempt: Attempt, cause: str) -> None:
    """An attempt failed; another one may follow."""
    upstream = attempt.option.upstream.label
    log.warning("attempt_failed", attempt=attempt.number, upstream=upstream, cause=cause)
