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
from collections.abc import Sequence

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from metering.alert_sinks import DEFAULT_SINKS, SinkSettings
from metering.clock import monotonic_s
from metering.redis_keys import RedisKeys
from metering.settlement.beside import run_beside
from metering.settlement.common_keys import CommonKeys
from metering.settlement.counting import Rules
from metering.settlement.crossings import Marks
from metering.settlement.ledger.faults import LedgerUnusableError
from metering.settlement.ledger.store import Ledger, open_ledger
from metering.settlement.one_ledger import OneLedger, ledger_id
from metering.settlement.redis_client import connect, is_cluster
from metering.settlement.redis_stream import BATCH_MAX, StreamReader, lanes
from metering.settlement.sending import Outlet, Sender
from metering.settlement.terms import Offer, Terms
from metering.settlement.timing import Timing
from metering.settlement.watch import Log, Unwatched, Watch
from metering.settlement.worker_booking import Booker
from metering.settlement.worker_lane import Lane
from metering.settlement.worker_stop import SilentRedisError, need_answers
from metering.settlement.worker_tally import Tally
from metering.settlement.worker_upkeep import Upkeep
from metering.tolerances import Tolerances

DRAIN_BLOCK_MS = 50
"""A drain waits no longer than this to see that nothing comes."""


class DrainGaveUpError(Exception):
    """The work could not be done; the message is one line that says what stands in its way."""


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
    marks: Marks | None = None,
    tolerances: Tolerances | None = None,
    one_server: bool = True,
    rules: Rules | None = None,
    sinks: Sequence[SinkSettings] = DEFAULT_SINKS,
    offer: Offer | None = None,
    log: Log | None = None,
    watch: Watch | None = None,
) -> Tally:
    """Settle until `stop` is set, or with `drain` until nothing is left; what that came to.

    At a stop, what had come into the streams until then is settled first; with `hurry` nothing is.
    A drain that cannot end (no Redis, no price) is a DrainGaveUpError; what waits stays as it is.
    `consumer` names this worker in the group: stable over restarts, different for each worker that
    runs at the same time. `one_server=False` reads each shard by itself, as a Cluster is read.
    `rules` say in which windows an event counts, `sinks` where alerts go. An `offer` goes before
    these, `marks` and `tolerances`: what is put there later holds from the next batch on.
    """
    ledger, redis = open_ledger(ledger_url), connect(redis_url)
    log = structlog.get_logger("settlement") if log is None else log
    terms = Terms(rules or Rules(), marks or Marks(), tolerances or Tolerances(), sinks)
    settlement = Settlement(
        ledger,
        redis,
        keys,
        offer=offer or Offer(terms, log),
        timing=timing or Timing(),
        log=log,
        watch=watch or Unwatched(),
        is_cluster=is_cluster(redis_url),
    )
    try:
        async with asyncio.TaskGroup() as group:
            over = asyncio.Event()
            group.create_task(settlement.send(over=over))
            if not drain:  # a drain is for the books; `weir stripe sync` is for Stripe
                group.create_task(settlement.work_beside(over=over))
            async with asyncio.TaskGroup() as lanes_group:
                for shards in lanes(keys, together=one_server and not is_cluster(redis_url)):
                    reader = StreamReader(redis, keys, consumer=consumer, shards=shards)
                    lanes_group.create_task(
                        settlement.settle(reader, stop=stop, hurry=hurry, drain=drain)
                    )
            settlement.settled(over)
    finally:
        await redis.aclose()
        ledger.close()
    if settlement.gave_up is not None:
        raise DrainGaveUpError(settlement.gave_up)
    return settlement.tally


class Settlement:
    """The worker's work, free of how it is started. Lanes share one writer to the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        redis: Redis,
        keys: RedisKeys,
        *,
        offer: Offer,
        timing: Timing,
        log: Log,
        watch: Watch,
        is_cluster: bool,
    ) -> None:
        self._ledger, self._redis, self._keys = ledger, redis, keys
        self._timing = timing
        self._offer, self._terms = offer, offer.terms
        self._log = log
        self._watch = watch
        self._writing = asyncio.Lock()
        self._booker = Booker(
            ledger,
            redis,
            keys,
            timing=timing,
            writing=self._writing,
            log=log,
            watch=watch,
            is_cluster=is_cluster,
        )
        meta = CommonKeys(keys.meta, is_cluster=is_cluster, log=log)
        self._one_ledger = OneLedger(ledger, redis, keys, common=meta)
        self._upkeep = Upkeep(
            ledger,
            redis,
            keys,
            rules=offer.terms.rules,
            timing=timing,
            marks=offer.terms.marks,
            tolerances=offer.terms.tolerances,
            writing=self._writing,
            one_ledger=self._one_ledger,
            confirming=self._booker.confirming,
            log=log,
            told=watch,
        )
        self._is_cluster = is_cluster
        self._upkeep.credits.adopt(offer.terms.rules, offer.terms.levels)
        self._may_send = asyncio.Event()
        self._has_ledger = False
        self.gave_up: str | None = None
        """Why a drain was given up."""

    @property
    def tally(self) -> Tally:
        """What this run has come to so far."""
        return self._booker.tally

    def settled(self, over: asyncio.Event) -> None:
        """Nothing is settled any more: what is in the outbox is all there is to send."""
        over.set()
        self._offer.end_sending()
        self._may_send.set()

    async def send(self, *, over: asyncio.Event) -> None:
        """Send alerts until `over` and then once more; from when there is a ledger on."""
        await self._may_send.wait()
        if not self._has_ledger:
            return
        is_over = False
        while not is_over:  # once more for each time that the sinks are replaced
            is_over = over.is_set()
            ends = self._offer.begin_sending(is_over=is_over)
            await self._send(self._offer.outlets, ends)
            is_over = is_over or over.is_set()

    async def work_beside(self, *, over: asyncio.Event) -> None:
        """What is done beside settlement, from when there is a ledger on."""
        await self._may_send.wait()
        if self._has_ledger:
            args = self._ledger, self._redis, self._keys, self._offer
            await run_beside(
                *args, over=over, is_cluster=self._is_cluster, log=self._log, watch=self._watch
            )

    async def _send(self, outlets: Sequence[Outlet], ends: asyncio.Event) -> None:
        names, timing = [each.name for each in outlets], self._timing
        async with asyncio.TaskGroup() as group:
            for outlet in outlets:
                sender = Sender(
                    self._ledger,
                    outlet,
                    among=names,
                    writing=self._writing,
                    log=self._log,
                    told=self._watch,
                )
                group.create_task(
                    sender.run(ends, every_s=timing.send_every_s, last_s=timing.send_last_s)
                )
            await ends.wait()  # also where there is no sink: the next terms may have one

    async def settle(
        self, reader: StreamReader, *, stop: asyncio.Event, hurry: asyncio.Event | None, drain: bool
    ) -> None:
        """Settle what `reader` reads, and at a stop what stands there; the life of one lane."""
        lane, answer_s = Lane(self._timing), self._timing.stop_answer_s
        epoch, over = self._keys.epoch(reader.shards[0]), asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                asking = group.create_task(
                    need_answers(self._redis, epoch, stop, over, within_s=answer_s)
                )
                await self._consume(reader, lane, stop=stop, drain=drain)
                if stop.is_set() and self.gave_up is None:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._timing.stop_patience_s):
                            await self._finish(reader, lane, hurry or asyncio.Event())
                over.set()
                asking.cancel()
        except* SilentRedisError as silent:
            [error] = silent.exceptions
            self._log.warning("stop_leaves_events", error=str(error), shards=list(reader.shards))

    async def _finish(self, reader: StreamReader, lane: Lane, hurry: asyncio.Event) -> None:
        """Settle until a read that came after the stop has found less than it may bring.

        What came later is another's; while proxies elsewhere go on, the streams are never empty.
        """
        failures = 0
        while not hurry.is_set():
            try:
                if not lane.recovered:
                    await self._recover(reader, lane)
                entries = await reader.read_new(block_ms=1)
                await self._booker.settle(reader, lane, entries)
                if len(entries) < BATCH_MAX:
                    await self._settle_own(reader, lane)
                    await self._keep_up(reader, lane, force=True)
                    return
            except (RedisError, SQLAlchemyError, OSError) as error:
                failures += 1
                self._log.warning("stop_leaves_events", error=repr(error), tries=failures)
                if failures >= self._timing.stop_tries:
                    return
                await _sleep(self._timing.retry_first_s, hurry)

    async def _consume(
        self, reader: StreamReader, lane: Lane, *, stop: asyncio.Event, drain: bool
    ) -> None:
        failures = 0
        while not stop.is_set():
            began_s, batches = monotonic_s(), self._booker.tally.batches
            try:
                left = await self._step(reader, lane, drain=drain)
                failures = 0
                self._watch.turned()
                stuck = lane.wants if self._booker.tally.batches == batches else None
                if drain and (self._is_over(lane, stuck, began_s) or not left):
                    return
            except LedgerUnusableError as error:  # waiting cures nothing, nor does a restart
                self.gave_up = str(error)
                self._log.warning("ledger_unusable", detail=self.gave_up)
                self._watch.failed(error)
                if not drain:
                    await stop.wait()
                return
            except (RedisError, SQLAlchemyError, OSError) as error:
                lane.recovered = False
                if drain and self._is_over(lane, _one_line(error), began_s):
                    return
                delay_s = self._delay_s(failures, drain=drain)
                failures = min(failures + 1, 16)
                self._log.warning("settlement_retries", error=_one_line(error), delay_s=delay_s)
                self._watch.failed(error)
                await _sleep(delay_s, stop)

    def _delay_s(self, failures: int, *, drain: bool) -> float:
        """Twice as long after each failure; a drain asks a few times before it gives up."""
        timing = self._timing
        longest_s = min(timing.retry_max_s, timing.drain_patience_s / 5 if drain else math.inf)
        return min(timing.retry_first_s * 2.0**failures, longest_s)

    def _is_over(self, lane: Lane, stuck: str | None, began_s: float) -> bool:
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

    async def _step(self, reader: StreamReader, lane: Lane, *, drain: bool) -> bool:
        """Do what is due, then take new entries; whether anything may be left."""
        self._take_terms()
        timing, now_s = self._timing, monotonic_s()
        if not lane.recovered:
            await self._recover(reader, lane)
        elif lane.waiting and now_s >= lane.retry_at:
            await self._settle_own(reader, lane)
        if now_s >= lane.claim_at:
            async for entries in reader.claim_idle(idle_ms=timing.claim_idle_ms):
                await self._booker.settle_again(reader, lane, entries)
            lane.claim_at = now_s + timing.claim_every_s
        block_ms = lane.block_ms(now_s=monotonic_s())
        entries = await reader.read_new(
            block_ms=min(block_ms, DRAIN_BLOCK_MS) if drain else block_ms
        )
        await self._booker.settle(reader, lane, entries)
        if not entries or now_s >= lane.upkeep_at + timing.upkeep_every_s:
            await self._keep_up(reader, lane, force=drain and not entries)
        if entries or not drain:
            return True
        return bool(lane.waiting) or await reader.pending() > 0

    def _take_terms(self) -> None:
        """Between two batches: go by what is offered now."""
        terms = self._offer.terms
        if terms is not self._terms:
            self._terms = terms
            self._upkeep.adopt(terms.rules, terms.marks, terms.tolerances)
            self._upkeep.credits.adopt(terms.rules, terms.levels)

    async def _recover(self, reader: StreamReader, lane: Lane) -> None:
        """Stand where a worker stands that has just started, whatever went before."""
        async with self._writing:
            await asyncio.to_thread(self._ledger.migrate)
            await asyncio.to_thread(ledger_id, self._ledger)
        await self._one_ledger.need(reader.shards)
        self._has_ledger = True
        self._may_send.set()
        await reader.ensure_groups()
        # Before anything is settled: a newer entry would move the watermark over what is lost.
        await self._upkeep.read_what_is_lost(reader)
        await self._upkeep.rebuild_windows(reader)
        await self._settle_own(reader, lane)
        await self._booker.confirming.confirm(reader)
        lane.recovered = True

    async def _settle_own(self, reader: StreamReader, lane: Lane) -> None:
        """Settle what this consumer was given before and has not acknowledged."""
        lane.waiting.clear()
        after: dict[int, str] = {}
        while entries := await reader.read_own(after):
            after.update({entry.shard: entry.stream_id for entry in entries})
            await self._booker.settle_again(reader, lane, entries)
        if not lane.waiting:
            lane.retry_s = 0.0

    async def _keep_up(self, reader: StreamReader, lane: Lane, *, force: bool) -> None:
        now_s = monotonic_s()
        if force or now_s >= lane.upkeep_at:
            lane.upkeep_at = now_s + self._timing.upkeep_every_s
            await self._upkeep.run(reader)


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
