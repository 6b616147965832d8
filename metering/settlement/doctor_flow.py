"""Diagnosis of the way from a request to the ledger: Redis, worker, streams, clocks. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from metering.settlement.doctor_facts import (
    Book,
    Clocks,
    Facts,
    Finding,
    Level,
    Reached,
    SpoolFiles,
    Streams,
    Unknown,
    age_of,
    count_of,
)

SKEW_MS = 2_000
"""Clocks that differ by more put usage into the wrong window, and sometimes the wrong month."""

SILENT_MS = 90_000
"""A worker that lives has spoken: it looks for what others left behind every 30 s."""

LATE_MS = 60_000
"""What waits longer in its stream is not just on its way."""

SPOOL_S = 600
"""What waits longer on a disk is not just a short outage."""


def configuration(facts: Facts) -> Iterator[Finding]:
    """Which file holds here, and what it warns of."""
    place = facts.place
    count = len(place.warnings)
    said = f"{place.file} is read; state is in {place.data_dir}"
    numbers = {"tenants": len(place.tenants), "warnings": count}
    if count:
        first = place.warnings[0]
        yield Finding(
            Level.NOTE,
            f"{said}; {count_of(count, 'warning')}, the first: {first}",
            CHECK_CONFIG,
            numbers,
        )
    else:
        yield Finding(Level.OK, said, numbers=numbers)


CHECK_CONFIG = "`weir config check` shows all of them"


def redis(facts: Facts) -> Iterator[Finding]:
    """Whether Redis answers, and whether what is in it belongs to this configuration."""
    found = facts.redis
    if isinstance(found, Unknown):
        yield Finding(
            Level.TROUBLE,
            f"Redis cannot be asked: {found.why}",
            "start `weir serve` (it runs the embedded one), or mend `redis.url`",
        )
        return
    if not found.meta:
        others = f"; others there: {', '.join(found.others)}" if found.others else ""
        yield Finding(
            Level.TROUBLE,
            f"{found.address} has nothing under the prefix {found.prefix!r}{others}",
            "no proxy has started on this Redis with this `redis.prefix`: compare both with the "
            "configuration that the proxies run with",
            {"other_prefixes": list(found.others)},
        )
        return
    written = found.meta.get("shards")
    if written is not None and written != str(found.shards):
        yield Finding(
            Level.TROUBLE,
            f"the data in Redis is in {written} shards, this file says {found.shards}",
            "set `redis.shards` to what the data has",
            {"in_redis": written, "in_file": found.shards},
        )
        return
    yield Finding(
        Level.OK,
        f"{found.address} answers, prefix {found.prefix!r}, {found.shards} shards",
        numbers={"round_trip_ms": found.round_trip_ms},
    )


def windows(facts: Facts) -> Iterator[Finding]:
    """Whether spend is known: a shard without an epoch refuses its tenants."""
    found = facts.redis
    assert isinstance(found, Reached)
    if not found.without_epoch:
        yield Finding(Level.OK, "the windows of all shards are whole")
        return
    shards = ", ".join(map(str, found.without_epoch))
    alive = isinstance(facts.streams, Streams) and _speaks(facts.streams)
    yield Finding(
        Level.NOTE if alive else Level.TROUBLE,
        f"windows of shard {shards} are not rebuilt: requests of their tenants are refused with "
        "`budget_backend_unavailable`",
        "wait some seconds, the worker rebuilds them" if alive else "start the worker: it does it",
        {"shards": list(found.without_epoch)},
    )


def worker(facts: Facts) -> Iterator[Finding]:
    """Whether somebody settles."""
    found = facts.streams
    assert isinstance(found, Streams)
    if not found.has_group:
        yield Finding(
            Level.TROUBLE,
            "no settlement worker has ever read these streams",
            "start `weir worker`, or `weir serve` without --no-worker",
        )
        return
    silent = min(found.workers.values(), default=None)
    numbers = {"silent_ms": dict(sorted(found.workers.items()))}
    if silent is not None and silent < SILENT_MS:
        speaking = sum(each < SILENT_MS for each in found.workers.values())
        last = f"last heard of {silent / 1_000:.1f} s ago"
        yield Finding(Level.OK, f"{count_of(speaking, 'worker')} at work, {last}", numbers=numbers)
        return
    since = "none is known" if silent is None else f"the last spoke {age_of(silent // 1_000)} ago"
    yield Finding(
        Level.TROUBLE if found.waiting else Level.NOTE,
        f"no settlement worker is at work: {since}",
        "start `weir worker`; what waits is settled then",
        numbers,
    )


def streams(facts: Facts) -> Iterator[Finding]:
    """What is on its way, shard by shard, and whether it is stuck."""
    found = facts.streams
    assert isinstance(found, Streams)
    kept = sum(each.length for each in found.shards)
    newest = max((each.newest_ms for each in found.shards), default=0)
    numbers = {
        "kept": kept,
        "waiting": found.waiting,
        "waiting_by_shard": {str(e.shard): e.waiting for e in found.shards if e.waiting},
        "newest_ms": newest or None,
    }
    if not newest:
        yield Finding(
            Level.NOTE,
            "no event was ever sent through these streams",
            "send a request; if it is answered and nothing comes here, compare `redis.prefix` and "
            "`metering.queue` with those of the proxies",
            numbers,
        )
        return
    last = f"the last event came {age_of((found.now_ms - newest) // 1_000)} ago"
    if not found.waiting:
        yield Finding(Level.OK, f"nothing waits; {last}", numbers=numbers)
        return
    waited_ms = found.now_ms - (found.since_ms or found.now_ms)
    waits = f"{count_of(found.waiting, 'event')} not in the ledger yet, the oldest for "
    is_late = waited_ms > LATE_MS
    yield Finding(
        Level.TROUBLE if is_late else Level.NOTE,
        waits + age_of(waited_ms // 1_000),
        "see `worker`, `price versions` and `ledger`; the worker's log says what stops it "
        "(`settlement_retries`, `ledger_unusable`)"
        if is_late
        else "look again in a moment",
        numbers,
    )


def waiting_prices(facts: Facts) -> Iterator[Finding]:
    """Events that wait for a price version."""
    found = facts.streams
    assert isinstance(found, Streams)
    if not found.wanted_prices:
        yield Finding(Level.OK, "no event waits for its price version")
        return
    names = ", ".join(f"{name} ({n} events)" for name, n in sorted(found.wanted_prices.items()))
    yield Finding(
        Level.TROUBLE,
        f"events wait for price versions that neither Redis nor the ledger has: {names}",
        "start a proxy with the configuration that these were priced with: it publishes them at "
        "its start, and the worker goes on by itself",
        {"versions": dict(found.wanted_prices), "looked_at": found.looked_at},
    )


def spools(facts: Facts) -> Iterator[Finding]:
    """What lies on disks: here, and as other machines report."""
    here = [each for each in facts.place.spools if each.records or each.damaged]
    unsure = sum(each.unconfirmed for each in facts.place.spools)
    told = () if isinstance(facts.streams, Unknown) else facts.streams.spools
    names = {each.proxy_id for each in facts.place.spools}
    away = [each for each in told if each.records and each.proxy_id not in names]
    for each in here:
        yield _spooled(each, "on this machine")
    for each in away:
        yield _spooled(each, "as it reported itself")
    if not here and not away:
        more = f"; the ledger has yet to confirm {unsure} that Redis took" if unsure else ""
        yield Finding(Level.OK, f"nothing waits in a spool{more}", numbers={"unconfirmed": unsure})


def _spooled(each: SpoolFiles, where: str) -> Finding:
    numbers = {"proxy_id": each.proxy_id, "records": each.records, "bytes": each.bytes}
    numbers |= {"waited_s": each.waited_s, "damaged": each.damaged}
    if each.damaged:
        return Finding(
            Level.TROUBLE,
            f"the spool of {each.proxy_id} has {count_of(each.damaged, 'damaged file')} ({where})",
            "whole records were replayed; keep the files, their logs name what was torn",
            numbers,
        )
    return Finding(
        Level.TROUBLE if each.waited_s > SPOOL_S else Level.NOTE,
        f"the spool of {each.proxy_id} holds {count_of(each.records, 'commit')} ({where}), "
        f"the oldest for {age_of(each.waited_s)}",
        "start `weir serve` with that data_dir while Redis is there: it replays them",
        numbers,
    )


def clock(facts: Facts) -> Iterator[Finding]:
    """Whether this machine, Redis, the workers and the proxies agree on the time."""
    found = facts.clocks
    skews = []
    if isinstance(facts.redis, Reached):
        skew_ms, doubt_ms = facts.redis.skew_ms, facts.redis.round_trip_ms // 2
        skews.append(f"Redis' clock differs from this machine's by {skew_ms} ms")
        if abs(skew_ms) > SKEW_MS + doubt_ms:
            yield Finding(
                Level.TROUBLE,
                skews.pop(),
                "set both by NTP: windows go by Redis' clock, invoices by the proxies'",
                {"skew_ms": skew_ms, "doubt_ms": doubt_ms},
            )
    if isinstance(found, Clocks):
        wrong = list(_events_times(found))
        yield from wrong
        if found.looked_at and not wrong:
            skews.append(f"the newest {count_of(found.looked_at, 'event')} have times in order")
    if skews:
        yield Finding(Level.OK, "; ".join(skews))
    elif not isinstance(facts.redis, Reached) and isinstance(found, Unknown):
        yield Finding(Level.NOTE, "not looked at: neither Redis nor the ledger could be asked")


def _events_times(found: Clocks) -> Iterator[Finding]:
    """Times of events that no clock in order can have given."""
    if found.received_early_ms > SKEW_MS:
        yield Finding(
            Level.TROUBLE,
            f"the ledger booked an event {found.received_early_ms} ms before Redis had it",
            "set the clock of the worker's machine by NTP",
            {"early_ms": found.received_early_ms},
        )
    if found.begun_late_ms > SKEW_MS:
        tenants = ", ".join(found.begun_late_tenants)
        yield Finding(
            Level.TROUBLE,
            f"{count_of(found.begun_late, 'event')} began up to {found.begun_late_ms} ms after the "
            f"commit (tenants {tenants}): a proxy's clock is ahead, or somebody reports "
            "usage that is still to come",
            "set the clocks of the proxies by NTP; a month's invoice goes by when a request began",
            {"late_ms": found.begun_late_ms, "events": found.begun_late},
        )
    if found.in_future:
        yield Finding(
            Level.TROUBLE,
            f"{count_of(found.in_future, 'event')} of the ledger begin in the future",
            "see which with `weir usage --by request --since` and this minute; they count in the "
            "month that they name",
            {"events": found.in_future},
        )


def one_ledger(facts: Facts) -> Iterator[Finding]:
    """Whether Redis is settled into the ledger that reports are made from."""
    book, found = facts.book, facts.redis
    assert isinstance(book, Book)
    assert isinstance(found, Reached)
    noted = found.meta.get("ledger")
    if noted is None:
        yield Finding(Level.NOTE, "no worker has settled this Redis into a ledger yet", SETTLE)
    elif noted != book.identity:
        own = (book.identity or "none")[:8]
        yield Finding(
            Level.TROUBLE,
            f"this Redis is settled into another ledger ({noted[:8]}, this file's is {own})",
            "give every command and worker the same `ledger.url` (on SQLite: the same data_dir)",
            {"in_redis": noted, "here": book.identity},
        )
    else:
        yield Finding(Level.OK, f"Redis is settled into this ledger ({noted[:8]})")


SETTLE = "start `weir worker`"


def _speaks(found: Streams) -> bool:
    return any(silent < SILENT_MS for silent in found.workers.values())
