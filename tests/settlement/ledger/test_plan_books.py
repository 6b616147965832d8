"""Plans in the ledger: closed once, booked once, late events in the next month, nothing edited."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import pytest
from charge_samples import WORKED_EXAMPLE
from fixtures_ledger import (
    CARDS,
    NOVEMBER_NS,
    NOW_NS,
    PRICES,
    book,
    make_entry,
    make_event,
    new_ledger,
)
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from metering.plans import (
    API_CALLS,
    LLM_TOKENS,
    Aggregation,
    Assignment,
    Cell,
    ChargeKind,
    Component,
    Meter,
    Plan,
)
from metering.settlement.batches import Batch, Booking
from metering.settlement.entries import Arrival, read_entry
from metering.settlement.ledger import tables
from metering.settlement.ledger.plan_books import (
    GRACE_NS,
    Closed,
    MonthOpenError,
    PlanEditedError,
    Terms,
    close_month,
    closed_statement,
    keep_plans,
    kept_plans,
    statement_of,
)
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import verify
from metering.settlement.ledger.writer import write_batch

DAY_NS = 86_400 * 10**9
DECEMBER_NS = 1_796_083_200_000_000_000
AFTER_NS = DECEMBER_NS + GRACE_NS
JANUARY_NS = DECEMBER_NS + 31 * DAY_NS + GRACE_NS
USD = 10**9

PLAN = Plan(
    "pro",
    "Pro",
    (
        Component("base", ChargeKind.FLAT, amount_nano=30 * USD),
        Component("calls", ChargeKind.PER_UNIT, meter="api-calls", rate_pico=10**10),
        Component(
            "tokens",
            ChargeKind.MATRIX,
            meter="llm-tokens",
            cells=(Cell({"type": "input"}, 10_000_000), Cell({"type": "output"}, 20_000_000)),
        ),
    ),
    (API_CALLS, LLM_TOKENS),
)
TERMS = Terms([PLAN], [Assignment("pro", date(2026, 11, 1))])
_LIST = 500 * 5_000 + 200 * 15_000
_CALL = 10_000_000 + 500 * 10_000 + 200 * 20_000
"""What a call of 500 + 200 tokens comes to by the plan."""


def _call(**changes: Any) -> Any:
    units = {"input_uncached": 500, "output_text": 200, "api_call": 1, "inference": 1}
    return make_event(**{"units": units, **changes})


def _receivable(ledger: Ledger) -> int:
    balance = tables.balance.c
    query = select(balance.amount_nano).where(balance.account == "receivable")
    with ledger.read() as connection:
        return int(connection.execute(query).scalar() or 0)


def _close(ledger: Ledger, period: str = "2026-11", now_ns: int = AFTER_NS) -> Closed:
    return close_month(ledger, "acme", period, TERMS, now_ns=now_ns)


def test_a_close_books_what_the_plan_comes_to(ledger: Ledger) -> None:
    """Two calls and the fee; the receivable is the statement's total, and the books hold."""
    book(ledger, [_call(), _call()])

    closed = _close(ledger)

    assert closed.is_new
    assert closed.body["total_nano"] == 30 * USD + 2 * _CALL
    assert _receivable(ledger) == closed.body["total_nano"]
    assert verify(ledger) == []


def test_another_than_the_list_price_is_on_a_statement(ledger: Ledger) -> None:
    """An event at the price of a tier or a region carries words for it; the month is made all the
    same."""
    arrival = read_entry(make_entry(_call()))
    assert isinstance(arrival, Arrival)
    rated = CARDS.rate(arrival.event)
    flex = {
        unit: replace(each, variant="service tier flex") for unit, each in rated.amounts.items()
    }
    batch = Batch([Booking(arrival, replace(rated, amounts=flex))], [])
    write_batch(ledger, batch, prices=PRICES, now_ns=NOW_NS)

    assert _close(ledger).body["total_nano"] == 30 * USD + _CALL


def test_a_preview_is_what_the_close_will_say(ledger: Ledger) -> None:
    """Nothing is written by looking."""
    book(ledger, [_call(), _call()])

    statement = statement_of(ledger, "acme", "2026-11", TERMS)

    assert _receivable(ledger) == 2 * _LIST
    assert statement.body() == _close(ledger).body


def test_a_second_close_changes_nothing(ledger: Ledger) -> None:
    """The statement stays, whatever the plan has become, and nothing is booked again."""
    book(ledger, [_call()])
    first = _close(ledger)
    receivable = _receivable(ledger)

    dearer = replace(PLAN, minimum_nano=99 * USD, effective_from=date(2026, 11, 2))
    other = Terms([PLAN, dearer], TERMS.assignments)
    again = close_month(ledger, "acme", "2026-11", other, now_ns=JANUARY_NS)

    assert (again.sha256, again.is_new) == (first.sha256, False)
    assert _receivable(ledger) == receivable


def test_each_component_is_booked_by_itself(ledger: Ledger) -> None:
    """A transaction per tenant, month, version and component, each balanced."""
    book(ledger, [_call()])
    _close(ledger)

    txn, posting = tables.txn.c, tables.posting.c
    query = (
        select(txn.idem_key, posting.amount_nano)
        .join_from(tables.txn, tables.posting, posting.txn_id == txn.id)
        .where(txn.kind == "adjustment", posting.account == "receivable")
    )
    with ledger.read() as connection:
        booked = {row.idem_key: row.amount_nano for row in connection.execute(query)}
    head = f"plan:acme:2026-11:{PLAN.version}"
    assert booked == {
        f"{head}:base": 30 * USD,
        f"{head}:calls": 10_000_000,
        f"{head}:tokens": _CALL - 10_000_000,
        f"{head}:list_price": -_LIST,
    }


def test_an_event_after_the_close_is_in_the_next_statement(ledger: Ledger) -> None:
    """With the month it belongs to; what was closed stays as it was."""
    book(ledger, [_call()])
    november = _close(ledger)
    book(ledger, [_call(), _call(occurred_at=DECEMBER_NS + 1, completed_at=DECEMBER_NS + 2)])

    december = _close(ledger, "2026-12", JANUARY_NS)

    late = [line for line in december.body["lines"] if line["kind"] == "adjustment"]
    assert {line["component"]: line["amount_nano"] for line in late} == {
        "calls": 10_000_000,
        "tokens": _CALL - 10_000_000,
    }
    assert {line["reference"] for line in late} == {"2026-11"}
    assert closed_statement(ledger, "acme", "2026-11") == replace(november, is_new=False)
    assert _receivable(ledger) == november.body["total_nano"] + december.body["total_nano"]
    assert verify(ledger) == []


def test_what_was_late_is_said_once(ledger: Ledger) -> None:
    """The month after the next has nothing more to say of it."""
    book(ledger, [_call()])
    _close(ledger)
    book(ledger, [_call()])
    _close(ledger, "2026-12", JANUARY_NS)

    january = statement_of(ledger, "acme", "2027-01", TERMS)

    assert january.total_nano == 30 * USD
    assert january.late == {}


def test_a_month_that_is_not_over_stays_open(ledger: Ledger) -> None:
    """A close before the end and its grace would bill a part."""
    with pytest.raises(MonthOpenError):
        _close(ledger, now_ns=AFTER_NS - 1)


def test_terms_are_never_edited(ledger: Ledger) -> None:
    """Other terms for the same day are refused; for a later day they are a new version."""
    assert keep_plans(ledger, [PLAN], 1) == [PLAN.version]
    assert keep_plans(ledger, [PLAN], 2) == []

    with pytest.raises(PlanEditedError, match="effective_from"):
        keep_plans(ledger, [replace(PLAN, minimum_nano=1)], 3)

    later = replace(PLAN, minimum_nano=1, effective_from=date(2026, 12, 1))
    assert keep_plans(ledger, [PLAN, later], 4) == [later.version]
    with ledger.read() as connection:
        assert kept_plans(connection) == {PLAN.version: PLAN, later.version: later}


def test_versions_that_left_the_file_still_hold(ledger: Ledger) -> None:
    """The ledger knows the terms of the days before those in the file."""
    keep_plans(ledger, [PLAN], 1)
    later = replace(PLAN, minimum_nano=1, effective_from=date(2026, 12, 1))

    statement = statement_of(ledger, "acme", "2026-11", Terms([later], TERMS.assignments))

    assert [term.plan for term in statement.terms] == [PLAN]


@pytest.mark.parametrize("table", ["plan_version", "plan_statement"])
def test_both_tables_are_append_only(ledger: Ledger, table: str) -> None:
    """A trigger refuses to change what was stored."""
    _close(ledger)

    with pytest.raises(DBAPIError), ledger.write() as connection:
        connection.execute(text(f"DELETE FROM {table}"))


def test_corrections_and_what_is_not_billable(ledger: Ledger) -> None:
    """What a correction takes back is not charged, nor is what failed."""
    call = _call()
    units = {unit: -n for unit, n in call.units.items()}
    back = _call(kind="correction", corrects=call.event_id, units=units)
    failed = _call(billable=False, reason_code="upstream_error")
    book(ledger, [call, back, failed, _call()])

    closed = _close(ledger)

    assert closed.body["total_nano"] == 30 * USD + _CALL
    assert _receivable(ledger) == closed.body["total_nano"]


def test_users_and_projects_are_told_apart(ledger: Ledger) -> None:
    """A seat is a user who was there at all; a filter keeps to some features."""
    seats = Meter("seats", Aggregation.UNIQUE, of="user", dimensions=("project",))
    search = Meter("search", Aggregation.COUNT, ("api_call",), where={"feature": ("search*",)})
    plan = Plan(
        "seats",
        "Seats",
        (
            Component("seats", ChargeKind.PER_UNIT, meter="seats", rate_pico=3 * 10**12),
            Component("search", ChargeKind.PER_UNIT, meter="search", rate_pico=10**12),
        ),
        (seats, search),
        other_usage="included",
    )
    people = [("ann", "a"), ("ann", "a"), ("ben", "a"), ("ann", "b"), (None, "b")]
    book(ledger, [_call(user=user, project=project) for user, project in people])
    book(ledger, [_call(feature="search-web"), _call(feature="chat")])
    terms = Terms([plan], [Assignment("seats", date(2026, 1, 1))])

    statement = statement_of(ledger, "acme", "2026-11", terms)

    assert statement.total_nano == 3 * 3 * USD + 1 * USD


def test_what_the_plan_has_no_rate_for_keeps_its_price(ledger: Ledger) -> None:
    """A model that the matrix does not know is on the statement at its list price, never free."""
    book(ledger, [_call()])
    plan = replace(WORKED_EXAMPLE, components=WORKED_EXAMPLE.components[1:])
    terms = Terms([plan], [Assignment("worked", date(2026, 11, 1))])

    statement = statement_of(ledger, "acme", "2026-11", terms)

    lines = statement.body()["lines"]
    assert [(line["unit"], line["rate_pico"], line["quantity"]) for line in lines] == [
        ("input_uncached", 5_000_000, 500),
        ("output_text", 15_000_000, 200),
    ]
    assert statement.total_nano == _LIST
    assert statement.entries == {}


def test_a_plan_from_the_middle_of_the_month(ledger: Ledger) -> None:
    """Before it requests keep their prices; the fee is due for the days that are left."""
    early = NOVEMBER_NS - 10 * DAY_NS
    book(ledger, [_call(), _call(occurred_at=early, completed_at=early + 1)])
    terms = Terms([PLAN], [Assignment("pro", date(2026, 11, 16))])

    statement = statement_of(ledger, "acme", "2026-11", terms)

    assert statement.total_nano == _LIST + 15 * USD + _CALL


@pytest.mark.parametrize("seed", range(3))
def test_closing_as_events_come_is_as_good_as_waiting(tmp_path: Path, seed: int) -> None:
    """Whatever comes before, between and after the closes: the same receivable in the end."""
    random = Random(seed)
    months = [("2026-11", NOVEMBER_NS), ("2026-12", DECEMBER_NS), ("2027-01", JANUARY_NS)]
    events = [
        _call(
            occurred_at=start_ns + n,
            completed_at=start_ns + n + 1,
            units={"input_uncached": random.randint(1, 9_999), "api_call": 1},
        )
        for _, start_ns in months
        for n in range(12)
    ]
    shuffled = random.sample(events, len(events))
    totals = []
    for way, batches in (("waiting", [events]), ("coming", [shuffled[n::4] for n in range(4)])):
        (tmp_path / way).mkdir()
        ledger = new_ledger(tmp_path / way)
        for number, batch in enumerate(batches):
            book(ledger, batch)
            if way == "coming" and number < 3:
                _close(ledger, months[number][0], 2 * JANUARY_NS)
        stated = [_close(ledger, month, 2 * JANUARY_NS) for month, _ in months]
        rest = statement_of(ledger, "acme", "2027-02", TERMS)
        late = rest.total_nano - 30 * USD
        totals.append(sum(each.body["total_nano"] for each in stated) + late)
        assert (
            _receivable(ledger)
            + sum(sum(found["entries"].values()) for found in rest.late.values())
            == (totals[-1])
        )
        assert verify(ledger) == []
        ledger.close()

    assert totals[0] == totals[1]
