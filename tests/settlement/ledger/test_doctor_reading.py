"""What the doctor asks the ledger, on both databases, and in bounded time."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from fixtures_ledger import (
    NOVEMBER_NS,
    NOW_NS,
    allow_changes,
    book,
    make_entry,
    make_event,
    new_ledger,
)
from fixtures_stripe import CUSTOMERS, HOUR, Bench
from sqlalchemy import text

from metering.plans import Assignment, Plan
from metering.settlement.doctor_facts import Asked, Clocks, Late, Undelivered, Unknown
from metering.settlement.invoices import period_bounds_ns
from metering.settlement.ledger import doctor_reading as reading
from metering.settlement.ledger.outbox import note_failed, note_sent, put_alerts, take_alerts
from metering.settlement.ledger.plan_books import Terms, close_month
from metering.settlement.ledger.rollups import update_rollups
from metering.settlement.ledger.store import Ledger

ASKED = Asked("acme", "2026-11", *period_bounds_ns("2026-11"), now_ns=NOVEMBER_NS + HOUR)
BIG = Plan("big", "Big")
TERMS = Terms((BIG,), (Assignment("big", date(2026, 1, 1)),))


def test_the_book(ledger: Ledger, ledger_url: str) -> None:
    """Where it is, how far it goes, and that it takes writes."""
    book(ledger, [make_event(), make_event()])

    found = reading.read_book(ledger, ledger_url)

    assert (found.revision, found.events, found.refuses) == (found.head, 2, "")
    assert found.last_booked_ns == NOW_NS


def test_rollups_and_price_versions(ledger: Ledger) -> None:
    """What the rollups lack is counted since when; a price that is gone is named."""
    book(ledger, [make_event(), make_event()])
    before = reading.read_behind(ledger, ASKED)
    update_rollups(ledger)
    with ledger.write() as connection:
        allow_changes(connection, "price_body")
        connection.execute(text("DELETE FROM price_body"))

    after = reading.read_behind(ledger, ASKED)

    assert (before.unrolled, before.unrolled_since_ns, before.missing_prices) == (2, NOW_NS, ())
    assert (after.unrolled, len(after.missing_prices)) == (0, 2)


def test_clocks(ledger: Ledger) -> None:
    """An event that began after its commit, and one that was booked before it."""
    committed_ms = NOW_NS // 10**6 + 5_000
    late = make_event(occurred_at=(committed_ms + 9_000) * 10**6)
    book(ledger, [make_entry(late, f"{committed_ms}-0")])
    book(ledger, [make_entry(make_event(occurred_at=1), "0-0")])  # in no stream

    found = reading.read_clocks(ledger, ASKED)

    assert found == Clocks(1, 5_000, 9_000, 1, ("acme",), 0)


def test_alerts_that_a_sink_does_not_take(ledger: Ledger) -> None:
    """By sink: what one has the other may lack."""
    with ledger.write() as connection:
        put_alerts(connection, [("backlog:1", {}), ("memory:1", {})], 7)
    for sink in ("log", "web"):
        first, second = take_alerts(ledger, sink, now_ns=8)
        if sink == "log":
            note_sent(ledger, first, sink)
            note_sent(ledger, second, sink)
        else:
            note_sent(ledger, first, sink)
            note_failed(ledger, second, sink, now_ns=9)

    found = reading.read_alerts(ledger, ("log", "web", "new"))

    assert found == (Undelivered("web", 1, 7, 1), Undelivered("new", 2, 7, 0))


def test_stripe_hours(raw: Bench) -> None:
    """What waits, what is held and why, and who has no customer."""
    raw.use()
    raw.use(tenant="nobody")
    update_rollups(raw.ledger)
    raw.stripe.customers.discard("cus_acme")
    raw.turn()

    everybody = Asked(None, ASKED.month, ASKED.start_ns, ASKED.end_ns, ASKED.now_ns)
    found = reading.read_stripe(raw.ledger, everybody, CUSTOMERS, 0)
    mine = reading.read_stripe(raw.ledger, ASKED, CUSTOMERS, 0)

    assert sum(found.held.values()) + found.waiting == 2
    assert (found.unsent_tenants, mine.unsent_tenants) == (("nobody",), ())


def test_late_events(ledger: Ledger) -> None:
    """What came after the close of its month, until a later statement speaks of it."""
    book(ledger, [make_event()])
    close_month(ledger, "acme", "2026-11", TERMS, now_ns=ASKED.end_ns + 2 * HOUR)
    quiet = reading.read_late(ledger, None)
    book(ledger, [make_event(), make_event()])

    late = reading.read_late(ledger, "acme")
    _, december_end = period_bounds_ns("2026-12")
    close_month(ledger, "acme", "2026-12", TERMS, now_ns=december_end + 2 * HOUR)

    assert (quiet, late) == ((), (Late("acme", "2026-11", 2),))
    assert reading.read_late(ledger, None) == ()


def test_a_question_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    """SQLite stops in the middle of a statement, and answers the next one."""
    ledger = new_ledger(tmp_path)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"

    def question(it: Ledger) -> None:
        with it.read() as connection:
            connection.execute(text(endless))

    reader = reading.Reader(ledger)
    slow = reader.ask(question, within_s=0.1)
    quick = reader.ask(Ledger.revision)
    ledger.close()

    assert isinstance(slow, Unknown)
    assert "not answered within" in slow.why
    assert isinstance(quick, str)


def test_postgresql_is_told_at_the_opening(postgres_url: str) -> None:
    """It ends a statement by itself; a limit in the URL stands."""
    ledger = reading.open_bounded(postgres_url)
    with ledger.read() as connection:
        found = connection.execute(text("SHOW statement_timeout")).scalar_one()
    ledger.close()

    assert found == f"{reading.PART_S:.0f}s"
