"""Ten thousand requests through an outage: breaker, budget and plan together, on one clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest

from metering.caps import Vector
from routing.fallback import FallbackPlan, Outcome, Stop, Try, Wait
from routing.health import OPEN_MAX_S, PROBE_S, Health
from routing.policy import Option
from routing.retries import Retries
from routing.retry_budget import IDLE, RATE_PER_S, RECENT_S, SHARE, RetryBudgets
from routing.upstreams import Upstream

CHEAP = Option(Upstream("cheap", "m", "m"), None, Vector(nano=10))
DEAR = Option(Upstream("dear", "m", "m"), None, Vector(nano=15))
SPARE = Option(Upstream("spare", "s", "s"), None, Vector(nano=12))

REQUESTS, EVERY_S = 10_000, 0.01
FROM_S, TO_S = 20.0, 60.0


@dataclass
class Run:
    """What became of the requests."""

    sent: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    nano: int = 0
    attempts: list[int] = field(default_factory=list)
    waited_s: float = 0.0
    back_s: float | None = None
    """When the first request after the outage was served by the cheap one."""


def ride(options: list[Option], how: Outcome, after_s: float | None = None) -> Run:
    """A hundred requests a second, while the cheap upstream fails so for forty seconds."""
    run, health, budgets = Run(), Health(), RetryBudgets()
    for number in range(REQUESTS):
        now_s = number * EVERY_S
        ordered = health.order(options, lambda each: each.upstream.label, now_s)
        plan = FallbackPlan(ordered, retries=Retries(), budget=budgets, standing=health)
        budgets.note(ordered[0].upstream.label, now_s)
        attempts = 0
        while not isinstance(step := plan.next(now_s, number % 7 / 7), Stop):
            if isinstance(step, Wait):
                run.waited_s += step.seconds
                continue
            assert isinstance(step, Try)
            attempts += 1
            label = step.option.upstream.label
            is_down = step.option is CHEAP and FROM_S <= now_s < TO_S
            outcome = how if is_down else Outcome.SERVED
            run.sent[label] += 1
            health.begin(label, now_s)
            asked_s = after_s if is_down else None
            health.record(label, outcome, now_s, retry_after_s=asked_s)
            plan.record(outcome, after_s=asked_s)
            if outcome is Outcome.SERVED:
                run.nano += step.option.hold.nano
                if step.option is CHEAP and now_s >= TO_S and run.back_s is None:
                    run.back_s = now_s - TO_S
        run.attempts.append(attempts)
        run.failed += step.outcome is not Outcome.SERVED
    return run


@pytest.mark.parametrize("other", [DEAR, SPARE], ids=["same_model", "other_model"])
@pytest.mark.parametrize(
    ("how", "after_s"),
    [
        (Outcome.SERVER_ERROR, None),
        (Outcome.UNREACHABLE, None),
        (Outcome.TIMEOUT, None),
        (Outcome.RATE_LIMITED, 5.0),
    ],
)
def test_an_outage_is_gone_around(other: Option, how: Outcome, after_s: float | None) -> None:
    """Nobody is refused; hardly anybody is asked twice; it is over half a minute after the outage,
    and costs no more than the dearer price for so long."""
    run = ride([CHEAP, other], how, after_s)

    assert run.failed == 0
    assert sum(run.attempts) / REQUESTS < 1.005
    assert max(run.attempts) <= 3
    assert run.back_s is not None
    assert run.back_s <= OPEN_MAX_S < PROBE_S + 1
    away = (TO_S - FROM_S + run.back_s) / EVERY_S + 1
    assert run.nano <= REQUESTS * CHEAP.hold.nano + away * (other.hold.nano - CHEAP.hold.nano)


@pytest.mark.parametrize("how", [Outcome.SERVER_ERROR, Outcome.UNREACHABLE, Outcome.RATE_LIMITED])
def test_an_outage_without_another_upstream_is_no_storm(how: Outcome) -> None:
    """It is asked as often as requests come, and a tenth more: who asks decides what to do."""
    run = ride([CHEAP], how)
    asked = int((TO_S - FROM_S) / EVERY_S)

    assert run.failed > asked * 0.9
    recent = RECENT_S / EVERY_S
    most = REQUESTS + SHARE * (asked + recent) + RATE_PER_S * (TO_S - FROM_S) + IDLE
    assert REQUESTS < sum(run.sent.values()) <= most
    assert run.back_s == 0.0


def test_an_upstream_that_flaps_is_asked_when_it_serves() -> None:
    """Two seconds down in every ten, never long enough to be opened for good: all are served."""
    health, budgets, failed, sent = Health(), RetryBudgets(), 0, 0
    for number in range(REQUESTS):
        now_s = number * EVERY_S
        options = health.order([CHEAP, DEAR], lambda each: each.upstream.label, now_s)
        plan = FallbackPlan(options, retries=Retries(), budget=budgets, standing=health)
        while isinstance(step := plan.next(now_s, 0.5), Try):
            is_down = step.option is CHEAP and now_s % 10 < 2
            outcome = Outcome.SERVER_ERROR if is_down else Outcome.SERVED
            health.begin(step.option.upstream.label, now_s)
            health.record(step.option.upstream.label, outcome, now_s, retry_after_s=None)
            plan.record(outcome)
            sent += 1
        failed += step == Stop(Outcome.SERVER_ERROR)

    assert failed == 0
    assert sent / REQUESTS < 1.01
