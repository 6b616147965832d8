"""The scripts against their specification: any calls at any times, the same answers and amounts."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from caps_agreement import (
    CANDIDATES,
    CAP_SETS,
    CHECKPOINTS,
    FLAGS,
    PAUSES,
    STAIRS,
    STOPS,
    TTLS,
    VECTORS,
    agree,
    random_steps,
)
from fixtures_redis import RedisServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink

vectors = st.sampled_from(VECTORS)
candidates = st.sampled_from(CANDIDATES)
reserves = st.tuples(
    st.just("reserve"),
    st.lists(candidates, min_size=1, max_size=3),
    st.sampled_from(TTLS),
    st.sampled_from(STAIRS),
)
operations = st.one_of(
    reserves,
    reserves,
    st.tuples(st.just("swap"), candidates),
    st.tuples(st.just("commit"), vectors),
    st.tuples(st.just("commit"), vectors),
    st.tuples(st.just("release")),
    st.tuples(st.just("renew"), st.sampled_from(TTLS), st.sampled_from(CHECKPOINTS)),
    st.tuples(st.just("recover"), vectors, st.sampled_from([0, 500])),
    st.tuples(st.just("recover"), vectors, st.sampled_from([0, 500])),
    st.tuples(st.just("flag"), st.sampled_from(FLAGS), st.booleans()),
    st.tuples(st.just("floor"), st.sampled_from([0, 1, 5])),
)
steps = st.tuples(
    st.sampled_from(PAUSES),
    st.integers(0, 5),
    st.integers(0, len(CAP_SETS) - 1),
    st.sampled_from(STOPS),
    operations,
)


@pytest.mark.slow(30)
@pytest.mark.timeout(180)  # 6,000 round trips: beside other work they have taken over 30 s
def test_the_scripts_answer_as_the_model_does(
    redis_server: RedisServer, redis_keys: RedisKeys
) -> None:
    """Any sequence of calls at any times: same answers, and the same amounts left behind."""
    count = 0

    @settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(steps, max_size=25))
    def agrees(script: list[Any]) -> None:
        nonlocal count
        count += 1
        asyncio.run(_agree(redis_server, f"{redis_keys.prefix}-{count}", script))

    agrees()


async def _agree(server: RedisServer, prefix: str, script: list[Any]) -> None:
    async with RedisLink(server.target, timeout_ms=5_000) as link:
        await link.wait_up(5)
        await agree(link, prefix, script)


@pytest.mark.slow(60)
@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(4))
async def test_100000_random_operations_agree(
    redis_server: RedisServer, redis_keys: RedisKeys, seed: int
) -> None:
    """4 x 25,000, on crowded scopes: every answer, and all that is left behind, is the model's."""
    async with RedisLink(redis_server.target, timeout_ms=5_000) as link:
        await link.wait_up(5)
        for part in range(25):
            dice = random.Random(seed * 1_000 + part)
            await agree(link, f"{redis_keys.prefix}-{part}", random_steps(dice, 1_000))
