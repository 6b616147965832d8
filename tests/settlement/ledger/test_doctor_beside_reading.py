"""What the doctor asks of jobs, webhooks, payments and credit, on both databases."""

from __future__ import annotations

from fixtures_ledger import KEYS, NOW_NS, book, make_event
from sqlalchemy import insert

from metering.cron import Cron
from metering.job_settings import JobKind, JobSettings
from metering.settlement.credits import Grant
from metering.settlement.doctor_facts import JobStanding, MoneyIn, Undrawn, Untold
from metering.settlement.ledger import doctor_beside_reading as reading
from metering.settlement.ledger.credit_books import add_grant
from metering.settlement.ledger.credit_draws import draw_credits
from metering.settlement.ledger.job_books import plan_runs
from metering.settlement.ledger.payment_tables import payment, payment_callback
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.webhook_tables import webhook_message

MINUTE = 60 * 10**9


def test_jobs(ledger: Ledger) -> None:
    """Up to when they are planned, and how the newest run stands."""
    job = JobSettings("check", JobKind.VERIFY, Cron("* * * * *"))
    with ledger.write() as connection:
        plan_runs(connection, [job], NOW_NS)
    fresh = reading.read_jobs(ledger, ["check", "other"])
    with ledger.write() as connection:
        plan_runs(connection, [job], NOW_NS + MINUTE)
    found = reading.read_jobs(ledger, ["check"])

    assert fresh == {"check": JobStanding(NOW_NS)}
    due = job.cron.next(NOW_NS)
    assert found == {"check": JobStanding(NOW_NS + MINUTE, due, "due")}


def test_webhooks(ledger: Ledger) -> None:
    """What was sent is nobody's trouble."""
    assert reading.read_webhooks(ledger) == ()
    row = {
        "endpoint": "erp",
        "type": "t",
        "subject": "acme",
        "revision": 1,
        "digest": "",
        "data": "{}",
        "attempts": 1,
        "next_at": 0,
        "created_at": 5,
        "tried_since": 7,
    }
    states = {"sent": None, "new": None, "dead": "answered 500"}
    rows = [
        {**row, "message_id": name, "about": name, "state": name, "reason": why}
        for name, why in states.items()
    ]
    with ledger.write() as connection:
        connection.execute(insert(webhook_message), rows)

    assert reading.read_webhooks(ledger) == (Untold("erp", 1, 7, 1, "answered 500"),)


def test_payments(ledger: Ledger) -> None:
    """By their states."""
    assert reading.read_payments(ledger) == MoneyIn()
    paid = {
        "provider": "stripe",
        "currency": "usd",
        "received_minor": 1,
        "tax_minor": 0,
        "credit_nano": 0,
        "paid_s": 1,
        "looked_at": 1,
        "attempts": 0,
    }
    called = {
        "provider": "stripe",
        "type": "x",
        "created_s": 1,
        "received_at": 9,
        "attempts": 0,
        "next_at": 0,
    }
    with ledger.write() as connection:
        for name in ("open", "unassigned", "review"):
            connection.execute(insert(payment), [{**paid, "id": name, "state": name}])
        for name in ("new", "done", "review"):
            row = {**called, "event_id": name, "state": name}
            connection.execute(insert(payment_callback), [row])

    assert reading.read_payments(ledger) == MoneyIn(1, 1, 1, 1, 9)


def test_credit(ledger: Ledger) -> None:
    """Only events of tenants with grants are behind; nothing is where there are none."""
    book(ledger, [make_event()])
    assert reading.read_credits(ledger) == Undrawn()
    add_grant(ledger, Grant("g", "acme", "paid", 1, 10**12, 0, None, "manual", ""), NOW_NS)
    book(ledger, [make_event(), make_event(tenant="other")])

    before = reading.read_credits(ledger)
    draw_credits(ledger, [KEYS.shard("acme")], now_ns=NOW_NS)

    assert before == Undrawn(1, NOW_NS)
    assert reading.read_credits(ledger) == Undrawn()
