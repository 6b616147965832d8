"""Degradation from the door to a real Redis, with a clock that the test moves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from caps_samples import RedisSubject
from fixtures_door import OpenDoor, RunningDoor, usd
from fixtures_upstream import ScriptedUpstream, completion
from plan_samples import shadowed, steps_tenant, three_models

from metering.caps import Limit, ScopeKind
from metering.events import decode
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.steps import Step
from metering.tenants import CapRule
from metering.window import rolling
from proxy.settings import Settings

STEPS = (
    Step(800_000, to="cheap"),
    Step(900_000, max_tokens=50, instruct="Answer in one sentence."),
)
DWELL_MS = 120_000


def configured(upstream: ScriptedUpstream) -> Settings:
    """A dollar per minute; the steps hold for two minutes at least."""
    made = three_models(*STEPS, url=upstream.url)
    who = replace(
        steps_tenant(*STEPS, dwell_ms=DWELL_MS),
        cap_rules=(CapRule(ScopeKind.TENANT, rolling(60), Limit(nano=usd("1.00"))),),
    )
    limits = replace(who.limits, daily_cap_nano=None)
    return replace(made, tenants={who.id: replace(who, limits=limits)})


@pytest.fixture
async def redis(redis_link: RedisLink, redis_keys: RedisKeys) -> RedisSubject:
    subject = RedisSubject(redis_link, redis_keys)
    await subject.mark()
    return subject


async def ask(door: RunningDoor, upstream: ScriptedUpstream, output: int) -> tuple[str, ...]:
    """Ask for `dear`, with an answer of so many tokens; who answered, and what the header says."""
    upstream.scripts = [[completion(prompt=0, output=output)]]
    answer = await door.chat(model="dear", max_tokens=max(output, 64))
    assert answer.status == 200, await answer.text()
    return answer.headers["x-weir-model"], answer.headers.get("x-weir-degraded", "")


async def test_up_the_steps_and_back_after_the_dwell(
    open_door: OpenDoor, upstream: ScriptedUpstream, redis: RedisSubject
) -> None:
    """At 0.8 another model, at 0.9 a bound and an instruction, too; and back no sooner than the
    dwell is over, though the window has long been empty again."""
    door = await open_door(configured(upstream), redis.caps)
    clock = redis.clock
    began_ms = clock.ms

    assert await ask(door, upstream, 2050) == ("dear", "")  # 0.82
    assert await ask(door, upstream, 20_000) == ("cheap", "from=dear; to=cheap; reason=step")
    assert await ask(door, upstream, 50) == (
        "cheap",
        "from=dear; to=cheap; max_tokens=50; instruct; reason=step",
    )
    sent = upstream.received[-1].json
    assert sent["max_tokens"] == 50
    assert sent["messages"][0] == {"role": "system", "content": "Answer in one sentence."}

    clock.ms = began_ms + 90_000
    assert (await ask(door, upstream, 1))[0] == "cheap"
    clock.ms = began_ms + DWELL_MS + 1
    assert await ask(door, upstream, 1) == ("dear", "")
    events = [decode(body) for body in await redis.events("acme")]
    assert [event.degrade_step for event in events] == [
        None,
        "cheap",
        "cheap; max_tokens=50; instruct",
        "cheap; max_tokens=50; instruct",
        None,
    ]


async def test_shadow_serves_as_if_there_were_no_steps(
    open_door: OpenDoor, upstream: ScriptedUpstream, redis: RedisSubject
) -> None:
    """The model that was asked for answers; the event says what would have been done."""
    door = await open_door(shadowed(configured(upstream)), redis.caps)

    assert await ask(door, upstream, 2050) == ("dear", "")
    assert await ask(door, upstream, 100) == ("dear", "")
    events = [decode(body) for body in await redis.events("acme")]
    assert [event.degrade_shadow for event in events] == [None, "cheap"]
    assert {event.degrade_step for event in events} == {None}
