"""`python -m benchmarks.windows`: what it costs to count the windows of scopes anew.

A SQLite ledger of events of 30 days on this machine's disk, and the sums of every shard for windows
of several lengths and kinds of scope: what a rebuild does once for each of them, and what a look of
the worker does for one shard and one of them at a time.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from metering.caps import ROLLING_DAY, CalendarUnit, CalendarWindow, ScopeKind
from metering.redis_keys import RedisKeys
from metering.settlement.counting import DAILY, Series
from metering.settlement.ledger import tables
from metering.settlement.ledger.spending import spent_by_bucket
from metering.settlement.ledger.store import Ledger, open_ledger
from metering.window import rolling

NOW_MS = 1_793_400_000_000
SPAN_MS = 30 * 86_400_000
KEYS = RedisKeys()
BATCH = 20_000
MEASURED = (
    DAILY,
    Series(ScopeKind.KEY, ROLLING_DAY),
    Series(ScopeKind.USER, rolling(7 * 86_400)),
    Series(ScopeKind.KEY, rolling(30 * 86_400)),
    Series(ScopeKind.USER, rolling(30 * 86_400)),
    Series(ScopeKind.USER, CalendarWindow(CalendarUnit.MONTH, "Europe/Paris")),
)


def rows(count: int, tenants: int, users: int) -> Iterator[dict[str, object]]:
    """Events evenly over the time, each of one of `users` users, of 2.1 kB as they are."""
    chance = random.Random(1)
    shards = [KEYS.shard(f"tenant-{number}") for number in range(tenants)]
    places = [0] * KEYS.shards
    columns = {column.name: None for column in tables.usage_event.columns}
    for number in range(count):
        tenant = number % tenants
        shard = shards[tenant]
        places[shard] += 1
        at_ms = NOW_MS - SPAN_MS + SPAN_MS * number // count
        yield {
            **columns,
            **dict.fromkeys(("prev_hash", "hash", "payload_hash"), "0" * 64),
            **dict.fromkeys(("occurred_at", "completed_at", "received_at"), at_ms * 1_000_000),
            **dict.fromkeys(("sell_nano", "cost_nano", "event_cost_nano"), 5_000),
            **dict.fromkeys(("provider", "model_requested", "model_upstream"), "demo"),
            "event_id": f"{number:036d}",
            "shard": shard,
            "seq": places[shard],
            "txn_id": 1,
            "schema_version": 1,
            "kind": "usage",
            "exchange_id": f"{number:036d}",
            "attempt": 1,
            "request_id": "r",
            "tenant": f"tenant-{tenant}",
            "project": "default",
            "api_key_id": f"key-{chance.randrange(5)}",
            "user_scope": f"user-{chance.randrange(users)}",
            "stream_id": f"{at_ms}-0",
            "stream_ms": at_ms,
            "q_input_uncached": 500,
            "q_output_text": 200,
            "usage_source": "provider",
            "admission_nano": 5_000,
            "amounts": "{}",
            "unpriced": False,
            "status": "ok",
            "latency_ms": 900,
            "billable": True,
            "reason_code": "served",
            "payload": b"x" * 1_200,
        }


def fill(ledger: Ledger, count: int, tenants: int, users: int) -> None:
    """Write the rows; nothing is rated, only sums are asked for."""
    made = rows(count, tenants, users)
    txn = {"id": 1, "tenant": "t", "kind": "usage", "idem_key": "k", "events": 1, "booked_at": 1}
    with ledger.write() as connection:
        connection.execute(tables.txn.insert(), txn)
    for _ in range(0, count, BATCH):
        batch = [row for _, row in zip(range(BATCH), made, strict=False)]
        with ledger.write() as connection:
            connection.execute(tables.usage_event.insert(), batch)


def measure(ledger: Ledger, series: Series) -> None:
    """One line: how long all shards took, the slowest of them, and how many sums came out."""
    took: list[float] = []
    sums = 0
    with ledger.read() as connection:
        for shard in range(KEYS.shards):
            began = time.perf_counter()
            sums += sum(1 for _ in spent_by_bucket(connection, shard, series, None, now_ms=NOW_MS))
            took.append(time.perf_counter() - began)
    name = f"{series.kind} {series.window.label}"
    print(f"{name:>14}: {sum(took):7.2f} s, slowest shard {max(took):5.2f} s, {sums:>9,} sums")


def main() -> None:
    """Fill a ledger and ask it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--tenants", type=int, default=64)
    parser.add_argument("--users", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ledger = open_ledger(f"sqlite:///{Path(folder) / 'ledger.db'}")
        ledger.migrate()
        fill(ledger, options.events, options.tenants, options.users)
        for series in MEASURED:
            measure(ledger, series)
        ledger.close()


if __name__ == "__main__":
    main()
