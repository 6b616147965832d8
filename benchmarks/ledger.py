"""`make bench-ledger`: events per second into the ledger, SQLite and PostgreSQL in turns.

Both databases are new, on this machine's disk, and sync every commit. `write_batch` is the writing
alone, with events that were read and rated before; `settlement` is a worker's whole way from full
streams to empty ones, rollups and acknowledgements included; `verify` is `weir ledger verify`.
`bare insert` puts the same rows into a table of no consequence: everything is shown as a part of
it, too, because that part says more than a rate on a machine that one does not know.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import pwd
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import structlog
from redis.asyncio import Redis
from sqlalchemy import Column, MetaData, Table

from metering.events import UsageEvent, encode, payload_hash
from metering.ids import uuid7
from metering.prices import PriceBook, PriceRule, RatesByModel
from metering.redis_keys import RedisKeys
from metering.settlement import worker
from metering.settlement.batches import Batch, Booking
from metering.settlement.entries import Arrival, Entry, read_entry
from metering.settlement.ledger.chain import GENESIS
from metering.settlement.ledger.rows import COLUMNS, event_values
from metering.settlement.ledger.store import Ledger, insert_values, open_ledger
from metering.settlement.ledger.tables import usage_event
from metering.settlement.ledger.verify import examine
from metering.settlement.ledger.writer import write_batch
from metering.settlement.rating import RateCards
from metering.settlement.worker_booking import TRANSACTION_MAX

BOOK = PriceBook((PriceRule(model="*", input_rate_pico=2_500_000, output_rate_pico=10_000_000),))
PRICES = {BOOK.cost_version: BOOK.body(sell=False), BOOK.sell_version: BOOK.body(sell=True)}
KEYS = RedisKeys(prefix="bench")
NOW_NS = 1_790_000_000_000_000_000


def events(count: int, tenants: int) -> Iterator[UsageEvent]:
    """Served attempts of some tenants, each a few milliseconds after the one before."""
    cards = rate_cards()
    for number in range(count):
        ids = [
            uuid7(1_790_000_000_000 + number, (2 * number + part).to_bytes(10, "big"))
            for part in (0, 1)
        ]
        made = UsageEvent(
            event_id=ids[0],
            exchange_id=ids[1],
            tenant=f"tenant-{number % tenants}",
            project="default",
            api_key_id="key-1",
            request_id=f"req-{number}",
            occurred_at=NOW_NS + number * 5_000_000,
            completed_at=NOW_NS + number * 5_000_000 + 800_000_000,
            emitted_at=NOW_NS + number * 5_000_000 + 800_100_000,
            provider="openai",
            model_requested="gpt-4o",
            model_upstream=f"model-{number % 5}",
            units={"input_uncached": 400 + number % 100, "output_text": 100 + number % 50},
            cost_version=BOOK.cost_version,
            sell_version=BOOK.sell_version,
            latency_ms=500 + number % 700,
        )
        rated = cards.rate(made)
        yield replace(made, admission_nano=rated.sell_nano, cost_nano=rated.cost_nano)


def rate_cards() -> RateCards:
    """The prices, as the worker has them."""
    cards = RateCards()
    for version, body in PRICES.items():
        cards.add(RatesByModel(body, version=version))
    return cards


def batches(made: list[UsageEvent]) -> list[Batch]:
    """Read and rated: what `write_batch` is given."""
    cards, bookings = rate_cards(), []
    for number, one in enumerate(made):
        body = encode(one)
        entry = Entry(KEYS.shard(one.tenant), f"{number + 1}-0", body, payload_hash(body))
        arrival = read_entry(entry)
        assert isinstance(arrival, Arrival)
        bookings.append(Booking(arrival, cards.rate(arrival.event)))
    return [
        Batch(bookings[start : start + TRANSACTION_MAX], ())
        for start in range(0, len(bookings), TRANSACTION_MAX)
    ]


def written(ledger: Ledger, made: list[Batch]) -> float:
    """Events per second by `write_batch`, one writer."""
    began = time.perf_counter()
    for batch in made:
        write_batch(ledger, batch, prices=PRICES, now_ns=NOW_NS)
    return sum(len(batch.bookings) for batch in made) / (time.perf_counter() - began)


def written_by_two(url: str, made: list[UsageEvent]) -> float:
    """The same by two processes at once, each with shards of its own."""
    processes = multiprocessing.get_context("fork")
    begin = processes.Barrier(3)
    halves = [[one for one in made if KEYS.shard(one.tenant) % 2 == part] for part in (0, 1)]

    def write(half: list[UsageEvent]) -> None:
        prepared = batches(half)
        with contextlib.closing(open_ledger(url)) as ledger:
            ledger.revision()
            begin.wait()
            written(ledger, prepared)

    writers = [processes.Process(target=write, args=(half,)) for half in halves]
    for writer in writers:
        writer.start()
    begin.wait()
    began = time.perf_counter()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    return len(made) / (time.perf_counter() - began)


async def fill(redis_url: str, made: list[UsageEvent]) -> None:
    """The streams, as proxies would have filled them."""
    async with Redis.from_url(redis_url) as redis:
        await redis.flushall()
        for version, body in PRICES.items():
            await redis.set(KEYS.prices(version), body)
        for shard in range(KEYS.shards):  # the windows are whole: no rebuild is measured
            await redis.set(KEYS.epoch(shard), "1")
        for start in range(0, len(made), 1_000):
            async with redis.pipeline(transaction=False) as pipeline:
                for one in made[start : start + 1_000]:
                    body = encode(one)
                    fields = {"e": body, "h": payload_hash(body)}
                    pipeline.xadd(KEYS.stream(KEYS.shard(one.tenant)), fields)  # type: ignore[arg-type]
                await pipeline.execute()


def settled(redis_url: str, ledger_url: str, made: list[UsageEvent]) -> float:
    """Events per second by a worker that drains full streams."""
    asyncio.run(fill(redis_url, made))
    began = time.perf_counter()
    tally = asyncio.run(worker.run(redis_url, KEYS, ledger_url, stop=asyncio.Event(), drain=True))
    assert tally.settled == len(made)
    return len(made) / (time.perf_counter() - began)


def settled_by_two(redis_url: str, ledger_url: str, made: list[UsageEvent]) -> float:
    """The same by two workers at once, each a process, as of one installation."""
    asyncio.run(fill(redis_url, made))
    processes = multiprocessing.get_context("fork")

    def drain(consumer: str) -> None:
        stop = asyncio.Event()
        asyncio.run(
            worker.run(redis_url, KEYS, ledger_url, stop=stop, drain=True, consumer=consumer)
        )

    workers = [processes.Process(target=drain, args=(name,)) for name in ("one", "two")]
    began = time.perf_counter()
    for each in workers:
        each.start()
    for each in workers:
        each.join()
        assert each.exitcode == 0
    took_s = time.perf_counter() - began
    with contextlib.closing(open_ledger(ledger_url)) as ledger:
        assert examine(ledger).events == len(made)
    return len(made) / took_s


def inserted(ledger: Ledger, made: list[Batch]) -> float:
    """Rows per second by the bare driver: the same rows, made before, in the same transactions, to
    a table without index, trigger or chain. What this machine and its disk can do today."""
    columns = (Column(each.name, each.type) for each in usage_event.columns)
    bare = Table("bare", MetaData(), *columns)
    rows = [
        [
            event_values(each, txn_id=1, seq=1, prev_hash=GENESIS, received_at=NOW_NS)
            for each in batch.bookings
        ]
        for batch in made
    ]
    with ledger.write() as connection:
        bare.create(connection)
    began = time.perf_counter()
    for batch in rows:
        with ledger.write() as connection:
            insert_values(connection, bare, COLUMNS, batch)
    return sum(map(len, rows)) / (time.perf_counter() - began)


def verified(ledger: Ledger) -> float:
    """Events per second by `weir ledger verify`."""
    began = time.perf_counter()
    found = examine(ledger)
    assert not found.findings, found.findings
    return found.events / (time.perf_counter() - began)


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """A Redis without persistence; its URL."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise SystemExit("no redis-server on PATH")
    path = folder / "redis.sock"
    words = [binary, "--port", "0", "--unixsocket", str(path), "--save", ""]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while not path.exists():
        time.sleep(0.01)
    try:
        yield f"unix://{path}"
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def postgres_server(folder: Path) -> Iterator[str | None]:
    """A PostgreSQL with its defaults, on a socket; its URL, or None where none is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    binary = shutil.which("postgres") or (found[-1] if found else None)
    if binary is None:
        yield None
        return
    home = folder / "postgres"
    home.mkdir()
    user: dict[str, object] = {}
    if os.geteuid() == 0:  # it refuses to run as root
        nobody = pwd.getpwnam("nobody")
        folder.chmod(0o755)
        os.chown(home, nobody.pw_uid, nobody.pw_gid)
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": home, **user}
    initdb = Path(binary).resolve().parent / "initdb"
    subprocess.run([initdb, "-D", "data", "-A", "trust", "-U", "weir"], check=True, **quiet)  # type: ignore[call-overload]
    words = [str(binary), "-D", "data", "-k", str(home), "-c", "listen_addresses="]
    process = subprocess.Popen(words, **quiet)  # type: ignore[call-overload]
    try:
        while not list(home.glob(".s.PGSQL.*[0-9]")):
            time.sleep(0.05)
        time.sleep(1)
        yield f"postgresql://weir@/postgres?host={home}"
    finally:
        process.send_signal(signal.SIGINT)  # without waiting for clients to go
        process.wait(30)


def empty(url: str) -> Ledger:
    """A new ledger in the place of the one before."""
    if url.startswith("sqlite"):
        for each in Path(url.removeprefix("sqlite:///")).parent.glob("ledger.db*"):
            each.unlink()
    else:
        with contextlib.closing(open_ledger(url)) as ledger, ledger.write() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
    ledger = open_ledger(url)
    ledger.migrate()
    return ledger


def measured(url: str, redis_url: str, made: list[UsageEvent]) -> dict[str, float]:
    """One round on one database."""
    with contextlib.closing(empty(url)) as ledger:
        wrote = written(ledger, batches(made))
        verify = verified(ledger)
    empty(url).close()
    two = written_by_two(url, made)
    empty(url).close()
    drained = settled(redis_url, url, made)
    empty(url).close()
    crowd = settled_by_two(redis_url, url, made)
    with contextlib.closing(empty(url)) as ledger:
        bare = inserted(ledger, batches(made))
    return {
        "bare insert": bare,
        "write_batch": wrote,
        "two writers": two,
        "settlement": drained,
        "two workers": crowd,
        "verify": verify,
    }


def main() -> None:
    """Print the comparison: medians of some rounds, in turns."""
    parser = argparse.ArgumentParser(prog="make bench-ledger", description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--tenants", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    made = list(events(options.events, options.tenants))
    with (
        tempfile.TemporaryDirectory(prefix="weir-bench-") as name,
        redis_server(Path(name)) as redis_url,
        postgres_server(Path(name)) as postgres_url,
    ):
        urls = {"SQLite": f"sqlite:///{name}/ledger.db"}
        if postgres_url is not None:
            urls["PostgreSQL"] = postgres_url
        rounds = [
            {title: measured(url, redis_url, made) for title, url in urls.items()}
            for _ in range(options.rounds)
        ]
    print(
        f"{options.events} events of {options.tenants} tenants, batches of {TRANSACTION_MAX}; "
        f"events per second, median of {options.rounds}"
    )
    print(f"{'':<14}" + "".join(f"{title:>12}       " for title in urls))
    names = list(rounds[0]["SQLite"])
    for what in names:
        medians = [statistics.median(each[title][what] for each in rounds) for title in urls]
        # Beside it, as a part of the bare insert of the same round: that part is the same on a
        # slow machine, or on a busy one.
        parts = [
            statistics.median(each[title][what] / each[title]["bare insert"] for each in rounds)
            for title in urls
        ]
        shown = (f"{n:>12,.0f} {part:>6.1%}" for n, part in zip(medians, parts, strict=True))
        print(f"{what:<14}" + "".join(shown))


if __name__ == "__main__":
    main()
