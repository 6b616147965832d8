"""From entries to books: rate, post, acknowledge; the worker's middle, free of when it is called.

Rules: acknowledge last, so that a kill at any point repeats work and neither loses nor doubles it.
What waits for a price stays unacknowledged and stops nobody else. One writer to the ledger at a
time, however many lanes there are. Only deaths of the worker count against an entry: what Redis or
the database could not do condemns none.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from metering.clock import monotonic_s, now_ns
from metering.redis_keys import RedisKeys
from metering.settlement.batches import Batch, BatchReport, Booking
from metering.settlement.common_keys import CommonKeys
from metering.settlement.confirming import Confirming
from metering.settlement.entries import Arrival, Entry, Malformed, sort_entries
from metering.settlement.ledger.dead_letters import booked_stream_ids
from metering.settlement.ledger.parts import write_parts
from metering.settlement.ledger.store import Ledger
from metering.settlement.price_shelf import PriceShelf
from metering.settlement.redis_stream import BATCH_MAX, StreamReader
from metering.settlement.timing import Timing
from metering.settlement.watch import Log, Unwatched, Watch
from metering.settlement.went_back import Position, leave_stale_windows
from metering.settlement.worker_lane import Lane
from metering.settlement.worker_tally import Tally

TRANSACTION_MAX = 1_024
"""Events per transaction: a commit costs as much for 1,024 as for 256 (measured), and other writers
wait for it no longer than a tenth of a second."""

_UPGRADE = "upgraded the worker to the schema of its events"


class Booker:
    """Books what the lanes have read."""

    def __init__(
        self,
        ledger: Ledger,
        redis: Redis,
        keys: RedisKeys,
        *,
        timing: Timing,
        writing: asyncio.Lock,
        log: Log,
        watch: Watch | None = None,
        is_cluster: bool = False,
    ) -> None:
        self._watch = watch or Unwatched()
        self._ledger = ledger
        self._redis = redis
        self._keys = keys
        self._timing = timing
        self._writing = writing
        self._log = log
        prices = CommonKeys("prices", is_cluster=is_cluster, log=log)
        self._prices = PriceShelf(ledger, redis, keys, common=prices)
        spools = CommonKeys(keys.confirmed, is_cluster=is_cluster, log=log)
        self.confirming = Confirming(ledger, common=spools)
        self._survived: list[Entry] = []
        """Entries whose tries are to be taken back."""
        self.tally = Tally()

    async def settle(self, reader: StreamReader, lane: Lane, entries: Sequence[Entry]) -> None:
        """Settle entries that nobody was given before, a batch at a time."""
        for start in range(0, len(entries), TRANSACTION_MAX):
            await self._settle_batch(reader, lane, entries[start : start + TRANSACTION_MAX])

    async def settle_again(
        self, reader: StreamReader, lane: Lane, entries: Sequence[Entry]
    ) -> None:
        """Settle entries that were given before, by a worker that may have died of one of them.

        Each try is noted before it begins and taken back by whoever lives to see its end, whatever
        the end was: so only deaths count. What was there at several is tried by itself, then
        condemned; its neighbours go on.
        """
        await self._forget_tries(reader)
        tries = await reader.tries(entries)
        deaths = {entry.place: tries.get(entry.place, 0) for entry in entries}
        alone = [one for one in entries if deaths[one.place] >= self._timing.tries_alone]
        others = [one for one in entries if deaths[one.place] < self._timing.tries_alone]
        groups = [others[at : at + BATCH_MAX] for at in range(0, len(others), BATCH_MAX)]
        for group in [*groups, *([one] for one in alone)]:
            count = deaths[group[0].place]
            if count >= self._timing.tries_max:
                reason = f"the worker died {count} times while it was settling this entry"
                dead = await self._with_deliveries(reader, [Malformed(group[0], reason)])
                await self._book(reader, Batch([], dead))
                await reader.end_tries(group)
            else:
                await self._try(reader, lane, group)

    async def _try(self, reader: StreamReader, lane: Lane, group: Sequence[Entry]) -> None:
        await reader.begin_tries(group)
        try:
            await self._settle_batch(reader, lane, group)
        except (RedisError, SQLAlchemyError, OSError, asyncio.CancelledError):
            self._survived += group
            with contextlib.suppress(RedisError, OSError):  # Redis away: the next turn does it
                await self._forget_tries(reader)
            raise
        self._survived += group
        await self._forget_tries(reader)

    async def _forget_tries(self, reader: StreamReader) -> None:
        own = [entry for entry in self._survived if entry.shard in reader.shards]
        await reader.end_tries(own)
        self._survived = [entry for entry in self._survived if entry.shard not in reader.shards]

    async def _settle_batch(
        self, reader: StreamReader, lane: Lane, entries: Sequence[Entry]
    ) -> None:
        """Rate, post, acknowledge. What waits for a price stays unacknowledged."""
        arrivals, malformed = sort_entries(entries)
        ready, waiting = await self._prices.split(arrivals)
        self._note_waiting(lane, waiting)
        batch = self._rate(ready, malformed)
        dead = await self._doomed(reader, lane, batch.malformed)
        await self._book(reader, Batch(batch.bookings, dead))

    async def _doomed(
        self, reader: StreamReader, lane: Lane, malformed: Sequence[Malformed]
    ) -> list[Malformed]:
        """The malformed ones to condemn now; what only a newer version can read waits for it."""
        if not malformed:
            return []
        dead = await self._with_deliveries(reader, malformed)
        later = [
            one for one in dead if one.is_newer and one.deliveries < self._timing.newer_deliveries
        ]
        if later and lane.wait_for({_UPGRADE}, now_s=monotonic_s()):
            self._log.warning(
                "settlement_waits_for_schema",
                reason=later[0].reason,
                entries=len(later),
                retry_s=lane.retry_s,
            )
        return [one for one in dead if one not in later]

    async def _with_deliveries(
        self, reader: StreamReader, dead: Sequence[Malformed]
    ) -> list[Malformed]:
        counts = await reader.deliveries(one.entry for one in dead)
        return [replace(one, deliveries=counts.get(one.entry.place, 1)) for one in dead]

    async def _book(self, reader: StreamReader, batch: Batch) -> None:
        """Post what can be posted, then tell Redis."""
        batch = await self._without_booked(reader, batch)
        if not batch.bookings and not batch.malformed:
            return
        await self._note(batch)
        began_s = monotonic_s()
        async with self._writing:
            parts = await asyncio.to_thread(self._post, batch)
        done = [booking.arrival.entry for part, _ in parts for booking in part.bookings]
        dead = [malformed for part, _ in parts for malformed in part.malformed]
        await reader.bury(dead)
        await reader.acknowledge(done)
        if proxy_ids := {proxy_id for _, report in parts for proxy_id in report.confirmed}:
            await self.confirming.confirm(reader, proxy_ids)
        took_s = (monotonic_s() - began_s) / len(parts)
        for _, report in parts:
            self._say(report)
            self._watch.batch(report, took_s)

    async def _note(self, batch: Batch) -> None:
        """Note in Redis what the ledger will have, so that a Redis that went back shows."""
        settling: dict[int, Position] = {}
        entries = [booking.arrival.entry for booking in batch.bookings]
        for entry in [*entries, *(malformed.entry for malformed in batch.malformed)]:
            settling[entry.shard] = max(entry.position, settling.get(entry.shard, (0, 0)))
        await leave_stale_windows(
            self._ledger,
            self._redis,
            self._keys,
            settling,
            settling=settling,
            writing=self._writing,
            log=self._log,
        )

    async def _without_booked(self, reader: StreamReader, batch: Batch) -> Batch:
        """Leaves out what has vanished from its stream after it was booked: nothing is missing."""
        gone = [one for one in batch.malformed if one.entry.body is None]
        if not gone:
            return batch
        places = [one.entry.place for one in gone]
        booked = await asyncio.to_thread(booked_stream_ids, self._ledger, places)
        await reader.acknowledge(one.entry for one in gone if one.entry.place in booked)
        left = [one for one in batch.malformed if one.entry.place not in booked]
        return Batch(batch.bookings, left)

    def _rate(self, ready: Sequence[Arrival], malformed: Sequence[Malformed]) -> Batch:
        """Every event at its own prices; one that cannot be rated by its data is malformed."""
        bookings, dead = [], list(malformed)
        for arrival in ready:
            try:
                bookings.append(Booking(arrival, self._prices.cards.rate(arrival.event)))
            except ValueError as error:
                dead.append(Malformed(arrival.entry, str(error)))
        return Batch(bookings, dead)

    def _post(self, batch: Batch) -> list[tuple[Batch, BatchReport]]:
        unsaved = self._prices.unsaved()
        parts = write_parts(self._ledger, batch, prices=unsaved, now_ns=now_ns())
        self._prices.saved(unsaved)
        return parts

    def _note_waiting(self, lane: Lane, waiting: Sequence[Arrival]) -> None:
        """Remember what waits for a price, and try again later and later."""
        versions = {name for one in waiting for name in self._prices.cards.missing(one.event)}
        wanted = {f"published the price version {version}" for version in versions}
        if waiting and lane.wait_for(wanted, now_s=monotonic_s()):
            self._log.warning(
                "settlement_waits_for_prices",
                versions=sorted(versions),
                entries=len(waiting),
                retry_s=lane.retry_s,
            )

    def _say(self, report: BatchReport) -> None:
        self.tally.add(report)
        if report.conflicts or report.malformed or report.unpriced:
            self._log.warning(
                "settlement_found_faults",
                conflicts=report.conflicts,
                malformed=report.malformed,
                unpriced=report.unpriced,
            )
        if report.superseded:
            self._log.info("recovered_events_superseded", events=report.superseded)
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
