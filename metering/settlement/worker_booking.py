"""From entries to books: rate, post, acknowledge; the worker's middle, free of when it is called.

Rules: acknowledge last, so that a kill at any point repeats work and neither loses nor doubles it.
What waits for a price stays unacknowledged and stops nobody else. One writer to the ledger at a
time, however many lanes there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from redis.asyncio import Redis

from metering.clock import monotonic_s, now_ns
from metering.redis_keys import RedisKeys
from metering.settlement.batches import Batch, BatchReport, Booking
from metering.settlement.entries import Arrival, Entry, Malformed, sort_entries
from metering.settlement.ledger.standing import confirmed_spool
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.writer import write_batch
from metering.settlement.price_shelf import PriceShelf
from metering.settlement.redis_stream import BATCH_MAX, StreamReader
from metering.settlement.worker_lane import Lane
from metering.settlement.worker_tally import Log, Tally


class Booker:
    """Books what the lanes have read."""

    def __init__(
        self, ledger: Ledger, redis: Redis, keys: RedisKeys, *, writing: asyncio.Lock, log: Log
    ) -> None:
        self._ledger = ledger
        self._writing = writing
        self._log = log
        self._prices = PriceShelf(ledger, redis, keys)
        self._held_back: dict[tuple[int, str], tuple[str, int]] = {}
        self.tally = Tally()

    async def settle(self, reader: StreamReader, lane: Lane, entries: Sequence[Entry]) -> None:
        """Settle these entries, a batch at a time."""
        for start in range(0, len(entries), BATCH_MAX):
            await self._settle_batch(reader, lane, entries[start : start + BATCH_MAX])

    async def _settle_batch(
        self, reader: StreamReader, lane: Lane, entries: Sequence[Entry]
    ) -> None:
        """Rate, post, acknowledge. What waits for a price stays unacknowledged."""
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
            for entry in done:
                self._held_back.pop((entry.shard, entry.stream_id), None)
            if report.confirmed:
                await self.confirm(reader)
            self._say(report)

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

    def _note_waiting(self, lane: Lane, waiting: Sequence[Arrival]) -> None:
        """Remember what waits for a price, and try again later and later."""
        versions = {name for one in waiting for name in self._prices.cards.missing(one.event)}
        if waiting and lane.wait_for(versions, now_s=monotonic_s()):
            self._log.warning(
                "settlement_waits_for_prices",
                versions=sorted(versions),
                entries=len(waiting),
                retry_s=lane.retry_s,
            )
        for one in waiting:
            if one.event.spool_seq is not None:
                key = (one.entry.shard, one.entry.stream_id)
                self._held_back[key] = (one.event.proxy_id, one.event.spool_seq)

    async def confirm(self, reader: StreamReader) -> None:
        """Publish how far each proxy's spool is in the ledger.

        Never from a waiting event's sequence on: its proxy would drop the one copy of it that
        lies outside Redis.
        """
        confirmed = await asyncio.to_thread(confirmed_spool, self._ledger, reader.shards)
        for (shard, _), (proxy_id, sequence) in self._held_back.items():
            if (highest := confirmed.get((shard, proxy_id))) is not None:
                confirmed[shard, proxy_id] = min(highest, sequence - 1)
        await reader.confirm(confirmed)

    def _say(self, report: BatchReport) -> None:
        self.tally.add(report)
        if report.conflicts or report.malformed or report.unpriced:
            self._log.warning(
                "settlement_found_faults",
                conflicts=report.conflicts,
                malformed=report.malformed,
                unpriced=report.unpriced,
            )
        for difference in report.differences:
            self._log.warning(
                "rating_differs",
                tenant=difference.tenant,
                events=difference.events,
                sell_nano=difference.sell_nano,
                cost_nano=difference.cost_nano,
            )
