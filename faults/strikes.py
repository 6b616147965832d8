"""What a fault run does to an installation, each named after what a person would call it.

A strike returns how many processes it killed. The numbers F-.. are those of docs/reliability.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
import signal
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from redis.asyncio import Redis
from redis.exceptions import RedisError

from faults.scene import Scene

RECOVERED_S = 300
"""A worker that was killed again and again needs a while to come to what is due."""

Strike = Callable[["Striker"], Awaitable[int]]


@dataclass
class Striker:
    """One run's hand: the scene, its chance, and Redis' files as they were a moment ago."""

    scene: Scene
    chance: random.Random
    sizes: deque[dict[Path, int]] = field(default_factory=lambda: deque(maxlen=8))
    shards: int = 4

    async def watch_disk(self) -> None:
        """Remember, every quarter second, what a power cut would leave."""
        while True:
            with contextlib.suppress(OSError):
                self.sizes.append(self.scene.aof_size())
            await asyncio.sleep(0.25)

    def kill_one(self, prefix: str) -> int:
        living = self.scene.children(prefix)
        if not living:
            return 0
        with contextlib.suppress(psutil.Error):
            self.chance.choice(living).kill()
        return 1

    async def wait_recovered(self) -> None:
        """Until every exchange that is open now has ended or was recovered, and was settled."""
        async with asyncio.timeout(RECOVERED_S), await self.redis() as client:
            seconds, _ = await _patiently(client.time)
            while await _patiently(lambda: self._is_owed(client, seconds * 1_000)):
                await asyncio.sleep(0.25)

    async def _is_owed(self, client: Redis, before_ms: int) -> bool:
        for key in await client.keys("weir:*:hold:*"):
            for name, value in (await client.hgetall(key)).items():
                record = json.loads(value) if b":" not in name else {"state": "recovered"}
                if record["state"] != "recovered" and int(record["created_ms"]) <= before_ms:
                    return True
        for shard in range(self.shards):
            if await _oldest_unsettled_ms(client, f"weir:{{s{shard}}}:usage") <= before_ms:
                return True
        return False

    async def redis(self) -> Redis:
        return Redis.from_url(f"unix://{self.scene.socket}", protocol=2, socket_timeout=2)


async def kill_proxy(hand: Striker) -> int:
    """F-01: one proxy process dies in the middle of its streams."""
    return hand.kill_one("weir-proxy")


async def kill_worker(hand: Striker) -> int:
    """F-03: the settlement worker dies, wherever it is in its batch."""
    return hand.kill_one("weir-worker")


async def kill_redis(hand: Striker) -> int:
    """F-05: redis-server dies and is started again."""
    hand.scene.kill_redis()
    await asyncio.sleep(hand.chance.random() * 1.5)
    await hand.scene.start_redis()
    return 1


async def restart_redis(hand: Striker) -> int:
    """F-04: redis-server is restarted in order."""
    assert hand.scene.redis is not None
    hand.scene.redis.terminate()
    await asyncio.to_thread(hand.scene.redis.wait, 20)
    hand.scene.socket.unlink(missing_ok=True)
    await hand.scene.start_redis()
    return 0


async def stall_redis(hand: Striker) -> int:
    """F-07: redis-server stands still, then goes on with what it was sent."""
    assert hand.scene.redis is not None
    hand.scene.redis.send_signal(signal.SIGSTOP)
    await asyncio.sleep(0.5 + hand.chance.random() * 3)
    hand.scene.redis.send_signal(signal.SIGCONT)
    return 0


async def cut_power_of_redis(hand: Striker) -> int:
    """F-05: redis-server dies and what it wrote in its last second never reached the disk.

    One fault at a time: a proxy that was killed in that same second has taken its own copy along,
    which is the loss that docs/reliability.md names. So this waits for the second to be over.
    """
    await asyncio.sleep(2.5)
    hand.scene.kill_redis()
    if hand.sizes:
        hand.scene.truncate_aof(hand.sizes[max(0, len(hand.sizes) - 5)])
    hand.sizes.clear()
    await hand.scene.start_redis()
    return 1


async def empty_redis(hand: Striker) -> int:
    """F-05: redis-server dies and comes back with nothing.

    One fault at a time: what a killed proxy had open stands in Redis alone until it is recovered,
    so this waits for that first.
    """
    await hand.wait_recovered()
    hand.scene.kill_redis()
    hand.scene.forget_redis()
    hand.sizes.clear()
    await hand.scene.start_redis()
    await asyncio.sleep(6)  # until windows are rebuilt and what is open holds again
    return 1


async def kill_all(hand: Striker) -> int:
    """F-27: supervisor, proxies, worker and Redis die at once; started again in any order."""
    hand.scene.kill_weir()
    hand.scene.kill_redis()
    if hand.chance.random() < 0.5:
        await hand.scene.start_redis()
        await hand.scene.start_weir()
    else:
        starting = asyncio.ensure_future(hand.scene.start_weir())
        await asyncio.sleep(1)
        await hand.scene.start_redis()
        await starting
    return 5


async def pause_worker(hand: Striker) -> int:
    """F-21: the worker stands still for a while and goes on as if nothing had been."""
    for worker in hand.scene.children("weir-worker"):
        with contextlib.suppress(psutil.Error):
            worker.suspend()
            await asyncio.sleep(hand.chance.random() * 3)
            worker.resume()
    return 0


async def deliver_again(hand: Striker) -> int:
    """F-20: entries of the streams come a second and third time, in another order."""
    client = await hand.redis()
    try:
        for shard in range(hand.shards):
            stream = f"weir:{{s{shard}}}:usage"
            entries = await client.xrevrange(stream, count=50)
            again = [fields for _, fields in entries for _ in range(hand.chance.choice((1, 2)))]
            hand.chance.shuffle(again)
            for fields in again[:60]:
                await client.xadd(stream, fields)
    except RedisError:
        return 0
    finally:
        await client.aclose()
    return 0


async def stop_in_order(hand: Striker) -> int:
    """F-02: SIGTERM to `weir serve`, and a start again, while streams are open."""
    assert hand.scene.serve is not None
    hand.scene.serve.terminate()
    await asyncio.to_thread(hand.scene.serve.wait, 90)
    await hand.scene.start_weir()
    return 0


STRIKES: dict[str, tuple[Strike, int]] = {
    "kill-proxy": (kill_proxy, 40),
    "kill-worker": (kill_worker, 25),
    "kill-redis": (kill_redis, 15),
    "restart-redis": (restart_redis, 3),
    "stall-redis": (stall_redis, 6),
    "cut-power-of-redis": (cut_power_of_redis, 4),
    "empty-redis": (empty_redis, 0),
    "kill-all": (kill_all, 3),
    "pause-worker": (pause_worker, 3),
    "deliver-again": (deliver_again, 6),
    "stop-in-order": (stop_in_order, 1),
}
"""By name, the strike and how often it is drawn, out of the sum. `empty-redis` loses what the
worker has not read yet unless `metering.spool: always`, so it is drawn only where that is set."""


async def _patiently(ask: Callable[[], Awaitable[Any]]) -> Any:
    """Redis may just be coming back from the strike before."""
    while True:
        try:
            return await ask()
        except (RedisError, OSError):
            await asyncio.sleep(0.25)


async def _oldest_unsettled_ms(client: Redis, stream: str) -> float:
    """When the first entry came that is not acknowledged; infinite when there is none."""
    if not await client.exists(stream):
        return math.inf
    [group] = [each for each in await client.xinfo_groups(stream) if each["name"] == b"ledger"]
    pending = await client.xpending(stream, "ledger")
    after = await client.xrange(stream, min=b"(" + group["last-delivered-id"], count=1)
    ids = [each for each in (pending["min"], *(entry for entry, _ in after)) if each]
    return min((float(each.split(b"-")[0]) for each in ids), default=math.inf)


def draw(chance: random.Random, *, only: tuple[str, ...], spools_always: bool) -> str:
    """The next strike's name."""
    weights = {name: weight for name, (_, weight) in STRIKES.items() if not only or name in only}
    if spools_always and "empty-redis" in weights:
        weights["empty-redis"] = 4
    if only:
        weights = dict.fromkeys(weights, 1)
    names = sorted(weights)
    return chance.choices(names, [weights[name] for name in names])[0]
