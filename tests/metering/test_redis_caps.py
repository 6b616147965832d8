"""The scripts under concurrency, time and a full Redis."""

from __future__ import annotations

import asyncio
import random

import pytest
from caps_samples import (
    DAY_MS,
    KEY,
    NOW_MS,
    TENANT,
    ManualClock,
    RedisSubject,
    ask,
    cap,
    hold,
)
from fixtures_redis import RedisServer

from metering.caps import (
    ROLLING_DAY,
    Cap,
    CommitResult,
    Denial,
    Hold,
    Limit,
    Reservation,
    Vector,
)
from metering.hold_records import SWEEP
from metering.recovery import LostHold, Recovery
from metering.redis_caps import RedisCaps
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.redis_wire import RedisReplyError


@pytest.fixture
async def subject(redis_link: RedisLink, redis_keys: RedisKeys) -> RedisSubject:
    made = RedisSubject(redis_link, redis_keys)
    await made.mark()
    return made


async def test_a_cap_is_never_passed_by_many_at_once(subject: RedisSubject) -> None:
    """A hundred at once against room for ten: exactly ten hold, and no answer is over the cap."""
    bound = cap(1_000)

    answers = await asyncio.gather(
        *(
            subject.caps.reserve(hold(bound), [ask(100)], owner="p", ttl_ms=60_000)
            for _ in range(100)
        )
    )

    admitted = [answer for answer in answers if isinstance(answer, Reservation)]
    assert len(admitted) == 10
    assert max(answer.states[0].held.nano for answer in admitted) == 1_000


async def test_no_24_hours_see_more_than_the_cap(subject: RedisSubject) -> None:
    """Three days of bursts at true millisecond times, spending all that is admitted."""
    random_ = random.Random(7)
    bound, limit = cap(10_000), 10_000
    spends: list[tuple[int, int]] = []

    for _ in range(600):
        subject.clock.ms += random_.choice([1, 1_000, 60_000, 1_500_000])
        exchange, asked = hold(bound), random_.randrange(1, 900)
        answer = await subject.caps.reserve(exchange, [ask(asked)], owner="p", ttl_ms=10_000)
        if isinstance(answer, Reservation):
            await subject.caps.commit(exchange, Vector(asked, 0, 1), [])
            spends.append((subject.clock.ms, asked))

    assert subject.clock.ms - NOW_MS > 2 * DAY_MS
    for end, _ in spends:
        assert sum(nano for at, nano in spends if end - DAY_MS < at <= end) <= limit
    assert sum(nano for _, nano in spends) > 2 * limit


async def test_one_call_drops_a_bounded_number_of_lapsed_holds(subject: RedisSubject) -> None:
    """A mass crash is paid for in instalments, oldest first, never by one unlucky request."""
    bound = cap(10_000)
    for number in range(SWEEP + 10):
        await subject.caps.reserve(hold(bound), [ask(10)], owner="p", ttl_ms=1_000 + number)
    subject.clock.ms += 60_000

    first = await subject.caps.reserve(hold(bound), [ask(0)], owner="p", ttl_ms=60_000)
    second = await subject.caps.reserve(hold(bound), [ask(0)], owner="p", ttl_ms=60_000)

    assert isinstance(first, Reservation)
    assert isinstance(second, Reservation)
    assert (first.states[0].held.nano, second.states[0].held.nano) == (100, 0)


async def test_a_lapsed_hold_keeps_its_record_for_the_reaper(subject: RedisSubject) -> None:
    """Facts and checkpoint beside it, so that a crash is billed for what it served."""
    bound = cap(100)
    lost = hold(bound)
    noted = b'{"units":9007199254740993}\n{"a":"\xc3\xa4/"}'
    await subject.caps.reserve(lost, [ask(100)], owner="proxy-1", ttl_ms=1_000, facts=b'{"f":1}')
    await subject.caps.renew(lost, ttl_ms=2_000, checkpoint=noted)
    subject.clock.ms += 2_000
    await subject.caps.reserve(hold(bound), [ask(1)], owner="proxy-2", ttl_ms=1_000)

    record = await subject.link.call("HGET", subject.keys.holds("acme"), lost.exchange_id)

    [found] = await subject.lost("acme", grace_ms=0)
    assert b'"state":"lapsed"' in record
    assert found == LostHold(
        hold=Hold("acme", lost.exchange_id, (Cap(bound.scope, bound.window, Limit()),)),
        owner="proxy-1",
        upstream="acme/model",
        expires_ms=NOW_MS + 2_000,
        facts=b'{"f":1}',
        checkpoint=noted,
        record=record,
    )


async def test_keys_outlive_their_windows_and_holds_and_not_by_much(subject: RedisSubject) -> None:
    """An idle tenant vanishes by itself, but never what still counts."""
    span_ms, hour_ms = ROLLING_DAY.bucket_ms * (ROLLING_DAY.buckets + 1), 3_600_000
    ends: list[tuple[int, int]] = []

    for _ in range(20):
        await subject.caps.commit(hold(cap(100)), Vector(1), [])
        ttl_ms = await subject.link.call("PTTL", subject.keys.scope("acme", TENANT))
        ends.append((span_ms, ttl_ms))
        subject.clock.ms += 1_000
    for name in (subject.keys.scope, subject.keys.scope_holds):
        await subject.caps.reserve(hold(cap(100)), [ask(1)], owner="p", ttl_ms=3 * DAY_MS)
        await subject.caps.commit(hold(cap(100)), Vector(1), [])
        ends.append((span_ms + 3 * DAY_MS, await subject.link.call("PTTL", name("acme", TENANT))))

    assert all(least <= ttl_ms <= least + 2 * hour_ms for least, ttl_ms in ends)


async def test_the_server_has_the_time(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """Without the tests' override it is Redis' own clock that counts."""
    caps = RedisCaps(redis_link, redis_keys)
    await RedisSubject(redis_link, redis_keys).mark()

    answer = await caps.reserve(hold(cap(1)), [ask(1)], owner="p", ttl_ms=1_000)

    seconds = int((await redis_link.call("TIME"))[0])
    assert isinstance(answer, Reservation)
    assert abs(answer.states[0].now_ms - seconds * 1_000) < 5_000


@pytest.mark.parametrize("which", ["redis_server", "redis_62_server"])
async def test_a_full_redis_admits_nobody_and_takes_every_end(
    which: str, request: pytest.FixtureRequest, redis_keys: RedisKeys
) -> None:
    """At maxmemory a reserve is refused whole; commit, renew and release go through."""
    server: RedisServer = request.getfixturevalue(which)
    async with RedisLink(server.target, timeout_ms=5_000) as link:
        await link.wait_up(5)
        subject = RedisSubject(link, redis_keys)
        await subject.mark()
        bound = cap(1_000)
        used, unused, unseen = hold(bound), hold(bound), hold(bound)
        for exchange in (used, unused):
            await subject.caps.reserve(exchange, [ask(100)], owner="p", ttl_ms=60_000)
        await link.call("CONFIG", "SET", "maxmemory", "1")
        try:
            with pytest.raises(RedisReplyError) as refused:
                await subject.caps.reserve(hold(bound), [ask(1)], owner="p", ttl_ms=60_000)
            assert (await subject.caps.renew(used, ttl_ms=90_000)).is_held
            ended = await subject.caps.commit(used, Vector(90, 0, 1), [b"{}"])
            late = await subject.caps.commit(unseen, Vector(5, 0, 1), [b"{}"])
            await subject.caps.release(unused)
        finally:
            await link.call("CONFIG", "SET", "maxmemory", "0")
        after = await subject.caps.reserve(hold(bound), [ask(0)], owner="p", ttl_ms=60_000)
        assert refused.value.code == "OOM"
        assert (ended.result, late.result) == (CommitResult.COMMITTED, CommitResult.LATE)
        assert isinstance(after, Reservation)
        assert (after.states[0].spent.nano, after.states[0].held.nano) == (95, 0)
        assert len(await subject.events("acme")) == 2


async def test_a_stopped_redis_costs_the_time_limit_and_what_it_did_is_found_again(
    own_redis_server: RedisServer, redis_keys: RedisKeys
) -> None:
    """The reserve that timed out was applied on resume: asked again, it is a repeat, held once."""
    async with RedisLink(own_redis_server.target, timeout_ms=200) as link:
        await link.wait_up(5)
        subject = RedisSubject(link, redis_keys, ManualClock())
        await subject.mark()
        exchange = hold(cap(100))
        await subject.caps.reserve(hold(cap(100)), [ask(0)], owner="p", ttl_ms=60_000)
        loop = asyncio.get_running_loop()

        own_redis_server.pause()
        began = loop.time()
        with pytest.raises(Exception, match="did not answer within 200 ms"):
            await subject.caps.reserve(exchange, [ask(60)], owner="p", ttl_ms=60_000)
        took = loop.time() - began
        own_redis_server.resume()
        await link.wait_up(5)
        again = await subject.caps.reserve(exchange, [ask(60)], owner="p", ttl_ms=60_000)
        other = await subject.caps.reserve(hold(cap(100)), [ask(41)], owner="p", ttl_ms=60_000)

    assert took < 1.0
    assert isinstance(again, Reservation)
    assert again.repeat
    assert again.states[0].held.nano == 60
    assert isinstance(other, Denial)


def _ours(keys: RedisKeys, what: Hold) -> dict[str, str]:
    """The keys that ending an exchange writes to, by what they are."""
    shard = keys.shard(what.tenant)
    return {
        "stream": keys.stream(shard),
        "records": keys.holds(what.tenant),
        "open": keys.open_holds(shard),
        "scope": keys.scope(what.tenant, TENANT),
        "scope holds": keys.scope_holds(what.tenant, TENANT),
        "key's scope": keys.scope(what.tenant, KEY),
        "key's holds": keys.scope_holds(what.tenant, KEY),
    }


OURS = ("stream", "records", "open", "scope", "scope holds", "key's scope", "key's holds")


@pytest.mark.parametrize("broken", OURS)
async def test_a_commit_that_fails_has_spent_nothing(
    subject: RedisSubject, redis_link: RedisLink, redis_keys: RedisKeys, broken: str
) -> None:
    """What may stand in its way comes before the first amount; sent again, it counts once."""
    what = hold(cap(1_000), cap(1_000, scope=KEY))
    key = _ours(redis_keys, what)[broken]
    await subject.caps.reserve(what, [ask(400)], owner="p", ttl_ms=60_000)
    if is_there := broken != "stream":
        await redis_link.call("RENAME", key, f"{key}:aside")
    await redis_link.call("SET", key, "of another type")
    for _ in range(3):
        with pytest.raises(RedisReplyError, match="WRONGTYPE"):
            await subject.caps.commit(what, Vector(300, 3, 1), [b"{}"])
    await redis_link.call("DEL", key)
    none = await subject.events(what.tenant)
    if is_there:
        await redis_link.call("RENAME", f"{key}:aside", key)

    done = await subject.caps.commit(what, Vector(300, 3, 1), [b"{}"])

    assert none == []
    assert done.result is CommitResult.COMMITTED
    assert {(each.spent.nano, each.held.nano) for each in done.states} == {(300, 0)}
    assert len(await subject.events(what.tenant)) == 1


@pytest.mark.parametrize("broken", OURS[1:])
async def test_a_recovery_that_fails_has_done_nothing(
    subject: RedisSubject, redis_link: RedisLink, redis_keys: RedisKeys, broken: str
) -> None:
    """As a commit: a key of another type is found before an event is written."""
    what = hold(cap(1_000), cap(1_000, scope=KEY))
    key = _ours(redis_keys, what)[broken]
    await subject.caps.reserve(what, [ask(400)], owner="p", ttl_ms=1_000)
    subject.clock.ms += 1_000
    [lost] = await subject.lost(what.tenant, grace_ms=0)
    made = Recovery(Vector(300), (b"{}",), ())
    await redis_link.call("RENAME", key, f"{key}:aside")
    await redis_link.call("SET", key, "of another type")

    with pytest.raises(RedisReplyError, match="WRONGTYPE"):
        await subject.recover(lost, made, grace_ms=0)
    none = await subject.events(what.tenant)
    await redis_link.call("RENAME", f"{key}:aside", key)

    assert none == []
    assert await subject.recover(lost, made, grace_ms=0)
    assert len(await subject.events(what.tenant)) == 1
