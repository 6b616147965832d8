"""F-01: a proxy dies or stalls in mid-stream, and what was used is in the books, once.

The real program with its own Redis and worker; only its holds live for seconds.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import orjson
import pytest
from course_samples import TOO_LONG
from fixtures_needs import need
from fixtures_recovery import PROGRAM, ask, booked, proxy_of, until
from fixtures_upstream import Act, ScriptedUpstream
from fixtures_weir import Weir, serving
from redis.asyncio import Redis

from metering.caps import Scope, ScopeKind
from metering.redis_keys import RedisKeys
from metering.settlement.ledger.store import open_ledger
from metering.settlement.ledger.verify import verify

KEYS = RedisKeys()
WINDOW = KEYS.scope("acme", Scope(ScopeKind.TENANT))
CONFIG = """
server: {host: 127.0.0.1}
providers: {simulator: {type: simulator}}
models:
  stream: {upstreams: [{provider: simulator, model: "demo?tokens=150&chunk_ms=30"}]}
  silent: {upstreams: [{provider: simulator, model: "demo?first_ms=60000"}]}
pricing:
  currency: USD
  rules:
    - {model: "*", input_rate: 0.000005, output_rate: 0.000015, multiplier: 2.0}
tenants:
  - id: acme
    name: Acme
    limits: {tenant: {daily_cap: 10.00}}
    keys: [{id: k, mint: true}]
"""


@pytest.fixture
def weir(tmp_path: Path) -> Iterator[Weir]:
    need("redis-server")
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    with serving(tmp_path, config=config, program=PROGRAM) as running:
        yield running


async def until_noted(redis: Redis, exchanges: int) -> None:
    """Until so many exchanges have a checkpoint, and one that was made with output."""
    async with asyncio.timeout(20):
        while True:
            kept = await redis.hgetall(KEYS.holds("acme"))
            noted = [value for name, value in kept.items() if name.endswith(b":checkpoint")]
            if len(noted) >= exchanges and any(b'"output_text"' in value for value in noted):
                return
            await asyncio.sleep(0.05)


async def spent(redis: Redis) -> int:
    return int(await redis.hget(WINDOW, "24h:n") or 0)


@pytest.mark.slow(40)
@pytest.mark.timeout(40)
async def test_a_killed_proxy_leaves_one_event_per_open_exchange(weir: Weir) -> None:
    """F-01: delivered output is billed, an answer that had not begun is not, and neither twice."""
    async with (
        Redis(unix_socket_path=str(weir.data_dir / "redis.sock")) as redis,
        aiohttp.ClientSession() as http,
    ):
        streams = [await ask(http, weir, "stream") for _ in range(2)]
        for stream in streams:
            await stream.content.readany()
        silent = asyncio.ensure_future(ask(http, weir, "silent"))
        await until_noted(redis, 3)

        proxy_of(weir).send_signal(signal.SIGKILL)
        with pytest.raises(aiohttp.ClientError):
            await silent
        for stream in streams:
            with pytest.raises(aiohttp.ClientError):
                await stream.read()
        await until(lambda: len(booked(weir)) == 3)
        await asyncio.sleep(1.0)  # several turns of the reaper, which must find nothing more

        events = booked(weir)
        records = await redis.hgetall(KEYS.holds("acme"))
        states = [
            orjson.loads(value)["state"] for name, value in records.items() if b":" not in name
        ]
        window = await redis.hgetall(WINDOW)

    assert [event["usage_source"] for event in events] == ["recovered"] * 3
    assert sorted(event["reason_code"] for event in events) == [
        "partial",
        "partial",
        "recovered_unconfirmed",
    ]
    for event in events:
        was_served = event["reason_code"] == "partial"
        assert bool(event["billable"]) == was_served
        assert bool(event["q_output_text"]) == was_served
        assert (event["sell_nano"] > 0) == was_served
        assert event["q_input_uncached"] > 0
        assert event["cost_nano"] > 0
    assert states == ["recovered"] * 3
    assert window[b"held:n"] == b"0"
    assert not [name for name in window if name.startswith(b"h:")]
    assert int(window[b"24h:n"]) == sum(event["sell_nano"] for event in events)
    assert int(window[b"24h:r"]) == 3
    assert verify(open_ledger(f"sqlite:///{weir.data_dir / 'ledger.db'}")) == []


@pytest.mark.slow(40)
@pytest.mark.timeout(40)
async def test_a_stalled_proxy_that_wakes_up_is_billed_for_the_truth(weir: Weir) -> None:
    """F-01: recovered, it ends its stream after all: the ledger says all of it."""
    async with (
        Redis(unix_socket_path=str(weir.data_dir / "redis.sock")) as redis,
        aiohttp.ClientSession() as http,
    ):
        stream = await ask(http, weir, "stream")
        await stream.content.readany()
        await until_noted(redis, 1)
        proxy = proxy_of(weir)
        proxy.suspend()
        try:
            await until(lambda: len(booked(weir)) == 1)
            recovered_nano = await spent(redis)
        finally:
            proxy.resume()
        rest = await stream.read()
        await until(lambda: len(booked(weir)) == 3)

        recovered, reversal, true = booked(weir)
        spent_nano = await spent(redis)
        records = await redis.exists(KEYS.holds("acme"))

    assert b"[DONE]" in rest
    assert (recovered["kind"], recovered["usage_source"]) == ("usage", "recovered")
    assert (reversal["kind"], reversal["corrects"]) == ("correction", recovered["event_id"])
    assert reversal["sell_nano"] == -recovered["sell_nano"] < 0
    assert (true["kind"], true["usage_source"], true["q_output_text"]) == ("usage", "provider", 150)
    assert recovered["sell_nano"] == recovered_nano < true["sell_nano"] == spent_nano
    assert records == 0
    usage = weir.json("usage", "--tenant", "acme")["totals"]
    assert (usage["requests"], usage["units"]["output_text"]) == (1, 150)
    assert weir.json("invoice", "--tenant", "acme")["total_nano"] == true["sell_nano"]
    assert verify(open_ledger(f"sqlite:///{weir.data_dir / 'ledger.db'}")) == []


DETOUR = """
server: {{host: 127.0.0.1, workers: 1}}
providers:
  near: {{type: openai, base_url: "{near}", api_key: sk-near}}
  far: {{type: openai, base_url: "{far}", api_key: sk-far}}
models:
  small: {{upstreams: [{{provider: near, model: up-small}}], context_fallbacks: [large]}}
  large: {{upstreams: [{{provider: far, model: up-large}}]}}
pricing:
  rules:
    - {{model: up-small, input_per_mtok: 1, output_per_mtok: 4}}
    - {{model: up-large, input_per_mtok: 5, output_per_mtok: 20}}
tenants:
  - {{id: acme, limits: {{tenant: {{daily_cap: 10.00}}}}, keys: [{{id: k, mint: true}}]}}
"""


@pytest.mark.slow(40)
@pytest.mark.timeout(40)
async def test_a_proxy_killed_on_a_detour(
    tmp_path: Path,
    upstream: ScriptedUpstream,
    other_upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """F-01: before any checkpoint its hold says where it had gone; the prompt is a cost there."""
    need("redis-server")
    config = tmp_path / "config.yaml"
    config.write_text(DETOUR.format(near=upstream.url, far=other_upstream.url))
    upstream.scripts, other_upstream.scripts = [[TOO_LONG]], [[Act.HANG]]
    monkeypatch.setenv("FIRST_CHECKPOINT_S", "30")
    with serving(tmp_path, config=config, program=PROGRAM, settles=False) as weir:
        async with aiohttp.ClientSession() as http:
            asking = asyncio.ensure_future(ask(http, weir, "small"))
            await until(lambda: other_upstream.received)

            proxy_of(weir).send_signal(signal.SIGKILL)
            with pytest.raises(aiohttp.ClientError):
                await asking
        await until(lambda: (weir.data_dir / "ledger.db").exists() and booked(weir))

        [event] = booked(weir)

    assert (event["usage_source"], event["reason_code"]) == ("recovered", "recovered_unconfirmed")
    assert event["model_upstream"] == "up-large"
    assert event["cost_nano"] == event["q_input_uncached"] * 5_000 > 0
