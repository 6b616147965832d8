"""From the stream to the flag: the worker finds a runaway while it settles."""

from __future__ import annotations

from dataclasses import replace

import orjson
from fixtures_ledger import make_event
from fixtures_worker import Site

from metering.clock import now_ns
from metering.events import UsageEvent
from metering.tolerances import Mode, Tolerance, Tolerances

MINUTE_NS = 60_000_000_000
NEW_HERE = Tolerance(
    mode=Mode.ENFORCE, cold_start_nano=10**10, degrade_after_min=3, pause_after_min=4
)


def _burst(minutes: int) -> list[UsageEvent]:
    """Twenty dollars in each of the minutes before this one, of somebody nobody knows yet."""
    last = (now_ns() - 10 * 10**9) // MINUTE_NS - 1
    return [
        make_event(units={"input_uncached": 4_000_000}, completed_at=(last - at) * MINUTE_NS + 1)
        for at in range(minutes)
    ]


async def test_a_runaway_is_degraded_paused_and_told(site: Site) -> None:
    """All in the turn that settles it; a worker that comes later says nothing twice."""
    await site.publish_prices()
    await site.commit(*_burst(6))
    await site.work(tolerances=Tolerances(NEW_HERE))
    await site.work(tolerances=Tolerances(NEW_HERE))

    state = await site.redis.hgetall(site.keys.state("acme"))
    assert state[b"stage_min"] == b"1"
    assert orjson.loads(state[b"paused"])["by"] == "anomaly"
    told = [values["kind"] for event, values in site.log.lines if event == "alert"]
    assert sorted(told) == ["spend_degraded", "spend_paused", "spend_velocity"]
    assert site.count("review_item") == 1


async def test_what_is_settled_twice_is_no_runaway(site: Site) -> None:
    """The same two minutes of spend, again and again."""
    await site.publish_prices()
    events = _burst(2)
    await site.commit(*events)
    await site.work(tolerances=Tolerances(NEW_HERE))
    await site.commit(*events, *events)
    await site.work(tolerances=Tolerances(NEW_HERE))

    assert site.count("review_item") == 0
    assert await site.redis.exists(site.keys.state("acme")) == 0


async def test_without_being_asked_a_worker_only_tells(site: Site) -> None:
    """The defaults."""
    await site.publish_prices()
    await site.commit(*_burst(40))
    await site.work(tolerances=Tolerances(replace(NEW_HERE, mode=Mode.ALERT)))

    assert site.count("review_item") == 1
    assert await site.redis.exists(site.keys.state("acme")) == 0
