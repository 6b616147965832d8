"""New settings in the settlement worker: its terms, from the supervisor's line to its offer."""

from __future__ import annotations

import asyncio
from typing import Any

from metering.settlement.counting import Rules
from metering.settlement.crossings import Marks
from metering.settlement.terms import Offer, Terms
from proxy import metrics_catalogue as catalogue
from proxy.metrics import Metrics
from proxy.settings import Settings
from proxy.settings_line import Answer, Change, ChildLine


def terms_of(settings: Settings) -> Terms:
    """What the worker goes by."""
    return Terms(
        rules=Rules.of(settings.tenants.values()),
        marks=Marks(backlog_high=settings.metering.backlog_high_water),
        tolerances=settings.tolerances,
        sinks=settings.sinks,
        stripe=settings.stripe,
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
