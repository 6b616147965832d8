"""Usage by whatever dimension, from sums and from events, with the same answer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from fixtures_ledger import NOVEMBER_NS, book, make_event, new_id

from metering.events import UsageEvent
from metering.settlement.analytics import HOUR_NS, Question
from metering.settlement.ledger import analytics
from metering.settlement.ledger.analytics import usage, usage_rows
from metering.settlement.ledger.analytics_rollup import update_analytics
from metering.settlement.ledger.store import Ledger

DAY_NS = 24 * HOUR_NS
MONTHS = Question(NOVEMBER_NS - 40 * DAY_NS, NOVEMBER_NS + 40 * DAY_NS)


def traffic(count: int = 120) -> list[list[UsageEvent]]:
    """Exchanges of two tenants over some days, as commits; some fail once, some for good."""
    dice, made = random.Random(7), []
    for number in range(count):
        facts = {
            "exchange_id": new_id(),
            "request_id": f"req-{number}",
            "tenant": dice.choice(("acme", "globex")),
            "project": dice.choice(("default", "other")),
            "api_key_id": dice.choice(("k1", "k2")),
            "feature": dice.choice((None, "chat", "search")),
            "user": dice.choice((None, "ann", "bob")),
            "session": dice.choice((None, "s1")),
            "occurred_at": NOVEMBER_NS + dice.randrange(-20, 20 * 24) * HOUR_NS + number,
        }
        fails = dice.choice((0, 0, 0, 1, 2))
        models = ("gpt-4o", "cheap-1")[: max(fails, 1)]
        commit = [
            make_event(
                **facts,
                attempt=place + 1,
                model_upstream=model,
                latency_ms=dice.randrange(5, 20_000),
                status="error",
                reason_code="upstream_error",
            )
            for place, model in enumerate(models)
            if fails
        ]
        if fails < 2:
            commit.append(
                make_event(
                    **facts,
                    attempt=len(commit) + 1,
                    model_upstream=dice.choice(("cheap-1", "cheap-2")),
                    latency_ms=dice.randrange(5, 20_000),
                    ttft_ms=dice.randrange(5, 900),
                    cache_status=dice.choice((None, "miss")),
                )
            )
        made.append(commit)
    return made


def told(ledger: Ledger, question: Question) -> list[dict]:
    answer = usage(ledger, question)
    return [*answer["data"], answer["totals"]]


@pytest.fixture
def full(ledger: Ledger) -> Ledger:
    """A ledger with some days in it, summed while it grew."""
    commits = traffic()
    for start in range(0, len(commits), 40):
        book(ledger, [each for commit in commits[start : start + 40] for each in commit])
        update_analytics(ledger)
    return ledger


QUESTIONS = [
    MONTHS,
    replace(MONTHS, by=("tenant",), interval="day"),
    replace(MONTHS, by=("model",), interval="month", sort="sell"),
    replace(MONTHS, by=("feature", "status"), sort="requests"),
    replace(MONTHS, by=("key",), filters={"tenant": ("acme",), "model": ("cheap-1", "gpt-4o")}),
    replace(MONTHS, by=("reason",), filters={"feature": ("",)}, sort="errors"),
    Question(NOVEMBER_NS - 5 * HOUR_NS, NOVEMBER_NS + 61 * HOUR_NS + 1, "hour", ("provider",)),
    Question(NOVEMBER_NS - 5 * HOUR_NS, NOVEMBER_NS + 61 * HOUR_NS, "day", ("tenant",)),
    Question(NOVEMBER_NS - 5 * HOUR_NS, NOVEMBER_NS + 61 * HOUR_NS, by=("version", "cache")),
]


def test_sums_and_events_answer_alike(full: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked: each row, its place, its percentiles, and the totals."""
    by_sums = [told(full, question) for question in QUESTIONS]
    monkeypatch.setattr(analytics, "is_summed", lambda _: False)

    assert [told(full, question) for question in QUESTIONS] == by_sums
    assert all(len(rows) > 1 for rows in by_sums)


def test_a_request_counts_where_it_ended(ledger: Ledger) -> None:
    """Also when its last attempt is summed first, or is settled after others were summed."""
    exchange = {"exchange_id": new_id(), "request_id": "r"}
    failed = {"status": "error", "reason_code": "upstream_error", "units": {}}
    first = make_event(**exchange, **failed, model_upstream="gpt-4o", latency_ms=100)
    second = make_event(**exchange, attempt=2, model_upstream="cheap-1", latency_ms=300)
    other = make_event(exchange_id=new_id(), **failed, model_upstream="gpt-4o")
    for commit in ([second], [first], [other]):
        book(ledger, commit)
        update_analytics(ledger)

    rows = {row["model"]: row for row in usage(ledger, replace(MONTHS, by=("model",)))["data"]}

    counted = {
        name: (row["requests"], row["errors"], row["attempts"], row["failed_attempts"])
        for name, row in rows.items()
    }
    assert counted == {"cheap-1": (1, 0, 1, 0), "gpt-4o": (1, 1, 2, 2)}
    assert rows["gpt-4o"]["error_rate"] == 1.0
    assert rows["cheap-1"]["latency_ms"]["p95"] == pytest.approx(300, rel=0.05)


@pytest.mark.parametrize("sort", ["start", "sell", "errors"])
def test_pages_are_the_whole_cut_up(full: Ledger, sort: str) -> None:
    question = replace(MONTHS, by=("tenant", "feature"), interval="day", sort=sort)
    whole = usage(full, replace(question, limit=1_000))["data"]

    pages: Sequence[dict] = list(usage_rows(full, replace(question, limit=7)))

    assert pages == whole
    assert len(whole) > 50
    requests = sum(row["requests"] for row in whole)
    assert requests == usage(full, question)["totals"]["requests"] == 120


def test_users_and_sessions_are_read_from_the_events(full: Ledger) -> None:
    answer = usage(full, replace(MONTHS, by=("user",), filters={"session": ("s1",)}))

    assert answer["source"] == "events"
    assert [row["user"] for row in answer["data"]] == [None, "ann", "bob"]
    assert sum(row["requests"] for row in answer["data"]) == answer["totals"]["requests"]


def test_too_many_events_are_refused(full: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metering.settlement.ledger.analytics_events.EVENTS_MAX", 5)

    with pytest.raises(ValueError, match="more than 5: ask for a shorter time"):
        usage(full, replace(MONTHS, by=("user",)))


def test_an_answer_says_what_it_covers(full: Ledger) -> None:
    """The range as widened, how far the ledger goes, and what is not summed yet."""
    book(full, [make_event()])

    answer = usage(full, Question(NOVEMBER_NS + 1, NOVEMBER_NS + 2))

    assert answer["from"] == "2026-11-16T00:00:00.000000Z"
    assert answer["to"] == "2026-11-16T01:00:00.000000Z"
    assert answer["behind"] == 1
    assert answer["settled_through"] is not None


def test_an_empty_ledger_answers_with_nothing(ledger: Ledger) -> None:
    answer = usage(ledger, replace(MONTHS, by=("tenant",)))

    assert answer["data"] == []
    assert answer["totals"]["requests"] == 0
    assert answer["totals"]["latency_ms"] == {"p50": None, "p95": None, "p99": None}
