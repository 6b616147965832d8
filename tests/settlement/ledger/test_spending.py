"""Sums that the database makes: of any scope, in any window, up to any place of a chain."""

from __future__ import annotations

from datetime import UTC, datetime

from fixtures_ledger import KEYS, book, make_event

from metering.caps import AnyWindow, CalendarUnit, CalendarWindow, ScopeKind
from metering.events import RECOVERED, UsageEvent, encode, payload_hash
from metering.recovery import reversal
from metering.settlement.counting import Series, bucket_of
from metering.settlement.entries import Entry
from metering.settlement.ledger.spending import (
    Sum,
    booked_through,
    chain_length,
    doubtful_times,
    recovered_at,
    spent_by_bucket,
)
from metering.settlement.ledger.store import Ledger
from metering.window import rolling

SHARD = KEYS.shard("acme")
NOW = int(datetime(2026, 11, 1, 0, 30, tzinfo=UTC).timestamp() * 1_000)
ONE = (5_500_000, 700, 1)
WEEK = rolling(7 * 86_400)


def _settle(ledger: Ledger, event: UsageEvent, at_ms: int, count: int = 0) -> None:
    body = encode(event)
    book(ledger, [Entry(SHARD, f"{at_ms}-{count}", body, payload_hash(body))])


def _sums(
    ledger: Ledger, kind: ScopeKind, window: AnyWindow, *, through_seq: int | None = None
) -> list[Sum]:
    with ledger.read() as connection:
        found = spent_by_bucket(
            connection,
            SHARD,
            Series(kind, window),
            ["acme"],
            now_ms=NOW,
            through_seq=through_seq,
        )
        return sorted(found, key=lambda one: (one.scope_id, one.bucket))


def test_each_scope_has_its_sums_by_bucket(ledger: Ledger) -> None:
    """What was before the window, and what names no such scope, is in none."""
    for count, (user, ago_ms) in enumerate(
        [("a", 0), ("a", 1), ("a", 86_400_000), ("b", 5), (None, 5), ("a", 8 * 86_400_000)]
    ):
        _settle(ledger, make_event(user=user), NOW - ago_ms, count)

    here, before = bucket_of(WEEK, NOW), bucket_of(WEEK, NOW - 86_400_000)
    sums = _sums(ledger, ScopeKind.USER, WEEK)
    assert sums == [
        Sum("acme", "a", before, ONE),
        Sum("acme", "a", here, (11_000_000, 1_400, 2)),
        Sum("acme", "b", here, ONE),
    ]
    assert sum(one.amounts[2] for one in _sums(ledger, ScopeKind.TENANT, WEEK)) == 5


def test_a_calendar_window_begins_in_its_own_zone(ledger: Ledger) -> None:
    """It is November in Berlin for 90 minutes, in London for 30, and October in New York."""
    _settle(ledger, make_event(), NOW - 3_600_000)
    _settle(ledger, make_event(), NOW, 1)

    counts = {
        zone: [
            one.amounts[2]
            for one in _sums(ledger, ScopeKind.KEY, CalendarWindow(CalendarUnit.MONTH, zone))
        ]
        for zone in ("Europe/Berlin", "Europe/London", "America/New_York")
    }

    assert counts == {"Europe/Berlin": [2], "Europe/London": [1], "America/New_York": [2]}


def test_what_comes_in_the_next_period_is_in_its_bucket(ledger: Ledger) -> None:
    """It may begin while sums are made."""
    day = CalendarWindow(CalendarUnit.DAY, "UTC")
    _settle(ledger, make_event(), NOW)
    _settle(ledger, make_event(), NOW + 86_400_000)

    buckets = [one.bucket for one in _sums(ledger, ScopeKind.TENANT, day)]

    assert buckets == [bucket_of(day, NOW), bucket_of(day, NOW) + 1]


def test_sums_through_a_place_never_change(ledger: Ledger) -> None:
    first, second = make_event(), make_event()
    _settle(ledger, first, NOW)
    with ledger.read() as connection:
        place = chain_length(connection, SHARD)
    before = _sums(ledger, ScopeKind.KEY, WEEK, through_seq=place)
    _settle(ledger, second, NOW, 1)

    assert _sums(ledger, ScopeKind.KEY, WEEK, through_seq=place) == before
    with ledger.read() as connection:
        ids = [first.event_id, second.event_id]
        assert booked_through(connection, ids, SHARD, place) == {first.event_id}


def test_a_correction_counts_where_the_recovered_event_did(ledger: Ledger) -> None:
    wrong = make_event(usage_source=RECOVERED)
    _settle(ledger, wrong, NOW - 86_400_000)
    _settle(ledger, reversal(wrong), NOW, 1)

    totals = [one.amounts for one in _sums(ledger, ScopeKind.KEY, WEEK)]

    assert [sum(part) for part in zip(*totals, strict=True)] == [0, 0, 0]
    assert {one.bucket for one in _sums(ledger, ScopeKind.KEY, WEEK)} == {
        bucket_of(WEEK, NOW - 86_400_000)
    }
    with ledger.read() as connection:
        assert recovered_at(connection, [wrong.event_id]) == {wrong.event_id: NOW - 86_400_000}


def test_what_the_ledger_lacks_is_known_by_its_time(ledger: Ledger) -> None:
    book(ledger, [Entry(SHARD, f"{NOW}-0", b"no event", "h")])

    with ledger.read() as connection:
        assert doubtful_times(connection, SHARD, NOW) == [NOW]
        assert doubtful_times(connection, SHARD, NOW + 1) == []
