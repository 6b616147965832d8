"""What jobs do, with the settings of the file: for the worker and for `weir jobs run`.

Each may be made again after it was broken off: months are closed once, a comparison is only one
more, an archived event is archived.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from metering.job_settings import JobKind
from metering.settlement.job_turn import Asked, JobFailedError, Jobs, JobWaitsError, Work
from metering.settlement.ledger.archive import archive
from metering.settlement.ledger.archive_files import ArchiveError
from metering.settlement.ledger.outbox import put_alerts
from metering.settlement.ledger.plan_books import GRACE_NS
from metering.settlement.ledger.provider_books import Run
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import examine
from proxy.settings import Settings
from proxy.settling_months import Ends, issue_all, unsettled

_SECOND_NS = 1_000_000_000
_HOUR_NS = 3_600 * _SECOND_NS
_DAY_NS = 24 * _HOUR_NS

_QUARTER_DAYS = 91

Unsettled = Callable[[Settings, Ledger, str, int], str | None]
"""Why the books may lack something of a month; None when they have all there is."""


def jobs_of(settings: Settings) -> Jobs:
    """What the worker does by the clock, and how."""
    return Jobs(settings.jobs, work_of(settings))


def work_of(settings: Settings, why_not: Unsettled = unsettled) -> Mapping[JobKind, Work]:
    """How each kind of job is done."""
    return {
        JobKind.CLOSE: lambda ledger, asked: _close(ledger, asked, settings, why_not),
        JobKind.RECONCILE: lambda ledger, asked: _reconcile(ledger, asked, settings),
        JobKind.VERIFY: lambda ledger, _: _verify(ledger, settings),
        JobKind.ARCHIVE: lambda ledger, asked: _archive(ledger, asked, settings),
        JobKind.PRICE_REVIEW: lambda ledger, asked: _price_review(ledger, asked, settings),
    }


def _close(ledger: Ledger, asked: Asked, settings: Settings, why_not: Unsettled) -> str:
    """The whole end of the month: everybody's is closed, then invoiced.

    After its patience it closes all the same, and says so: what comes later is on the next
    invoices, and customers do not wait for theirs because a disk is broken.
    """
    period, end_ns = month_before(asked.scheduled_for, asked.job.cron.timezone)
    at_ns = asked.now_ns
    if at_ns < end_ns + GRACE_NS:
        raise JobWaitsError(f"{period} can be closed an hour after its end (UTC)")
    lacks = why_not(settings, ledger, period, at_ns)
    if lacks is not None:
        first_ns = max(asked.scheduled_for, end_ns + GRACE_NS)
        if at_ns < first_ns + asked.job.max_wait_hours * _HOUR_NS:
            raise JobWaitsError(f"{period} is not closed yet: {lacks}")
        _tell_incomplete(ledger, asked, period, lacks)
    made = issue_all(ledger, settings, period, now_ns=at_ns, is_over=asked.is_over)
    if made.failed:
        raise JobFailedError(f"{_issued(period, made)}; {_each(made.failed)}")
    if made.left:
        raise JobWaitsError(f"{_issued(period, made)}; broken off before tenant {made.left[0]}")
    said = _issued(period, made)
    return said if lacks is None else f"{said}; incomplete: {lacks}"


def _issued(period: str, made: Ends) -> str:
    new = sum(each.is_new for each in made.issued.values())
    return f"{period}: {new} invoices issued, {len(made.issued) - new} had been issued before"


def _tell_incomplete(ledger: Ledger, asked: Asked, period: str, lacks: str) -> None:
    """Before it is done, so that whoever dies in it has said so."""
    waited_h = asked.job.max_wait_hours
    body = {"job": asked.job.name, "period": period, "waited_h": waited_h, "lacks": lacks}
    with ledger.write() as connection:
        put_alerts(connection, [(f"closed_incomplete:{period}", body)], asked.now_ns)


def month_before(time_ns: int, timezone: str) -> tuple[str, int]:
    """The month before the one that it is there, and when that month ended in UTC.

    East of Greenwich the first of a month begins before the month before is over in UTC.
    """
    first = datetime.fromtimestamp(time_ns // _SECOND_NS, ZoneInfo(timezone)).date().replace(day=1)
    end_ns = int(datetime(first.year, first.month, 1, tzinfo=UTC).timestamp()) * _SECOND_NS
    return (first - timedelta(days=1)).strftime("%Y-%m"), end_ns


def _reconcile(ledger: Ledger, asked: Asked, settings: Settings) -> str:
    from proxy.cli_reconciling import compare  # noqa: PLC0415 - loads aiohttp

    names = [name for name, each in settings.providers.items() if each.reconcile is not None]
    if not names:
        return "no provider has a section reconcile: nothing to compare"
    until = _day(asked.scheduled_for)  # the first day that is not compared
    since = until - timedelta(days=asked.job.days)
    found: dict[str, Run | str] = {}
    for name in names:
        if asked.is_over():
            raise JobFailedError(f"broken off before {name}")
        found[name] = compare(
            ledger,
            settings,
            name,
            since=since.isoformat(),
            until=until.isoformat(),
            by=f"job {asked.job.name}",
        )
    failed = {name: each for name, each in found.items() if isinstance(each, str)}
    runs = {name: each for name, each in found.items() if not isinstance(each, str)}
    numbers = ", ".join(f"{name} in comparison {run.id}" for name, run in runs.items())
    if failed:
        done = f"; compared: {numbers}" if numbers else ""
        raise JobFailedError(f"{_each(failed)}{done}")
    return numbers


def _archive(ledger: Ledger, asked: Asked, settings: Settings) -> str:
    kept = settings.retention
    if kept is None:  # the file was found to have it
        raise JobFailedError("there is no section retention", again=False)
    at_ns = asked.now_ns
    try:
        found = archive(
            ledger,
            Path(kept.folder),
            before_ns=at_ns - kept.events_days * _DAY_NS,
            now_ns=at_ns,
            is_over=asked.is_over,
        )
    except ArchiveError as error:
        raise JobFailedError(str(error)) from error
    if asked.is_over():
        raise JobWaitsError(f"broken off after {found.files} files")
    return f"{found.events} events moved into {found.files} files"


def _verify(ledger: Ledger, settings: Settings) -> str:
    kept = settings.retention
    found = examine(ledger, None if kept is None else Path(kept.folder))
    if found.findings:
        total = len(found.findings) + found.more
        raise JobFailedError(
            f"{total} findings, the first: {found.findings[0]}; see `weir ledger verify`",
            again=False,
        )
    return f"ok: {found.events} events, {found.transactions} transactions"


def _day(time_ns: int) -> date:
    return datetime.fromtimestamp(time_ns // _SECOND_NS, UTC).date()


def _each(failed: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in failed.items())


def _price_review(ledger: Ledger, asked: Asked, settings: Settings) -> str:
    """The review of the quarter before: said to whoever hears alerts, as the numbers are in the
    ledger and `weir prices review` shows them."""
    from proxy.cli_price_asked import reviewed  # noqa: PLC0415 - loads the list prices
    from proxy.price_review import to_look_at  # noqa: PLC0415 - as above

    due_ns = asked.scheduled_for
    found = to_look_at(reviewed(ledger, settings, due_ns - _QUARTER_DAYS * _DAY_NS, asked.now_ns))
    key = f"price_review:{asked.job.name}:{due_ns}"
    with ledger.write() as connection:
        put_alerts(connection, [(key, {"job": asked.job.name, **found})], asked.now_ns)
    words = [
        f"{name.replace('_', ' ')}: {', '.join(names)}"
        for name, names in found.items()
        if name != "since" and names
    ]
    return "; ".join(words) or "nothing to look at: every price is the vendor's, nothing is lost"
