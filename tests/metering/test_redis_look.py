"""A look at Redis answers as a reserve would, and leaves everything as it was."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from caps_agreement import CAP_SETS, random_steps
from caps_samples import RedisSubject, ask, cap, hold, stairs

from metering.caps import (
    Denial,
    DenialReason,
    HoldEndedError,
    Reservation,
    Vector,
)
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink


@pytest.fixture
async def subject(redis_link: RedisLink, redis_keys: RedisKeys) -> RedisSubject:
    made = RedisSubject(redis_link, RedisKeys(prefix=redis_keys.prefix, shards=1))
    await made.mark()
    return made


async def dump(subject: RedisSubject) -> dict[bytes, Any]:
    """Everything under the prefix, byte by byte."""
    found = {}
    for name in await subject.link.call("KEYS", f"{subject.keys.prefix}:*"):
        found[name] = await subject.link.call("DUMP", name)
    return found


def verdict(answer: Reservation | Denial) -> Any:
    """What a look and a reserve have in common: a reserve's states are those of after it."""
    if isinstance(answer, Denial):
        return replace(answer, stage=0)
    return replace(answer, states=())


@pytest.mark.parametrize("seed", range(6))
async def test_a_look_says_what_a_reserve_does(subject: RedisSubject, seed: int) -> None:
    """At any moment of any history, under any caps and stairs."""
    compared = 0
    for passed_ms, number, caps, stops, operation in random_steps(random.Random(seed), 250):
        subject.clock.ms += passed_ms
        exchange = hold(*CAP_SETS[caps], number=number, stops=stops)
        match operation:
            case ("reserve", asked, ttl_ms, near):
                new = hold(*CAP_SETS[caps], number=1_000_000 + compared, stops=stops)
                seen = await subject.caps.look(new, asked, stairs=near)
                done = await subject.caps.reserve(new, asked, owner="p", ttl_ms=ttl_ms, stairs=near)
                assert verdict(seen.answer) == verdict(done)
                compared += 1
            case ("flag", flag, is_set):
                value = '{"by":"x"}' if is_set and random.Random(number).random() < 0.3 else "0"
                await subject.link.call("HSET", subject.keys.state("acme"), flag, value)
            case ("floor", stage):
                await subject.set_stage_min("acme", stage)
            case ("commit", actual):
                try:
                    await subject.caps.commit(exchange, actual, [b"true"])
                except HoldEndedError:
                    continue
    assert compared > 50


async def test_nothing_is_changed(subject: RedisSubject) -> None:
    """Not a byte: neither for what lapsed, nor for a stage that would be remembered."""
    exchange = hold(cap(1_000, requests=5))
    near = stairs(0.3, 0.6, leave=0.2, name="slow")
    await subject.caps.reserve(exchange, [ask(700, 10)], owner="p", ttl_ms=500, stairs=near)
    subject.clock.ms += 10_000
    before = await dump(subject)

    found = await subject.caps.look(hold(*exchange.caps), [ask(10, 1)], stairs=near)

    assert isinstance(found.answer, Reservation)
    assert found.states[0].held == Vector()
    assert await dump(subject) == before


async def test_an_empty_redis_is_no_new_tenant(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """While windows are rebuilt nobody can tell."""
    subject = RedisSubject(redis_link, redis_keys)

    looked = await subject.caps.look(hold(cap(1_000)), [ask(10, 1)])

    assert looked.answer == Denial(DenialReason.REBUILDING)


async def test_the_time_is_redis_own(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """Without a clock of a test the script says what time it is, in milliseconds."""
    subject = RedisSubject(redis_link, redis_keys)
    await subject.mark()
    seconds, micros = await redis_link.call("TIME")
    caps = type(subject.caps)(redis_link, redis_keys)

    looked = await caps.look(hold(cap(1_000)), [ask(10, 1)])

    assert 0 <= looked.states[0].now_ms - int(seconds) * 1_000 - int(micros) // 1_000 < 5_000
