"""Recovering a lost hold, and what a commit or release that comes later makes of it: every Caps."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from caps_samples import DAY_MS, HOURS, KEY, RedisSubject, Subject, ask, cap, hold
from fixtures_caps import TTL_MS, held
from fixtures_redis import RedisServer

from metering.caps import Cap, CommitResult, Hold, HoldEndedError, Vector
from metering.recovery import LostHold, Recovery
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.redis_recovery import KEEP_MS, RedisRecovery

GRACE_MS = 1_000
MADE = Recovery(Vector(40, 4, 1), (b'{"r":1}', b'{"r":2}'), (b'{"c":1}', b'{"c":2}'))


async def lose(subject: Subject, exchange: Hold) -> LostHold:
    """Reserve, and let the hold's time and the grace pass."""
    await subject.caps.reserve(exchange, [ask(100)], owner="p", ttl_ms=TTL_MS, facts=b"facts")
    subject.clock.ms += TTL_MS + GRACE_MS
    [lost] = await subject.lost("acme", grace_ms=GRACE_MS)
    return lost


async def spent(subject: Subject, *caps: Cap) -> list[Vector]:
    answer = await held(subject, hold(*caps), ask(0, 0, 0))
    return [state.spent for state in answer.states]


async def test_a_hold_is_lost_once_its_grace_is_over(subject: Subject) -> None:
    """Found although nobody has asked the tenant since, with all that it left behind."""
    exchange = hold(cap(100), cap(50, scope=KEY, window=HOURS))
    await held(subject, exchange, ask(30))
    await subject.caps.renew(exchange, ttl_ms=TTL_MS, checkpoint=b"seen\nso far")

    subject.clock.ms += TTL_MS + GRACE_MS - 1
    early = await subject.lost("acme", grace_ms=GRACE_MS)
    subject.clock.ms += 1
    [lost] = await subject.lost("acme", grace_ms=GRACE_MS)

    assert early == []
    assert (lost.hold.tenant, lost.hold.exchange_id) == ("acme", exchange.exchange_id)
    assert [(each.scope, each.window) for each in lost.hold.caps] == [
        (each.scope, each.window) for each in exchange.caps
    ]
    assert (lost.owner, lost.upstream) == ("proxy-1", "acme/model")
    assert (lost.facts, lost.checkpoint) == (b"", b"seen\nso far")


async def test_what_is_recovered_counts_in_every_window_and_once(subject: Subject) -> None:
    """F-01: two workers at once; the amounts, the events and the room given back, all once."""
    bounds = cap(1_000), cap(500, scope=KEY, window=HOURS)
    lost = await lose(subject, hold(*bounds))

    answers = await asyncio.gather(
        *(subject.recover(lost, MADE, grace_ms=GRACE_MS) for _ in range(2))
    )

    assert sorted(answers) == [False, True]
    assert await spent(subject, *bounds) == [MADE.actual, MADE.actual]
    assert await subject.events("acme") == list(MADE.events)
    assert await subject.lost("acme", grace_ms=GRACE_MS) == []
    after = await held(subject, hold(*bounds), ask(0, 0, 0))
    assert [state.held for state in after.states] == [Vector(), Vector()]


async def test_a_hold_that_came_back_meanwhile_is_left_alone(subject: Subject) -> None:
    """Its process was only slow: it holds again, and will commit."""
    bound = cap(1_000)
    exchange = hold(bound)
    lost = await lose(subject, exchange)
    await subject.caps.swap(exchange, ask(60))

    assert not await subject.recover(lost, MADE, grace_ms=GRACE_MS)
    assert await subject.events("acme") == []
    ended = await subject.caps.commit(exchange, Vector(50, 0, 1), [])
    assert ended.result is CommitResult.LATE or ended.result is CommitResult.COMMITTED
    assert ended.states[0].spent.nano == 50


async def test_a_later_commit_leaves_the_truth(subject: Subject) -> None:
    """What was recovered leaves every window, its reversals go before the true events, once."""
    bounds = cap(1_000), cap(500, scope=KEY, window=HOURS)
    exchange = hold(*bounds)
    await subject.recover(await lose(subject, exchange), MADE, grace_ms=GRACE_MS)

    true = await subject.caps.commit(exchange, Vector(25, 9, 1), [b'{"t":1}'])
    again = await subject.caps.commit(exchange, Vector(25, 9, 1), [b'{"t":1}'])

    assert (true.result, again.result) == (CommitResult.CORRECTED, CommitResult.REPEAT)
    assert [state.spent for state in true.states] == [Vector(25, 9, 1)] * 2
    assert await subject.events("acme") == [*MADE.events, *MADE.reversals, b'{"t":1}']


async def test_what_has_left_the_window_is_not_taken_out_of_it(subject: Subject) -> None:
    """The short window forgot the recovered amount by itself; the day still has it."""
    day, short = cap(1_000), cap(500, window=HOURS)
    exchange = hold(day, short)
    await subject.recover(await lose(subject, exchange), MADE, grace_ms=GRACE_MS)
    subject.clock.ms += 5 * HOURS.bucket_ms

    true = await subject.caps.commit(exchange, Vector(25, 9, 1), [])
    subject.clock.ms += 2 * DAY_MS
    later = await spent(subject, day, short)

    assert [state.spent for state in true.states] == [Vector(25, 9, 1)] * 2
    assert later == [Vector(), Vector()]


async def test_no_amount_becomes_negative(subject: Subject) -> None:
    """A bucket that holds less than was recovered (its window was rebuilt) gives what it has."""
    bound = cap(1_000)
    exchange = hold(bound)
    await subject.recover(await lose(subject, exchange), MADE, grace_ms=GRACE_MS)
    if isinstance(subject, RedisSubject):
        keys = subject.keys
        scope = keys.scope("acme", bound.scope)
        fields = await subject.link.call("HKEYS", scope)
        for field in fields:
            if field.endswith(b":n"):
                await subject.link.call("HSET", scope, field, "15")
    else:
        window = subject.caps.model.scopes["acme", bound.scope].windows["24h"]  # type: ignore[attr-defined]
        [bucket] = window.buckets
        window.take_back(bucket, Vector(nano=25))

    true = await subject.caps.commit(exchange, Vector(5, 0, 1), [])

    assert true.states[0].spent == Vector(5, 0, 1)


async def test_a_release_that_comes_later_takes_all_of_it_back(subject: Subject) -> None:
    """The exchange was never sent: nothing is owed, in the caps or in the ledger."""
    bound = cap(1_000)
    exchange = hold(bound)
    await subject.recover(await lose(subject, exchange), MADE, grace_ms=GRACE_MS)

    await subject.caps.release(exchange)
    await subject.caps.release(exchange)

    assert await spent(subject, bound) == [Vector()]
    assert await subject.events("acme") == [*MADE.events, *MADE.reversals]


async def test_a_recovered_exchange_cannot_hold_again(subject: Subject) -> None:
    """Placing it anew would forget what there is to take back."""
    exchange = hold(cap(1_000))
    await subject.recover(await lose(subject, exchange), MADE, grace_ms=GRACE_MS)

    with pytest.raises(HoldEndedError):
        await subject.caps.swap(exchange, ask(1))
    with pytest.raises(HoldEndedError):
        await held(subject, exchange, ask(1))
    assert not (await subject.caps.renew(exchange, ttl_ms=TTL_MS)).is_held


@pytest.fixture
async def redis_subject(redis_link: RedisLink, redis_keys: RedisKeys) -> RedisSubject:
    made = RedisSubject(redis_link, redis_keys)
    await made.mark()
    return made


async def test_a_recovered_record_is_kept_for_a_week(redis_subject: RedisSubject) -> None:
    """After that nothing is left of it, in the record's hash or in the index."""
    subject, keys = redis_subject, redis_subject.keys
    await subject.recover(await lose(subject, hold(cap(100))), MADE, grace_ms=0)

    subject.clock.ms += KEEP_MS - 1
    await subject.lost("acme", grace_ms=0)
    kept = await subject.link.call("HLEN", keys.holds("acme"))
    subject.clock.ms += 1
    await subject.lost("acme", grace_ms=0)

    assert kept == 2
    assert await subject.link.call("EXISTS", keys.holds("acme")) == 0
    assert await subject.link.call("EXISTS", keys.open_holds(keys.shard("acme"))) == 0


@pytest.mark.parametrize("which", ["redis_server", "redis_62_server"])
async def test_a_full_redis_takes_a_recovery_and_its_correction(
    which: str, request: pytest.FixtureRequest, redis_keys: RedisKeys
) -> None:
    """At maxmemory: what ends a hold goes through, whoever ends it."""
    server: RedisServer = request.getfixturevalue(which)
    async with RedisLink(server.target, timeout_ms=5_000) as link:
        await link.wait_up(5)
        subject = RedisSubject(link, redis_keys)
        await subject.mark()
        exchange = hold(cap(1_000))
        lost = await lose(subject, exchange)
        await link.call("CONFIG", "SET", "maxmemory", "1")
        try:
            recovered = await subject.recover(lost, MADE, grace_ms=0)
            true = await subject.caps.commit(exchange, Vector(5, 0, 1), [b"{}"])
        finally:
            await link.call("CONFIG", "SET", "maxmemory", "0")

    assert recovered
    assert true.result is CommitResult.CORRECTED
    assert true.states[0].spent.nano == 5


async def test_what_another_worker_recovers_meanwhile_is_not_dropped(
    redis_subject: RedisSubject,
) -> None:
    """Between our look at the index and at the record; its reversals are needed for a week."""
    subject, bound = redis_subject, cap(1_000)
    exchange = hold(bound)
    lost = await lose(subject, exchange)

    class Overtaken:
        """A runner whose look at the index is followed by another worker's recovery."""

        generation = 0
        eval = subject.link.eval

        async def call(self, *args: str | bytes | int) -> Any:
            answer = await subject.link.call(*args)
            if args[0] == "ZRANGEBYSCORE":
                await subject.recover(lost, MADE, grace_ms=GRACE_MS)
            return answer

    slow = RedisRecovery(Overtaken(), subject.keys, now_ms=subject.clock)
    found = await slow.lost(subject.keys.shard("acme"), grace_ms=GRACE_MS, limit=10)
    true = await subject.caps.commit(exchange, Vector(25, 9, 1), [])

    assert found == []
    assert true.result is CommitResult.CORRECTED
    assert await subject.events("acme") == [*MADE.events, *MADE.reversals]
