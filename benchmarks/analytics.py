"""`python -m benchmarks.analytics`: what the dashboard asks, of a ledger with millions of events.

Each question is asked five times; the median is told. The events are made by SQL
(`analytics_ledger`), and on SQLite their sums, too (`analytics_sums`); `--rate` measures the worker
at summing, beside the hourly rollups it makes anyway, on some events of a new ledger.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.analytics_ledger import DAYS, FIRST_NS, counted, fill
from benchmarks.analytics_sums import sum_up
from benchmarks.ledger import batches, events, postgres_server, written
from metering.settlement.analytics import HOUR_NS, Question
from metering.settlement.ledger.analytics import usage
from metering.settlement.ledger.analytics_exchanges import Wanted, exchange, exchanges
from metering.settlement.ledger.analytics_rollup import Summing, behind_by_shard, update_analytics
from metering.settlement.ledger.rollups import update_rollups
from metering.settlement.ledger.store import Ledger, open_ledger

DAY_NS = 24 * HOUR_NS
RUNS = 5
ACME = {"tenant": ("tenant-130",)}


def asked(ledger: Ledger, days: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The questions, by what they are; "month" is what is summed, up to 31 days."""
    everything = Question(FIRST_NS, FIRST_NS + days * DAY_NS)
    month = Question(max(FIRST_NS, everything.end_ns - 31 * DAY_NS), everything.end_ns)
    day = Question(month.end_ns - 2 * DAY_NS, month.end_ns - DAY_NS)
    hour = Question(day.start_ns + 13 * HOUR_NS, day.start_ns + 14 * HOUR_NS)

    def of(question: Question) -> Callable[[], Any]:
        return lambda: usage(ledger, question)

    def listed(question: Question, request: str | None = None) -> Callable[[], Any]:
        return lambda: exchanges(ledger, Wanted(question, request))

    yield (
        "everything by month and model",
        of(replace(everything, interval="month", by=("model",))),
    )
    yield "a month by day", of(replace(month, interval="day"))
    yield (
        "a month by day and tenant, the dearest 100",
        of(replace(month, interval="day", by=("tenant",), sort="sell")),
    )
    yield "a month by tenant, the dearest 100", of(replace(month, by=("tenant",), sort="sell"))
    yield "p95 of a month by model", of(replace(month, by=("model",), sort="requests"))
    yield "a day by hour and model", of(replace(day, interval="hour", by=("model",)))
    yield (
        "a tenant's month by day and key",
        of(replace(month, interval="day", by=("key",), filters=ACME)),
    )
    yield "a tenant's day by hour", of(replace(day, interval="hour", filters=ACME))
    yield (
        "a month of one feature by model",
        of(replace(month, by=("model",), filters={"feature": ("chat",)})),
    )
    yield "a month by project and model (all series)", of(replace(month, by=("project", "model")))
    yield (
        "a user's month by model",
        of(replace(month, by=("model",), filters={"user": ("user-77",)})),
    )
    yield "a tenant's month by user", of(replace(month, by=("user",), filters=ACME, sort="sell"))
    yield "an hour's exchanges, the first page", listed(hour)
    yield (
        "errors of one model in a month",
        listed(replace(month, filters={"model": ("model-3",), "status": ("error",)})),
    )
    yield "a request by its id", listed(everything, "req-1234567")
    found = exchanges(ledger, Wanted(replace(hour, limit=1)))["data"][0]["exchange_id"]
    yield "one exchange", lambda: exchange(ledger, found)


def measured(ledger: Ledger, filled: int) -> None:
    """Print how long each question takes."""
    with ledger.read() as connection:
        behind = sum(count for _, count in behind_by_shard(connection))
    events_there = counted(ledger)
    days = filled * (events_there - behind) // events_there
    print(f"{events_there:,} events, {days} of {filled} days summed; ms, median of {RUNS}")
    for title, ask in asked(ledger, days):
        took_ms = []
        for _ in range(RUNS):
            began = time.perf_counter()
            ask()
            took_ms.append(1_000 * (time.perf_counter() - began))
        print(f"{title:<55} {statistics.median(took_ms):>9,.0f}", flush=True)


def rates(count: int, tenants: int) -> None:
    """Print what summing costs the worker, by event, beside its writing: as it does it, rollups and
    analytics together, and each alone."""
    made = batches(list(events(count, tenants)))

    def together(ledger: Ledger) -> int:
        return Summing(ledger).update_beside_rollups(count)

    for works in (
        {"together": together},
        {"rollups": update_rollups, "analytics": update_analytics},
    ):
        with tempfile.TemporaryDirectory(prefix="weir-bench-") as name:
            ledger = open_ledger(f"sqlite:///{name}/ledger.db")
            with contextlib.closing(ledger):
                ledger.migrate()
                began = time.process_time()
                written(ledger, made)
                print(f"writing    {_per_event(began, count)}")
                for title, work in works.items():
                    began = time.process_time()
                    assert work(ledger) == count
                    print(f"{title:<10} {_per_event(began, count)}")


def _per_event(began: float, count: int) -> str:
    took_s = time.process_time() - began
    return f"{took_s / count * 1e6:>8.1f} us of CPU an event, {count / took_s:>8,.0f} events/s"


def main() -> None:
    """Fill a ledger unless there is one, then ask it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.analytics", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=DAYS, help="that these events are of")
    parser.add_argument("--folder", type=Path, help="keep the SQLite ledger here for other runs")
    parser.add_argument("--summed", type=int, help="sum only so many, the first ones")
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--rate", type=int, metavar="EVENTS", help="only the worker's rate")
    parser.add_argument("--tenants", type=int, default=40, help="of --rate")
    options = parser.parse_args()
    if options.rate:
        rates(options.rate, options.tenants)
        return
    with contextlib.ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weir-bench-")))
        folder = options.folder or temporary
        folder.mkdir(parents=True, exist_ok=True)
        url: str | None = f"sqlite:///{folder}/ledger.db"
        if options.postgres:
            url = stack.enter_context(postgres_server(temporary))
            if url is None:
                raise SystemExit("no PostgreSQL is installed")
        assert url is not None
        ledger = stack.enter_context(contextlib.closing(open_ledger(url)))
        ledger.migrate()
        if not counted(ledger):
            fill(ledger, options.events, options.days)
        if options.postgres:
            Summing(ledger).update(None)
        else:  # goes on where it was
            sum_up(ledger, options.events, options.days, options.summed or options.events)
        measured(ledger, options.days)


if __name__ == "__main__":
    main()
