"""New settings in the settlement worker: its terms, from the supervisor's line to its offer."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from typing import Any

from metering.settlement.counting import Rules
from metering.settlement.credit_levels import levels_of
from metering.settlement.crossings import Marks
from metering.settlement.terms import Offer, Terms
from proxy import metrics_catalogue as catalogue
from proxy.config_reading import Found, Read, look
from proxy.metrics import Metrics
from proxy.settings import Settings
from proxy.settings_changes import replaced
from proxy.settings_line import Answer, Change, ChildLine
from proxy.settling_jobs import jobs_of


def terms_of(settings: Settings) -> Terms:
    """What the worker goes by."""
    return Terms(
        rules=Rules.of(settings.tenants.values()),
        marks=Marks(backlog_high=settings.metering.backlog_high_water),
        tolerances=settings.tolerances,
        sinks=settings.sinks,
        stripe=settings.stripe,
        webhooks=settings.webhooks,
        tenants=frozenset(settings.tenants),
        levels=levels_of(settings.tenants.values()),
        jobs=jobs_of(settings),
    )


async def follow(line: ChildLine, offer: Offer, metrics: Metrics, log: Any) -> None:
    """Put what comes on the line into the offer. Runs until it is cancelled."""
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(line.fileno(), readable.set)
    try:
        while True:
            await readable.wait()
            readable.clear()
            while (change := line.receive()) is not None:
                line.say(_answer(change, offer, metrics, log))
    finally:
        loop.remove_reader(line.fileno())


async def follow_hangups(
    read: Read, settings: Settings, offer: Offer, log: Any, asked: asyncio.Event
) -> None:
    """Where the worker runs alone: read the file again at every SIGHUP, and when `asked`, which
    the registry does. Runs until it is cancelled.

    `settings` are those it began with: what needs a restart is told, and stays as it is there.
    """
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, asked.set)
    try:
        while True:
            await asked.wait()
            asked.clear()
            found = await asyncio.to_thread(look, read)
            _take_up(found, settings, offer, log)
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _take_up(found: Found, began: Settings, offer: Offer, log: Any) -> None:
    if found.settings is None:
        for each in found.faults:
            log.error("configuration_fault", file=str(began.source), **each)
        log.error("configuration_refused", why="asked for", faults=len(found.faults))
        return
    for warning in found.warnings:
        log.warning("configuration", detail=warning)
    fresh = found.settings
    if fresh.redis.url is None:  # the embedded one, wherever it is
        fresh = replace(fresh, redis=replace(fresh.redis, url=began.redis.url))
    made = replaced(began, fresh)
    try:
        offer.put(terms_of(made.settings))
    except Exception as error:  # noqa: BLE001 - whatever a sink has against it: the old terms hold
        log.error("settings_not_replaced", cause=f"{type(error).__name__}: {error}")
        return
    waiting = list(made.waiting)
    log.info("configuration_reloaded", why="asked for", needs_a_restart=waiting)


def _answer(change: Change, offer: Offer, metrics: Metrics, log: Any) -> Answer:
    try:
        offer.put(terms_of(change.settings))
    except Exception as error:  # noqa: BLE001 - whatever a sink has against it: the old terms hold
        cause = f"{type(error).__name__}: {error}"
        log.error("settings_not_replaced", cause=cause)
        return Answer(change.generation, cause)
    metrics.set(catalogue.CONFIG_GENERATION, to=change.generation)
    log.info("settings_replaced", generation=change.generation)
    return Answer(change.generation)
