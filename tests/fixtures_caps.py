"""Every implementation of `Caps`, one after the other, and how tests ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from caps_samples import (
    MemorySubject,
    RedisSubject,
    Subject,
    hold,
)

from metering.caps import (
    Candidate,
    Commit,
    Denial,
    Hold,
    Reservation,
    Stairs,
    Vector,
)
from metering.redis_connect import open_runner
from metering.redis_keys import RedisKeys

TTL_MS = 60_000


@pytest.fixture(params=["memory", "redis_server", "redis_62_server", "redis_cluster"])
async def subject(request: pytest.FixtureRequest, redis_keys: RedisKeys) -> AsyncIterator[Subject]:
    if request.param == "memory":
        yield MemorySubject()
        return
    server = request.getfixturevalue(request.param)
    async with open_runner(server.url, timeout_ms=5_000) as link:
        await link.wait_up(5)
        redis = RedisSubject(link, redis_keys)
        await redis.mark()
        yield redis


async def reserve(
    subject: Subject, what: Hold, *candidates: Candidate, stairs: Stairs | None = None
) -> Reservation | Denial:
    return await subject.caps.reserve(
        what, candidates, owner="proxy-1", ttl_ms=TTL_MS, stairs=stairs
    )


async def held(
    subject: Subject, what: Hold, *candidates: Candidate, stairs: Stairs | None = None
) -> Reservation:
    answer = await reserve(subject, what, *candidates, stairs=stairs)
    assert isinstance(answer, Reservation), answer
    return answer


async def denied(
    subject: Subject, what: Hold, *candidates: Candidate, stairs: Stairs | None = None
) -> Denial:
    answer = await reserve(subject, what, *candidates, stairs=stairs)
    assert isinstance(answer, Denial), answer
    return answer


async def spend(subject: Subject, *caps: object, nano: int, tokens: int = 0) -> Commit:
    return await subject.caps.commit(hold(*caps), Vector(nano, tokens, 1), [])  # type: ignore[arg-type]
