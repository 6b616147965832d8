"""Every line leads to its events: exact ids, whose parts sum to the line."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from fixtures_ledger import allow_changes, book, make_event
from invoice_samples import (
    INVOICING,
    ISSUED_NS,
    LATER_NS,
    NO_PLAN,
    october,
    worked_events,
    worked_terms,
)
from sqlalchemy import text

from metering.events import Kind
from metering.plans import (
    API_CALLS,
    LLM_TOKENS,
    Aggregation,
    Assignment,
    ChargeKind,
    Component,
    Coupon,
    Meter,
    Plan,
    Tier,
)
from metering.settlement.ledger.invoice_books import draft, issue
from metering.settlement.ledger.line_books import (
    LineEvents,
    NoSuchLineError,
    NotTheEventsError,
    events_of_line,
)
from metering.settlement.ledger.plan_books import Terms
from metering.settlement.ledger.store import Ledger

MONTH = "2026-10"


def every_line(ledger: Ledger, period: str, terms: Terms) -> list[LineEvents]:
    document = draft(ledger, "acme", period, terms, INVOICING, now_ns=ISSUED_NS)
    numbers = [each["line"] for each in document["lines"]]
    return [events_of_line(ledger, "acme", period, number, terms) for number in numbers]


def check(found: LineEvents) -> None:
    """The parts of a line that has events sum to its amount and to its quantity."""
    if found.line["kind"] in ("fee", "discount"):
        assert found.parts == ()
        return
    assert found.parts
    assert sum(part.amount_nano for part in found.parts) == found.line["amount_nano"]
    if not found.line["reference"]:
        assert sum(part.quantity for part in found.parts) == found.line["quantity"]


def test_lines_at_list_prices_lead_to_their_events(ledger: Ledger) -> None:
    """By project, model, unit and rate, with what each event was booked at."""
    events = [october(n, project="web" if n % 2 else "default") for n in range(6)]
    book(ledger, [*events, make_event()])

    lines = every_line(ledger, MONTH, NO_PLAN)

    assert [each.line["project"] for each in lines] == ["default", "default", "web", "web"]
    for each in lines:
        check(each)
    first = [(part.event_id, part.quantity, part.amount_nano) for part in lines[0].parts]
    assert first == [(events[n].event_id, 500, 2_500_000) for n in (0, 2, 4)]


def test_lines_of_a_matrix_lead_to_their_events(ledger: Ledger) -> None:
    """The worked example: ten calls on one line, five events on each of the others."""
    book(ledger, worked_events())

    lines = every_line(ledger, MONTH, worked_terms())

    assert [len(each.parts) for each in lines] == [10, 5, 5, 5, 5]
    for each in lines:
        check(each)
    calls = lines[0]
    assert {(part.quantity, part.amount_nano) for part in calls.parts} == {(1, 10_000_000)}


_SEATS = Meter("seats", Aggregation.UNIQUE, (), of="user")
_LONGEST = Meter("longest", Aggregation.MAX, ("input_uncached",))


def _rich_plan() -> Terms:
    plan = Plan(
        "rich",
        "Rich",
        (
            Component("base", ChargeKind.FLAT, amount_nano=49_000_000_000),
            Component(
                "tokens",
                ChargeKind.GRADUATED,
                meter="llm-tokens",
                included=700,
                tiers=(Tier(1_000, 3_333_333), Tier(None, 1_111_111)),
            ),
            Component(
                "packs", ChargeKind.PACKAGE, meter="api-calls", package_size=2, amount_nano=7
            ),
            Component("long", ChargeKind.PER_UNIT, meter="longest", rate_pico=1_000),
        ),
        (LLM_TOKENS, API_CALLS, _LONGEST),
        coupons=(Coupon("launch", percent_ppm=200_000),),
    )
    return Terms([plan], [Assignment("rich", date(2026, 10, 1), coupons=("launch",))])


def test_tiers_included_units_and_the_largest_share_their_events(ledger: Ledger) -> None:
    """Where a line is of all events together, each has its part, and not a nano is lost."""
    units = {"input_uncached": 101, "output_text": 77, "api_call": 1}
    book(ledger, [october(n, units={**units, "input_uncached": 101 + n}) for n in range(13)])

    lines = every_line(ledger, MONTH, _rich_plan())

    tiers = [each.line["tier"] for each in lines if each.line["component"] == "tokens"]
    assert tiers == ["included", "1 - 1,000", "1,001 - up"]
    for each in lines:
        check(each)
    [long] = [each for each in lines if each.line["component"] == "long"]
    assert [part.quantity for part in long.parts] == [113]


def test_corrections_are_events_of_their_lines(ledger: Ledger) -> None:
    """What takes usage back is listed with its negative part."""
    wrong = october(1)
    back = october(
        2,
        kind=Kind.CORRECTION,
        corrects=wrong.event_id,
        units={unit: -n for unit, n in wrong.units.items()},
    )
    book(ledger, [october(0), wrong, back])

    for terms in (NO_PLAN, worked_terms(), _rich_plan()):
        for each in every_line(ledger, MONTH, terms):
            check(each)


def test_a_line_of_what_was_late_leads_to_the_late_events(ledger: Ledger) -> None:
    """And the lines of the closed month still lead to those that it was closed with."""
    book(ledger, [october(0), october(1)])
    issue(ledger, "acme", MONTH, NO_PLAN, INVOICING, now_ns=ISSUED_NS)
    late = [october(2), october(3, project="web")]
    book(ledger, [make_event()])
    book(ledger, late)
    issue(ledger, "acme", "2026-11", NO_PLAN, INVOICING, now_ns=LATER_NS)
    book(ledger, [latest := october(4)])

    november = every_line(ledger, "2026-11", NO_PLAN)[-1]
    december = every_line(ledger, "2026-12", NO_PLAN)[-1]
    first = every_line(ledger, MONTH, NO_PLAN)[0]

    assert november.line["reference"] == december.line["reference"] == MONTH
    assert [part.event_id for part in november.parts] == [each.event_id for each in late]
    assert [part.amount_nano for part in november.parts] == [5_500_000, 5_500_000]
    assert [part.event_id for part in december.parts] == [latest.event_id]
    assert (len(first.parts), first.is_closed) == (2, True)
    for each in (november, december, first):
        check(each)


def test_late_events_of_a_plan_share_what_they_changed(ledger: Ledger) -> None:
    """A line for each charge, each of the events that its meter reads."""
    terms = _rich_plan()
    book(ledger, [october(0, units={"input_uncached": 900, "api_call": 1})])
    issue(ledger, "acme", MONTH, terms, INVOICING, now_ns=ISSUED_NS)
    late = [october(n, units={"input_uncached": 999, "api_call": 1}) for n in (1, 2)]
    book(ledger, late)

    lines = [each for each in every_line(ledger, "2026-11", terms) if each.line["reference"]]

    assert {each.line["component"] for each in lines} == {
        "tokens",
        "packs",
        "long",
        "coupon:launch",
    }
    for each in lines:
        check(each)
        assert {part.event_id for part in each.parts} == {one.event_id for one in late}


def test_days_of_another_term_are_apart(ledger: Ledger) -> None:
    """A plan from the 16th on: what came before is at its list price, and each line has its own."""
    terms = worked_terms("2026-10-16")
    units = {"input_uncached": 100, "api_call": 1}
    events = [october(n * 86_400, model_upstream="gpt-4o", units=units) for n in (3, 20)]
    book(ledger, events)

    lines = every_line(ledger, MONTH, terms)

    for each in lines:
        check(each)
    assert [[part.event_id for part in each.parts] for each in lines] == [
        [events[0].event_id],
        [events[1].event_id],
        [events[1].event_id],
    ]


def test_a_line_that_there_is_not(ledger: Ledger) -> None:
    book(ledger, [october()])

    with pytest.raises(NoSuchLineError, match="has 2 lines, and none is 3"):
        events_of_line(ledger, "acme", MONTH, 3, NO_PLAN)


def test_events_that_were_changed_are_not_shown_as_the_invoice_s(ledger: Ledger) -> None:
    """The digest of the statement proves them, or says that they are others."""
    book(ledger, [october(), october(1)])
    issue(ledger, "acme", MONTH, NO_PLAN, replace(INVOICING), now_ns=ISSUED_NS)
    with ledger.write() as connection:
        allow_changes(connection, "usage_event")
        connection.execute(text("DELETE FROM usage_event WHERE occurred_at % 10000000000 <> 0"))

    with pytest.raises(NotTheEventsError, match="weir ledger verify"):
        events_of_line(ledger, "acme", MONTH, 1, NO_PLAN)
