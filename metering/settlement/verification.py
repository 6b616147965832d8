"""`weir verify`: gathers what Redis, the ledger and, in fault runs, the journals say, and compares.

Reads only. While requests run, an exchange is between its hold, its commit and its booking: that
is noted as such and not as a loss. With an upstream's journal everything must have come to rest.
"""

from __future__ import annotations

import asyncio
import functools
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from redis.asyncio import Redis
from sqlalchemy import ColumnElement, func, select

from metering.redis_keys import RedisKeys
from metering.settlement import invariants
from metering.settlement.counting import NO_RULES, Rules
from metering.settlement.invariants import Booked, Check, ClientOutcome, Sample, Scope, UpstreamCall
from metering.settlement.ledger import tables
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import verify
from metering.settlement.redis_client import servers
from metering.settlement.redis_stream import stream_standings
from metering.settlement.totals import check_totals
from metering.settlement.window_checks import ledger_windows, pair_windows, whole_windows
from metering.usage import INPUT_CLASSES, OUTPUT_CLASSES

_EVENT = tables.usage_event.c
_DIMENSIONS = ("n", "t", "r")
_BUCKET = re.compile(r"^(?P<label>[A-Za-z0-9._-]+):(?P<bucket>\d+):(?P<dimension>[ntr])$")
_TOTAL = re.compile(r"^(?P<label>[A-Za-z0-9._-]+):(?P<dimension>[ntr])$")
_SCOPE_KEY = re.compile(r":c:(?P<kind>[a-z]+):(?P<tenant>[^/]+)(?:/(?P<id>.+))?")
_FOR_EVER = (
    *(
        ":hold:",
        ":state:",
        ":epoch",
        ":settled",
        ":ledger",
        ":confirmed",
        ":prices:",
        ":meta",
        ":dead",
        ":tries",
    ),
    *(":open", ":proxies", ":crossings", ":health", ":windows", ":notes", ":probes", ":config"),
)
"""Keys that have no expiry by design: records end by script, the others are few and bounded."""

SPARE_BYTES = 24 << 20
SPARE_DESCRIPTORS = 16
"""What a process may grow by, beyond a tenth: caches that fill, pools that stay open."""

LATE_MS = 60_000
"""An event that waits longer in its stream is not just on its way."""

LONGEST_S = 60.0
"""A request that takes longer hangs; in fault runs no upstream answers for so long."""


@dataclass(slots=True)
class Journals:
    """What was written down outside of us, when somebody did; empty otherwise."""

    calls: list[UpstreamCall] = field(default_factory=list)
    outcomes: list[ClientOutcome] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    before: dict[str, tuple[int, int]] = field(default_factory=dict)
    after: dict[str, tuple[int, int]] = field(default_factory=dict)
    documented: frozenset[str] = frozenset()
    overshoot_nano: int = 0


def read_upstream_journal(path: Path) -> list[UpstreamCall]:
    """Lines `{"ref", "event": "call"}` and `{"ref", "event": "end", "sent", "reported"}`."""
    calls: dict[tuple[str, int], UpstreamCall] = {}
    for line in _lines(path):
        key = (line["ref"], line.get("n", 0))
        reported = line.get("reported")
        calls[key] = UpstreamCall(
            line["ref"],
            max(int(line.get("sent", 0)), calls[key].sent_tokens if key in calls else 0),
            (int(reported[0]), int(reported[1])) if reported else None,
        )
    return list(calls.values())


def read_client_journal(path: Path) -> list[ClientOutcome]:
    """Lines `{"ref", "outcome", "code", "duration_s"}`."""
    return [
        ClientOutcome(line["ref"], line["outcome"], line.get("code"), float(line["duration_s"]))
        for line in _lines(path)
    ]


def read_samples(path: Path) -> Journals:
    """Lines of caps `{"tenant", "spent", "held", "limit"}` and of processes
    `{"process", "rss", "fds", "when": "before" | "after"}`."""
    found = Journals()
    for line in _lines(path):
        if "tenant" in line:
            found.samples.append(
                Sample(line["tenant"], int(line["spent"]), int(line["held"]), int(line["limit"]))
            )
        else:
            place = found.before if line["when"] == "before" else found.after
            place[line["process"]] = (int(line["rss"]), int(line["fds"]))
    return found


async def run_checks(
    ledger: Ledger, redis: Redis, keys: RedisKeys, journals: Journals, rules: Rules = NO_RULES
) -> list[Check]:
    """Every invariant once, in order; `rules` say which windows there should be."""
    seconds, _ = await redis.time()
    now_ms = seconds * 1_000
    before = await stream_standings(redis, keys)
    scopes, endless = await _read_redis(redis, keys, now_ms)
    dead_entries = await _dead_entries(redis, keys)
    checks = await asyncio.to_thread(_ledger_checks, ledger, journals)
    whole = await whole_windows(redis, keys, rules)
    spent = await asyncio.to_thread(ledger_windows, ledger, keys, rules, whole=whole, now_ms=now_ms)
    after = await stream_standings(redis, keys)
    still = [was == now and not was.waiting for was, now in zip(before, after, strict=True)]
    pairs = pair_windows(scopes, spent, keys, rules, whole=whole, still=still, now_ms=now_ms)
    checks.append(invariants.check_windows(pairs))
    checks += invariants.check_scopes(scopes, endless)
    dead_rows, conflicts, checked = await asyncio.to_thread(_counts, ledger)
    checks.append(
        invariants.check_streams(
            sum(each.waiting for each in after),
            dead_rows,
            dead_entries,
            conflicts,
            checked=checked,
            is_late=any(
                each.since_ms is not None and each.since_ms < now_ms - LATE_MS for each in after
            ),
        )
    )
    checks.append(invariants.check_samples(journals.samples, journals.overshoot_nano))
    if journals.outcomes:
        checks.append(invariants.check_outcomes(journals.outcomes, journals.documented, LONGEST_S))
    checks += invariants.check_growth(
        journals.before,
        journals.after,
        spare_bytes=SPARE_BYTES,
        spare_descriptors=SPARE_DESCRIPTORS,
    )
    return invariants.together(checks, at_rest=bool(journals.calls))


def _ledger_checks(ledger: Ledger, journals: Journals) -> list[Check]:
    checks = [invariants.check_booked(read_booked(ledger))]
    if journals.calls:
        booked = [event for event in read_booked(ledger) if event.ref is not None]
        checks.append(invariants.check_journal(journals.calls, booked, journals.outcomes))
        checks.append(invariants.check_bills(journals.calls, booked, journals.outcomes))
    else:
        checks[0].note("no journal of an upstream: whether each of its calls has an event is open")
    checks.append(_check_books(ledger))
    checks.append(check_totals(ledger))
    return checks


def read_booked(ledger: Ledger) -> Iterator[Booked]:
    """Every event, those of one exchange together."""
    query = (
        select(
            _EVENT.event_id,
            _EVENT.exchange_id,
            _EVENT.session.label("ref"),
            _EVENT.tenant,
            _EVENT.kind,
            _EVENT.attempt,
            _EVENT.corrects,
            _EVENT.billable,
            _EVENT.reason_code.label("reason"),
            _EVENT.usage_source,
            _total(INPUT_CLASSES).label("input_tokens"),
            _total(OUTPUT_CLASSES).label("output_tokens"),
            _EVENT.sell_nano,
            _EVENT.admission_nano,
        )
        .order_by(_EVENT.exchange_id, _EVENT.attempt)
        .execution_options(yield_per=1_000)
    )
    with ledger.read() as connection:
        for row in connection.execute(query):
            yield Booked(**row._mapping)  # noqa: SLF001 - SQLAlchemy's name for a public thing


def _total(units: Sequence[str]) -> ColumnElement[int]:
    """The sum of these quantities of an event, as SQL."""
    columns = [func.coalesce(_EVENT[tables.quantity_column(unit)], 0) for unit in units]
    return functools.reduce(operator.add, columns)


def _check_books(ledger: Ledger) -> Check:
    """The ledger against itself: chains, sums, postings, balances."""
    check = Check("I2", looked_at=1)
    for text in verify(ledger):
        check.find(f"ledger: {text}")
    return check


def _counts(ledger: Ledger) -> tuple[int, int, int]:
    """Dead letters that nobody has resolved, conflicts, and events that there are."""
    with ledger.read() as connection:
        return (
            connection.scalar(select(func.count()).select_from(tables.dead_letter)) or 0,
            connection.scalar(select(func.count()).select_from(tables.event_conflict)) or 0,
            connection.scalar(select(func.count()).select_from(tables.usage_event)) or 0,
        )


async def _read_redis(redis: Redis, keys: RedisKeys, now_ms: int) -> tuple[list[Scope], list[str]]:
    scopes: list[Scope] = []
    endless: list[str] = []
    for server in await servers(redis):
        async for raw in server.scan_iter(match=f"{keys.prefix}:*", count=1_000):
            key = raw.decode()
            if ":c:" in key:
                async with redis.pipeline(transaction=False) as pipeline:
                    leases = key.replace(":c:", ":z:", 1)
                    pipeline.zcount(leases, f"({now_ms}", "+inf")
                    pipeline.hgetall(key)
                    leased, fields = await pipeline.execute()
                scopes.append(read_scope(key, fields, leased=int(leased)))
            if not _may_stay(key, keys) and await redis.ttl(key) == -1:
                endless.append(key)
    return scopes, endless


def _may_stay(key: str, keys: RedisKeys) -> bool:
    return any(part in key for part in _FOR_EVER) or key.endswith(f":{keys.queue}")


def read_scope(key: str, fields: Mapping[bytes, bytes], *, leased: int = 0) -> Scope:
    """A scope's hash taken apart, as metering/lua/scopes.lua lays it out."""
    found = _SCOPE_KEY.search(key)
    held = dict.fromkeys(_DIMENSIONS, 0)
    totals: dict[str, dict[str, int]] = {}
    buckets: dict[str, dict[int, dict[str, int]]] = {}
    holds = 0
    for raw_name, raw in fields.items():
        name = raw_name.decode()
        if name.startswith("h:"):
            holds += 1
        elif name.startswith("held:"):
            held[name[5:]] = int(raw)
        elif part := _BUCKET.match(name):
            of_label = buckets.setdefault(part["label"], {})
            of_bucket = of_label.setdefault(int(part["bucket"]), dict.fromkeys(_DIMENSIONS, 0))
            of_bucket[part["dimension"]] = int(raw)
        elif part := _TOTAL.match(name):
            totals.setdefault(part["label"], dict.fromkeys(_DIMENSIONS, 0))[part["dimension"]] = (
                int(raw)
            )
    return Scope(
        key=key,
        tenant=found["tenant"] if found else "",
        kind=found["kind"] if found else "",
        id=(found["id"] or "") if found else "",
        held=_vector(held),
        holds=holds,
        leased=leased,
        totals={label: _vector(sums) for label, sums in totals.items()},
        buckets={
            label: {number: _vector(sums) for number, sums in of_label.items()}
            for label, of_label in buckets.items()
        },
    )


def _vector(named: Mapping[str, int]) -> tuple[int, int, int]:
    return named["n"], named["t"], named["r"]


async def _dead_entries(redis: Redis, keys: RedisKeys) -> int:
    streams = [f"{keys.stream(shard)}:dead" for shard in range(keys.shards)]
    return sum([int(await redis.xlen(stream)) for stream in streams])


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a journal; its writer may have been killed in the last one."""
    with path.open("rb") as file:
        for raw in file:
            if raw.endswith(b"\n"):
                yield orjson.loads(raw)
