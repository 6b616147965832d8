"""What jobs do, over a real ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from config_samples import loaded
from fixtures_ledger import NOW_NS, allow_changes, book, make_event, new_ledger
from sqlalchemy import text

from metering.cron import Cron
from metering.job_settings import JobKind, JobSettings
from metering.settlement.credits import Grant
from metering.settlement.job_turn import Asked, JobFailedError, JobWaitsError
from metering.settlement.ledger.credit_books import add_grant
from metering.settlement.ledger.invoice_books import all_issued
from metering.settlement.ledger.outbox import take_alerts
from metering.settlement.ledger.plan_books import closed_statement
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import examine
from proxy.settings import Settings
from proxy.settling_jobs import month_before, work_of

PLANS = """\
data_dir: .
plans:
  - {id: calls, effective_from: 2020-10-01, charges: [{id: all, kind: per_request, rate: 0.01}]}
tenants:
  - {id: acme, plan: [{id: calls, from: 2020-10-01}]}
  - {id: beta, plan: [{id: calls, from: 2026-11-01}]}
retention: {events_days: 40, archive: {folder: old}}
"""


def ns(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}Z").timestamp()) * 10**9


DUE = ns("2026-12-01T02:00")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "old").mkdir()
    return loaded(tmp_path, PLANS).settings


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Ledger]:
    """Two events of acme, one of beta, in November."""
    with closing(new_ledger(tmp_path)) as ledger:
        book(ledger, [make_event(), make_event()])
        book(ledger, [make_event(tenant="beta")])
        yield ledger


def do(
    ledger: Ledger,
    settings: Settings,
    kind: JobKind,
    *,
    lacks: str | None = None,
    now: int = DUE,
    due: int = DUE,
    timezone: str = "UTC",
    is_over: bool = False,
) -> str:
    job = JobSettings(kind.value, kind, Cron("0 2 1 * *", timezone))
    asked = Asked(job, due, now, lambda: is_over)
    return work_of(settings, lambda *_: lacks)[kind](ledger, asked)


def test_the_month_that_is_over_is_closed_and_invoiced(books: Ledger, settings: Settings) -> None:
    """Of everybody, without a plan too, and once; a second run finds it done."""
    book(books, [make_event(tenant="free")])
    first = do(books, settings, JobKind.CLOSE)
    again = do(books, settings, JobKind.CLOSE)

    assert first == "2026-11: 3 invoices issued, 0 had been issued before"
    assert again == "2026-11: 0 invoices issued, 3 had been issued before"
    assert [each.number for each in all_issued(books)] == [
        "acme-2026-11",
        "beta-2026-11",
        "free-2026-11",
    ]
    closed = closed_statement(books, "acme", "2026-11")
    assert closed is not None
    assert closed.body["event_count"] == 2


WAITS: dict[str, tuple[str | None, str, str]] = {
    "the grace": (None, "2026-12-01T00:30", "2026-11 can be closed an hour after its end (UTC)"),
    "something": ("3 events wait", "2026-12-01T02:00", "2026-11 is not closed yet: 3 events wait"),
}


@pytest.mark.parametrize(("lacks", "now", "says"), WAITS.values(), ids=WAITS)
def test_a_close_waits_until_everything_is_settled(
    books: Ledger, settings: Settings, lacks: str | None, now: str, says: str
) -> None:
    with pytest.raises(JobWaitsError) as waits:
        do(books, settings, JobKind.CLOSE, lacks=lacks, now=ns(now))

    assert str(waits.value) == says
    assert closed_statement(books, "acme", "2026-11") is None


def test_a_close_does_not_wait_for_ever(books: Ledger, settings: Settings) -> None:
    """A day later it is done all the same, and said what may be missing."""
    late = DUE + 24 * 3_600 * 10**9

    with pytest.raises(JobWaitsError):
        do(books, settings, JobKind.CLOSE, lacks="Redis is away", now=late - 1)
    said = do(books, settings, JobKind.CLOSE, lacks="Redis is away", now=late)

    assert said == (
        "2026-11: 2 invoices issued, 0 had been issued before; incomplete: Redis is away"
    )
    assert _alerts(books, "closed_incomplete") == [
        {"job": "close", "period": "2026-11", "waited_h": 24, "lacks": "Redis is away"}
    ]


def _alerts(ledger: Ledger, kind: str) -> list[dict[str, object]]:
    found = take_alerts(ledger, "log", now_ns=DUE + 10**18)
    said = [dict(each.body) for each in found if each.kind == kind]
    return [{name: value for name, value in each.items() if name != "kind"} for each in said]


def test_what_came_after_the_close_is_on_the_next_invoice(
    books: Ledger, settings: Settings
) -> None:
    """Nothing is lost by not waiting."""
    do(books, settings, JobKind.CLOSE)
    book(books, [make_event(), make_event(tenant="late")])
    do(books, settings, JobKind.CLOSE, now=ns("2027-01-01T02:00"), due=ns("2027-01-01T02:00"))

    [_, december] = all_issued(books, tenant="acme")
    assert [line["reference"] for line in december.document["lines"]] == ["2026-11"]
    assert december.document["total"] == "0.01"


def test_credits_are_up_to_date_on_the_invoice(books: Ledger, settings: Settings) -> None:
    """Whoever draws from grants may be behind: the invoice does not wait for a worker's turn."""
    add_grant(books, Grant("g1", "acme", "paid", 1, 10**15, 0, None, "manual", ""), NOW_NS)
    book(books, [make_event()])

    do(books, settings, JobKind.CLOSE)

    [made] = all_issued(books, tenant="acme")
    [applied] = made.document["credits"]
    assert (applied["grant"], applied["amount_nano"]) == ("g1", make_event().admission_nano)


def test_a_review_of_prices_is_told(books: Ledger, tmp_path: Path) -> None:
    """Once for each time it is due, with what a person has to decide about, by name."""
    found = loaded(tmp_path, REVIEWED, K="sk-x").settings

    said = do(books, found, JobKind.PRICE_REVIEW)
    do(books, found, JobKind.PRICE_REVIEW)

    assert said == "off the list: openai/gpt-4o"
    [body] = _alerts(books, "price_review")
    assert (body["off_the_list"], body["below_cost"]) == (["openai/gpt-4o"], [])
    assert body["since"] == "2026-09-01T02:00:00Z"


REVIEWED = """\
data_dir: .
providers:
  openai: {type: openai, api_key: "${K}"}
models:
  gpt-4o: {upstreams: [{provider: openai, model: gpt-4o}]}
pricing: {rules: [{model: gpt-4o, input_per_mtok: 3, output_per_mtok: 10}]}
"""


def test_what_stops_one_tenant_does_not_stop_the_next(books: Ledger, settings: Settings) -> None:
    """The run has failed all the same, and names it."""
    [plan] = settings.plans
    do(books, settings, JobKind.CLOSE, now=ns("2026-11-01T02:00"), due=ns("2026-11-01T02:00"))
    edited = replace(plan, minimum_nano=7)
    only = {"acme": settings.assignments["acme"]}
    changed = replace(settings, plans=(edited,), assignments=only)

    with pytest.raises(JobFailedError, match="acme: plan 'calls' from 2020-10-01 is in the ledger"):
        do(books, changed, JobKind.CLOSE)


def test_a_stop_is_heeded_between_two_tenants(books: Ledger, settings: Settings) -> None:
    with pytest.raises(JobWaitsError, match="before tenant acme"):
        do(books, settings, JobKind.CLOSE, is_over=True)


MONTHS = {
    "UTC": ("2026-12-01T02:00", "UTC", "2026-11"),
    "east": ("2026-11-30T17:30", "Asia/Tokyo", "2026-11"),
    "west": ("2026-12-01T04:59", "America/New_York", "2026-10"),
    "January": ("2027-01-01T00:00", "UTC", "2026-12"),
}


ENDS = {"2026-10": "2026-11-01", "2026-11": "2026-12-01", "2026-12": "2027-01-01"}


@pytest.mark.parametrize(("at", "zone", "month"), MONTHS.values(), ids=MONTHS)
def test_the_month_before_goes_by_the_day_there(at: str, zone: str, month: str) -> None:
    period, end_ns = month_before(ns(at), zone)

    assert period == month
    assert end_ns == ns(f"{ENDS[month]}T00:00")


def test_old_payloads_are_archived(books: Ledger, settings: Settings) -> None:
    """By the age at which they came, and verify looks into the files."""
    day = 86_400 * 10**9
    young = do(books, settings, JobKind.ARCHIVE, now=NOW_NS + 40 * day)
    old = do(books, settings, JobKind.ARCHIVE, now=NOW_NS + 41 * day)

    assert (young, old) == (
        "0 events moved into 0 files",
        "3 events moved into 2 files",
    )
    assert do(books, settings, JobKind.VERIFY) == "ok: 3 events, 2 transactions"
    assert examine(books).archived == 3


def test_a_folder_that_is_gone_fails_the_run(books: Ledger, settings: Settings) -> None:
    assert settings.retention is not None
    gone = replace(settings, retention=replace(settings.retention, folder="/nowhere/old"))

    with pytest.raises(JobFailedError, match="/nowhere/old"):
        do(books, gone, JobKind.ARCHIVE, now=NOW_NS + 41 * 86_400 * 10**9)


def test_findings_fail_the_run_at_once(books: Ledger, settings: Settings) -> None:
    """Looking again would find the same."""
    with books.write() as connection:
        allow_changes(connection, "usage_event")
        connection.execute(text("UPDATE usage_event SET project = 'x' WHERE tenant = 'beta'"))

    with pytest.raises(JobFailedError, match=r"1 findings, the first: .* column project") as fails:
        do(books, settings, JobKind.VERIFY)
    assert not fails.value.again


def test_nothing_to_do_is_said(books: Ledger, tmp_path: Path) -> None:
    """A schedule for providers that nobody configured is no failure."""
    nothing = loaded(tmp_path, "data_dir: .\n").settings

    assert "nothing to compare" in do(books, nothing, JobKind.RECONCILE)


def test_days_before_are_compared_with_what_was_kept(books: Ledger, tmp_path: Path) -> None:
    """An account of which only files can be had is compared with those."""
    found = loaded(
        tmp_path,
        "data_dir: .\nproviders:\n"
        "  openai: {type: openai, api_key: sk-x, reconcile: {}}\n"
        "  other: {type: openai, api_key: sk-x, reconcile: {admin_key: '${NO_SUCH}'}}\n",
    ).settings

    with pytest.raises(JobFailedError, match="other: environment variable NO_SUCH is not set"):
        do(books, found, JobKind.RECONCILE, due=ns("2026-11-17T04:00"))
    only = replace(found, providers={"openai": found.providers["openai"]})
    assert do(books, only, JobKind.RECONCILE) == "openai in comparison 2"
