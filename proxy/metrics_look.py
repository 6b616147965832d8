"""How a proxy process stands: what its gauges show and what `/readyz` on the metrics port tells.

Asked every second in the background. While Redis is away it is not asked anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from metering.caps import CapsUnavailableError
from metering.clock import monotonic_s
from metering.money import PPM
from metering.outage_caps import OutageCounts
from metering.redis_events import backlog, is_rebuilt, oldest_unsettled_ms
from metering.replies import Kind
from metering.spool import SpoolDepth
from proxy import metrics_catalogue as catalogue
from proxy.adopted import total_depth
from proxy.metrics_redis import MeasuredRunner
from routing.health import State
from routing.readiness import sums

if TYPE_CHECKING:
    from proxy.services import Services

BACKLOG_EVERY_S = 5.0
FIGURES_EVERY_S = 5.0


class ProxyLook:
    """Looks at the services of one process. One process of an installation counts the backlog."""

    def __init__(
        self,
        services: Services,
        runner: MeasuredRunner,
        connections: Callable[[], int],
        *,
        counts_backlog: bool,
    ) -> None:
        self._services = services
        self._runner = runner
        self._connections = connections
        self._backlog_due_s = 0.0 if counts_backlog else float("inf")
        self._backlog: dict[str, int] | None = None
        self._generation = services.link.generation
        self._counts = OutageCounts()
        self._figures_due_s = 0.0

    async def __call__(self) -> dict[str, Any]:
        """Set the gauges; the standing of this process."""
        services, metrics = self._services, self._services.door.metrics.metrics
        now_s = monotonic_s()
        missing = await self._ask()
        is_ready = services.is_prepared and missing == [] and not self._is_draining
        metrics.set(catalogue.READY, to=is_ready)
        metrics.set(catalogue.REDIS_UP, to=services.link.is_up)
        metrics.set(catalogue.OPEN_EXCHANGES, to=len(services.renewals))
        metrics.set(catalogue.OPEN_CONNECTIONS, to=self._connections())
        if (grown := services.link.generation - self._generation) > 0:
            metrics.add(catalogue.REDIS_GENERATIONS, by=grown)
            self._generation += grown
        depth = self._count_outage()
        states = services.door.health.states(now_s)
        for label, state in states.items():
            metrics.set(catalogue.UPSTREAM_OPEN, label, to=state is State.OPEN)
        self._show_upstreams(now_s)
        committed_s = self._runner.committed_at_s
        unsettled, refuses = self._show_backlog()
        return {
            "is_ready": is_ready,
            "is_draining": self._is_draining,
            "redis_up": services.link.is_up,
            "is_prepared": services.is_prepared,
            "shards_to_rebuild": missing,
            "open_exchanges": len(services.renewals),
            "unsettled_entries": unsettled,
            "is_refusing_backlog": refuses,
            "spool_records": depth.records,
            "spool_oldest_s": round(depth.oldest_s, 1),
            "last_commit_age_s": None if committed_s is None else round(now_s - committed_s, 1),
            "upstreams": {label: str(state) for label, state in states.items()},
            **({} if self._backlog is None else {"stream": self._backlog}),
        }

    def _show_upstreams(self, now_s: float) -> None:
        """What is under way, and now and then what was seen within the hour."""
        history, metrics = self._services.door.history, self._services.door.metrics.metrics
        in_flight = history.in_flight()
        for label, count in in_flight.items():
            metrics.set(catalogue.UPSTREAM_IN_FLIGHT, label, to=count)
        if now_s < self._figures_due_s:
            return
        self._figures_due_s = now_s + FIGURES_EVERY_S
        for label in in_flight:
            found = sums(history.seen(label))
            for metric, share_ppm in (
                (catalogue.UPSTREAM_SUCCESS, found.success_ppm),
                (catalogue.UPSTREAM_DRIFT, found.drift_ppm),
            ):
                if share_ppm is None:  # nothing is known any more
                    metrics.gauges.pop((metric.name, label), None)
                else:
                    metrics.set(metric, label, to=share_ppm / PPM)

    def _show_backlog(self) -> tuple[int | None, bool]:
        """What this process found when it looked, and whether it refuses for it."""
        lifecycle, metrics = self._services.door.lifecycle, self._services.door.metrics.metrics
        found = lifecycle.backlog
        metrics.set(catalogue.BACKLOG_REFUSING, to=lifecycle.is_backlogged)
        if found is None:
            return None, lifecycle.is_backlogged
        metrics.set(catalogue.UNSETTLED, to=found.unsettled)
        return found.unsettled, lifecycle.is_backlogged

    def _count_outage(self) -> SpoolDepth:
        """What waits on disk, and what was decided without Redis since the last look."""
        metrics, caps = self._services.door.metrics.metrics, self._services.caps
        depth = total_depth(self._services.spools)
        counts, before = replace(caps.counts), self._counts
        metrics.set(catalogue.SPOOL_RECORDS, to=depth.records)
        metrics.set(catalogue.SPOOL_BYTES, to=depth.bytes)
        metrics.set(catalogue.SPOOL_AGE, to=int(depth.oldest_s))
        metrics.set(catalogue.OUTAGE, to=caps.is_away)
        metrics.add(catalogue.OUTAGE_ADMITTED, by=counts.admitted - before.admitted)
        metrics.add(catalogue.OUTAGE_REFUSED, by=counts.refused - before.refused)
        self._counts = counts
        return depth

    @property
    def _is_draining(self) -> bool:
        return self._services.door.lifecycle.is_draining

    async def _ask(self) -> list[int] | None:
        """The shards whose windows are not whole; None when Redis does not say."""
        services = self._services
        if not services.link.is_up:
            return None
        shards = range(services.keys.shards)
        try:
            if monotonic_s() >= self._backlog_due_s:
                self._backlog_due_s = monotonic_s() + BACKLOG_EVERY_S
                await self._count_replies()
                await self._count_backlog()
            whole = await asyncio.gather(
                *(is_rebuilt(services.link, services.keys, shard) for shard in shards)
            )
        except CapsUnavailableError:
            return None
        return [shard for shard, is_whole in zip(shards, whole, strict=True) if not is_whole]

    async def _count_replies(self) -> None:
        """The bytes of what is kept, by shard. A Redis of the cache's own may be away."""
        door, shards = self._services.door, range(self._services.keys.shards)
        kinds: tuple[Kind, ...] = ("repeats",)
        if door.settings.cache.is_used:
            kinds = ("repeats", "replies")
        for kind in kinds:
            try:
                found = await asyncio.gather(*(door.replies.held(kind, each) for each in shards))
            except CapsUnavailableError:
                continue
            for shard, size in zip(shards, found, strict=True):
                door.metrics.metrics.set(catalogue.CACHE_BYTES, kind, str(shard), to=size)

    async def _count_backlog(self) -> None:
        services, metrics = self._services, self._services.door.metrics.metrics
        shards = range(services.keys.shards)
        found = await asyncio.gather(
            *(backlog(services.link, services.keys, shard) for shard in shards)
        )
        oldest_ms = await asyncio.gather(
            *(oldest_unsettled_ms(services.link, services.keys, shard) for shard in shards)
        )
        seconds, micros = await services.link.call("TIME")
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        since_ms = min((each for each in oldest_ms if each is not None), default=now_ms)
        self._backlog = {
            "entries": sum(each.length for each in found),
            "pending": sum(each.pending for each in found),
            "oldest_unsettled_s": max(0, now_ms - since_ms) // 1000,
        }
        metrics.set(catalogue.STREAM_ENTRIES, to=self._backlog["entries"])
        metrics.set(catalogue.STREAM_PENDING, to=self._backlog["pending"])
        metrics.set(catalogue.STREAM_AGE, to=self._backlog["oldest_unsettled_s"])
