"""What a process holds open: opened in order, closed in reverse. Run by the supervisor's children.

`run_proxy` is one proxy process. A Redis that is not there yet
does not stop a proxy from listening: it refuses by name until Redis comes, and needs no restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import uvloop
from aiohttp import web

from metering.background import spawn
from metering.caps import Caps
from metering.checked_caps import CheckedCaps
from metering.local_journal import LocalJournal
from metering.outage_caps import OutageCaps
from metering.outage_slices import OutagePolicy
from metering.recent import RecentCommits
from metering.redis_caps import CapsSetupError, RedisCaps
from metering.redis_connect import RedisRunner, open_runner
from metering.redis_keys import RedisKeys
from metering.spool import Spool
from proxy import telemetry
from proxy.adopted import journals_of, spools_of
from proxy.app import create_app, create_runner
from proxy.backlog import watch_backlog
from proxy.balances import follow_balances
from proxy.calibration_sync import CalibrationSync
from proxy.crowd import raise_file_limit
from proxy.door import Door
from proxy.draining import QUIET_S, connections, drain
from proxy.health_sync import HealthSync
from proxy.history_sync import HistorySync
from proxy.metrics import Metrics
from proxy.metrics_exchange import ExchangeMetrics
from proxy.metrics_look import ProxyLook
from proxy.metrics_redis import MeasuredRunner
from proxy.metrics_report import Reporter, resume
from proxy.pool import HttpTransport
from proxy.probes import Probing
from proxy.redis_watch import RedisWatch
from proxy.renewals import Renewals
from proxy.replacing import Replacing
from proxy.reporting import report_end, report_spools
from proxy.settings import Settings, redis_keys
from proxy.sockets import BACKLOG
from proxy.stop_signals import GC_THRESHOLD, stop_on_signals
from proxy.stores import with_stores
from proxy.telemetry_open import with_tracing
from proxy.tls import server_context

if TYPE_CHECKING:
    from proxy.family import ProxyProcess

REDIS_AT_START_S = 2.0
READY_POLL_S = 0.02


@dataclass(slots=True)
class Services:
    """The open things of a proxy process; `failed` carries a set-up error that only a person can
    mend."""

    door: Door
    link: RedisRunner
    keys: RedisKeys
    spools: list[Spool]
    """The process' own, and behind it those it has adopted."""
    renewals: Renewals
    caps: OutageCaps
    watch: RedisWatch
    measured: MeasuredRunner
    transport: HttpTransport
    failed: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    told: list[Callable[[Settings], None]] = field(default_factory=list)
    """Who holds something of the settings beside the door, and hears of new ones."""

    @property
    def spool(self) -> Spool:
        """The one that this process writes to."""
        return self.spools[0]

    @property
    def is_prepared(self) -> bool:
        """Whether Redis was found fit for use, and has the prices."""
        return self.watch.prepared.is_set()

    async def adopt(self, settings: Settings, *, renews_files: bool = False) -> Door:
        """The door of these settings, which is this process' from now on.

        What is open stays at the door it began with; both share everything but the settings. The
        prices are in Redis before the door is made, or, while Redis is away, before any event is.
        """
        if not await self.watch.adopt(settings.prices):
            self.door.log.warning("prices_not_published_yet", cause="Redis is away")
        self.caps.slices.policy = _outage_policy(settings)
        self.transport.adopt(settings.egress, renews_files=renews_files)
        for tell in self.told:
            tell(settings)
        metrics = _counted(settings, self.door.metrics.metrics)
        self.door = replace(self.door, settings=settings, metrics=metrics)
        return self.door

    async def ready(self) -> bool:
        """Whether spend can be checked, and will be: Redis answers, its windows are whole, and
        nobody has asked for the end."""
        return not self.door.lifecycle.is_draining and await self.watch.ready()


@contextlib.asynccontextmanager
async def open_services(
    settings: Settings, *, proxy_id: str, metrics: Metrics | None = None
) -> AsyncIterator[Services]:
    """Everything one proxy process needs, for as long as the block runs."""
    assert settings.redis.url is not None, "the supervisor fills in the embedded server's URL"
    log = telemetry.logger("proxy").bind()  # bound once: a lazy logger is made anew at each use
    keys = redis_keys(settings)
    link = open_runner(
        settings.redis.url.reveal(),
        timeout_ms=settings.redis.timeout_ms,
        name=f"weir-{proxy_id}",
        on_error=lambda error: log.error("redis_link_failed", cause=repr(error)),
    )
    counted = _counted(settings, metrics)
    measured = MeasuredRunner(link, counted.metrics)
    journal, *_ = journals = journals_of(settings, proxy_id, log)
    spool, *_ = spools = spools_of(settings, proxy_id, journal, log)
    recent = RecentCommits(lambda: link.generation)
    redis_caps = RedisCaps(measured, keys)
    checked = CheckedCaps(redis_caps, lambda: watch.unusable)
    caps = _outage_caps(settings, checked, link, (spool, journal), recent=recent, log=log)
    renewals = Renewals(caps, log)
    caps.on_back = renewals.hurry
    watch = RedisWatch(
        link,
        keys,
        settings,
        caps=redis_caps,
        guarded=caps,
        spools=spools,
        journals=journals,
        recent=recent,
        log=log,
        metrics=counted,
        on_met=renewals.hurry,
    )
    transport = HttpTransport(settings.egress)
    door = Door(settings, caps, transport, spool, renewals, log, proxy_id, metrics=counted)
    door, apart = with_stores(door, measured, keys)
    door, sending = with_tracing(door)
    services = Services(door, link, keys, spools, renewals, caps, watch, measured, transport)
    async with link, sending, apart, contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(transport.close)
        stack.push_async_callback(report_end, link, keys, _owners(spools))  # at last
        await _opened(stack, journals, spools)
        for name, work in {
            "renewals": renewals.run(),
            "backlog": watch_backlog(lambda: services.door, link, keys),
            "redis-watch": watch.run(),
            "spool-report": report_spools(link, keys, _owners(spools), log),
            **_sharing(services, log),
        }.items():
            task = spawn(work, name=name, on_error=lambda error: _fail(services, error))
            stack.push_async_callback(_stopped, task)
        await _prepared(services)
        yield services


async def _opened(
    stack: contextlib.AsyncExitStack, journals: Iterable[LocalJournal], spools: Iterable[Spool]
) -> None:
    for left in journals:
        await left.open()
        stack.push_async_callback(left.close)  # after the spools, which tell it what they have
    for each in spools:
        await each.open()
        stack.push_async_callback(each.close)


def _owners(spools: Iterable[Spool]) -> dict[str, Spool]:
    return {each.proxy_id: each for each in spools}


def _sharing(services: Services, log: Any) -> dict[str, Coroutine[Any, Any, None]]:
    """What proxies tell each other of upstreams and their models, and hear of balances, beside the
    path."""
    door, link, keys = services.door, services.link, services.keys
    calibration = CalibrationSync(door.calibration, link, keys, models=(), log=log)
    health = HealthSync(door.health, link, keys, labels=(), log=log)
    history = HistorySync(door.history, link, keys, proxy_id=door.proxy_id, labels=(), log=log)
    probing = Probing(lambda: services.door, link, keys, name=history.name, log=log)

    def know(settings: Settings) -> None:
        upstreams = [each for model in settings.models.values() for each in model.upstreams]
        for sync in (health, history):
            sync.know([each.label for each in upstreams])
        calibration.know({each.model for each in upstreams})

    know(door.settings)
    services.told.append(know)
    return {
        "health-sync": health.run(),
        "history-sync": history.run(),
        "calibration-sync": calibration.run(),
        "probes": probing.run(),
        "balances": follow_balances(lambda: services.door, link, keys),
    }


async def _prepared(services: Services) -> None:
    """Wait for Redis, but not for long: without it requests are served by `redis.on_outage`.

    Raises what makes a start useless, before anybody can send a request.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REDIS_AT_START_S):
            await asyncio.wait(
                [services.failed, spawn(services.watch.prepared.wait(), name="prepared")],
                return_when=asyncio.FIRST_COMPLETED,
            )
    if services.failed.done():
        await services.failed
    services.watch.is_starting = False


def _outage_caps(
    settings: Settings,
    caps: Caps,
    link: RedisRunner,
    disk: tuple[Spool, LocalJournal],
    *,
    recent: RecentCommits,
    log: Any,
) -> OutageCaps:
    """The caps as requests ask them, and a line in the log whenever Redis goes or comes."""
    spool, journal = disk

    def told(cause: str | None) -> None:
        counts, policy = guarded.counts, guarded.slices.policy
        if cause is None:
            log.warning("redis_is_back", admitted=counts.admitted, refused=counts.refused)
            return
        say = log.error if policy.mode == "open" else log.warning
        say("redis_outage", on_outage=policy.mode, cause=cause)

    def told_broken(tenant: str, cause: str) -> None:
        log.error("tenant_refused_by_redis", tenant=tenant, cause=cause)

    guarded = OutageCaps(
        caps,
        _outage_policy(settings),
        is_up=lambda: link.is_up,
        is_recordable=lambda: spool.is_writable,
        recent=recent,
        journal=journal,
        on_change=told,
        on_broken=told_broken,
    )
    return guarded


def _outage_policy(settings: Settings) -> OutagePolicy:
    redis = settings.redis
    return OutagePolicy(redis.on_outage, redis.outage_share_ppm, settings.server.workers)


def _counted(settings: Settings, metrics: Metrics | None) -> ExchangeMetrics:
    return ExchangeMetrics(
        metrics,
        models=settings.models,
        tenants=settings.tenants if settings.server.metrics_tenants else (),
    )


def run_proxy(process: ProxyProcess) -> int:
    """One proxy process, until SIGTERM; returns its exit code."""
    return int(uvloop.run(_serve(process)))


async def _serve(process: ProxyProcess) -> int:
    stop, hurry = stop_on_signals()
    gc.set_threshold(*GC_THRESHOLD)
    raise_file_limit()
    metrics = Metrics()
    if process.board is not None:
        resume(process.board, metrics)
    try:
        async with open_services(
            process.settings, proxy_id=process.proxy_id, metrics=metrics
        ) as services:
            return await _serve_with(process, services, stop, hurry)
    except CapsSetupError as failure:
        telemetry.logger("proxy").error("cannot_run", cause=str(failure))
        sys.stderr.write(f"weir: {failure}\n")
        return 1


async def _serve_with(
    process: ProxyProcess, services: Services, stop: asyncio.Event, hurry: asyncio.Event
) -> int:
    log = services.door.log
    app = create_app(services.door, services.ready)
    tls = process.settings.server.tls
    context = server_context(tls) if tls is not None else None
    runner = create_runner(app, shutdown_timeout_s=QUIET_S, tls=context)
    await runner.setup()
    reporter = _reporter(process, services, runner)
    if process.line is not None:
        replacing = Replacing(process.line, services, app, runner, process.generation)
        for name, work in replacing.tasks(hears=process.index == 0).items():
            spawn(work, name=name, on_error=lambda error: _fail(services, error))
    try:
        for listening in process.sockets:
            await web.SockSite(runner, listening, backlog=BACKLOG).start()
        log.info("listening", url_path="/v1/chat/completions", index=process.index)
        if process.pulse is not None:
            spawn(process.pulse.go_on(), name="pulse")
        spawn(
            _report_ready(process, services),
            name="report-ready",
            on_error=lambda error: _fail(services, error),
        )
        stopping = spawn(stop.wait(), name="stop")
        await asyncio.wait([stopping, services.failed], return_when=asyncio.FIRST_COMPLETED)
    finally:
        services.door.lifecycle.is_draining = True
        if reporter is not None:
            reporter.write(is_draining=True, is_ready=False)
        await drain(runner, services, drain_s=process.drain_s, hurry=hurry)
        if reporter is not None:
            reporter.write()
    if services.failed.done() and services.failed.exception() is not None:
        log.error("cannot_run", cause=str(services.failed.exception()))
        return 1
    return 0


async def _report_ready(process: ProxyProcess, services: Services) -> None:
    """Say so once requests are served, or when waiting for that has taken long enough.

    Until then they are refused by name: whoever reads the banner should not be the first to know.
    """
    try:
        async with asyncio.timeout(process.ready_wait_s):
            while not await services.ready():  # noqa: ASYNC110 - Redis sends no word of it
                await asyncio.sleep(READY_POLL_S)
    except TimeoutError:
        if process.ready_wait_s:
            services.door.log.warning("not_ready_yet", waited_s=process.ready_wait_s)
    process.report_ready()


def _reporter(process: ProxyProcess, services: Services, runner: web.AppRunner) -> Reporter | None:
    """Reports on the process' board until the loop ends; None when nobody asked for metrics."""
    if process.board is None:
        return None
    look = ProxyLook(
        services,
        services.measured,
        lambda: connections(runner),
        counts_backlog=process.index == 0,
    )
    reporter = Reporter(process.board, services.door.metrics.metrics, look, services.door.log)
    spawn(reporter.run(), name="report", on_error=lambda error: _fail(services, error))
    return reporter


def _fail(services: Services, error: BaseException) -> None:
    if not services.failed.done():
        known = isinstance(error, CapsSetupError)
        services.failed.set_exception(error if known else RuntimeError(repr(error)))


async def _stopped(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])
