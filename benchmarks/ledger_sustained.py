"""`make bench-sustained`: events per second into the ledger over a minute and more.

From full streams through a worker, a process as of an installation, into a new database on this
machine's disk, until the streams are empty: read, check, rate, write, chain, sync, roll up,
acknowledge. The rate of the slowest slice shows what does not last. CPU is what the scheduler
booked for the workers, for PostgreSQL and for Redis, each per event; beside it stands the
yardstick, `sum(range(1000))`, because the same work takes other machines, and this one on a busy
day, another time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import structlog
from redis import Redis
from sqlalchemy import func, select

from benchmarks.ledger import KEYS, PRICES, empty, events, postgres_server, redis_server
from metering.events import UsageEvent, encode, payload_hash
from metering.settlement import worker
from metering.settlement.ledger.store import open_ledger
from metering.settlement.ledger.tables import watermark
from metering.settlement.ledger.verify import examine
from proxy.stop_signals import GC_THRESHOLD

SLICE_S = 10.0
CHUNK = 2_000


@dataclass(frozen=True, slots=True)
class Run:
    """What one database and so many workers made of the load. Times of CPU are us per event."""

    database: str
    workers: int
    events: int
    took_s: float
    slowest: float
    worker_us: float
    postgres_us: float
    redis_us: float
    yardstick_us: float

    def __str__(self) -> str:
        yards = self.worker_us / self.yardstick_us
        return (
            f"{self.database:<11}{self.workers:>2} {self.events:>9,} {self.took_s:>6.0f} s "
            f"{self.events / self.took_s:>9,.0f} {self.slowest:>9,.0f} "
            f"{self.worker_us:>8.1f} {yards:>6.2f} {self.postgres_us:>10.1f} "
            f"{self.redis_us:>7.1f} {self.yardstick_us:>9.1f}"
        )


HEAD = (
    f"{'database':<11}{'w.':>2} {'events':>9} {'took':>8} {'events/s':>9} {'slowest':>9} "
    f"{'worker':>8} {'yards':>6} {'PostgreSQL':>10} {'Redis':>7} {'yardstick':>9}"
)


def yardstick_us() -> float:
    """CPU of `sum(range(1000))` now, the median of many."""
    found = []
    for _ in range(40):
        began = time.process_time()
        for _ in range(100):
            sum(range(1000))
        found.append((time.process_time() - began) * 10_000)
    return statistics.median(found)


def fill(redis: Redis, count: int, tenants: int) -> None:
    """The streams, full before anybody reads; an event is another's with ids of its own."""
    redis.flushall()
    for version, body in PRICES.items():
        redis.set(KEYS.prices(version), body)
    for shard in range(KEYS.shards):
        redis.set(KEYS.epoch(shard), "1")
    made: Iterator[UsageEvent] = events(count, tenants)
    while chunk := list(islice(made, CHUNK)):
        with redis.pipeline(transaction=False) as pipeline:
            for one in chunk:
                body = encode(replace(one, session=f"session-{one.request_id[-4:]}", stream=True))
                fields = {"e": body, "h": payload_hash(body)}
                pipeline.xadd(KEYS.stream(KEYS.shard(one.tenant)), fields)  # type: ignore[arg-type]
            pipeline.execute()


def _work(redis_url: str, ledger_url: str, consumer: str) -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)  # as `weir worker` does
    stop = asyncio.Event()
    asyncio.run(worker.run(redis_url, KEYS, ledger_url, stop=stop, drain=True, consumer=consumer))


def settle(title: str, url: str, redis_url: str, *, workers: int, count: int, tenants: int) -> Run:
    """Drain `count` events by so many workers at once."""
    empty(url).close()
    redis = Redis.from_url(redis_url)
    fill(redis, count, tenants)
    processes = multiprocessing.get_context("fork")
    crowd = [
        processes.Process(target=_work, args=(redis_url, url, f"worker-{number}"))
        for number in range(1, workers + 1)
    ]
    yards, before = [yardstick_us()], (_postgres_cpu_s(url), _redis_cpu_s(redis))
    children_s, began = _children_cpu_s(), time.perf_counter()
    for each in crowd:
        each.start()
    slices = list(_rates(crowd, url))
    took_s = time.perf_counter() - began
    yards.append(yardstick_us())
    assert all(each.exitcode == 0 for each in crowd)
    booked = _booked(url)
    assert booked == count, f"{booked} of {count} events are in the ledger"
    return Run(
        title,
        workers,
        count,
        took_s,
        min(slices or [count / took_s]),
        (_children_cpu_s() - children_s) / count * 1e6,
        (_postgres_cpu_s(url) - before[0]) / count * 1e6,
        (_redis_cpu_s(redis) - before[1]) / count * 1e6,
        statistics.mean(yards),
    )


def _rates(crowd: Sequence[multiprocessing.process.BaseProcess], url: str) -> Iterator[float]:
    """Events per second of every whole slice, while the workers work."""
    at, had = time.perf_counter(), 0
    while any(each.is_alive() for each in crowd):
        crowd[0].join(SLICE_S) if crowd[0].is_alive() else crowd[-1].join(SLICE_S)
        now = time.perf_counter()
        if now - at >= SLICE_S:
            has = _booked(url)
            yield (has - had) / (now - at)
            at, had = now, has
    for each in crowd:
        each.join()


def _booked(url: str) -> int:
    with contextlib.closing(open_ledger(url)) as ledger, ledger.read() as connection:
        return int(connection.execute(select(func.sum(watermark.c.events))).scalar() or 0)


def _children_cpu_s() -> float:
    spent = os.times()
    return spent.children_user + spent.children_system


def _redis_cpu_s(redis: Redis) -> float:
    spent = redis.info("cpu")
    return float(spent["used_cpu_user"]) + float(spent["used_cpu_sys"])


def _postgres_cpu_s(url: str) -> float:
    """CPU of the server's processes, of those that ended, too; 0 for SQLite."""
    if url.startswith("sqlite"):
        return 0.0
    home = Path(url.partition("host=")[2]) / "data"
    pid = int((home / "postmaster.pid").read_text().split()[0])
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(folder.name) == pid:
                total += sum(map(int, fields[11:15]))  # its own, and its ended children's
            elif int(fields[1]) == pid:
                total += sum(map(int, fields[11:13]))
    return total / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print a line for each database and number of workers."""
    parser = argparse.ArgumentParser(prog="make bench-sustained", description=__doc__)
    parser.add_argument("--events", type=int, default=600_000)
    parser.add_argument("--tenants", type=int, default=40)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="on PostgreSQL")
    parser.add_argument("--verify", action="store_true", help="the whole ledger, after each run")
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    print(HEAD)
    with (
        tempfile.TemporaryDirectory(prefix="weir-bench-") as name,
        redis_server(Path(name)) as redis_url,
        postgres_server(Path(name)) as postgres_url,
    ):
        urls = [("SQLite", f"sqlite:///{name}/ledger.db", [1])]
        if postgres_url is not None:
            urls.append(("PostgreSQL", postgres_url, options.workers))
        for title, url, crowds in urls:
            for workers in crowds if options.only in (None, title.lower()) else ():
                load = {"count": options.events, "tenants": options.tenants}
                print(settle(title, url, redis_url, workers=workers, **load), flush=True)
                if options.verify:
                    with contextlib.closing(open_ledger(url)) as ledger:
                        found = examine(ledger)
                    assert not found.findings, found.findings


if __name__ == "__main__":
    main()
