"""What `weir top` reads of a real Redis, and that it changes nothing there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fixtures_redis import RedisServer

from metering.caps import Candidate, Hold, Reservation, Vector
from metering.clock import now_ns
from metering.events import UsageEvent, encode
from metering.ids import uuid7
from metering.redis_caps import RedisCaps
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.settlement.redis_client import connect
from metering.tenant_caps import caps_under
from proxy import cli_top_reading
from proxy.cli_top_reading import TopReader
from proxy.config import load
from proxy.settings import Settings

FILE = """
redis: {{url: "{url}", prefix: {prefix}}}
limits: {{tenant: {{daily_cap: 10.00, alert_at: [0.5]}}}}
providers: {{one: {{type: openai, base_url: "http://127.0.0.1:1/v1"}}}}
models: {{demo: {{upstreams: [{{provider: one, model: m}}]}}}}
pricing: {{rules: [{{model: "*", input_per_mtok: 1, output_per_mtok: 2}}]}}
tenants: [{{id: acme}}, {{id: idle}}, {{id: tight, limits: {{tenant: {{daily_cap: 1.00}}}}}}]
"""


def settings_of(folder: Path, server: RedisServer, keys: RedisKeys) -> Settings:
    path = folder / "config.yaml"
    path.write_text(FILE.format(url=server.url, prefix=keys.prefix), encoding="utf-8")
    return load(path, {}).settings


async def spend(
    link: RedisLink, settings: Settings, keys: RedisKeys, tenant: str, nano: int, number: int
) -> None:
    """An exchange of the tenant, whole; a negative number leaves it open."""
    caps = caps_under(settings.tenants[tenant], ())
    exchange_id = uuid7(now_ns() // 1_000_000, bytes([abs(number)] * 10))
    vector = Vector(nano, 100, 1)
    hold = Hold(tenant, exchange_id, caps)
    redis_caps = RedisCaps(link, keys)
    await link.call("SET", keys.epoch(keys.shard(tenant)), "1")
    answer = await redis_caps.reserve(hold, [Candidate("one/m", vector)], owner="p", ttl_ms=60_000)
    assert isinstance(answer, Reservation)
    if number < 0:
        return
    at_ns = now_ns()
    event = UsageEvent(
        event_id=exchange_id,
        exchange_id=exchange_id,
        tenant=tenant,
        project="default",
        api_key_id="k",
        request_id="r",
        occurred_at=at_ns,
        completed_at=at_ns,
        emitted_at=at_ns,
        model_requested="demo",
        units={"output_text": 100},
        admission_nano=nano,
    )
    await redis_caps.commit(hold, vector, [encode(event)])


async def dump(link: RedisLink, keys: RedisKeys) -> list[Any]:
    names = sorted(await link.call("KEYS", f"{keys.prefix}:*"))
    return [(name, await link.call("DUMP", name)) for name in names]


async def test_a_look_has_what_happened_and_what_came_since(
    tmp_path: Path, redis_server: RedisServer, redis_keys: RedisKeys
) -> None:
    """The first look reads the last minute, each further one what came; no key is touched."""
    settings = settings_of(tmp_path, redis_server, redis_keys)
    async with (
        RedisLink(redis_server.target, timeout_ms=5_000) as link,
        connect(redis_server.url) as client,
    ):
        await link.wait_up(5)
        await spend(link, settings, redis_keys, "acme", 6_000_000_000, 1)
        before = await dump(link, redis_keys)
        reader = TopReader(settings, client)

        first = await reader.look()

        assert await dump(link, redis_keys) == before
        assert (first.tick.spend_nano, first.tick.requests, first.in_flight) == (
            6_000_000_000,
            1,
            0,
        )
        assert [(each.tenant, each.share) for each in first.caps] == [
            ("acme", 0.6),
            ("idle", 0.0),
            ("tight", 0.0),
        ]
        assert [(each.kind, each.body["mark_ppm"]) for each in first.told] == [
            ("cap_mark", 500_000)
        ]
        await spend(link, settings, redis_keys, "tight", 900_000_000, 2)
        await spend(link, settings, redis_keys, "idle", 1_000_000_000, -3)
        await link.call("XADD", redis_keys.stream(0), "*", "e", "no event")
        await link.call("HSET", redis_keys.crossings, "backlog", "1800000000000")
        await link.call("HSET", redis_keys.state("tight"), "paused", "1")
        second = await reader.look()
        third = await reader.look()

    assert (second.tick.requests, second.in_flight, second.unreadable) == (2, 1, 1)
    assert [(each.tenant, each.share, each.flag) for each in second.caps] == [
        ("tight", 0.9, "paused"),
        ("acme", 0.6, None),
        ("idle", 0.1, None),
    ]
    assert second.standing == {"backlog": 1_800_000_000_000}
    assert third.tick.requests == 2


async def test_the_fullest_are_read_and_a_busy_start_is_not_called_whole(
    tmp_path: Path, redis_server: RedisServer, redis_keys: RedisKeys, monkeypatch: Any
) -> None:
    """Of many tenants the fullest are looked at; where a minute is too much, its end is read."""
    monkeypatch.setattr(cli_top_reading, "FIRST_MAX", 2)
    monkeypatch.setattr(cli_top_reading, "_CAPS", 1)
    settings = settings_of(tmp_path, redis_server, redis_keys)
    async with (
        RedisLink(redis_server.target, timeout_ms=5_000) as link,
        connect(redis_server.url) as client,
    ):
        await link.wait_up(5)
        for number in range(3):
            await spend(link, settings, redis_keys, "acme", 1_000_000_000, number)
        await spend(link, settings, redis_keys, "tight", 900_000_000, -7)

        look = await TopReader(settings, client).look()

    assert look.tick.requests == 2
    assert look.whole_since_ms > 0
    assert [each.tenant for each in look.caps] == ["tight", "acme"]
