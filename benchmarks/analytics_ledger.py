"""A ledger with millions of events, made by SQL straight into the tables: months in minutes.

What comes out is as uneven as the real thing: a few tenants have most of the traffic, some attempts
fail and are followed by another, few events have a user. Payloads are as short as after an archive.
The chain's hashes are made up: this is for reading, `weir ledger verify` would find everything.
"""

from __future__ import annotations

from sqlalchemy import delete, insert, select

from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.tables import txn, usage_event, watermark

FIRST_NS = 1_782_864_000_000_000_000
"""2026-07-01."""
DAYS = 92
SHARDS = 16
TENANTS = 1_008

_NUMBERS = {
    "sqlite": (
        "WITH RECURSIVE numbers(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM numbers "
        "WHERE n + 1 < {last})"
    ),
    "postgresql": "WITH numbers AS (SELECT generate_series({first}, {last} - 1)::bigint AS n)",
}
DICE = """,
dice AS (
  SELECT n, n % 16 AS shard, n / 16 + 1 AS seq,
    (n * 2654435761 + 12345) % 1000003 AS a, (n * 40503 + 977) % 999983 AS b,
    (n * 69069 + 5) % 999979 AS c, (n * 30103 + 17) % 999961 AS d,
    {first_ns} + n * {step_ns} AS at
  FROM numbers
),
chosen AS (
  SELECT *, (a % 63) * (b % 63) / 62 * 16 + shard AS tenant_no, a % 2 AS key_no,
    b % 3 AS feature_no, c % 3 AS model_no,
    CASE WHEN d % 50 = 0 THEN 1 ELSE 0 END AS failed,
    CASE WHEN n / 16 % 50 = 0 AND n >= 16 THEN 1 ELSE 0 END AS again
  FROM dice
)
"""
"""`n - 16` is the event before it in its chain: one in fifty there is a second attempt."""

_INSERTED = """
INSERT INTO usage_event ({columns})
SELECT {values} FROM chosen
"""

_VALUES = {
    "event_id": "{id}",
    "shard": "shard",
    "seq": "seq",
    "prev_hash": "'{zeros}'",
    "hash": "'{zeros}'",
    "txn_id": "1",
    "schema_version": "1",
    "kind": "'usage'",
    "exchange_id": "{exchange}",
    "attempt": "1 + again",
    "request_id": "'req-' || (n - 16 * again)",
    "tenant": "'tenant-' || tenant_no",
    "project": "'project-' || key_no",
    "api_key_id": "'key-' || tenant_no || '-' || key_no",
    "feature": "CASE feature_no WHEN 0 THEN 'chat' WHEN 1 THEN 'search' ELSE 'batch' END",
    "session": "CASE WHEN b % 10 < 2 THEN 'session-' || (d % 50000) END",
    "occurred_at": "at",
    "completed_at": "at + 1000000 * (200 + (a % 1000) * (b % 1000) / 400)",
    "received_at": "at + 2000000000",
    "stream_id": "(at / 1000000) || '-0'",
    "stream_ms": "at / 1000000",
    "provider": "CASE (tenant_no + model_no) % 3 WHEN 0 THEN 'openai' ELSE 'anthropic' END",
    "model_requested": "'model-' || ((tenant_no + model_no) % 12)",
    "model_upstream": "'model-' || ((tenant_no + model_no) % 12)",
    "q_input_uncached": "400 + a % 900",
    "q_input_cache_read": "CASE WHEN c % 3 = 0 THEN 1024 END",
    "q_output_text": "50 + b % 700",
    "usage_source": "'provider'",
    "sell_nano": "(1 - failed) * (2000 * (400 + a % 900) + 8000 * (50 + b % 700))",
    "cost_nano": "1600 * (400 + a % 900) + 6400 * (50 + b % 700)",
    "admission_nano": "2000 * (400 + a % 900) + 8000 * (50 + b % 700)",
    "event_cost_nano": "1600 * (400 + a % 900) + 6400 * (50 + b % 700)",
    "amounts": (
        "'{{\"input_uncached\":[' || (400 + a % 900) || ',2000000,' || (2000 * (400 + a % 900)) "
        "|| ',0],\"output_text\":[' || (50 + b % 700) || ',8000000,0,0]}}'"
    ),
    "unpriced": "{false}",
    "status": "CASE failed WHEN 1 THEN 'error' ELSE 'success' END",
    "cache_status": "CASE WHEN d % 10 = 1 THEN 'hit' ELSE 'miss' END",
    "latency_ms": "200 + (a % 1000) * (b % 1000) / 400 + (c % 97 / 96) * 20000",
    "billable": "{true}",
    "reason_code": (
        "CASE WHEN failed = 1 THEN 'upstream_error' WHEN d % 10 = 1 THEN 'cache_hit' "
        "ELSE 'served' END"
    ),
    "payload": "{payload}",
    "payload_hash": "'{zeros}'",
    "user_scope": "CASE WHEN a % 10 < 3 THEN 'user-' || (c % 20000) END",
    "ttft_ms": "CASE failed WHEN 1 THEN NULL ELSE 80 + (b % 1000) * (c % 1000) / 2000 END",
}
_PAYLOAD = '{"service_tier":null,"price_tier":null,"ttft_ms":null,"_":"' + "x" * 230 + '"}'
_SPELLED = {
    "sqlite": {
        "id": "printf('%08x-0000-7000-8000-%012x', n, n)",
        "exchange": "printf('%08x-0000-7000-9000-%012x', n - 16 * again, n - 16 * again)",
        "true": "1",
        "false": "0",
        "payload": f"CAST('{_PAYLOAD}' AS BLOB)",
    },
    "postgresql": {
        "id": "lpad(to_hex(n), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(n), 12, '0')",
        "exchange": (
            "lpad(to_hex(n - 16 * again), 8, '0') || '-0000-7000-9000-' "
            "|| lpad(to_hex(n - 16 * again), 12, '0')"
        ),
        "true": "true",
        "false": "false",
        "payload": f"convert_to('{_PAYLOAD}', 'UTF8')",
    },
}
STEP = 500_000


def fill(ledger: Ledger, events: int, days: int = DAYS) -> None:
    """Put so many events into an empty ledger, over so many days."""
    with ledger.write() as connection:
        dialect = connection.dialect.name
        if dialect == "sqlite":
            connection.exec_driver_sql("PRAGMA cache_size = -200000")
        connection.execute(
            insert(txn).values(
                id=1, tenant="t", kind="usage", idem_key="bench", events=events, booked_at=1
            )
        )
        indexes = sorted(usage_event.indexes, key=lambda each: str(each.name))
        for index in indexes:
            index.drop(connection)
        spelled = _SPELLED[dialect]
        values = {name: text.format(zeros="0" * 64, **spelled) for name, text in _VALUES.items()}
        dice = DICE.format(first_ns=FIRST_NS, step_ns=step_ns(events, days))
        into = _INSERTED.format(columns=", ".join(values), values=", ".join(values.values()))
        for first in range(0, events, STEP):
            made = numbers(dialect, first, min(first + STEP, events)) + dice + into
            connection.exec_driver_sql(made.replace("%", "%%") if dialect != "sqlite" else made)
        for index in indexes:
            index.create(connection)
        connection.execute(delete(watermark))
        for shard in range(SHARDS):
            connection.execute(insert(watermark).values(**_head(shard, events, days)))


def numbers(dialect: str, first: int, last: int) -> str:
    """The numbers of these events, the last one excluded, as the beginning of a statement."""
    return _NUMBERS[dialect].format(first=first, last=last)


def step_ns(events: int, days: int) -> int:
    """From one event to the next."""
    return days * 86_400 * 10**9 // events


def _head(shard: int, events: int, days: int) -> dict[str, object]:
    count = (events - shard + SHARDS - 1) // SHARDS
    last_ns = FIRST_NS + days * 86_400 * 10**9
    zeros = dict.fromkeys(("stream_n", "repeats", "conflicts", "dead_letters"), 0)
    return {
        "shard": shard,
        "stream_ms": last_ns // 10**6,
        "occurred_at": last_ns,
        "events": count,
        "chain_hash": "0" * 64,
        "updated_at": last_ns,
        **zeros,
    }


def counted(ledger: Ledger) -> int:
    """How many events are there."""
    with ledger.read() as connection:
        return sum(connection.execute(select(watermark.c.events)).scalars())
