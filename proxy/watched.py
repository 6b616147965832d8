"""An attempt as it is seen from beside: what its end says of the upstream it went to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from metering.clock import monotonic_s, now_ns
from proxy.attempts import Attempt
from proxy.door import Door
from proxy.halt import Halt
from routing.fallback import Outcome


async def watched(
    door: Door,
    attempt: Attempt,
    run: Callable[[], Awaitable[Outcome]],
    *,
    halt: Halt,
    stream: bool,
) -> Outcome:
    """Run the attempt; note in it how it ended, and in health and history what that says."""
    label, started_s = attempt.option.upstream.label, monotonic_s()
    if attempt.number == 1:
        door.budgets.note(label, started_s)
    door.health.begin(label, started_s)
    is_cold = door.history.begin(label, started_s)
    try:
        attempt.outcome = await run()
    except asyncio.CancelledError:
        attempt.outcome = _cut(attempt, halt)
        ended_by_us = halt.is_pulled or halt.is_late or door.lifecycle.is_stopping
        attempt.client_disconnected = not ended_by_us
        raise
    except Exception:
        # a bug of ours: what the client has seen is billed, and the caller tells it
        attempt.outcome = Outcome.TRUNCATED if attempt.first_byte_at else None
        raise
    finally:
        attempt.ended_at = now_ns()
        # a deadline is the client's patience: like one who leaves, it is an attempt that says
        # nothing about the upstream
        ended = Outcome.CLIENT_GONE if halt.is_late else attempt.outcome
        _judge(door, attempt, ended, stream, is_cold=is_cold)
    return attempt.outcome


def _cut(attempt: Attempt, halt: Halt) -> Outcome:
    """How an attempt ended that was cancelled."""
    if halt.is_pulled:
        return Outcome.STOPPED
    if halt.is_late and attempt.first_byte_at is not None:
        return Outcome.TRUNCATED
    if halt.is_late and not halt.is_clients_end:  # else it has left, in other words
        return Outcome.TIMEOUT
    return Outcome.CLIENT_GONE


def _judge(
    door: Door, attempt: Attempt, outcome: Outcome | None, stream: bool, *, is_cold: bool
) -> None:
    label, now_s = attempt.option.upstream.label, monotonic_s()
    door.health.record(label, outcome, now_s, retry_after_s=attempt.retry_after_s)
    if attempt.used_up_s is not None:
        door.health.cool(label, attempt.used_up_s, now_s)
    door.history.end(
        label, outcome, now_s, took_ms=attempt.waited_ms, stream=stream, is_cold=is_cold
    )
