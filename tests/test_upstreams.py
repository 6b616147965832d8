"""What one process learns of an upstream steers another one, and outlives a restart."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import orjson
import pytest
from fixtures_cluster import free_port
from fixtures_door import KEY, CollectingLog, OpenDoor, RunningDoor, settings
from fixtures_needs import need
from fixtures_upstream import Act, ScriptedUpstream, completion
from fixtures_weir import Weir, serving

from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from proxy.history_sync import HistorySync
from routing.history import SAMPLES_MIN

LABELS = ("one/up-m", "two/up-m")
TARGET = {"x-weir-target-latency-ms": "5", "Authorization": f"Bearer {KEY}"}


async def ask(door: RunningDoor) -> str:
    """A chat completion with a target of five milliseconds; who has answered."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    answer = await door.http.post(f"{door.url}/v1/chat/completions", json=body, headers=TARGET)
    door.answers.append(answer)
    await answer.read()
    assert answer.status == 200
    return answer.headers["x-weir-provider"]


def sync_of(door: RunningDoor, link: RedisLink, keys: RedisKeys) -> HistorySync:
    return HistorySync(
        door.door.history, link, keys, proxy_id="p", labels=LABELS, log=CollectingLog()
    )


async def test_what_one_learns_another_goes_by(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    other_upstream: ScriptedUpstream,
    redis_link: RedisLink,
    redis_keys: RedisKeys,
) -> None:
    """One has waited for the slow upstream often enough; the other one's first request with a
    target goes to the quick one, and so does that of a process which is started later."""
    upstream.scripts = [[Act.PAUSE, completion()]]
    other_upstream.scripts = [[completion()]]
    made = settings({"one": upstream.url, "two": other_upstream.url})
    here, there = await open_door(made), await open_door(made)
    for _ in range(SAMPLES_MIN):
        assert await ask(here) == "one"
    assert await ask(here) == "two"
    telling = sync_of(here, redis_link, redis_keys)
    for _ in range(2):
        await telling.turn()

    await sync_of(there, redis_link, redis_keys).turn()
    assert await ask(there) == "two"

    later = await open_door(made)
    await sync_of(later, redis_link, redis_keys).turn()
    assert await ask(later) == "two"


def attempts(weir: Weir, least: int) -> int:
    """What `weir upstreams` shows of the demo model, once that is so much."""
    deadline = time.monotonic() + 30
    while True:
        rows = {row["upstream"]: row for row in weir.json("upstreams")["upstreams"]}
        found = int(rows["simulator/demo"]["attempts"])
        if found >= least:
            return found
        assert time.monotonic() < deadline, rows["simulator/demo"]
        time.sleep(0.2)


async def chat(weir: Weir, times: int) -> None:
    """So many answers of the demo model."""
    body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}
    headers = {"Authorization": f"Bearer {weir.key}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for _ in range(times):
            async with session.post(f"{weir.url}/v1/chat/completions", json=body) as answer:
                assert answer.status == 200
                assert orjson.loads(await answer.read())["choices"]


CONFIG = """
server: {{host: 127.0.0.1, workers: 2, metrics_port: {port}}}
providers: {{simulator: {{type: simulator, probe: {{every_s: 1}}}}}}
models: {{demo: {{upstreams: [{{provider: simulator, model: demo}}]}}}}
pricing: {{rules: [{{model: "*", input_per_mtok: 2.5, output_per_mtok: 10}}]}}
tenants:
  - {{id: acme, limits: {{tenant: {{daily_cap: 100}}}}, keys: [{{id: k, mint: true}}]}}
"""


async def metrics(port: int, series: str) -> list[str]:
    """The values of a series, once there are any."""
    deadline = time.monotonic() + 30
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                lines = (await answer.text()).splitlines()
            found = [line.rpartition(" ")[2] for line in lines if line.startswith(series)]
            if found:
                return found
            assert time.monotonic() < deadline, lines
            await asyncio.sleep(0.2)


@pytest.mark.slow(90)
@pytest.mark.timeout(150)
async def test_what_was_seen_outlives_a_restart(tmp_path: Path) -> None:
    """`weir serve` with two processes is stopped and started: the attempts of before are still
    counted, new ones come on top, and both show the same in metrics; one process probes."""
    need("redis-server")
    config, port = tmp_path / "weir.yaml", free_port()
    config.write_text(CONFIG.format(port=port), encoding="utf-8")
    with serving(tmp_path, config=config, settles=False) as weir:
        await chat(weir, 5)
        assert attempts(weir, 5) == 5
        assert weir.stop() == 0

    with serving(tmp_path, config=config, settles=False) as weir:
        assert attempts(weir, 5) == 5
        await chat(weir, 2)
        assert attempts(weir, 7) == 7

        body = weir.json("upstreams")
        deadline = time.monotonic() + 30  # those of before count until they were silent for 15 s
        while body["processes"] != 2 and time.monotonic() < deadline:
            time.sleep(0.5)
            body = weir.json("upstreams")
        assert body["processes"] == 2
        assert body["upstreams"][0]["probe"]["result"] == "ok"
        assert body["upstreams"][0]["success_ratio"] == 1.0
        ratios = await metrics(port, "weir_upstream_success_ratio{")
        assert set(ratios) == {"1.0"}
        assert sum(map(float, await metrics(port, "weir_probes_total{"))) >= 1
        assert set(await metrics(port, "weir_upstream_in_flight{")) == {"0.0"}
