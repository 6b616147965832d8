"""F-01 with F-05: a proxy dies during or right after an outage, and what was used is in the books.

The real program over a redis-server of its own; only its holds live for seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import aiohttp
import orjson
import pytest
from fixtures_needs import need
from fixtures_outage import DurableRedis
from fixtures_recovery import PROGRAM, ask, booked, proxy_of, until
from fixtures_weir import Weir, serving

from metering.caps import Scope, ScopeKind
from metering.redis_keys import RedisKeys
from metering.settlement.ledger.store import open_ledger
from metering.settlement.ledger.verify import verify

KEYS = RedisKeys()
CONFIG = """
server: {{host: 127.0.0.1, workers: 1}}
redis: {{url: "unix://{socket}"}}
providers: {{simulator: {{type: simulator}}}}
models:
  short: {{upstreams: [{{provider: simulator, model: "demo?tokens=3"}}]}}
  stream: {{upstreams: [{{provider: simulator, model: "demo?tokens=3000&chunk_ms=30"}}]}}
pricing:
  rules: [{{model: "*", input_rate: 0.000005, output_rate: 0.000015, multiplier: 2.0}}]
tenants:
  - {{id: acme, limits: {{tenant: {{daily_cap: 10.00}}}}, keys: [{{id: k, mint: true}}]}}
"""

pytestmark = [pytest.mark.slow(40), pytest.mark.timeout(40)]


class Scene:
    """A proxy that knows its tenant, and its Redis."""

    def __init__(self, weir: Weir, redis: DurableRedis, http: aiohttp.ClientSession) -> None:
        self.weir, self.redis, self.http = weir, redis, http

    async def begin(self) -> aiohttp.ClientResponse:
        stream = await ask(self.http, self.weir, "stream")
        assert stream.status == 200
        await stream.content.readany()
        return stream

    def local(self) -> list[bytes]:
        """What is on disk of exchanges that Redis does not know of."""
        return [path.read_bytes() for path in self.weir.data_dir.glob("local/*/*")]

    async def held(self) -> dict[str, bytes]:
        """The hold record of the only open exchange, and what is noted beside it."""
        found = await self.redis.ask("HGETALL", KEYS.holds("acme"))
        pairs = zip(found[::2], found[1::2], strict=True) if isinstance(found, list) else ()
        kept = dict(pairs) if pairs else found
        return {name.decode().partition(":")[2] or "record": value for name, value in kept.items()}

    async def kill_proxy(self, stream: aiohttp.ClientResponse) -> None:
        proxy_of(self.weir).send_signal(signal.SIGKILL)
        with pytest.raises(aiohttp.ClientError):
            await stream.read()

    async def spent_nano(self) -> int:
        window = KEYS.scope("acme", Scope(ScopeKind.TENANT))
        return int(await self.redis.ask("HGET", window, "24h:n") or 0)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    need("redis-server")
    redis = DurableRedis()
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(socket=redis.path))
    with contextlib.closing(redis):
        await redis.start()
        with serving(tmp_path, config=config, program=PROGRAM) as weir:
            async with aiohttp.ClientSession() as http:
                opened = Scene(weir, redis, http)
                async with await ask(http, weir, "short") as answer:
                    await answer.read()
                await until(lambda: len(booked(weir)) == 1)
                yield opened


async def recovered_once(scene: Scene, admitted_by: str) -> None:
    """The books have the open exchange once, for what was delivered, and all agree on it."""
    await until(lambda: len(booked(scene.weir)) == 2)
    await asyncio.sleep(2.5)  # its hold would lapse, and be recovered, were there one left
    true, recovered = booked(scene.weir)

    assert (true["usage_source"], recovered["usage_source"]) == ("provider", "recovered")
    assert orjson.loads(recovered["payload"])["admitted_by"] == admitted_by
    assert recovered["billable"]
    assert recovered["q_output_text"] > 0
    assert await scene.spent_nano() == true["sell_nano"] + recovered["sell_nano"]
    assert verify(open_ledger(f"sqlite:///{scene.weir.data_dir / 'ledger.db'}")) == []


async def test_f01_killed_while_redis_is_away(scene: Scene) -> None:
    """Admitted from the local share, killed before Redis came back: recorded by the next run."""
    scene.redis.kill()
    stream = await scene.begin()
    await until(lambda: any(b"output_text" in data for data in scene.local()))

    await scene.kill_proxy(stream)
    await scene.redis.start()

    await recovered_once(scene, "local")
    assert scene.local() == []


async def test_f01_killed_once_redis_has_it(scene: Scene) -> None:
    """It outlived the outage: from then on it is the worker's to recover, and nobody else's."""
    scene.redis.kill()
    stream = await scene.begin()
    await scene.redis.start()
    async with asyncio.timeout(5):
        while b"output_text" not in (await scene.held()).get("checkpoint", b""):
            await asyncio.sleep(0.05)
    await until(lambda: scene.local() == [])

    await scene.kill_proxy(stream)

    await recovered_once(scene, "local")


@pytest.mark.parametrize("how", ["emptied", "power_cut"])
async def test_f01_killed_after_redis_lost_its_hold(
    scene: Scene, how: Literal["emptied", "power_cut"]
) -> None:
    """Within two seconds it is there again with all that is known of it, and is recovered."""
    before = scene.redis.copy()
    stream = await scene.begin()
    if how == "emptied":
        await scene.redis.ask("FLUSHALL")
    else:
        scene.redis.kill()
        scene.redis.put_back(before)
        await scene.redis.start()
    async with asyncio.timeout(3):
        while b"output_text" not in (await scene.held()).get("checkpoint", b""):
            await asyncio.sleep(0.05)
    kept = await scene.held()

    await scene.kill_proxy(stream)

    assert orjson.loads(kept["record"])["state"] == "held"
    assert b"request_id" in kept["facts"]
    await recovered_once(scene, "caps")
