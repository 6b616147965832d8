"""Caps in words, metadata and headers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.caps import (
    ROLLING_DAY,
    AnyWindow,
    CalendarUnit,
    CalendarWindow,
    Cap,
    CapMode,
    CapState,
    Denial,
    DenialReason,
    Limit,
    Scope,
    ScopeKind,
    Vector,
)
from metering.window import rolling
from proxy.limit_words import (
    cap_text,
    dimension_of,
    duration_text,
    limit_headers,
    limit_source,
    metadata_of,
    use_text,
    window_kind,
    window_text,
)

MINUTE, MONTH = rolling(60), CalendarWindow(CalendarUnit.MONTH, "Europe/Paris")
TENANT, RUN = Scope(ScopeKind.TENANT), Scope(ScopeKind.RUN, "r1")


def state(
    scope: Scope,
    window: AnyWindow,
    limit: Limit,
    spent: Vector | None = None,
    held: Vector | None = None,
    *,
    mode: CapMode = CapMode.ENFORCE,
    reset_ms: int | None = None,
) -> CapState:
    cap = Cap(scope, window, limit, mode)
    return CapState(cap, spent or Vector(), held or Vector(), 1_000, reset_ms)


DURATIONS = {
    0: "0s",
    1: "1ms",
    120: "120ms",
    1_000: "1s",
    28_700: "28.7s",
    59_999: "59.999s",
    360_000: "6m0s",
    61_050: "1m1.05s",
    3_600_000: "1h0m0s",
    86_399_001: "23h59m59.001s",
}


@pytest.mark.parametrize(("duration_ms", "text"), DURATIONS.items(), ids=DURATIONS.values())
def test_durations(duration_ms: int, text: str) -> None:
    """Durations look as OpenAI writes them."""
    assert duration_text(duration_ms) == text


@given(st.integers(0, 10**10))
def test_durations_say_what_they_were(duration_ms: int) -> None:
    """Read back, a duration is what it was to the millisecond."""
    units = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
    parts = re.findall(r"([0-9.]+)(ms|[hms])", duration_text(duration_ms))

    assert sum(round(float(number) * units[unit]) for number, unit in parts) == duration_ms


WORDS = {
    "money in a rolling window": (
        state(TENANT, ROLLING_DAY, Limit(nano=5 * 10**9), Vector(nano=10**9), Vector(nano=5)),
        "usd",
        "the 24h cap of $5.00 for x (spent $1.000000, held $0.000000)",
        ("tenant_daily_cap", "rolling_24h", "rolling"),
    ),
    "money of a month": (
        state(TENANT, MONTH, Limit(nano=5 * 10**6)),
        "usd",
        (
            "the cap of $0.005 per calendar month (Europe/Paris) for x (spent $0.000000, held "
            "$0.000000)"
        ),
        ("tenant_month_cap", "calendar_month", "month"),
    ),
    "tokens a minute": (
        state(TENANT, MINUTE, Limit(tokens=9), Vector(tokens=4), Vector(tokens=5)),
        "tokens",
        "the 1m cap of 9 tokens for x (spent 4, held 5)",
        ("tenant_1m_tokens", "rolling_1m", "rate"),
    ),
    "requests a minute": (
        state(TENANT, MINUTE, Limit(requests=9), Vector(requests=4)),
        "requests",
        "the 1m cap of 9 requests for x (spent 4, held 0)",
        ("tenant_1m_requests", "rolling_1m", "rate"),
    ),
    "steps of a run": (
        state(RUN, ROLLING_DAY, Limit(requests=9), Vector(requests=4), Vector(requests=3)),
        "steps",
        "the 24h cap of 9 steps for x (spent 4, held 3)",
        ("run_daily_steps", "rolling_24h", "rolling"),
    ),
    "at once": (
        state(RUN, ROLLING_DAY, Limit(concurrent=2)),
        "concurrent",
        "the cap of 2 requests at once for x",
        ("run_concurrent", "rolling_24h", "rolling"),
    ),
}


@pytest.mark.parametrize(("cap", "dimension", "words", "names"), WORDS.values(), ids=WORDS)
def test_words(cap: CapState, dimension: str, words: str, names: tuple[str, ...]) -> None:
    """People and programs are told which cap it is."""
    window = cap.cap.window

    assert cap_text(cap, dimension, "x") + use_text(cap, dimension) == words
    assert (limit_source(cap, dimension), window_text(window), window_kind(window)) == names


def test_what_ran_out() -> None:
    """Requests of a run are steps; money is called by its currency."""
    run, tenant = state(RUN, MINUTE, Limit()), state(TENANT, MINUTE, Limit())

    assert dimension_of(Denial(DenialReason.SPENT, run, "requests")) == "steps"
    assert dimension_of(Denial(DenialReason.SPENT, tenant, "requests")) == "requests"
    assert dimension_of(Denial(DenialReason.SPENT, tenant)) == "usd"
    assert dimension_of(Denial(DenialReason.HELD, tenant, "concurrent")) == "concurrent"


def test_metadata_of_a_calendar_month() -> None:
    """Programs are told the zone of a calendar window, and money in dollars."""
    month = state(TENANT, MONTH, Limit(nano=10**9), Vector(nano=5), reset_ms=1_500)

    assert metadata_of(month, "usd", tenant="acme", remedy="wait") == {
        "limit_source": "tenant_month_cap",
        "scope": "tenant:acme",
        "window": "calendar_month",
        "dimension": "usd",
        "timezone": "Europe/Paris",
        "limit_usd": "1.000000",
        "spent_usd": "0.000000",
        "held_usd": "0.000000",
        "resets_at": "1970-01-01T00:00:02Z",
        "remedy": "wait",
    }


def test_metadata_of_tokens() -> None:
    """What is no money is told as it is counted."""
    tokens = state(RUN, MINUTE, Limit(tokens=9), Vector(tokens=4), Vector(tokens=3))

    found = metadata_of(tokens, "tokens", tenant="acme", remedy="wait")

    assert found["scope"] == "run:r1"
    assert (found["limit"], found["spent"], found["held"]) == (9, 4, 3)
    assert "limit_usd" not in found


def test_headers_of_the_tightest() -> None:
    """Each kind of header tells of the enforced cap with the least left, and of no other."""
    usd = 10**9
    states = (
        state(TENANT, ROLLING_DAY, Limit(nano=9 * usd), Vector(nano=usd), reset_ms=61_000),
        state(RUN, MONTH, Limit(nano=3 * usd), Vector(nano=usd), Vector(nano=usd)),
        state(RUN, MONTH, Limit(nano=1), Vector(nano=1), mode=CapMode.ALERT),
        state(TENANT, MINUTE, Limit(requests=9, tokens=50), Vector(0, 10, 2), Vector(0, 30, 2)),
        state(RUN, MINUTE, Limit(requests=6), Vector(requests=2), reset_ms=2_500),
        state(RUN, MINUTE, Limit(requests=1), mode=CapMode.SHADOW),
        state(RUN, ROLLING_DAY, Limit(requests=1, tokens=1)),
    )

    assert limit_headers(states) == {
        "x-weir-cap-limit-usd": "3.000000",
        "x-weir-cap-remaining-usd": "1.000000",
        "x-ratelimit-limit-requests": "6",
        "x-ratelimit-remaining-requests": "4",
        "x-ratelimit-reset-requests": "1.5s",
        "x-ratelimit-limit-tokens": "50",
        "x-ratelimit-remaining-tokens": "10",
        "x-ratelimit-reset-tokens": "0s",
    }


def test_no_caps_no_headers() -> None:
    """Nothing is told where nothing bounds; what is over its cap has nothing left."""
    over = state(TENANT, ROLLING_DAY, Limit(nano=1), Vector(nano=5))

    assert limit_headers([state(TENANT, ROLLING_DAY, Limit())]) == {}
    assert limit_headers([]) == {}
    assert limit_headers([over])["x-weir-cap-remaining-usd"] == "0.000000"
