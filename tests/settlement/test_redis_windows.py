"""A Redis that lost its windows gets them back from the ledger and the streams."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fixtures_ledger import book, make_event, new_id
from fixtures_redis import RedisServer
from redis.asyncio import Redis

from metering.caps import ROLLING_DAY, Candidate, Cap, Hold, Limit, Scope, ScopeKind, Vector
from metering.events import RECOVERED, UsageEvent, encode, payload_hash
from metering.recovery import reversal
from metering.redis_caps import RedisCaps
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.settlement.entries import Entry
from metering.settlement.ledger.store import Ledger
from metering.settlement.redis_client import connect
from metering.settlement.redis_windows import rebuild_windows

TENANT = Scope(ScopeKind.TENANT)
BUCKET = ROLLING_DAY.bucket_ms


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = connect(f"unix://{redis_server.path}")
    yield client
    await client.aclose()


async def _now_ms(redis: Redis) -> int:
    return (await redis.time())[0] * 1_000


def _entry(keys: RedisKeys, event: UsageEvent, ms: int) -> Entry:
    body = encode(event)
    return Entry(keys.shard(event.tenant), f"{ms}-0", body, payload_hash(body))


async def _window(redis: Redis, keys: RedisKeys, tenant: str) -> dict[str, str]:
    found = await redis.hgetall(keys.scope(tenant, TENANT))
    return {name.decode(): value.decode() for name, value in found.items()}


async def test_windows_are_the_last_day_of_ledger_and_stream_each_event_once(
    redis: Redis, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    now = await _now_ms(redis)
    settled, unsettled = make_event(), make_event()
    second_attempt = make_event(attempt=2)
    book(
        ledger,
        [
            _entry(redis_keys, settled, now - 3_600_000),
            _entry(redis_keys, second_attempt, now - 3_600_000),
            _entry(redis_keys, make_event(), now - 90_000_000),
        ],
    )
    for event in (settled, unsettled, unsettled):
        body = encode(event)
        fields = {"e": body, "h": payload_hash(body)}
        await redis.xadd(redis_keys.stream(redis_keys.shard("acme")), fields)

    rebuilt = await rebuild_windows(ledger, redis, redis_keys)

    window = await _window(redis, redis_keys, "acme")
    assert rebuilt == tuple(range(redis_keys.shards))
    assert (window["24h:n"], window["24h:t"], window["24h:r"]) == ("16500000", "2100", "2")
    assert int(window["24h:lo"]) == (now - 3_600_000) // BUCKET
    assert int(window["24h:hi"]) >= now // BUCKET
    # the first comes again in the stream, and counts where the ledger has it from
    assert window[f"24h:{(now - 3_600_000) // BUCKET}:n"] == "11000000"
    assert await redis.pttl(redis_keys.scope("acme", TENANT)) > 86_400_000
    assert await redis.exists(redis_keys.epoch(0)) == 1


async def test_a_shard_with_its_epoch_is_left_alone(
    redis: Redis, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    book(ledger, [_entry(redis_keys, make_event(), await _now_ms(redis))])
    for shard in range(redis_keys.shards):
        await redis.set(redis_keys.epoch(shard), "1")

    assert await rebuild_windows(ledger, redis, redis_keys) == ()
    assert await _window(redis, redis_keys, "acme") == {}


async def test_a_half_window_is_replaced_and_holds_stay(
    redis: Redis, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    now = await _now_ms(redis)
    book(ledger, [_entry(redis_keys, make_event(), now)])
    stale = {"24h:lo": "1", "24h:hi": "1", "24h:n": "9", "24h:1:n": "9", "held:n": "5"}
    await redis.hset(redis_keys.scope("acme", TENANT), mapping=stale)

    await rebuild_windows(ledger, redis, redis_keys)

    window = await _window(redis, redis_keys, "acme")
    assert window["24h:n"] == "5500000"
    assert window["held:n"] == "5"
    assert "24h:1:n" not in window


async def test_commits_that_come_while_rebuilding_are_counted_once(
    redis: Redis, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    """The stream moves between counting and writing: the script refuses and all is counted."""
    now = await _now_ms(redis)
    book(ledger, [_entry(redis_keys, make_event(tenant=f"t{n}"), now) for n in range(40)])
    stream = redis_keys.stream(redis_keys.shard("t0"))

    class Committing(Redis):
        """Commits an event of t0 when the end of the stream was read, as a proxy would."""

        committed = False

        async def execute_command(self, *arguments: Any, **options: Any) -> Any:
            found = await super().execute_command(*arguments, **options)
            if not self.committed and arguments[:2] == ("XRANGE", stream) and not found:
                self.committed = True
                body = encode(make_event(tenant="t0", event_id=new_id()))
                await self.xadd(stream, {"e": body, "h": payload_hash(body)})
                await self.hincrby(redis_keys.scope("t0", TENANT), "24h:n", 5_500_000)
            return found

    async with Committing(connection_pool=redis.connection_pool) as committing:
        await rebuild_windows(ledger, committing, redis_keys)

    assert (await _window(redis, redis_keys, "t0"))["24h:n"] == "11000000"
    assert (await _window(redis, redis_keys, "t7"))["24h:n"] == "5500000"


@pytest.mark.parametrize("source", ["stream", "ledger"])
async def test_a_rebuilt_window_is_the_one_that_commits_had_made(
    redis: Redis, redis_keys: RedisKeys, redis_link: RedisLink, ledger: Ledger, source: str
) -> None:
    """Field by field what commit.lua wrote, whether the events are still in the stream or not."""
    await rebuild_windows(ledger, redis, redis_keys)
    caps = RedisCaps(redis_link, redis_keys)
    cap = Cap(TENANT, ROLLING_DAY, Limit(nano=10**12))
    for number in range(1, 5):
        event = make_event(units={"input_uncached": number, "output_text": number})
        hold = Hold("acme", event.exchange_id, (cap,))
        await caps.reserve(
            hold,
            [Candidate("x", Vector(nano=10**9, tokens=99, requests=1))],
            owner="p",
            ttl_ms=9_000,
        )
        actual = Vector(nano=event.admission_nano, tokens=2 * number, requests=1)
        await caps.commit(hold, actual, [encode(event)])
    shard = redis_keys.shard("acme")
    scope, stream = redis_keys.scope("acme", TENANT), redis_keys.stream(shard)
    before = await _window(redis, redis_keys, "acme")
    if source == "ledger":
        book(
            ledger,
            [
                Entry(shard, stream_id.decode(), fields[b"e"], fields[b"h"].decode())
                for stream_id, fields in await redis.xrange(stream)
            ],
        )
        await redis.delete(stream)
    await redis.delete(scope, redis_keys.epoch(shard))

    await rebuild_windows(ledger, redis, redis_keys)

    after = await _window(redis, redis_keys, "acme")
    kept_elsewhere = ("held", "until")  # of holds, and of the key's own life
    assert after == {
        name: text for name, text in before.items() if not name.startswith(kept_elsewhere)
    }
    assert after["24h:n"] == str(20_000 * (1 + 2 + 3 + 4))


@pytest.mark.parametrize("source", ["stream", "ledger"])
async def test_a_recovery_and_its_correction_are_rebuilt_as_they_were(
    redis: Redis, redis_keys: RedisKeys, ledger: Ledger, source: str
) -> None:
    """An hour later the truth was less: the old bucket gives back all, the new one has the rest."""
    now = await _now_ms(redis)
    recovered = make_event(usage_source=RECOVERED)
    true = make_event(units={"input_uncached": 1})
    left = reversal(make_event(usage_source=RECOVERED))  # what it corrects has left the window
    placed = ((recovered, now - 3_600_000), (reversal(recovered), now), (true, now), (left, now))
    for number, (event, ms) in enumerate(placed):
        entry = _entry(redis_keys, event, ms)
        if source == "ledger":
            book(ledger, [entry])
        else:
            fields = {"e": entry.body, "h": entry.digest}
            stream = redis_keys.stream(redis_keys.shard("acme"))
            await redis.xadd(stream, fields, id=f"{ms}-{number}")

    await rebuild_windows(ledger, redis, redis_keys)

    window = await _window(redis, redis_keys, "acme")
    assert (window["24h:n"], window["24h:t"], window["24h:r"]) == ("5000", "1", "1")
    assert int(window["24h:lo"]) == now // BUCKET
