"""Answers that are kept, of one installation with two processes: the real program and its Redis."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
from fixtures_cluster import free_port
from fixtures_needs import need
from fixtures_redis import RedisServer, stop_redis
from fixtures_upstream import Act, ScriptedUpstream, completion
from fixtures_weir import Weir, serving
from redis.asyncio import Redis

CONFIG = """
server: {{host: 127.0.0.1, workers: 2, metrics_port: {port}}}
cache: {{enabled: true, ttl_seconds: 600{cache}}}
providers: {{one: {{type: openai, base_url: "{one}", api_key: sk-one, timeout_s: 60}}}}
models: {{m: {{upstreams: [{{provider: one, model: up-m}}]}}}}
pricing: {{rules: [{{model: "*", input_per_mtok: 1, output_per_mtok: 2}}]}}
tenants:
  - {{id: acme, limits: {{tenant: {{daily_cap: 100}}}}, keys: [{{id: k, mint: true}}]}}
"""

pytestmark = [pytest.mark.slow(60), pytest.mark.timeout(60)]


def write(folder: Path, upstream: ScriptedUpstream, cache: str = "", *, port: int) -> Path:
    need("redis-server")
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(one=upstream.url, cache=cache, port=port))
    return path


async def asked(weir: Weir, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """One request, on a connection of its own: the kernel gives it to either process."""
    named = {"Authorization": f"Bearer {weir.key}", "Connection": "close", **headers}
    said = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    async with (
        aiohttp.ClientSession(headers=named) as http,
        http.post(f"{weir.url}/v1/chat/completions", json=said) as answer,
    ):
        return answer.status, await answer.read(), dict(answer.headers)


async def held(port: int) -> list[float]:
    """What `weir_cache_bytes` shows of answers that are kept."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{port}/metrics") as answer,
    ):
        lines = (await answer.text()).splitlines()
    head = 'weir_cache_bytes{kind="replies"'
    return [float(line.rpartition(" ")[2]) for line in lines if line.startswith(head)]


async def test_a_key_runs_once_over_two_processes(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    """While the first of many is answered the others get 409, and afterwards all get its bytes,
    whichever process they reach; one is billed."""
    upstream.scripts = [[Act.WAIT, completion()]]
    named = {"Idempotency-Key": "order-7", "Cache-Control": "no-store"}
    with serving(tmp_path, config=write(tmp_path, upstream, port=free_port())) as weir:
        first = asyncio.create_task(asked(weir, **named))
        async with asyncio.timeout(30):
            while not upstream.received:
                await asyncio.sleep(0.01)
        others = await asyncio.gather(*(asked(weir, **named) for _ in range(12)))
        upstream.proceed.set()
        status, body, _ = await first
        again = await asyncio.gather(*(asked(weir, **named) for _ in range(12)))
        usage = await asyncio.to_thread(weir.settled, 13)

    assert {each[0] for each in others} == {409}
    assert status == 200
    assert {each[:2] for each in again} == {(200, body)}
    assert {each[2]["x-weir-idempotent-replay"] for each in again} == {"true"}
    assert len(upstream.received) == 1
    assert usage["pending"] == 0


async def test_answers_live_in_a_redis_of_their_own(
    tmp_path: Path, upstream: ScriptedUpstream, own_redis_server: RedisServer
) -> None:
    """`cache.url`: what one process keeps there the other one gives; nothing of it lies beside the
    caps, and when that Redis is gone requests run as if nothing was ever kept."""
    upstream.scripts = [[completion()]]
    port = free_port()
    config = write(tmp_path, upstream, f', url: "{own_redis_server.url}"', port=port)
    with serving(tmp_path, config=config, settles=False) as weir:
        first = await asked(weir)
        async with Redis.from_url(own_redis_server.url) as kept, asyncio.timeout(20):
            while not await kept.dbsize():
                await asyncio.sleep(0.01)
            names = [name.decode() for name in await kept.keys("*")]
        hits = [await asked(weir) for _ in range(12)]
        async with Redis(unix_socket_path=str(weir.data_dir / "redis.sock")) as caps:
            beside = [name.decode() for name in await caps.keys("*")]
        async with asyncio.timeout(20):
            while not sum(await held(port)):
                await asyncio.sleep(0.2)

        stop_redis(own_redis_server)
        without = await asked(weir)

    assert first[2]["x-weir-cache"] == "miss"
    assert {each[2]["x-weir-cache"] for each in hits} == {"hit"}
    assert {each[1] for each in hits} == {first[1]}
    assert any("replies" in name for name in names)
    assert not [name for name in beside if "replies" in name]
    assert (without[0], without[2]["x-weir-cache"]) == (200, "miss")
    assert len(upstream.received) == 2
