"""Claims answer alike in memory and in Redis, one by one and a thousand at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from metering.claims import OPEN_MS, Claim, Claimed, Claims, MemoryClaims
from metering.redis_caps import MARKER_TTL_MS
from metering.redis_claims import RedisClaims


@pytest.fixture(params=["memory", "redis"])
def claims(request: pytest.FixtureRequest) -> Claims:
    if request.param == "memory":
        return MemoryClaims()
    return RedisClaims(request.getfixturevalue("redis_link"), request.getfixturevalue("redis_keys"))


async def test_a_claim_is_free_until_it_is_kept(claims: Claims) -> None:
    """Whoever died between commit and keep is let through again: the commit's marker answers."""
    mine = [Claim("e-1", "aa")]

    before = [await claims.claim("acme", mine), await claims.claim("acme", mine)]
    await claims.keep("acme", mine, keep_ms=60_000)

    assert before == [[Claimed.FREE], [Claimed.FREE]]
    assert await claims.claim("acme", mine) == [Claimed.RECORDED]


async def test_another_digest_is_a_conflict_at_once_and_later(claims: Claims) -> None:
    """The first says what an id stands for, recorded or not."""
    first, other = Claim("e-1", "aa"), Claim("e-1", "bb")
    await claims.claim("acme", [first])

    at_once = await claims.claim("acme", [other])
    await claims.keep("acme", [first], keep_ms=60_000)

    assert at_once == [Claimed.OTHER]
    assert await claims.claim("acme", [other]) == [Claimed.OTHER]


async def test_tenants_have_ids_of_their_own(claims: Claims) -> None:
    """What one tenant calls its event says nothing of another's."""
    await claims.claim("acme", [Claim("e-1", "aa")])

    assert await claims.claim("globex", [Claim("e-1", "bb")]) == [Claimed.FREE]


async def test_a_thousand_are_answered_in_their_order(claims: Claims) -> None:
    """A batch is more than one script takes."""
    all_of_them = [Claim(f"e-{number}", "aa") for number in range(1_000)]
    await claims.claim("acme", all_of_them)
    await claims.keep("acme", all_of_them[::2], keep_ms=60_000)

    found = await claims.claim("acme", all_of_them)

    assert found == [Claimed.RECORDED, Claimed.FREE] * 500


async def test_two_that_differ_at_once_are_not_both_free(claims: Claims) -> None:
    """Of two proxies that are given one id for two things, one hears of the conflict."""
    asked = [claims.claim("acme", [Claim("e-1", digest)]) for digest in ("aa", "bb")]

    found = await asyncio.gather(*asked)

    assert sorted(answer for [answer] in found) == [Claimed.FREE, Claimed.OTHER]


@dataclass
class ManualClock:
    ms: int = 0

    def __call__(self) -> int:
        return self.ms


async def test_an_open_claim_is_forgotten_before_the_commit_is() -> None:
    """Else a repeat could come when neither of the two knows of it, and count again."""
    clock = ManualClock(1)
    claims = MemoryClaims(clock)
    await claims.claim("acme", [Claim("e-1", "aa")])
    clock.ms += OPEN_MS

    assert OPEN_MS < MARKER_TTL_MS
    assert await claims.claim("acme", [Claim("e-1", "bb")]) == [Claimed.FREE]
