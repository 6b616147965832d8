"""T-50, T-61: two proxy processes and one cap: hundreds at once never pass it, at any instant."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fixtures_redis import RedisServer
from fixtures_weir import Weir, serving

from metering.caps import Scope, ScopeKind
from metering.events import UsageEvent, decode
from metering.redis_events import mark_epoch
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink

SEEDS = (1, 2, 3)
KEYS = RedisKeys(prefix="t50")
CAP_NANO = 1_010_000_000
REQUESTS = 200
HI = {"role": "user", "content": "hi"}

CONFIG = """\
server: {{workers: 2}}
redis: {{url: "unix://{path}", prefix: t50, timeout_ms: 5000}}
providers: {{sim: {{type: simulator}}}}
models: {{m: {{upstreams: [{{provider: sim, model: "demo?tokens=1000&first_ms=500&chunk_ms=0"}}]}}}}
pricing: {{rules: [{{model: m, input_per_mtok: 0.001, output_per_mtok: 100}}]}}
limits: {{tenant: {{daily_cap: 1.01}}, clamp_max_tokens: false}}
tenants:
{tenants}
"""


@pytest.fixture
def two_proxies(own_redis_server: RedisServer, tmp_path: Path) -> Iterator[Weir]:
    """`weir serve` with two proxies on the test's own Redis, whose windows are whole."""

    async def mark() -> None:
        async with RedisLink(own_redis_server.target, timeout_ms=5_000) as link:
            await link.wait_up(5)
            for shard in range(KEYS.shards):
                await mark_epoch(link, KEYS, shard, now_ms=1)

    asyncio.run(mark())
    tenants = "\n".join(
        f"  - {{id: s{seed}, keys: [{{id: k, key: sk-weir-seed-{seed}-0123456789}}]}}"
        for seed in SEEDS
    )
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(path=own_redis_server.path, tenants=tenants))
    with serving(tmp_path, config=config, words=("--no-worker",), settles=False) as running:
        yield running


async def _one(http: aiohttp.ClientSession, url: str, seed: int, wait_s: float) -> Any:
    await asyncio.sleep(wait_s)
    async with http.post(
        f"{url}/v1/chat/completions",
        json={"model": "m", "messages": [HI], "max_tokens": 1000},
        headers={"Authorization": f"Bearer sk-weir-seed-{seed}-0123456789"},
    ) as answer:
        error = (await answer.json()).get("error", {})
        return answer.status, error.get("code"), answer.headers.get("x-should-retry")


async def _watch(link: RedisLink, seed: int, seen: list[tuple[int, int]]) -> None:
    """Spent and held, as one read sees them, until cancelled."""
    key = KEYS.scope(f"s{seed}", Scope(ScopeKind.TENANT))
    while True:
        spent, held = await link.call("HMGET", key, "24h:n", "held:n")
        seen.append((int(spent or 0), int(held or 0)))
        await asyncio.sleep(0.001)


async def _run(weir: Weir, server: RedisServer, seed: int) -> tuple[list[Any], list[Any]]:
    dice = random.Random(seed)
    seen: list[tuple[int, int]] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        RedisLink(server.target, timeout_ms=5_000) as link,
        aiohttp.ClientSession(connector=connector) as http,
    ):
        await link.wait_up(5)
        watching = asyncio.ensure_future(_watch(link, seed, seen))
        answers = await asyncio.gather(
            *(_one(http, weir.url, seed, dice.random() * 0.2) for _ in range(REQUESTS))
        )
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        async with http.get(  # T-61: an exhausted cap stands in the way of spending only
            f"{weir.url}/v1/models",
            headers={"Authorization": f"Bearer sk-weir-seed-{seed}-0123456789"},
        ) as models:
            assert models.status == 200
        _, held = await link.call(
            "HMGET", KEYS.scope(f"s{seed}", Scope(ScopeKind.TENANT)), "24h:n", "held:n"
        )
        assert int(held) == 0
    return answers, seen


async def _events(server: RedisServer) -> list[UsageEvent]:
    found = []
    async with RedisLink(server.target, timeout_ms=5_000) as link:
        await link.wait_up(5)
        for shard in range(KEYS.shards):
            rows = await link.call("XRANGE", KEYS.stream(shard), "-", "+")
            found += [decode(fields[1]) for _, fields in rows]
    return found


@pytest.mark.slow(90)
@pytest.mark.timeout(90)
def test_t50_a_cap_of_ten_admits_ten_of_two_hundred(
    two_proxies: Weir, own_redis_server: RedisServer
) -> None:
    """Over two processes and several seeds: never more than the cap, at no sampled instant."""
    for seed in SEEDS:
        answers, seen = asyncio.run(_run(two_proxies, own_redis_server, seed))

        served = [answer for answer in answers if answer[0] == 200]
        refused = {answer for answer in answers if answer[0] != 200}
        assert (len(served), len(answers)) == (10, REQUESTS), (seed, refused)
        assert refused <= {
            (429, "insufficient_quota", "false"),
            (429, "rate_limit_exceeded", None),
        }
        assert len(seen) > 5
        assert max(spent + held for spent, held in seen) <= CAP_NANO
        assert max(held for _, held in seen) > 0
    events = asyncio.run(_events(own_redis_server))
    assert len(events) == 10 * len(SEEDS)
    assert all(event.admission_nano >= 100_000_000 for event in events)
    assert len({event.proxy_id for event in events}) == 2
