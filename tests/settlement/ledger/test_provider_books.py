"""Exports, comparisons and corrections in the ledger, on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures_ledger import KEYS, allow_changes, book, make_event
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from metering.settlement.exports.rows import COST, USAGE, CostRow, Export, UsageRow
from metering.settlement.ledger import tables
from metering.settlement.ledger.outbox import take_alerts
from metering.settlement.ledger.provider_books import (
    ApplyRefusedError,
    Compared,
    Run,
    apply_run,
    find_run,
    keep_export,
    knows_exports,
    list_runs,
    run,
)
from metering.settlement.ledger.provider_tables import APPEND_ONLY
from metering.settlement.ledger.provider_usage import own_usage
from metering.settlement.ledger.rollups import rebuild_rollups
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.usage_report import usage_report
from metering.settlement.ledger.verify import verify
from metering.settlement.reconcile_money import UNATTRIBUTED
from metering.settlement.totals import check_totals

DAY_NS = 86_400 * 10**9
FIRST_NS = 1_793_491_200_000_000_000
"""The beginning of 2026-11-01."""
DAY, NEXT, END = "2026-11-01", "2026-11-02", "2026-11-03"
MODEL = "gpt-4o-2024-08-06"
LATER_NS = FIRST_NS + 10 * DAY_NS
COST_NANO = 500 * 5_000 + 200 * 15_000
"""What one call of 500 + 200 tokens cost by our book."""


def _call(**changes: Any) -> Any:
    usual = {"occurred_at": FIRST_NS + 5, "model_answered": MODEL, "service_tier": "default"}
    return make_event(**{**usual, **changes})


def _said(ledger: Ledger, calls: int, cost_nano: int, at_ns: int = LATER_NS) -> None:
    usage = tuple(
        UsageRow(DAY, MODEL, unit, n * calls, "standard")
        for unit, n in (("input_uncached", 500), ("output_text", 200), ("requests", 1))
    )
    for export in (
        Export(USAGE, DAY, END, usage),
        Export(COST, DAY, END, (), (CostRow(DAY, MODEL, cost_nano),)),
    ):
        keep_export(ledger, "openai", export, source="api", sha256="0" * 64, fetched_at=at_ns)


def _run(ledger: Ledger) -> Run:
    return run(ledger, Compared("openai", DAY, END), by="ann", now_ns=LATER_NS)


def _apply(ledger: Ledger, number: int) -> int:
    return apply_run(ledger, KEYS, number, by="bob", reason="as billed", now_ns=LATER_NS)


def _balance(ledger: Ledger, account: str) -> int:
    kept = tables.balance.c
    with ledger.read() as connection:
        rows = connection.execute(select(kept.amount_nano).where(kept.account == account))
        return sum(int(row[0]) for row in rows)


def test_what_agrees_has_no_gap(ledger: Ledger) -> None:
    """The model is found by what the provider answered, the tier by what it said."""
    book(ledger, [_call(), _call(request_id="2")])
    _said(ledger, 2, 2 * COST_NANO)

    body = _run(ledger).body

    assert {line["gap"] for line in body["lines"]} == {None}
    assert (body["totals"]["drift_ppm"], body["corrections"], body["alerts"]) == (0, [], 0)
    assert knows_exports(ledger)


def test_own_usage_leaves_out_what_the_provider_never_saw(ledger: Ledger) -> None:
    """Answers out of the cache, other accounts, other days; a correction takes its event back."""
    taken_back = _call(request_id="3", usage_source="recovered")
    units = {unit: -n for unit, n in taken_back.units.items()}
    correction = _call(kind="correction", corrects=taken_back.event_id, units=units)
    others = [
        _call(reason_code="cache_hit", cache_status="exact"),
        _call(provider="azure"),
        _call(occurred_at=FIRST_NS - 1),
        _call(occurred_at=FIRST_NS + DAY_NS),
    ]
    book(ledger, [_call(), _call(tenant="zeta"), taken_back, correction, *others])

    with ledger.read() as connection:
        found = own_usage(connection, "openai", DAY, NEXT)

    sums = {(one.tenant, one.unit): (one.quantity, one.cost_nano) for one in found}
    calls = {"input_uncached": (500, 2_500_000), "output_text": (200, 3_000_000)}
    expected = {**calls, "requests": (1, 0)}
    assert sums == {(who, unit): n for who in ("acme", "zeta") for unit, n in expected.items()}


def test_the_newest_export_speaks_for_a_day(ledger: Ledger) -> None:
    """And days that were young when it was fetched are provisional."""
    book(ledger, [_call()])
    _said(ledger, 9, COST_NANO)
    _said(ledger, 1, COST_NANO, LATER_NS + 1)
    assert {line["gap"] for line in _run(ledger).body["lines"]} == {None}

    _said(ledger, 7, COST_NANO, LATER_NS + 2)
    usage = Export(USAGE, DAY, NEXT, (UsageRow(DAY, MODEL, "input_uncached", 1),))
    keep_export(
        ledger, "openai", usage, source="f.csv", sha256="1", fetched_at=FIRST_NS + 2 * DAY_NS
    )
    body = _run(ledger).body
    assert "count" in {line["gap"] for line in body["lines"]}
    assert body["provisional"] == []


def test_young_numbers_are_provisional(ledger: Ledger) -> None:
    """Nothing is proposed of them."""
    book(ledger, [_call()])
    _said(ledger, 1, 9 * 10**9, FIRST_NS + 2 * DAY_NS)

    body = _run(ledger).body

    assert body["provisional"] == [DAY, NEXT]
    assert body["corrections"] == []


def test_corrections_are_booked_once_and_move_cost_alone(ledger: Ledger) -> None:
    """The cost is the provider's afterwards; nobody is billed, nothing is edited, all of it is
    proved, and the next comparison finds nothing."""
    book(ledger, [_call(), _call(tenant="zeta")])
    sold = _balance(ledger, "receivable")
    _said(ledger, 2, 10**9)
    made = _run(ledger)

    assert made.body["corrections"]
    assert _balance(ledger, "cogs") == 2 * COST_NANO  # nothing is booked without being asked for
    assert _apply(ledger, made.id) == 2
    assert _apply(ledger, made.id) == 0
    assert (_balance(ledger, "cogs"), _balance(ledger, "provider_payable")) == (10**9, -(10**9))
    assert _balance(ledger, "receivable") == sold
    assert list(verify(ledger)) == []
    rebuild_rollups(ledger)
    assert check_totals(ledger).findings == []
    again = _run(ledger)
    assert (again.body["totals"]["drift_ppm"], again.body["corrections"]) == (0, [])
    found = find_run(ledger, made.id)
    assert found is not None
    assert found.applied == {"applied_by": "bob", "reason": "as billed", "applied_at": LATER_NS}


def test_reports_show_the_true_cost(ledger: Ledger) -> None:
    """In the row of the model as we send it, without another request."""
    book(ledger, [_call()])
    _said(ledger, 1, 10**9)
    _apply(ledger, _run(ledger).id)

    report = usage_report(ledger)

    assert report is not None
    [row] = report["rows"]
    assert (row["model"], row["requests"], row["cost_nano"]) == ("gpt-4o", 1, 10**9)
    assert row["admission_nano"] == COST_NANO


def test_what_no_tenant_caused_is_booked_to_nobody(ledger: Ledger) -> None:
    """Traffic around the proxy is a cost all the same."""
    book(ledger, [_call(occurred_at=FIRST_NS - 1)])
    _said(ledger, 1, 10**9)

    assert _apply(ledger, _run(ledger).id) == 1
    with ledger.read() as connection:
        query = select(tables.usage_event).where(tables.usage_event.c.kind == "adjustment")
        [row] = connection.execute(query).all()
    assert (row.tenant, row.billable, row.reason_code) == (UNATTRIBUTED, False, "reconciled")
    assert list(verify(ledger)) == []


def test_a_ledger_that_has_moved_is_not_corrected(ledger: Ledger) -> None:
    """A late event, or the corrections of another comparison of the same days."""
    book(ledger, [_call()])
    _said(ledger, 1, 10**9)
    first, second = _run(ledger), _run(ledger)
    _apply(ledger, first.id)

    with pytest.raises(ApplyRefusedError, match="compare again"):
        _apply(ledger, second.id)
    assert _balance(ledger, "cogs") == 10**9


def test_a_late_event_of_those_days_asks_for_another_comparison(ledger: Ledger) -> None:
    """One of another day or account does not."""
    book(ledger, [_call()])
    _said(ledger, 1, 10**9)
    made = _run(ledger)

    book(ledger, [_call(occurred_at=FIRST_NS + DAY_NS), _call(provider="azure")])
    assert _apply(ledger, made.id) == 1
    _said(ledger, 1, 2 * 10**9, LATER_NS + 1)
    later = _run(ledger)
    book(ledger, [_call(request_id="late")])
    with pytest.raises(ApplyRefusedError, match="compare again"):
        _apply(ledger, later.id)


def test_a_death_between_the_note_and_the_events_is_ended_first(ledger: Ledger) -> None:
    """Another comparison waits; the same one goes on where it stopped, as the one who began."""
    book(ledger, [_call()])
    _said(ledger, 1, 10**9)
    first, second = _run(ledger), _run(ledger)
    with ledger.write() as connection:
        connection.execute(
            text("INSERT INTO reconciliation_apply VALUES (:id, 'ann', 'died', 7)"),
            {"id": first.id},
        )

    with pytest.raises(ApplyRefusedError, match="apply that one first"):
        _apply(ledger, second.id)
    assert _apply(ledger, first.id) == 1
    found = find_run(ledger, first.id)
    assert found is not None and found.applied is not None
    assert found.applied["applied_by"] == "ann"
    assert _balance(ledger, "cogs") == 10**9


def test_there_may_be_nothing_to_book(ledger: Ledger) -> None:
    """Or no such comparison."""
    book(ledger, [_call()])
    _said(ledger, 1, COST_NANO)

    for number in (_run(ledger).id, 99):
        with pytest.raises(ApplyRefusedError):
            _apply(ledger, number)


def test_a_model_that_is_too_far_off_is_an_alert(ledger: Ledger) -> None:
    """With the comparison that found it."""
    book(ledger, [_call()])
    _said(ledger, 1, 10**9)

    made = _run(ledger)

    [alert] = take_alerts(ledger, "log", now_ns=LATER_NS)
    assert (alert.kind, alert.body["reconciliation"]) == ("provider_drift", made.id)
    assert (alert.body["model"], alert.body["provider_nano"]) == (MODEL, 10**9)
    assert [each.id for each in list_runs(ledger)] == [made.id]
    assert list_runs(ledger, "other") == []


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_nothing_of_it_is_ever_changed(ledger: Ledger, table: str) -> None:
    """Exports, comparisons and who applied them."""
    book(ledger, [_call()])
    _said(ledger, 1, 10**9)
    _apply(ledger, _run(ledger).id)

    for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET {_column(table)} = 'x'"):
        with pytest.raises(DBAPIError, match="append-only"), ledger.write() as connection:
            connection.execute(text(statement))
    with ledger.write() as connection:
        allow_changes(connection, table)
        connection.execute(text(f"UPDATE {table} SET {_column(table)} = 'x'"))


def _column(table: str) -> str:
    return "applied_by" if table == "reconciliation_apply" else "provider"
