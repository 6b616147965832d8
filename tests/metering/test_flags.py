"""Flags: who paused or killed what, written and read as the scripts look at them."""

from __future__ import annotations

import pytest

from metering.caps import Scope, ScopeKind
from metering.flags import (
    TENANT,
    WHY_MAX,
    Flag,
    FlagKind,
    field_of,
    flags,
    put_up,
    set_stage_min,
    stage_min,
    take_down,
)
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink

RUN = Scope(ScopeKind.RUN, "r-1")


async def test_what_is_put_up_is_listed(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """Each flag comes back with its scope and its story, the oldest first."""
    killed = Flag(FlagKind.KILLED, RUN, "ann", "loops", 20)
    paused = Flag(FlagKind.PAUSED, TENANT, "bob", "unpaid", 10)
    call = redis_link.call

    await put_up(call, redis_keys, "acme", killed)
    await put_up(call, redis_keys, "acme", paused)

    assert await flags(call, redis_keys, "acme") == [paused, killed]
    assert await flags(call, redis_keys, "other") == []


async def test_what_is_taken_down_is_gone(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """A flag is taken down once; what was never up is told apart, and others stay."""
    call = redis_link.call
    for kind in FlagKind:
        await put_up(call, redis_keys, "acme", Flag(kind, RUN))

    taken = [await take_down(call, redis_keys, "acme", FlagKind.KILLED, RUN) for _ in range(2)]

    assert taken == [True, False]
    assert [flag.kind for flag in await flags(call, redis_keys, "acme")] == [FlagKind.PAUSED]


async def test_only_flags_that_are_up_are_flags(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """`0` is off, other fields are no flags, and one that tells no story is up all the same."""
    key = redis_keys.state("acme")
    await redis_link.call("HSET", key, "paused", "0", "stage:burst", "1,5", "killed:run/x", "1")

    assert await flags(redis_link.call, redis_keys, "acme") == [
        Flag(FlagKind.KILLED, Scope(ScopeKind.RUN, "x"))
    ]


async def test_the_floor_of_stages(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """A floor is kept until it is taken away, and is no flag."""
    call = redis_link.call
    await set_stage_min(call, redis_keys, "acme", 2)

    assert await stage_min(call, redis_keys, "acme") == 2
    assert await flags(call, redis_keys, "acme") == []
    await set_stage_min(call, redis_keys, "acme", 0)
    assert await stage_min(call, redis_keys, "acme") == 0


async def test_a_reason_is_bounded(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """Whoever pastes a log as the reason does not fill Redis with it."""
    flag = Flag(FlagKind.PAUSED, TENANT, "ann", "x" * 100_000)
    await put_up(redis_link.call, redis_keys, "acme", flag)

    [found] = await flags(redis_link.call, redis_keys, "acme")

    assert found.why == "x" * WHY_MAX


@pytest.mark.parametrize("bad", ["", "a/b", "a:b", "{x}", "x" * 65])
def test_what_is_no_id_is_no_field(bad: str) -> None:
    """Nobody can write another field than that of a scope."""
    with pytest.raises(ValueError, match="id of a run"):
        field_of(FlagKind.KILLED, Scope(ScopeKind.RUN, bad))


async def test_what_is_no_tenant_is_no_key(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """A tenant's id becomes part of the key."""
    with pytest.raises(ValueError, match="id of a tenant"):
        await put_up(redis_link.call, redis_keys, "a}b", Flag(FlagKind.PAUSED, TENANT))
