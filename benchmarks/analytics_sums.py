"""The sums of `analytics_ledger`'s events by SQL, as the worker would have made them one by one.

For SQLite alone. The worker's own rate is measured apart, on fewer events.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from sqlalchemy import Connection, insert, select, update

from benchmarks.analytics_ledger import DICE, FIRST_NS, SHARDS, TENANTS, numbers, step_ns
from metering.settlement.histograms import bucket_of
from metering.settlement.ledger.analytics_tables import MEASURES, TIMES, usage_mark, usage_series
from metering.settlement.ledger.store import Ledger

PART = 1_000_000
"""Events summed in one transaction."""

_FULL, _UPSTREAM, _FEATURE, _BOTH = 100_000, 90_000, 80_000, 85_000
_FEATURES = ("chat", "search", "batch")
_ENDS = (
    ("success", "served", "miss"),
    ("success", "cache_hit", "hit"),
    ("error", "upstream_error", "miss"),
    ("error", "upstream_error", "hit"),
)
_CODE = "((tenant_no * 2 + key_no) * 3 + feature_no) * 3 + model_no"
_STAGED = """
CREATE TEMP TABLE staged AS {numbers} {dice}
SELECT ({code}) * 4 + failed * 2 + (d % 10 = 1) AS code, at / 3600000000000 AS hour,
  {measure} FROM chosen GROUP BY {by}
"""
_SUMS = """1 - again AS requests, 1 AS attempts, failed AS errors, failed AS failed,
  (d % 10 = 1 AND NOT failed) AS cache_hits,
  (1 - failed) * (2000 * (400 + a % 900) + 8000 * (50 + b % 700)) AS sell_nano,
  1600 * (400 + a % 900) + 6400 * (50 + b % 700) AS cost_nano,
  400 + a % 900 AS q_input_uncached, 1024 * (c % 3 = 0) AS q_input_cache_read,
  0 AS q_input_cache_write_5m, 0 AS q_input_cache_write_1h, 0 AS q_input_audio,
  0 AS q_input_image, 50 + b % 700 AS q_output_text, 0 AS q_output_reasoning,
  0 AS q_output_audio, 0 AS q_output_image"""
_LATENCY = "bucket_of(200 + (a % 1000) * (b % 1000) / 400 + (c % 97 / 96) * 20000)"
_TTFT = "bucket_of(80 + (b % 1000) * (c % 1000) / 2000)"
_COARSE = {_UPSTREAM: "upstream", _FEATURE: "feature", _BOTH: "both"}
_LEVELS = {
    "hour": {_FULL: "code", **_COARSE},
    "day": {0: "code / 72 + 1", _FULL: "code", **_COARSE},
}
_TIMES_OF = {
    "hour": _LEVELS["hour"],
    "day": {base: text for base, text in _LEVELS["day"].items() if base != _FULL},
}
_OF_CODE = {
    "code": "code",
    "code / 72 + 1": "code / 72 + 1",
    "upstream": "(code / 72 + code / 4 % 3) % 12 * 4 + code % 4",
    "feature": "code / 12 % 3",
    "both": "code / 12 % 3 * 48 + (code / 72 + code / 4 % 3) % 12 * 4 + code % 4",
}


def sum_up(ledger: Ledger, events: int, days: int, summed: int) -> None:
    """Fill the tables of analytics for the first so many of the events that `fill` made, a part in
    each transaction: it may be stopped, and goes on where it was."""
    with ledger.write() as connection:
        done = 0
        if connection.execute(select(usage_series.c.id).limit(1)).first() is None:
            connection.execute(insert(usage_series), list(_series()))
            rows = [{"shard": shard, "seq": 0} for shard in range(SHARDS)]
            connection.execute(insert(usage_mark), rows)
        else:
            done = sum(connection.execute(select(usage_mark.c.seq)).scalars())
    while done < summed:
        last = min(done + PART, summed)
        with ledger.write() as connection:
            connection.exec_driver_sql("PRAGMA cache_size = -500000")
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.create_function("bucket_of", 1, bucket_of, deterministic=True)
            _add(connection, (done, last), step_ns(events, days))
            for shard in range(SHARDS):
                moved = {"seq": (last - shard + SHARDS - 1) // SHARDS}
                mark = update(usage_mark).where(usage_mark.c.shard == shard)
                connection.execute(mark.values(moved))
        done = last
        print(f"summed {done:,}", flush=True)


def _add(connection: Connection, part: tuple[int, int], step: int) -> None:
    dice = DICE.format(first_ns=FIRST_NS, step_ns=step)
    facts = {"numbers": numbers("sqlite", *part), "dice": dice, "code": _CODE}
    sums = ", ".join(
        f"sum({text}) AS {name}" for text, name in (each.split(" AS ") for each in _columns())
    )
    _stage(connection, _STAGED.format(measure=sums, by="1, 2", **facts))
    for period, levels in _LEVELS.items():
        for base, kind in levels.items():
            _fold(connection, period, (base, kind), MEASURES)
    for name, other, bucket in (("latency", "ttft", _LATENCY), ("ttft", "latency", _TTFT)):
        sign = "sum(1 - failed)" if name == "ttft" else "count(*)"
        measure = f"{bucket} AS le_ms, {sign} AS {name}, 0 AS {other}"
        _stage(connection, _STAGED.format(measure=measure, by="1, 2, 3", **facts))
        for period, levels in _TIMES_OF.items():
            for base, kind in levels.items():
                _fold(connection, period, (base, kind), TIMES, "le_ms, ")


def _columns() -> Iterator[str]:
    """The measures, each `expression AS name`; commas stand in expressions as well."""
    for each in _SUMS.split(",\n  "):
        yield from each.split(", ")


def _stage(connection: Connection, statement: str) -> None:
    connection.exec_driver_sql("DROP TABLE IF EXISTS temp.staged")
    connection.exec_driver_sql(statement)


def _fold(
    connection: Connection,
    period: str,
    level: tuple[int, str],
    measures: tuple[str, ...],
    bucket: str = "",
) -> None:
    base, kind = level
    table = f"usage_{period}{'_times' if bucket else ''}"
    hours = 24 if period == "day" else 1
    names = ", ".join(measures)
    summed = ", ".join(f"sum({name})" for name in measures)
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in measures)
    keys = f"series, {period}{', le_ms' if bucket else ''}"
    connection.exec_driver_sql(
        f"INSERT INTO {table} (series, {period}, {bucket}{names}) "
        f"SELECT {base} + {_OF_CODE[kind]}, hour / {hours}, {bucket}{summed} FROM staged "
        f"WHERE true GROUP BY {'1, 2, 3' if bucket else '1, 2'} "
        f"ON CONFLICT ({keys}) DO UPDATE SET {added}"
    )


def _series() -> Iterator[dict[str, object]]:
    empty = dict.fromkeys(
        ("tenant", "project", "api_key_id", "feature", "provider", "model", "model_version"), ""
    ) | dict.fromkeys(("status", "reason_code", "cache_status"), "")
    for tenant in range(TENANTS):
        yield {"id": tenant + 1, "level": "tenant", **empty, "tenant": f"tenant-{tenant}"}
    for number, feature in enumerate(_FEATURES):
        yield {"id": _FEATURE + number, "level": "feature", **empty, "feature": feature}
    for model, end in product(range(12), range(4)):
        number = _UPSTREAM + model * 4 + end
        yield {"id": number, "level": "upstream", **empty, **_upstream(model, end)}
        number = _BOTH + model * 4 + end
        for place, feature in enumerate(_FEATURES):
            yield {
                "id": number + 48 * place,
                "level": "feature_upstream",
                **empty,
                "feature": feature,
                **_upstream(model, end),
            }
    everything = product(range(TENANTS), range(2), range(3), range(3), range(4))
    for code, (tenant, key, feature, model, end) in enumerate(everything):
        yield {
            "id": _FULL + code,
            "level": "full",
            **empty,
            "tenant": f"tenant-{tenant}",
            "project": f"project-{key}",
            "api_key_id": f"key-{tenant}-{key}",
            "feature": _FEATURES[feature],
            **_upstream((tenant + model) % 12, end),
        }


def _upstream(model: int, end: int) -> dict[str, object]:
    status, reason, cache = _ENDS[end]
    provider = "anthropic" if model % 3 else "openai"
    return {
        "provider": provider,
        "model": f"model-{model}",
        "status": status,
        "reason_code": reason,
        "cache_status": cache,
    }
