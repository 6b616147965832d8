"""What is live, as a stream of the console."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from fixtures_console import Desk
from fixtures_ledger import make_event

from metering.clock import now_ns
from metering.events import encode
from metering.settlement.ledger.outbox import put_alerts
from proxy.admin import live
from proxy.dashboard import live_hub


async def _until(answer: Any, *kinds: str) -> dict[str, Any]:
    """The first message of each of these kinds."""
    found: dict[str, Any] = {}
    kind = ""
    async with asyncio.timeout(8):
        async for line in answer.content:
            word, _, rest = line.decode().rstrip().partition(": ")
            if word == "event":
                kind = rest
            elif word == "data":
                found.setdefault(kind, orjson.loads(rest))
                if found.keys() >= set(kinds):
                    return found
    raise AssertionError(f"only {sorted(found)} came")


async def test_a_viewer_sees_what_every_machine_recorded(desk: Desk) -> None:
    """Usage from the streams, caps, upstreams, and alerts from the ledger, in one connection."""
    console = desk.console
    for shard in range(console.keys.shards):
        await console.redis.set(console.keys.epoch(shard), 1)
    event = make_event(degrade_step="cap_80", model_public="small", completed_at=now_ns())
    body = encode(event)
    await console.redis.xadd(console.keys.stream(console.keys.shard("acme")), {"e": body})

    def alert() -> None:
        with console.ledger().write() as connection:
            put_alerts(connection, [("cap:acme", {"tenant": "acme", "share_ppm": 800_000})], 10**18)

    await console.in_thread(alert)
    headers = {"Authorization": f"Bearer {desk.keys['viewer']}"}
    async with desk.client.get(f"{desk.url}/admin/v1/live", headers=headers) as answer:
        found = await _until(answer, "history", "tick", "caps", "degradation", "alert", "upstreams")

    assert answer.headers["Content-Type"] == "text/event-stream"
    assert sum(found["history"]["requests_per_s"]) >= 0
    assert [row["tenant"] for row in found["caps"]["tenants"]] == ["acme"]
    assert found["caps"]["tenants"][0]["cap_usd"] == "50.000000000"
    assert found["degradation"]["degradations"][0]["model"] == "small"
    assert found["alert"]["alerts"][0]["about"] == {"tenant": "acme", "share_ppm": 800_000}
    assert [row["upstream"] for row in found["upstreams"]["upstreams"]] == [
        "sim/up-big",
        "sim/up-small",
    ]
    assert "cost" not in orjson.dumps(found).decode()


async def test_nobody_looks_on_without_a_key_or_beyond_the_bound(
    desk: Desk, monkeypatch: Any
) -> None:
    """And a browser too many is told so, while the others look on."""
    refused = await desk.ask("GET", "/admin/v1/live", role=None)
    monkeypatch.setattr(live_hub, "VIEWERS_MAX", 0)
    full = await desk.ask("GET", "/admin/v1/live", role="viewer")

    assert refused.status == 401
    assert (full.status, full.code) == (503, "too_many_viewers")
    assert await live.opened(desk.console) is desk.console.live
