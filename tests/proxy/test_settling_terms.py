"""A worker that runs alone takes up its file at a SIGHUP."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fixtures_door import CollectingLog, settings

from metering.background import spawn
from metering.settlement.terms import Offer
from metering.tolerances import Tolerance, Tolerances
from proxy.config import ConfigFaults, Fault, Loaded
from proxy.settings import Secret, Settings
from proxy.settling_terms import follow_hangups, terms_of

BEGAN = replace(settings({"one": "http://one"}), source=Path("config.yaml"))
OTHERS = Tolerances(every=Tolerance(days_min=7))


async def heard(log: CollectingLog, event: str) -> dict[str, object]:
    async with asyncio.timeout(5):
        while not (found := [fields for name, fields in log.lines if name == event]):
            await asyncio.sleep(0.005)
    return found[-1]


async def hung_up(read: Callable[[], Loaded], event: str) -> tuple[Offer, dict[str, object]]:
    """What is on offer after a SIGHUP, and what was said of it."""
    log = CollectingLog()
    offer = Offer(terms_of(BEGAN), log)
    following = spawn(follow_hangups(read, BEGAN, offer, log, asyncio.Event()), name="settings")
    try:
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGHUP)
        said = await heard(log, event)
    finally:
        following.cancel()
        await asyncio.wait([following])
    return offer, said


def changed() -> Settings:
    redis = replace(BEGAN.redis, url=Secret("redis://elsewhere"))
    return replace(BEGAN, tolerances=OTHERS, redis=redis)


async def test_it_goes_by_the_new_file() -> None:
    """And says what has to wait for a restart."""
    offer, said = await hung_up(lambda: Loaded(changed()), "configuration_reloaded")

    assert offer.terms.tolerances == OTHERS
    assert said["needs_a_restart"] == ["redis.url"]


async def test_a_faulty_file_changes_nothing() -> None:
    """It is refused with every fault."""

    def read() -> Loaded:
        raise ConfigFaults(Path("config.yaml"), [Fault("anomalies", 3, 7, "no such thing")])

    offer, said = await hung_up(read, "configuration_refused")

    fresh = terms_of(BEGAN)
    assert replace(offer.terms, jobs=fresh.jobs) == fresh  # what does the jobs is made each time
    assert offer.terms.jobs.settings == fresh.jobs.settings
    assert said["faults"] == 1
