"""`verify` finds what was done to statements, to their terms, or to what was booked for them."""

from __future__ import annotations

from datetime import date

import pytest
from fixtures_ledger import allow_changes, book, make_event
from sqlalchemy import text

from metering.plans import API_CALLS, Assignment, ChargeKind, Component, Plan
from metering.settlement.ledger.plan_books import Terms, close_month
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import verify

_PLAN = Plan(
    "pro",
    "Pro",
    (
        Component("base", ChargeKind.FLAT, amount_nano=5),
        Component("calls", ChargeKind.PER_UNIT, meter="api-calls", rate_pico=10**10),
    ),
    (API_CALLS,),
)
_TERMS = Terms([_PLAN], [Assignment("pro", date(2026, 1, 1))])


@pytest.fixture
def closed(ledger: Ledger) -> Ledger:
    """A ledger with a statement: November, and what was late for it on December's."""
    units = {"input_uncached": 500, "api_call": 1}
    for number, month in enumerate(("2026-11", "2026-12")):
        book(ledger, [make_event(units=units)])
        close_month(ledger, "acme", month, _TERMS, now_ns=1_800_000_000_000_000_000 + number)
    return ledger


def test_what_was_closed_holds(closed: Ledger) -> None:
    """Nothing to find, late events among it."""
    assert verify(closed) == []


@pytest.mark.parametrize(
    ("table", "change", "finding"),
    [
        (
            "plan_statement",
            "UPDATE plan_statement SET sha256 = 'x' WHERE period = '2026-11'",
            "statement acme 2026-11 does not hash to its name",
        ),
        (
            "plan_statement",
            "UPDATE plan_statement SET period = '2026-10' WHERE period = '2026-11'",
            "statement acme 2026-10 is that of acme 2026-11",
        ),
        (
            "plan_statement",
            "DELETE FROM plan_statement WHERE period = '2026-12'",
            f"transaction plan:acme:2026-12:{_PLAN.version}:base is on no statement",
        ),
        (
            "plan_version",
            "UPDATE plan_version SET effective_from = '2026-01-01'",
            (f"plan version {_PLAN.version} is not of the plan and day that it stands for"),
        ),
        (
            "plan_version",
            "UPDATE plan_version SET version = 'x'",
            "plan version x cannot be read: plan body does not hash to version x",
        ),
        (
            "txn",
            "UPDATE txn SET idem_key = 'gone' WHERE idem_key LIKE 'plan:acme:2026-12:late:%calls'",
            (
                f"statement acme 2026-12: plan:acme:2026-12:late:2026-11:{_PLAN.version}:calls "
                "is not booked with 10000000 nano-USD"
            ),
        ),
    ],
)
def test_a_change_is_found(closed: Ledger, table: str, change: str, finding: str) -> None:
    """Whoever forges a statement has to forge the books, too."""
    with closed.write() as connection:
        allow_changes(connection, table)
        connection.execute(text(change))

    assert finding in verify(closed)
