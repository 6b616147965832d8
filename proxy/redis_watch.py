"""What a proxy does whenever Redis comes, comes back, or comes back as another. One task.

Rules:
- Redis is checked, and the prices are published, before anything is sent to it, at the start and
  again whenever it is another server or has other data (emptied, restored from a copy). One that
  must not be used is as good as away: from when that is found out, nothing is sent to it.
- What waits on disk is replayed as soon as Redis is there, not at the next turn: a commit that was
  applied and whose answer was lost is only known to be a repeat for an hour.
- What a Redis may have lost with its data is committed again at once, but for what is known to be
  in the ledger: windows that are still to be rebuilt count it then, once, and nobody is admitted
  against windows that lack it.
- What is open is held again, where its hold may be lost.
- What an earlier run had admitted without Redis and left open is recorded once its spool is empty.
- Whatever stands in the way: what is on disk waits, and the requests of others go on. A record that
  Redis refuses, or whose part of a Cluster is away, stops no other.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from metering.caps import CapsUnavailableError
from metering.clock import monotonic_s, now_ns
from metering.local_journal import Leftover, LocalJournal
from metering.outage_caps import OutageCaps
from metering.prices import PriceBook
from metering.recent import RecentCommits
from metering.redis_caps import CapsSetupError, RedisCaps
from metering.redis_connect import RedisRunner
from metering.redis_events import (
    PriceConflictError,
    data_id,
    is_rebuilt,
    publish_prices,
    read_confirmed,
)
from metering.redis_keys import RedisKeys
from metering.redis_wire import RedisReplyError
from metering.spool import Spool
from proxy.metrics_exchange import ExchangeMetrics
from proxy.settings import Settings

TURN_S = 1.0
LOOK_S = 0.05
"""A server that is another is met so soon: what it lost with its data is lost for good should this
process die before that."""
REPLAY_AFTER_S = 1.0
"""A spooled exchange that is not committed for so long will not be by itself."""
CONFIRMED_EVERY_S = 3.0
OVERDUE_EVERY_S = 3_600.0
BODIES_MAX = 32
"""Books that are published again to a Redis that lost them: sixteen reloads with new prices."""
PUBLISH_S = 2.0
TRUSTED_AFTER_S = 1_800.0
"""At a start over a Redis that has data, kept segments older than this are not committed again: it
has had them on disk for long, and of a repeat it knows for an hour only."""


class RedisWatch:
    """Keeps what Redis must have in Redis; `prepared` once it has what requests need."""

    def __init__(
        self,
        link: RedisRunner,
        keys: RedisKeys,
        settings: Settings,
        *,
        caps: RedisCaps,
        guarded: OutageCaps,
        spools: Sequence[Spool],
        journals: Sequence[LocalJournal],
        recent: RecentCommits,
        log: Any,
        metrics: ExchangeMetrics,
        on_met: Callable[[], None],
    ) -> None:
        """The first of `spools` and of `journals` is this proxy's own, the others are adopted.
        `on_met` is told when this Redis is not the one of a moment ago, or lost its data."""
        self._link = link
        self._keys = keys
        self._books = dict(settings.prices.bodies)
        """What was in use since the start, for a Redis that has lost it; the newest last."""
        self._unpublished: set[str] = set(self._books)
        self._caps = caps
        self._guarded = guarded
        self._spools = spools
        self._journals = journals
        self._recent = recent
        self._keeps = settings.metering.spool == "always"
        self._log = log
        self._metrics = metrics
        self._on_met = on_met
        self._seen: tuple[int, str] | None = None
        self._is_met = False
        """Whether this turn found out which Redis and which data this is."""
        self._has_data_of_old = False
        self._must_resend = False
        self._trouble = ""
        self._confirmed_at_s = self._overdue_at_s = 0.0
        self.prepared = asyncio.Event()
        self.is_starting = True
        """Nobody is served yet: a Redis that must not be used ends the start, and not a process."""
        self.unusable = "it has not been looked at yet"
        """Why this Redis must not be asked by anybody but us, '' when it may."""

    async def run(self) -> None:
        """Go on until cancelled; only at the start does a Redis that must not be used end it."""
        while True:
            try:
                await self.turn()
                self._trouble = ""
                await self._rest()
            except CapsUnavailableError as error:
                self._tell("redis_away", str(error))
                await self._pause()
            except CapsSetupError as error:
                if self.is_starting:
                    raise
                self.unusable = str(error)
                self._guarded.probed(self.unusable)
                self._tell("redis_unusable", self.unusable)
                await asyncio.sleep(TURN_S)
            except Exception as error:  # noqa: BLE001 - the top of a task: a full disk, say
                self._tell("spool_waits", repr(error))
                await asyncio.sleep(TURN_S)

    async def turn(self) -> None:
        """Everything that is due now; CapsUnavailableError when Redis is not there for it."""
        if self._guarded.is_away or not self._link.is_up:
            await self._spools[0].check()  # nobody may be admitted whose usage could not be kept
        if not self._link.is_up:
            await self._wait_up()
        failure: CapsUnavailableError | None = None
        failed = set[object]()
        for step in (self._meet, self._probe, self._send_recent, self._mind_kept, self._replay):
            try:
                await step()
            except CapsUnavailableError as error:  # of a Cluster the next may need another part
                failure = failure or error
                failed.add(step)
                if step == self._meet and not (self._seen and await self._is_partly_up()):
                    raise
        # of what was left open the true commit may be among what is sent again, or replayed
        if self._is_met and not self._must_resend and self._replay not in failed:
            await self._recover()
        if failure is not None:
            raise failure

    async def adopt(self, prices: PriceBook) -> bool:
        """Publish a book that will be used; False while Redis is away, and it will be later.

        What was used before stays, for as long as events may name it that nobody has settled.
        """
        bodies, before = prices.bodies, self._books
        others = [each for each in before.items() if each[0] not in bodies]
        self._books = {**dict(others[-BODIES_MAX:]), **bodies}
        self._unpublished |= bodies.keys() - before.keys()
        try:
            async with asyncio.timeout(PUBLISH_S):
                await self._publish()
        except (CapsUnavailableError, TimeoutError):
            return False
        except PriceConflictError:
            self._unpublished -= bodies.keys() - before.keys()
            self._books = before
            raise
        return True

    async def _publish(self) -> None:
        """Put the books that Redis has not been given into it."""
        while waiting := self._unpublished & self._books.keys():
            bodies = {version: self._books[version] for version in waiting}
            await publish_prices(self._link, self._keys, bodies)
            self._unpublished -= waiting

    async def ready(self) -> bool:
        """Whether spend can be checked: Redis takes writes, and its windows are whole."""
        if self.unusable or not self._link.is_up or self._guarded.is_away:
            return False
        try:
            return await self._is_whole()
        except CapsUnavailableError:
            return False

    async def _wait_up(self) -> None:
        """Until all of Redis is there; for a Cluster of which a part stays away, not for long."""
        try:
            await self._link.wait_up(TURN_S)
        except CapsUnavailableError:
            if not await self._is_partly_up():
                raise

    async def _is_partly_up(self) -> bool:
        """Whether Redis is a Cluster of which some part answers and another is away."""
        if self._link.is_up:
            return False
        try:
            await self._link.call("PING")
        except CapsUnavailableError:
            return False
        return True

    async def _is_its_own(self, failure: BaseException) -> bool:
        """Whether a commit failed for its own sake, so that others may do better."""
        if isinstance(failure, RedisReplyError) and failure.code != "CLUSTERDOWN":
            return failure.is_its_own
        return isinstance(failure, CapsUnavailableError) and await self._is_partly_up()

    async def _meet(self) -> None:
        """Find out whether this is the Redis that we know; prepare one that is not."""
        self._is_met = False
        generation = self._link.generation
        fresh = secrets.token_hex(8)
        data = await data_id(self._link, self._keys, fresh=fresh)
        if self._seen == (generation, data):
            self._is_met = True
            await self._publish()
            return
        for warning in await self._caps.prepare():
            self._log.warning("redis", detail=warning)
        self.unusable = ""
        self._unpublished = set(self._books)
        await self._publish()
        if self._seen is not None:
            self._log.warning("redis_is_another", emptied=data != self._seen[1])
            self._recent.suspect()
        self._must_resend = True
        self._has_data_of_old = self._seen is None and data != fresh
        self._seen = (generation, data)
        self._is_met = True
        self._on_met()
        self.prepared.set()

    async def _probe(self) -> None:
        """Write something: a server that is full, read-only or failing answers to everything else.

        So an outage begins and ends for those who look, with requests or without.
        """
        try:
            await self._link.call("HSET", self._keys.meta, "written_ms", now_ns() // 1_000_000)
        except RedisReplyError as error:
            self._guarded.probed(str(error))
            raise
        self._guarded.probed(None)
        if self._is_met and self._link.is_up:
            self._recent.trust()

    async def _send_recent(self) -> None:
        if sent := await self._recent.replay(self._guarded):
            self._log.info("commits_sent_again", commits=sent)

    async def _mind_kept(self) -> None:
        """Delete what the ledger has; what it lacks is committed again where Redis may lack it.

        With `outage` nobody says what the ledger has, so what this Redis has had for long goes.
        """
        if self._must_resend:
            if self._keeps:
                await self._read_confirmed()
            within_s = TRUSTED_AFTER_S if self._has_data_of_old else None
            segments = sum([await each.distrust(within_s=within_s) for each in self._spools])
            self._must_resend = False
            if segments:
                self._log.info("spool_sent_again", segments=segments)
        elif not self._keeps:
            if self._link.is_up and self._is_met:
                for spool in self._spools:
                    await spool.forget()
        elif monotonic_s() >= self._confirmed_at_s:
            await self._read_confirmed()
        if self._keeps and monotonic_s() >= self._overdue_at_s:
            self._overdue_at_s = monotonic_s() + OVERDUE_EVERY_S
            if overdue := sum([await each.overdue() for each in self._spools]):
                self._log.warning("spool_unconfirmed", segments=overdue)

    async def _read_confirmed(self) -> None:
        self._confirmed_at_s = monotonic_s() + CONFIRMED_EVERY_S
        for spool in self._spools:
            await spool.discard(await read_confirmed(self._link, self._keys, spool.proxy_id))

    async def _replay(self) -> None:
        for spool in self._spools:
            report = await spool.replay(
                self._guarded,
                waited_s=REPLAY_AFTER_S if self._keeps else 0.0,
                is_its_own=self._is_its_own,
            )
            if report.records:
                self._log.info("spool_replayed", spool=spool.proxy_id, records=report.records)
                self._metrics.replayed(report.records)
            if report.refused:
                self._log.error("spool_damaged", records=list(report.refused))
            if report.put_off:
                self._log.error("spool_put_off", records=list(report.put_off))
        self._guarded.replayed(self._spools[0].exchanges)

    async def _recover(self) -> None:
        waiting = set[str]().union(*(spool.exchanges for spool in self._spools))
        for journal in self._journals:
            await journal.recover(
                self._guarded,
                self._tell_leftover,
                waiting=waiting,
                is_its_own=self._is_its_own,
            )

    def _tell_leftover(self, left: Leftover) -> None:
        """In the words of the worker, which recovers what Redis knows of."""
        if left.is_put_off:
            self._log.error(
                "exchange_put_off",
                tenant=left.tenant,
                exchange_id=left.exchange_id,
                cause=left.cause,
            )
            return
        if left.made is None:
            self._log.warning("exchange_lost", exchange_id=left.exchange_id, cause=left.cause)
            return
        self._metrics.recovered()
        self._log.warning(
            "exchange_recovered",
            tenant=left.tenant,
            exchange_id=left.exchange_id,
            proxy_id=left.owner,
            events=len(left.made.events),
            sell_nano=left.made.actual.nano,
        )

    async def _is_whole(self) -> bool:
        shards = range(self._keys.shards)
        found = await asyncio.gather(
            *(is_rebuilt(self._link, self._keys, shard) for shard in shards)
        )
        return all(found)

    async def _rest(self) -> None:
        """Until the next turn is due, or the server is another than the one that was met."""
        until_s = monotonic_s() + TURN_S
        while (  # noqa: ASYNC110 - the link sends no word of it
            monotonic_s() < until_s and self._seen and self._seen[0] == self._link.generation
        ):
            await asyncio.sleep(min(LOOK_S, TURN_S))

    async def _pause(self) -> None:
        """Until Redis can be asked again, but not at once where it answers and refuses."""
        if self._link.is_up:
            await asyncio.sleep(TURN_S)

    def _tell(self, event: str, cause: str) -> None:
        """Once, not every second, for as long as the trouble is the same."""
        if self._trouble != event:
            self._trouble = event
            self._log.warning(event, cause=cause)
