"""Booked events rated again, on both databases: what it comes to, twice, and back."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from fixtures_ledger import BOOK, KEYS, NOVEMBER_NS, book, make_event
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from invoice_samples import INVOICING, ISSUED_NS, LATER_NS, october
from sqlalchemy import select

from metering.events import UsageEvent, decode
from metering.plans import LIST_USAGE, Assignment, ChargeKind, Component, Plan
from metering.prices import PriceBook, PriceRule, RatesByModel
from metering.settlement.document_rows import sections_of
from metering.settlement.ledger import tables
from metering.settlement.ledger.invoice_books import issue
from metering.settlement.ledger.line_books import events_of_line
from metering.settlement.ledger.outbox import take_alerts
from metering.settlement.ledger.plan_books import Terms, statement_of
from metering.settlement.ledger.queries import invoice_report
from metering.settlement.ledger.rerate_books import (
    Asked,
    Outlook,
    RerateConflictError,
    apply,
    knows_reratings,
    list_reratings,
    outlook,
    standings,
)
from metering.settlement.ledger.rollups import rebuild_rollups
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.usage_report import usage_report
from metering.settlement.ledger.verify import verify
from metering.settlement.rating import rate
from metering.settlement.rerating import Change, booking, eras_of, rerate

DAY_NS = 86_400 * 10**9
ALL = Asked(0, 2**63 - 1)
NOW_NS = NOVEMBER_NS + 10**15
GPT, CHEAP = BOOK.rules
DEARER = PriceBook((replace(GPT, input_rate_pico=7_000_001, multiplier_ppm=1_300_000), CHEAP))
CHEAPER = PriceBook((replace(GPT, output_rate_pico=9_999_999), replace(CHEAP, multiplier_ppm=777)))


def _apply(ledger: Ledger, prices: PriceBook, asked: Asked = ALL) -> Outlook:
    return apply(
        ledger,
        KEYS,
        asked,
        eras_of(prices),
        bodies=prices.bodies,
        by="ann",
        reason="the price was wrong",
        now_ns=NOW_NS,
    )


def _sums(ledger: Ledger) -> tuple[int, int]:
    event = tables.usage_event.c
    with ledger.read() as connection:
        rows = connection.execute(select(event.sell_nano, event.cost_nano)).all()
    return sum(row[0] for row in rows), sum(row[1] for row in rows)


def _naive(ledger: Ledger, prices: PriceBook) -> tuple[int, int]:
    """What the events come to, each by itself, at other prices."""
    event = tables.usage_event.c
    with ledger.read() as connection:
        query = select(event.payload).where(event.kind != "adjustment")
        events = [decode(bytes(row[0])) for row in connection.execute(query)]
    cost = RatesByModel(prices.body(sell=False), version=prices.cost_version)
    sell = RatesByModel(prices.body(sell=True), version=prices.sell_version)
    rated = [rate(each, cost, sell) for each in events]
    return sum(each.sell_nano for each in rated), sum(each.cost_nano for each in rated)


def _events(count: int) -> list[UsageEvent]:
    return [
        make_event(
            tenant=("acme", "zeta")[n % 2],
            model_upstream=("gpt-4o", "cheap-7")[n // 2 % 2],
            billable=n % 5 != 4,
            units={"input_uncached": 17 * n + 1, "output_text": 3 * n, "input_cache_read": n},
            occurred_at=NOVEMBER_NS + n // 3,
        )
        for n in range(count)
    ]


def test_it_comes_to_what_the_other_book_makes_of_every_event(ledger: Ledger) -> None:
    """The sums are those of a naive rating; balances, chain and adjustments hold."""
    book(ledger, _events(40))

    done = _apply(ledger, DEARER)

    assert _sums(ledger) == _naive(ledger, DEARER)
    assert done.changed == 20
    assert verify(ledger) == []


def test_twice_is_once(ledger: Ledger) -> None:
    """A repeat finds nothing that changes, and writes nothing."""
    book(ledger, _events(10))
    _apply(ledger, DEARER)
    before = _sums(ledger)

    assert _apply(ledger, DEARER).changed == 0

    assert _sums(ledger) == before
    assert len(list_reratings(ledger)) == 1


@pytest.mark.slow(60)
@pytest.mark.timeout(60)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from([BOOK, DEARER, CHEAPER]), min_size=1, max_size=5))
def test_every_way_ends_at_the_last_book(ledger: Ledger, ways: list[PriceBook]) -> None:
    """However often and in whatever order: what counts is the last book. Back is zero."""
    book(ledger, _events(12))

    for prices in (*ways, BOOK):
        _apply(ledger, prices)

        assert _sums(ledger) == _naive(ledger, prices)
    assert _sums(ledger) == _naive(ledger, BOOK)
    assert verify(ledger) == []


def test_only_what_was_asked_for_changes(ledger: Ledger) -> None:
    """One tenant, one model, from a time on and before another."""
    book(ledger, _events(24))
    asked = Asked(NOVEMBER_NS + 1, NOVEMBER_NS + 3, "acme", "gpt-4o")

    found = outlook(ledger, asked, eras_of(DEARER))

    assert set(found.by_model) == {("acme", "gpt-4o")}
    with ledger.read() as connection:
        chosen = [each.event for each in standings(connection, asked)]
    assert {each.occurred_at - NOVEMBER_NS for each in chosen} == {1, 2}
    assert found.changed == len(chosen)


def test_a_look_writes_nothing(ledger: Ledger) -> None:
    """The outlook is what applying comes to, and leaves the books alone."""
    book(ledger, _events(8))
    before = _sums(ledger)

    found = outlook(ledger, ALL, eras_of(DEARER))

    assert _sums(ledger) == before
    assert list_reratings(ledger) == []
    done = _apply(ledger, DEARER)
    assert done.by_model == found.by_model
    changes = [sum(getattr(each, name) for each in found.by_model.values()) for name in _CHANGES]
    assert [after - was for after, was in zip(_sums(ledger), before, strict=True)] == changes


_CHANGES = ("sell_change_nano", "cost_change_nano")


def test_what_has_no_price_stays_as_it_is(ledger: Ledger) -> None:
    """A model that the other book does not know is told, and never rated at zero."""
    book(ledger, _events(8))
    before = _sums(ledger)

    done = _apply(ledger, PriceBook((PriceRule("other", 1, 1),)))

    assert sum(each.unpriced for each in done.by_model.values()) == 8
    assert _sums(ledger) == before


def test_what_was_unpriced_gets_its_price(ledger: Ledger) -> None:
    """An event that was booked without one comes to what the book makes of it."""
    book(ledger, [make_event(cost_version=None, sell_version=None)])
    assert _sums(ledger) == (0, 0)

    _apply(ledger, BOOK)
    _apply(ledger, DEARER)
    _apply(ledger, BOOK)

    assert _sums(ledger) == (5_500_000, 5_500_000)
    report, invoice = usage_report(ledger), invoice_report(ledger, "acme", "2026-11")
    assert report is not None
    assert invoice is not None
    assert (report["totals"]["unpriced"], invoice.unpriced) == (0, 0)
    alerts = take_alerts(ledger, "log", now_ns=NOW_NS)
    assert [alert.body["kind"] for alert in alerts] == ["unpriced"]
    assert verify(ledger) == []


def test_an_answer_out_of_the_cache_still_costs_nothing(ledger: Ledger) -> None:
    """Nobody was paid for what was given again; the tenant's side changes."""
    hit = make_event(reason_code="cache_hit", cost_version=None)
    book(ledger, [hit])

    _apply(ledger, DEARER)

    sell, cost = _sums(ledger)
    assert (sell > 5_500_000, cost) == (True, 0)
    assert verify(ledger) == []


def test_a_late_answer_keeps_its_share(ledger: Ledger) -> None:
    """What was taken off for lateness is the same share of the new price."""
    book(ledger, [make_event(sla_credit_nano=550_000)])
    twice = PriceBook((replace(GPT, multiplier_ppm=2_000_000), CHEAP))

    _apply(ledger, twice)

    assert _sums(ledger)[0] == 2 * (5_500_000 - 550_000)
    assert verify(ledger) == []


def test_each_event_is_rated_by_the_book_of_its_time(ledger: Ledger) -> None:
    """A book with dates: what was admitted before the change keeps its price."""
    early, late = make_event(), make_event(occurred_at=NOVEMBER_NS + 100)
    book(ledger, [early, late])
    dated = replace(BOOK, others=(replace(DEARER, effective_from_ns=NOVEMBER_NS + 50),))

    done = _apply(ledger, dated)

    assert done.changed == 1
    with ledger.read() as connection:
        found = {each.event.event_id: each.adjusted for each in standings(connection, ALL)}
    assert found == {early.event_id: 0, late.event_id: 1}


def test_the_invoice_and_the_rollups_follow(ledger: Ledger) -> None:
    """The month shows the difference as adjustments; requests and tokens are counted once."""
    book(ledger, _events(10))
    _apply(ledger, DEARER)

    report = invoice_report(ledger, "acme", "2026-11")
    assert report is not None
    kinds = {line["kind"] for line in report.invoice["lines"]}
    quantities = {line["quantity"] for line in report.invoice["lines"] if line["kind"] != "usage"}
    assert (kinds, quantities) == ({"usage", "adjustment"}, {0})
    rebuild_rollups(ledger)
    rollup = tables.rollup.c
    with ledger.read() as connection:
        rows = connection.execute(select(rollup.unit, rollup.quantity, rollup.sell_nano)).all()
    assert sum(row.quantity for row in rows if row.unit == "attempt") == 10
    assert sum(row.sell_nano for row in rows) == _sums(ledger)[0]


def test_what_was_rated_again_reads_as_such(ledger: Ledger) -> None:
    """It counts no token, and no line says that nothing times a rate is an amount."""
    book(ledger, [october()])
    _apply(ledger, DEARER)

    made = issue(ledger, "acme", "2026-10", Terms(), INVOICING, now_ns=ISSUED_NS)

    assert made is not None
    again = [each for each in made.document["lines"] if each["kind"] == "adjustment"]
    assert again
    assert {each["quantity"] for each in again} == {0}
    assert all(each["formula"].startswith("rated again at 0.") for each in again)
    [rows] = [each.rows for each in sections_of(made.document) if each.title == "Adjustments"]
    assert {(row.quantity, row.rate) for row in rows} == {("", "")}
    assert all("rated again" in row.detail for row in rows)


def test_two_at_once_do_not_add_up(ledger: Ledger) -> None:
    """Of two different adjustments of the same state the first stands, the second is refused."""
    book(ledger, [make_event()])
    with ledger.read() as connection:
        [standing] = standings(connection, ALL)
    other = rerate(standing, eras_of(CHEAPER)[0])
    assert isinstance(other, Change)
    _apply(ledger, DEARER)
    after = _sums(ledger)

    from metering.settlement.ledger.rerate_books import _book

    with pytest.raises(RerateConflictError, match="again"):
        _book(ledger, KEYS, [other], CHEAPER.bodies, NOW_NS)

    assert _sums(ledger) == after
    assert booking(other, 0).event_id.startswith("0")
    assert knows_reratings(ledger)


SHARE = Component("usage", ChargeKind.PERCENTAGE, meter="list-price", percent_ppm=800_000)
PLAN = Plan("pro", "Pro", (SHARE,), (LIST_USAGE,))


@pytest.mark.parametrize("terms", [Terms(), Terms([PLAN], [Assignment("pro", date(2026, 10, 1))])])
def test_a_closed_month_rated_again_is_on_the_next_invoice(ledger: Ledger, terms: Terms) -> None:
    """October was issued, its price was wrong: its invoice stays, the next statement and the next
    issued invoice have the difference as an adjustment of October, by the plan where there is one,
    and its events are found behind the line. What is due by all is what the tenant owes."""
    book(ledger, [october(n) for n in range(3)])
    first = issue(ledger, "acme", "2026-10", terms, INVOICING, now_ns=ISSUED_NS)
    book(ledger, [make_event()])
    before = _sums(ledger)[0]

    _apply(ledger, DEARER, Asked(0, ISSUED_NS))
    difference = (_sums(ledger)[0] - before) * (4 if terms.plans else 5) // 5
    statement = statement_of(ledger, "acme", "2026-11", terms).body()
    second = issue(ledger, "acme", "2026-11", terms, INVOICING, now_ns=LATER_NS)

    assert first is not None
    assert second is not None
    assert issue(ledger, "acme", "2026-10", terms, INVOICING, now_ns=LATER_NS) == replace(
        first, is_new=False
    )
    for lines in (statement["lines"], second.document["lines"]):
        assert [
            (each["kind"], each["reference"], each["amount_nano"])
            for each in lines
            if each["reference"]
        ] == [("adjustment", "2026-10", difference)]
    assert difference > 0
    assert second.document["sums"]["adjustment"] == difference
    number = next(each["line"] for each in second.document["lines"] if each["reference"])
    behind = events_of_line(ledger, "acme", "2026-11", number, terms)
    assert [sum(part.amount_nano for part in behind.parts), len(behind.parts)] == [difference, 3]
    owed = tables.balance.c
    with ledger.read() as connection:
        query = select(owed.amount_nano).where(owed.account == "receivable")
        receivable = connection.execute(query).scalar_one()
    assert receivable == first.document["due_nano"] + second.document["due_nano"]
    assert verify(ledger) == []
    third = issue(ledger, "acme", "2026-12", terms, INVOICING, now_ns=LATER_NS + 40 * DAY_NS)
    assert third is None or third.document["total_nano"] == 0
