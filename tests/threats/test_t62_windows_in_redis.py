"""T-62, T-64, T-65: whose clock counts, how large amounts may be, how long a script may take."""

from __future__ import annotations

import asyncio

import pytest
from caps_samples import MINUTE_MS, NOW_MS, ManualClock, RedisSubject, ask, cap, hold

from metering import clock
from metering.caps import CommitResult, Denial, Hold, Reservation, Vector
from metering.ids import uuid7
from metering.money import AMOUNT_NANO_MAX
from metering.redis_caps import RedisCaps
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink

HOUR_MS = 60 * MINUTE_MS
TTL_MS = 60_000
HOLDS = 2_000


@pytest.fixture
async def subject(redis_link: RedisLink, redis_keys: RedisKeys) -> RedisSubject:
    made = RedisSubject(redis_link, redis_keys)
    await made.mark()
    return made


@pytest.mark.parametrize("skew_ms", [-HOUR_MS, -30_000, 30_000, HOUR_MS])
async def test_t62_a_proxys_clock_moves_no_window(
    subject: RedisSubject, monkeypatch: pytest.MonkeyPatch, skew_ms: int
) -> None:
    """Two proxies, one with a wrong clock: Redis' time counts, and a repeat is still a repeat."""
    right = RedisCaps(subject.link, subject.keys)
    true_ms = clock.now_ms()
    monkeypatch.setattr(clock, "now_ms", lambda: true_ms + skew_ms)
    skewed = RedisCaps(subject.link, subject.keys)
    own = uuid7(true_ms + skew_ms, b"skewed" + b"\0" * 4)
    exchange = Hold("acme", own, (cap(100),))

    reserved = await skewed.reserve(exchange, [ask(60)], owner="b", ttl_ms=TTL_MS)
    committed = await skewed.commit(exchange, Vector(60, 1, 1), [b"{}"])
    again = await skewed.commit(exchange, Vector(60, 1, 1), [b"{}"])
    denied = await right.reserve(hold(cap(100)), [ask(60)], owner="a", ttl_ms=TTL_MS)

    assert isinstance(reserved, Reservation)
    assert abs(reserved.states[0].now_ms - true_ms) < 20_000
    assert (committed.result, again.result) == (CommitResult.COMMITTED, CommitResult.REPEAT)
    assert isinstance(denied, Denial)
    assert denied.state is not None
    assert (denied.state.spent.nano, denied.state.held.nano) == (60, 0)


@pytest.mark.parametrize(
    "moment_ms",
    [
        1_772_323_199_999,  # the last of February 2026, UTC
        1_835_395_199_999,  # the day before a leap day
        1_835_481_599_999,  # the end of 29 February 2028
        1_774_745_999_999,  # summer time begins in Europe
        1_793_494_799_999,  # and in America it ends
    ],
)
async def test_t62_days_have_no_edges(subject: RedisSubject, moment_ms: int) -> None:
    """The window slides: no month's, leap day's or summer time's end gives room back early."""
    subject.clock.ms = moment_ms
    await subject.caps.commit(hold(cap(100)), Vector(100, 1, 1), [])

    for later_ms in (2, HOUR_MS, 23 * HOUR_MS, 24 * HOUR_MS - 5 * MINUTE_MS):
        subject.clock.ms = moment_ms + later_ms
        answer = await subject.caps.reserve(hold(cap(100)), [ask(1)], owner="a", ttl_ms=1)
        assert isinstance(answer, Denial), later_ms
    subject.clock.ms = moment_ms + 24 * HOUR_MS + 10 * MINUTE_MS
    answer = await subject.caps.reserve(hold(cap(100)), [ask(1)], owner="a", ttl_ms=1)
    assert isinstance(answer, Reservation)


async def test_t62_what_straddles_an_edge_is_spent_when_it_ends(subject: RedisSubject) -> None:
    """Held in one bucket, committed in the next: never in none, never in both."""
    exchange = hold(cap(100))
    subject.clock.ms = NOW_MS - NOW_MS % (5 * MINUTE_MS) + 5 * MINUTE_MS - 1
    await subject.caps.reserve(exchange, [ask(40)], owner="a", ttl_ms=TTL_MS)
    subject.clock.ms += 2

    committed = await subject.caps.commit(exchange, Vector(30, 1, 1), [])

    assert (committed.states[0].spent.nano, committed.states[0].held.nano) == (30, 0)


@pytest.mark.parametrize("amount", [-1, AMOUNT_NANO_MAX + 1, AMOUNT_NANO_MAX + 2, 2**63 - 1, 2**64])
async def test_t64_amounts_that_lua_cannot_compare_are_refused(
    subject: RedisSubject, amount: int
) -> None:
    """Beyond 2^53-1 nothing is asked of Redis, and nothing is written."""
    exchange = hold(cap(100))

    with pytest.raises(ValueError, match="2\\^53-1"):
        await subject.caps.reserve(exchange, [ask(amount)], owner="a", ttl_ms=TTL_MS)
    with pytest.raises(ValueError, match="2\\^53-1"):
        await subject.caps.commit(exchange, Vector(amount, 0, 0), [])

    free = await subject.caps.reserve(exchange, [ask(100)], owner="a", ttl_ms=TTL_MS)
    assert isinstance(free, Reservation)


async def test_t64_sums_beyond_a_double_stay_exact(subject: RedisSubject) -> None:
    """Three times 2^53-1: the total is exact to the nano, and the cap is passed by nobody."""
    for _ in range(3):
        await subject.caps.commit(hold(cap(100)), Vector(AMOUNT_NANO_MAX, 1, 1), [])

    denied = await subject.caps.reserve(
        hold(cap(AMOUNT_NANO_MAX)), [ask(1)], owner="a", ttl_ms=TTL_MS
    )

    assert isinstance(denied, Denial)
    assert denied.state is not None
    assert denied.state.spent.nano == 3 * AMOUNT_NANO_MAX


async def _slowest_us(link: RedisLink) -> int:
    """The longest that one script call took since the last reset, by Redis' own clock."""
    entries = await link.call("SLOWLOG", "GET", "16")
    return max((int(entry[2]) for entry in entries), default=0)


@pytest.mark.slow(30)
@pytest.mark.timeout(30)
async def test_t65_one_call_does_bounded_work(subject: RedisSubject) -> None:
    """After a day's absence: 288 buckets to drop and thousands of lapsed holds.

    A call drops 64 holds at most, so the others wait for the next ones and are in nobody's way.
    """
    subject.clock = ManualClock(NOW_MS)
    subject.caps._now_ms = subject.clock
    caps, link = subject.caps, subject.link
    for _ in range(288):
        await caps.commit(hold(cap(10**9)), Vector(1, 1, 1), [])
        subject.clock.ms += 5 * MINUTE_MS
    for _ in range(4):
        await asyncio.gather(
            *(
                caps.reserve(hold(cap(10**9)), [ask(1)], owner="a", ttl_ms=TTL_MS)
                for _ in range(500)
            )
        )
    subject.clock.ms += 48 * HOUR_MS
    await link.call("CONFIG", "SET", "slowlog-log-slower-than", "0")
    await link.call("SLOWLOG", "RESET")

    first = await caps.reserve(hold(cap(10**9)), [ask(1)], owner="a", ttl_ms=TTL_MS)
    slowest_us = await _slowest_us(link)
    await link.call("CONFIG", "SET", "slowlog-log-slower-than", "10000")

    assert isinstance(first, Reservation)
    state = first.states[0]
    assert state.spent.nano == 0
    assert state.held.nano == HOLDS - 64 + 1
    assert slowest_us < 100_000
