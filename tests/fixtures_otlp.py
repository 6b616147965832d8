"""A collector on a real socket: takes OTLP over HTTP in JSON, and fails as it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from proxy.settings import Secret, Telemetry


def plain(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    """OTLP's attributes as a mapping, with its integers read."""
    return {each["key"]: _value(each["value"]) for each in attributes}


def _value(value: dict[str, Any]) -> Any:
    ((kind, found),) = value.items()
    if kind == "intValue":
        assert isinstance(found, str)  # 64 bits are text in this encoding
        return int(found)
    if kind == "arrayValue":
        return [_value(each) for each in found["values"]]
    return found


@dataclass
class Collector:
    """What has come, and what to answer: `statuses` first, then 200 with `body`."""

    url: str = ""
    traces: list[dict[str, Any]] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    body: str = "{}"
    requests: int = 0
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, request: web.Request) -> web.Response:
        """One message."""
        self.requests += 1
        self.headers.append(dict(request.headers))
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            kept = self.traces if request.path.endswith("/traces") else self.metrics
            kept.append(await request.json())
        async with self.came:
            self.came.notify_all()
        return web.Response(status=status, text=self.body, content_type="application/json")

    @property
    def spans(self) -> list[dict[str, Any]]:
        """Every span that was taken, with plain attributes."""
        return [
            {**span, "attributes": plain(span["attributes"])}
            for message in self.traces
            for resource in message["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    async def until(self, count: int) -> dict[str, dict[str, Any]]:
        """The spans by name, once so many have come."""
        async with asyncio.timeout(8), self.came:
            await self.came.wait_for(lambda: len(self.spans) >= count)
        return {span["name"]: span for span in self.spans}

    async def asked(self, count: int) -> None:
        """Wait for so many messages, taken or not."""
        async with asyncio.timeout(8), self.came:
            await self.came.wait_for(lambda: self.requests >= count)

    def settings(self, **fields: Any) -> Telemetry:
        """Those of a process that tells this collector."""
        return Telemetry(otlp=self.url, headers={"x-key": Secret("canary-otlp-key")}, **fields)


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    """A collector that listens; closed after the test."""
    made = Collector()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/{signal}", made.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()
