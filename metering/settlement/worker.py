"""The settlement worker: takes usage events from the streams and books them.

Order: own unfinished entries, then those of consumers that died, then new ones. A batch is one
database transaction; entries are acknowledged after it. A kill at any point therefore repeats work
and never loses or doubles it. A stop takes what stands in the streams first, within bounds. Trouble
with Redis or the database condemns no event: the worker backs off, says so, and starts over from
what it was given.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from metering.clock import monotonic_s, now_ns
from metering.redis_keys import RedisKeys
from metering.settlement.batches import Batch, BatchReport, Booking
from metering.settlement.entries import Arrival, Entry, Malformed, sort_entries
from metering.settlement.ledger.rollups import update_rollups
from metering.settlement.ledger.standing import confirmed_spool, settled_positions
from metering.settlement.ledger.store import Ledger, open_ledger
from metering.settlement.ledger.writer import write_batch
from metering.settlement.price_shelf import PriceShelf
from metering.settlement.reaper import Reaper
from metering.settlement.redis_client import connect, is_cluster
from metering.settlement.redis_stream import BATCH_MAX, StreamReader, lanes
from metering.settlement.redis_windows import rebuild_windows
from metering.settlement.timing import Timing
from metering.settlement.watch import Log, Unwatched, Watch

DRAIN_BLOCK_MS = 50
"""A drain waits no longer than this to see that nothing comes."""


class DrainGaveUpError(Exception):
    """A drain could not end; the message is one line that says what it waited for."""


@dataclass(slots=True)
class Tally:
    """What a run came to."""

    batches: int = 0
    settled: int = 0
    repeats: int = 0
    conflicts: int = 0
    malformed: int = 0

    def add(self, report: BatchReport) -> None:
        """Count a batch in."""
        self.batches += 1
        self.settled += report.settled
        self.repeats += report.repeats
        self.conflicts += report.conflicts
        self.malformed += report.malformed


async def run(
    redis_url: str,
    keys: RedisKeys,
    ledger_url: str,
    *,
    stop: asyncio.Event,
    hurry: asyncio.Event | None = None,
    drain: bool = False,
    consumer: str = "worker-1",
    timing: Timing | None = None,
    one_server: bool = True,
    log: Log | None = None,
    watch: Watch | None = None,
) -> Tally:
    """Settle until `stop` is set, or with `drain` until nothing is left; what that came to.

    At a stop, what had come into the streams until then is settled first; with `hurry` nothing is.
    A drain that cannot end (no Redis, no price) is a DrainGaveUpError; what waits stays as it is.
    `consumer` names this worker in the group: stable over restarts, different for each worker that
    runs at the same time. `one_server=False` reads each shard by itself, as a Cluster is read.
    """
    ledger, redis = open_ledger(ledger_url), connect(redis_url)
    log = structlog.get_logger("settlement") if log is None else log
    settlement = Settlement(ledger, redis, keys, timing=timing or Timing(), log=log, watch=watch)
    try:
        async with asyncio.TaskGroup() as group:
            for shards in lanes(keys, together=one_server and not is_cluster(redis_url)):
                reader = StreamReader(redis, keys, consumer=consumer, shards=shards)
                group.create_task(settlement.settle(reader, stop=stop, hurry=hurry, drain=drain))
    finally:
        await redis.aclose()
        ledger.close()
    if settlement.gave_up is not None:
        raise DrainGaveUpError(settlement.gave_up)
    return settlement.tally


@dataclass(slots=True)
class _Lane:
    """Where a lane stands: what waits for a price, and when something is due (monotonic s)."""

    waiting: set[str] = field(default_factory=set)
    """Price versions that entries of this lane wait for."""
    recovered: bool = False
    stuck_since_s: float | None = None
    retry_s: float = 0.0
    retry_at: float = 0.0
    claim_at: float = 0.0
    upkeep_at: float = 0.0


class Settlement:
    """The worker's work, free of how it is started. Lanes share one writer to the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        redis: Redis,
        keys: RedisKeys,
        *,
        timing: Timing,
        log: Log,
        watch: Watch | None = None,
    ) -> None:
        self._ledger = ledger
        self._redis = redis
        self._keys = keys
        self._timing = timing
        self._log = log
        self._watch = watch or Unwatched()
        self._prices = PriceShelf(ledger, redis, keys)
        self._reaper = Reaper(redis, keys, timing=timing, log=log)
        self._writing = asyncio.Lock()
        self.tally = Tally()
        self.gave_up: str | None = None
        """Why a drain was given up."""

    async def settle(
        self, reader: StreamReader, *, stop: asyncio.Event, hurry: asyncio.Event | None, drain: bool
    ) -> None:
        """Settle what `reader` reads, and at a stop what stands there; the life of one lane."""
        lane = _Lane()
        await self._consume(reader, lane, stop=stop, drain=drain)
        if not stop.is_set() or self.gave_up is not None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timing.stop_patience_s):
                await self._finish(reader, lane, hurry or asyncio.Event())

    async def _finish(self, reader: StreamReader, lane: _Lane, hurry: asyncio.Event) -> None:
        """Settle until a read that came after the stop has found less than it may bring.

        What came later is another's; while proxies elsewhere go on, the streams are never empty.
        """
        failures = 0
        while not hurry.is_set():
            try:
                if not lane.recovered:
                    await self._recover(reader, lane)
                entries = await reader.read_new(block_ms=1)
                await self._settle(reader, lane, entries)
                if len(entries) < BATCH_MAX:
                    await self._settle_own(reader, lane)
                    await self._upkeep(reader, lane, force=True)
                    return
            except (RedisError, SQLAlchemyError, OSError) as error:
                failures += 1
                self._log.warning("stop_leaves_events", error=repr(error), tries=failures)
                if failures >= self._timing.stop_tries:
                    return
                await _sleep(self._timing.retry_first_s, hurry)

    async def _consume(
        self, reader: StreamReader, lane: _Lane, *, stop: asyncio.Event, drain: bool
    ) -> None:
        failures = 0
        while not stop.is_set():
            began_s, batches = monotonic_s(), self.tally.batches
            try:
                left = await self._step(reader, lane, drain=drain)
                failures = 0
                self._watch.turned()
                stuck = _missing_prices(lane) if self.tally.batches == batches else None
                if drain and self._is_over(lane, stuck, began_s):
                    return
            except (RedisError, SQLAlchemyError, OSError) as error:
                lane.recovered = False
                if drain and self._is_over(lane, _one_line(error), began_s):
                    return
                delay_s = self._delay_s(failures, drain=drain)
                failures = min(failures + 1, 16)
                self._log.warning("settlement_retries", error=repr(error), delay_s=delay_s)
                self._watch.failed(error)
                await _sleep(delay_s, stop)
                continue
            if drain and not left:
                return

    def _delay_s(self, failures: int, *, drain: bool) -> float:
        """Twice as long after each failure; a drain asks a few times before it gives up."""
        timing = self._timing
        longest_s = min(timing.retry_max_s, timing.drain_patience_s / 5 if drain else math.inf)
        return min(timing.retry_first_s * 2.0**failures, longest_s)

    def _is_over(self, lane: _Lane, stuck: str | None, began_s: float) -> bool:
        """Whether a drain has been stuck for so long that it gives up; remembers since when."""
        if stuck is None:
            lane.stuck_since_s = None
            return False
        if lane.stuck_since_s is None:
            lane.stuck_since_s = began_s
        stuck_s = monotonic_s() - lane.stuck_since_s
        if stuck_s < self._timing.drain_patience_s:
            return False
        self.gave_up = f"gave up after {stuck_s:.0f} s: {stuck}"
        return True

    async def _step(self, reader: StreamReader, lane: _Lane, *, drain: bool) -> bool:
        """Do what is due, then take new entries; whether anything may be left."""
        timing, now_s = self._timing, monotonic_s()
        if not lane.recovered:
            await self._recover(reader, lane)
        elif lane.waiting and now_s >= lane.retry_at:
            await self._settle_own(reader, lane)
        if now_s >= lane.claim_at:
            await self._settle(reader, lane, await reader.claim_idle(idle_ms=timing.claim_idle_ms))
            lane.claim_at = now_s + timing.claim_every_s
        block_ms = self._block_ms(lane)
        entries = await reader.read_new(
            block_ms=min(block_ms, DRAIN_BLOCK_MS) if drain else block_ms
        )
        await self._settle(reader, lane, entries)
        if not entries or now_s >= lane.upkeep_at + timing.upkeep_every_s:
            await self._upkeep(reader, lane, force=drain and not entries)
        if entries or not drain:
            return True
        return bool(lane.waiting) or await reader.pending() > 0

    def _block_ms(self, lane: _Lane) -> int:
        if not lane.waiting:
            return self._timing.block_ms
        left_ms = int((lane.retry_at - monotonic_s()) * 1_000)
        return max(1, min(self._timing.block_ms, left_ms))

    async def _recover(self, reader: StreamReader, lane: _Lane) -> None:
        """Stand where a worker stands that has just started, whatever went before."""
        async with self._writing:
            await asyncio.to_thread(self._ledger.migrate)
        await reader.ensure_groups()
        await self._rebuild_windows(reader)
        await self._settle_own(reader, lane)
        await self._confirm(reader)
        lane.recovered = True

    async def _settle_own(self, reader: StreamReader, lane: _Lane) -> None:
        """Settle what this consumer was given before and has not acknowledged."""
        lane.waiting.clear()
        after: dict[int, str] = {}
        while entries := await reader.read_own(after):
            after.update({entry.shard: entry.stream_id for entry in entries})
            await self._settle(reader, lane, entries)
        if not lane.waiting:
            lane.retry_s = 0.0

    async def _settle(self, reader: StreamReader, lane: _Lane, entries: Sequence[Entry]) -> None:
        for start in range(0, len(entries), BATCH_MAX):
            await self._settle_batch(reader, lane, entries[start : start + BATCH_MAX])

    async def _settle_batch(
        self, reader: StreamReader, lane: _Lane, entries: Sequence[Entry]
    ) -> None:
        """Rate, post, acknowledge. What waits for a price stays unacknowledged."""
        began_s = monotonic_s()
        arrivals, malformed = sort_entries(entries)
        ready, waiting = await self._prices.split(arrivals)
        batch = self._rate(ready, malformed)
        self._note_waiting(lane, waiting)
        if batch.bookings or batch.malformed:
            async with self._writing:
                report = await asyncio.to_thread(self._post, batch)
            done = [booking.arrival.entry for booking in batch.bookings]
            done += [dead.entry for dead in batch.malformed]
            await reader.acknowledge(done)
            if report.confirmed:
                await self._confirm(reader, report.confirmed)
            self._say(report)
            self._watch.batch(report, monotonic_s() - began_s)

    def _rate(self, ready: Sequence[Arrival], malformed: Sequence[Malformed]) -> Batch:
        """Every event at its own prices; one that cannot be rated by its data is malformed."""
        bookings, dead = [], list(malformed)
        for arrival in ready:
            try:
                bookings.append(Booking(arrival, self._prices.cards.rate(arrival.event)))
            except ValueError as error:
                dead.append(Malformed(arrival.entry, str(error)))
        return Batch(bookings, dead)

    def _post(self, batch: Batch) -> BatchReport:
        unsaved = self._prices.unsaved()
        report = write_batch(self._ledger, batch, prices=unsaved, now_ns=now_ns())
        self._prices.saved(unsaved)
        return report

    def _note_waiting(self, lane: _Lane, waiting: Sequence[Arrival]) -> None:
        """Remember what waits for a price, and try again later and later."""
        if not waiting:
            return
        versions = {name for one in waiting for name in self._prices.cards.missing(one.event)}
        if not versions <= lane.waiting:
            lane.waiting |= versions
            first, last = self._timing.retry_first_s, self._timing.retry_max_s
            lane.retry_s = min(max(lane.retry_s * 2, first), last)
            lane.retry_at = monotonic_s() + lane.retry_s
            self._log.warning(
                "settlement_waits_for_prices",
                versions=sorted(versions),
                entries=len(waiting),
                retry_s=lane.retry_s,
            )

    async def _confirm(self, reader: StreamReader, proxy_ids: Iterable[str] | None = None) -> None:
        """Publish what of the proxies' spools is in the ledger; without names, of all of them."""
        confirmed = await asyncio.to_thread(confirmed_spool, self._ledger, proxy_ids)
        await reader.confirm(confirmed)

    async def _upkeep(self, reader: StreamReader, lane: _Lane, *, force: bool) -> None:
        """Rollups, windows, trimming: what may be late."""
        now_s = monotonic_s()
        if not force and now_s < lane.upkeep_at:
            return
        lane.upkeep_at = now_s + self._timing.upkeep_every_s
        await self._rebuild_windows(reader)
        await self._reaper.turn(reader.shards, now_s=now_s)
        async with self._writing:
            await asyncio.to_thread(update_rollups, self._ledger)
        settled = await asyncio.to_thread(settled_positions, self._ledger)
        await reader.trim(settled, keep_ms=self._timing.keep_ms)

    async def _rebuild_windows(self, reader: StreamReader) -> None:
        async with self._writing:
            shards = reader.shards  # a shard whose Redis is away must not stop the others
            rebuilt = await rebuild_windows(self._ledger, self._redis, self._keys, shards=shards)
        if rebuilt:
            self._log.info("windows_rebuilt", shards=list(rebuilt))

    def _say(self, report: BatchReport) -> None:
        self.tally.add(report)
        if report.conflicts or report.malformed or report.unpriced:
            self._log.warning(
                "settlement_found_faults",
                conflicts=report.conflicts,
                malformed=report.malformed,
                unpriced=report.unpriced,
            )
        if report.ranges_forgotten:
            self._log.warning("spool_ranges_forgotten", ranges=report.ranges_forgotten)
        for difference in report.differences:
            self._log.warning(
                "rating_differs",
                tenant=difference.tenant,
                events=difference.events,
                sell_nano=difference.sell_nano,
                cost_nano=difference.cost_nano,
            )


def _missing_prices(lane: _Lane) -> str | None:
    if not lane.waiting:
        return None
    return f"nobody has published the price version {', '.join(sorted(lane.waiting))}"


def _one_line(error: Exception) -> str:
    """What a person can use: SQLAlchemy adds the statement on lines of its own."""
    first = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


async def _sleep(delay_s: float, stop: asyncio.Event) -> None:
    """Wait, but not past a stop."""
    try:
        async with asyncio.timeout(delay_s):
            await stop.wait()
    except TimeoutError:
        return
