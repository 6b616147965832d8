"""T-50: 256 streams in flight over two processes use up a cap together, and nobody passes it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from fixtures_redis import RedisServer
from fixtures_weir import Weir, serving

from metering.caps import Scope, ScopeKind
from metering.events import UsageEvent, decode
from metering.redis_events import mark_epoch
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink

KEYS = RedisKeys(prefix="edge")
CAP_NANO = 300_000_000
USER_CAP_NANO = 40_000_000
STREAMS, USERS, LEAVERS = 256, 8, 32
SECRET = "sk-weir-edge-0123456789abcdef"

CONFIG = """\
server: {{workers: 2}}
redis: {{url: "unix://{path}", prefix: edge, timeout_ms: 5000}}
providers: {{sim: {{type: simulator}}}}
models:
  m: {{upstreams: [{{provider: sim, model: "demo?tokens=400&first_ms=3000&chunk_ms=20"}}]}}
pricing: {{rules: [{{model: m, input_per_mtok: 0.001, output_per_mtok: 10}}]}}
limits:
  default_output_tokens: 64
  stream_slice_tokens: 64
  tenant: {{daily_cap: 0.30}}
  caps:
    - {{scope: key, window: month, timezone: Europe/Paris, usd: 1, concurrent: 256}}
    - {{scope: user, window: 2h, usd: 0.04, alert_at: [0.5]}}
    - {{scope: tenant, window: 1m, requests: 256}}
tenants: [{{id: acme, keys: [{{id: k, key: {secret}}}]}}]
"""


@pytest.fixture
def two_proxies(own_redis_server: RedisServer, tmp_path: Path) -> Iterator[Weir]:
    """`weir serve` with two proxies on the test's own Redis, whose windows are whole."""

    async def mark() -> None:
        async with RedisLink(own_redis_server.target, timeout_ms=5_000) as link:
            await link.wait_up(5)
            await mark_epoch(link, KEYS, KEYS.shard("acme"), now_ms=1)

    asyncio.run(mark())
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(path=own_redis_server.path, secret=SECRET))
    with serving(tmp_path, config=config, words=("--no-worker",), settles=False) as running:
        yield running


async def _one(http: aiohttp.ClientSession, url: str, number: int) -> str:
    """How one stream ended; every eighth client leaves in its middle."""
    headers = {"Authorization": f"Bearer {SECRET}", "x-weir-user": f"u{number % USERS}"}
    said = [{"role": "user", "content": "hi"}]
    body = {"model": "m", "messages": said, "stream": True}
    async with http.post(f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
        if answer.status != 200:
            return f"refused {answer.status}"
        if number % (STREAMS // LEAVERS) == 0:
            await answer.content.readany()
            answer.close()
            return "left"
        raw = await answer.read()
    is_cut = b'"finish_reason":"length"' in raw and raw.endswith(b"data: [DONE]\n\n")
    return "at the cap" if is_cut else "broken"


async def _watch(link: RedisLink, seen: list[tuple[int, int]]) -> None:
    """What is spent and held, and how many run, until cancelled."""
    tenant = Scope(ScopeKind.TENANT)
    while True:
        spent, held = await link.call("HMGET", KEYS.scope("acme", tenant), "24h:n", "held:n")
        running = await link.call("ZCARD", KEYS.scope_holds("acme", tenant))
        seen.append((int(spent or 0) + int(held or 0), running))
        await asyncio.sleep(0.002)


async def _run(weir: Weir, server: RedisServer) -> tuple[Counter[str], list[tuple[int, int]]]:
    seen: list[tuple[int, int]] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        RedisLink(server.target, timeout_ms=5_000) as link,
        aiohttp.ClientSession(connector=connector) as http,
    ):
        await link.wait_up(5)
        watching = asyncio.ensure_future(_watch(link, seen))
        ends = Counter(await asyncio.gather(*(_one(http, weir.url, n) for n in range(STREAMS))))
        while await link.call("HLEN", KEYS.holds("acme")):  # those whose client has left
            await asyncio.sleep(0.01)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return ends, seen


async def _left_behind(
    server: RedisServer,
) -> tuple[list[UsageEvent], dict[Scope, tuple[int, int, int]]]:
    """The events, and per scope what is spent, held and running."""
    users = [Scope(ScopeKind.USER, f"u{number}") for number in range(USERS)]
    labels = {Scope(ScopeKind.TENANT): "24h", Scope(ScopeKind.KEY, "k"): "month"}
    found = {}
    async with RedisLink(server.target, timeout_ms=5_000) as link:
        await link.wait_up(5)
        rows = await link.call("XRANGE", KEYS.stream(KEYS.shard("acme")), "-", "+")
        for scope in (*labels, *users):
            names = f"{labels.get(scope, '2h')}:n", "held:n"
            spent, held = await link.call("HMGET", KEYS.scope("acme", scope), *names)
            running = await link.call("ZCARD", KEYS.scope_holds("acme", scope))
            found[scope] = int(spent or 0), int(held or 0), running
    return [decode(fields[1]) for _, fields in rows], found


@pytest.mark.slow(90)
@pytest.mark.timeout(120)
def test_t50_256_streams_in_flight_end_at_the_cap(
    two_proxies: Weir, own_redis_server: RedisServer
) -> None:
    """All are admitted, grow by slices under four caps of three scopes, and end softly; at no
    sampled instant is more spent and held than the cap, and no window differs from the events."""
    ends, seen = asyncio.run(_run(two_proxies, own_redis_server))

    assert ends == {"left": LEAVERS, "at the cap": STREAMS - LEAVERS}
    assert max(running for _, running in seen) == STREAMS
    assert max(total for total, _ in seen) <= CAP_NANO
    events, scopes = asyncio.run(_left_behind(own_redis_server))
    assert len(events) == STREAMS
    assert len({event.proxy_id for event in events}) == 2
    spent: Counter[str] = Counter()
    for event in events:
        spent[event.user or ""] += event.admission_nano
    total = spent.total()
    assert CAP_NANO * 9 // 10 < total <= CAP_NANO
    assert scopes.pop(Scope(ScopeKind.TENANT)) == (total, 0, 0)
    assert scopes.pop(Scope(ScopeKind.KEY, "k")) == (total, 0, 0)
    assert scopes == {Scope(ScopeKind.USER, user): (nano, 0, 0) for user, nano in spent.items()}
    assert max(spent.values()) <= USER_CAP_NANO
