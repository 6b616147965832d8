"""Breakers of one installation with two processes: what one is told, the other goes by."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from fixtures_needs import need
from fixtures_upstream import Act, ScriptedUpstream, body, completion
from fixtures_weir import Weir, serving
from redis.asyncio import Redis

from metering.redis_keys import RedisKeys
from proxy.health_sync import SYNC_EVERY_S

KEYS = RedisKeys()
COOL_S = 4
CONFIG = """
server: {{host: 127.0.0.1, workers: 2}}
providers:
  one: {{type: openai, base_url: "{one}", api_key: sk-one, timeout_s: 60}}
  two: {{type: openai, base_url: "{two}", api_key: sk-two}}
models: {{m: {{upstreams: [{{provider: one, model: up-m}}, {{provider: two, model: up-m}}]}}}}
pricing: {{rules: [{{model: "*", input_per_mtok: 1, output_per_mtok: 2}}]}}
tenants:
  - {{id: acme, limits: {{tenant: {{daily_cap: 100}}}}, keys: [{{id: k, mint: true}}]}}
"""
BUSY = body({"error": {"message": "slow down", "type": "x"}}, 429, f"Retry-After: {COOL_S}\r\n")

pytestmark = [pytest.mark.slow(60), pytest.mark.timeout(60)]


@asynccontextmanager
async def asked(weir: Weir) -> AsyncIterator[aiohttp.ClientResponse]:
    """One request, on a connection of its own: the kernel gives it to either process."""
    headers = {"Authorization": f"Bearer {weir.key}", "Connection": "close"}
    said = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.post(f"{weir.url}/v1/chat/completions", json=said) as answer,
    ):
        await answer.read()
        yield answer


async def provider(weir: Weir) -> str:
    async with asked(weir) as answer:
        assert answer.status == 200
        return answer.headers["x-weir-provider"]


async def test_a_cool_down_and_its_probe_are_shared(
    tmp_path: Path, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """One process is told 429, and neither goes there; when it has cooled one request of all does,
    and as long as that has no answer no other one."""
    need("redis-server")
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(one=upstream.url, two=other_upstream.url))
    upstream.scripts = [[BUSY], [Act.HANG]]
    other_upstream.scripts = [[completion()]]
    with serving(tmp_path, config=config, settles=False) as weir:
        async with (
            Redis(unix_socket_path=str(weir.data_dir / "redis.sock")) as redis,
            asyncio.timeout(50),
        ):
            assert await provider(weir) == "two"
            assert len(upstream.received) == 1
            while not await redis.hlen(KEYS.health):
                await asyncio.sleep(0.05)
            await asyncio.sleep(SYNC_EVERY_S + 0.5)  # a turn of the other one
            for _ in range(12):
                assert await provider(weir) == "two"
            assert len(upstream.received) == 1

            probe: asyncio.Task[str] | None = None
            while len(upstream.received) == 1:
                asking = asyncio.create_task(provider(weir))
                done, _ = await asyncio.wait([asking], timeout=0.3)
                probe = None if done else asking
            for _ in range(12):
                assert await provider(weir) == "two"
            assert len(upstream.received) == 2
            assert await redis.exists(KEYS.trial("one/up-m"))
            assert probe is not None
            probe.cancel()
