"""`weir verify` over a real Redis and ledger: sound as they come, and each damage is found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from fixtures_ledger import book, make_event
from fixtures_redis import RedisServer
from redis.asyncio import Redis

from metering.caps import ROLLING_DAY, Candidate, Cap, Hold, Limit, Scope, ScopeKind, Vector
from metering.events import UsageEvent, encode
from metering.ids import uuid7
from metering.redis_caps import RedisCaps
from metering.redis_events import mark_epoch
from metering.redis_keys import GROUP, RedisKeys
from metering.redis_link import RedisLink
from metering.settlement.entries import Entry
from metering.settlement.invariants import Check, UpstreamCall
from metering.settlement.ledger.rollups import update_rollups
from metering.settlement.ledger.store import Ledger
from metering.settlement.redis_client import connect
from metering.settlement.verification import (
    Journals,
    read_client_journal,
    read_samples,
    read_upstream_journal,
    run_checks,
)

CAP = Cap(Scope(ScopeKind.TENANT), ROLLING_DAY, Limit(nano=10**12))


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = connect(f"unix://{redis_server.path}")
    yield client
    await client.aclose()


async def commit(link: RedisLink, keys: RedisKeys, ledger: Ledger, redis: Redis) -> UsageEvent:
    """One exchange, all the way into the ledger."""
    caps, shard = RedisCaps(link, keys), keys.shard("acme")
    await mark_epoch(link, keys, shard, now_ms=1)
    now_ms = (await redis.time())[0] * 1_000
    hold = Hold("acme", uuid7(now_ms, bytes(10)), (CAP,))
    event = make_event(exchange_id=hold.exchange_id, session="r1")
    tokens = sum(event.units.values())
    await caps.reserve(
        hold, [Candidate("u", Vector(event.admission_nano, tokens, 1))], owner="p", ttl_ms=60_000
    )
    await caps.commit(hold, Vector(event.admission_nano, tokens, 1), [encode(event)])
    stream = keys.stream(shard)
    await redis.xgroup_create(stream, GROUP, id="0")
    [[_, [(stream_id, fields)]]] = await redis.xreadgroup(GROUP, "w", {stream: ">"})
    book(ledger, [Entry(shard, stream_id.decode(), fields[b"e"], fields[b"h"].decode())])
    await redis.xack(stream, GROUP, stream_id)
    update_rollups(ledger)
    return event


def broken(checks: list[Check]) -> dict[str, list[str]]:
    return {check.invariant: check.findings for check in checks if check.state == "broken"}


async def test_a_sound_installation_has_no_findings(
    redis: Redis, redis_link: RedisLink, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    await commit(redis_link, redis_keys, ledger, redis)

    checks = await run_checks(ledger, redis, redis_keys, Journals())

    assert broken(checks) == {}
    assert {check.invariant for check in checks if check.state == "holds"} >= {
        "I2",
        "I3",
        "I5",
        "I6",
    }


async def test_a_window_that_differs_from_the_ledger_is_found(
    redis: Redis, redis_link: RedisLink, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    event = await commit(redis_link, redis_keys, ledger, redis)
    key = redis_keys.scope("acme", Scope(ScopeKind.TENANT))
    names = await redis.hkeys(key)
    [bucket] = [name for name in names if name.count(b":") == 2 and name.endswith(b":n")]
    await redis.hincrby(key, bucket, 5)

    found = broken(await run_checks(ledger, redis, redis_keys, Journals()))

    assert list(found) == ["I2"]
    assert f"Redis ({event.admission_nano + 5}, " in " ".join(found["I2"])


async def test_what_is_on_its_way_is_noted_and_a_finding_where_all_must_rest(
    redis: Redis, redis_link: RedisLink, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    event = await commit(redis_link, redis_keys, ledger, redis)
    caps = RedisCaps(redis_link, redis_keys)
    hold = Hold("acme", uuid7(1_790_000_000_000, bytes(10)), (CAP,))
    await caps.reserve(hold, [Candidate("u", Vector(5, 5, 1))], owner="p", ttl_ms=60_000)
    await redis.xadd(redis_keys.stream(redis_keys.shard("acme")), {"e": encode(event), "h": "x"})
    journals = Journals(calls=[UpstreamCall("r1", 200, None)])

    live = await run_checks(ledger, redis, redis_keys, Journals())
    resting = broken(await run_checks(ledger, redis, redis_keys, journals))

    under_way = f"{redis_keys.scope('acme', CAP.scope)}: 1 exchanges under way, held (5, 5, 1)"
    assert broken(live) == {}
    notes = {check.invariant: check.notes for check in live if check.state == "partly"}
    assert notes["I3"] == resting["I3"] == [under_way]
    assert notes["I6"] == resting["I6"] == ["1 events in the streams are not settled yet"]
    assert "no journal of an upstream" in notes["I1"][0]


async def test_an_abandoned_hold_and_an_old_event_are_found(
    redis: Redis, redis_link: RedisLink, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    event = await commit(redis_link, redis_keys, ledger, redis)
    caps, shard = RedisCaps(redis_link, redis_keys), redis_keys.shard("acme")
    hold = Hold("acme", uuid7(1_790_000_000_000, bytes(10)), (CAP,))
    await caps.reserve(hold, [Candidate("u", Vector(5, 5, 1))], owner="p", ttl_ms=60_000)
    await redis.zadd(redis_keys.scope_holds("acme", CAP.scope), {hold.exchange_id: 1})
    other = (shard + 1) % redis_keys.shards
    await redis.xadd(redis_keys.stream(other), {"e": encode(event), "h": "x"}, id="1-0")

    found = broken(await run_checks(ledger, redis, redis_keys, Journals()))

    assert found["I3"] == [f"{redis_keys.scope('acme', CAP.scope)}: 1 holds, held (5, 5, 1)"]
    assert found["I6"] == ["1 events wait in the streams"]


async def test_a_window_whose_events_are_on_their_way_is_not_judged(
    redis: Redis, redis_link: RedisLink, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    event = await commit(redis_link, redis_keys, ledger, redis)
    key = redis_keys.scope("acme", CAP.scope)
    names = await redis.hkeys(key)
    bucket = next(name for name in names if name.count(b":") == 2 and name.endswith(b":n"))
    await redis.hincrby(key, bucket, 5)
    await redis.hincrby(key, bucket.split(b":")[0] + b":n", 5)
    await redis.xadd(redis_keys.stream(redis_keys.shard("acme")), {"e": encode(event), "h": "x"})

    checks = await run_checks(ledger, redis, redis_keys, Journals())

    assert broken(checks) == {}
    [note] = next(check.notes for check in checks if check.invariant == "I2")
    assert f"Redis ({event.admission_nano + 5}, " in note


async def test_a_key_without_an_end_is_found(
    redis: Redis, redis_link: RedisLink, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    await commit(redis_link, redis_keys, ledger, redis)
    key = redis_keys.scope("acme", CAP.scope)
    await redis.persist(key)

    found = broken(await run_checks(ledger, redis, redis_keys, Journals()))

    assert found == {"I3": [f"{key} has no expiry"]}


async def test_what_stays_for_good_is_no_finding(
    redis: Redis, redis_link: RedisLink, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    """What probes found and which configuration was announced: docs/redis.md says how long."""
    await commit(redis_link, redis_keys, ledger, redis)
    await redis.hset(redis_keys.probes, "openai", "{}")  # type: ignore[misc]
    await redis.set(redis_keys.announced, "1:abc")

    assert broken(await run_checks(ledger, redis, redis_keys, Journals())) == {}


async def test_journals_are_held_against_the_ledger(
    redis: Redis, redis_link: RedisLink, redis_keys: RedisKeys, ledger: Ledger, tmp_path: Path
) -> None:
    await commit(redis_link, redis_keys, ledger, redis)
    upstream, client, samples = (tmp_path / name for name in ("u", "c", "s"))
    _write(
        upstream,
        {"ref": "r1", "n": 1, "event": "call"},
        {"ref": "r1", "n": 1, "event": "end", "sent": 200, "reported": [500, 200]},
        {"ref": "r2", "n": 2, "event": "call"},
    )
    _write(
        client,
        {"ref": "r1", "outcome": "complete", "code": None, "duration_s": 1.5},
        {"ref": "r2", "outcome": "hung", "code": None, "duration_s": 61.5},
    )
    _write(
        samples,
        {"tenant": "acme", "spent": 1, "held": 2, "limit": 2},
        {"process": "p", "rss": 1, "fds": 1, "when": "before"},
        {"process": "p", "rss": 1, "fds": 99, "when": "after"},
    )
    journals = read_samples(samples)
    journals.calls = read_upstream_journal(upstream)
    journals.outcomes = read_client_journal(client)

    found = broken(await run_checks(ledger, redis, redis_keys, journals))

    assert found == {
        "I1": ["r2: the upstream worked, no event is booked"],
        "I4": ["tenant acme: 1 nano-USD over its cap"],
        "I7": ["r2: took 61.5 s", "r2: ended as 'hung'"],
        "I10": ["p: 1 descriptors became 99"],
    }


def test_a_journal_may_end_in_the_middle_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "c"
    _write(path, {"ref": "r1", "outcome": "cut", "code": None, "duration_s": 0.5})
    with path.open("ab") as file:
        file.write(b'{"ref": "r2", "out')

    assert [outcome.ref for outcome in read_client_journal(path)] == ["r1"]


def _write(path: Path, *lines: dict[str, object]) -> None:
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
