"""The fold of events into what happens right now."""

from __future__ import annotations

from typing import Any

from metering.events import Kind, Status, UsageEvent
from metering.live_rates import DEGRADATIONS_KEPT, MINUTE_S, LiveRates

NOW_MS = 1_800_000_000_000


def event(number: int, at_ms: int = NOW_MS, **more: Any) -> UsageEvent:
    """One answer of 100 tokens for 2,000 nano-USD."""
    at_ns = at_ms * 1_000_000
    settled = {
        "event_id": f"e{number}-{more.get('attempt', 1)}",
        "exchange_id": f"x{number}",
        "tenant": "acme",
        "project": "default",
        "api_key_id": "k",
        "request_id": "r",
        "occurred_at": at_ns,
        "completed_at": at_ns,
        "emitted_at": at_ns,
        "model_requested": "demo",
        "units": {"input_uncached": 60, "output_text": 40, "api_call": 1},
        "admission_nano": 2_000,
    }
    return UsageEvent(**(settled | more))


def test_speeds_are_means_and_money_is_a_sum() -> None:
    """Speeds are of the last ten seconds; money, requests and errors of the last sixty."""
    rates = LiveRates()
    for number in range(5):
        rates.feed(event(number, NOW_MS - 1_000), NOW_MS - 1_000)
    rates.feed(event(9, NOW_MS - 30_000), NOW_MS - 30_000)

    tick = rates.tick(NOW_MS)

    assert (tick.tokens_per_s, tick.requests_per_s) == (50.0, 0.5)
    assert (tick.spend_nano, tick.requests, tick.errors) == (12_000, 6, 0)


def test_a_minute_later_nothing_is_left() -> None:
    """What is older than a minute counts no more, and takes no room."""
    rates = LiveRates()
    rates.feed(event(1), NOW_MS)

    assert rates.tick(NOW_MS + (MINUTE_S - 1) * 1_000).requests == 1
    assert rates.tick(NOW_MS + MINUTE_S * 1_000).requests == 0

    rates.feed(event(2, NOW_MS + 120_000), NOW_MS + 120_000)
    rates.feed(event(3), NOW_MS)  # behind what is kept
    assert rates.tick(NOW_MS + 120_000).requests == 1


def test_a_fallback_that_served_is_one_request_and_no_error() -> None:
    """The last attempt says how an exchange ended; what both cost counts, each at its model."""
    rates = LiveRates()
    rates.feed(event(1, status=Status.ERROR, units={}, admission_nano=0), NOW_MS)
    rates.feed(event(1, attempt=2, model_public="mini"), NOW_MS)
    rates.feed(event(2, status=Status.ERROR, units={}, admission_nano=0), NOW_MS)
    rates.feed(event(3, status=Status.TRUNCATED), NOW_MS)
    rates.feed(event(4, status=Status.CANCELLED), NOW_MS)

    tick = rates.tick(NOW_MS)

    assert (tick.requests, tick.errors) == (4, 2)
    assert {rate.name: (rate.requests, rate.errors, rate.spend_nano) for rate in tick.models} == {
        "demo": (3, 2, 4_000),
        "mini": (1, 0, 2_000),
    }


def test_tenants_come_by_what_they_spend() -> None:
    """The dearest tenant is first."""
    rates = LiveRates()
    rates.feed(event(1, tenant="small"), NOW_MS)
    rates.feed(event(2, tenant="large", admission_nano=9_000), NOW_MS)

    tenants = rates.tick(NOW_MS).tenants

    assert [(rate.name, rate.spend_nano) for rate in tenants] == [
        ("large", 9_000),
        ("small", 2_000),
    ]
    assert tenants[0].tokens_per_s == 10.0


def test_what_is_no_news_does_not_count() -> None:
    """Corrections, and what was used long before it came, are the ledger's business."""
    rates = LiveRates()
    rates.feed(event(1, kind=Kind.CORRECTION), NOW_MS)
    rates.feed(event(2, NOW_MS - 3_600_000), NOW_MS)

    assert rates.tick(NOW_MS).requests == 0


def test_the_newest_degradations_are_told() -> None:
    """Each degraded request once, the newest first, and only so many."""
    rates = LiveRates()
    for number in range(DEGRADATIONS_KEPT + 5):
        for attempt in (1, 2):
            late = event(number, attempt=attempt, degrade_step="s1", model_public="mini")
            rates.feed(late, NOW_MS + number)

    told = rates.tick(NOW_MS + 90_000).degradations

    assert [each.at_ms - NOW_MS for each in told] == [*range(DEGRADATIONS_KEPT + 4, 4, -1)]
    assert (told[0].model_requested, told[0].model, told[0].step) == ("demo", "mini", "s1")
