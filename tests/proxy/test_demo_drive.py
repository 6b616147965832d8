"""What the demonstration's client counts, against a server of a few lines."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web
from aiohttp.test_utils import TestServer

from proxy.demo_drive import Drive, drive, line, summary
from proxy.demo_load import Ask

ANSWERS: Mapping[str, tuple[int, dict[str, str]]] = {
    "plain": (200, {}),
    "cheap": (200, {"x-weir-degraded": "small; reason=threshold"}),
    "kept": (200, {"x-weir-cache": "hit"}),
    "capped": (429, {"x-weir-limit-source": "tenant_daily_cap"}),
    "broken": (502, {}),
}


async def _answer(request: web.Request) -> web.Response:
    assert request.headers["authorization"] == "Bearer sk-1"
    status, headers = ANSWERS[(await request.json())["model"]]
    return web.Response(status=status, headers=headers, text="x" * 10_000)


def ask(model: str, leave_after: int | None = None) -> Ask:
    return Ask("acme.k", "/v1/chat/completions", {"model": model}, {}, leave_after)


async def test_every_outcome_is_counted() -> None:
    """Served, degraded, kept, refused by whom, failed how, and clients that went away."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", _answer)
    wanted = [*map(ask, ANSWERS), ask("plain", leave_after=100)]
    told: list[int] = []
    seen = Drive()
    async with TestServer(app) as server:
        await drive(
            str(server.make_url("/")),
            keys={"acme.k": "sk-1"},
            models={name: name for name in ANSWERS},
            asks=iter(wanted),
            rate=1000,
            seconds=None,
            tell=lambda drive: told.append(drive.sent),
            into=seen,
        )

    assert summary(seen) == {
        "sent": 6,
        "served": 3,
        "degraded": 1,
        "from_cache": 1,
        "left": 1,
        "refused": {"acme: tenant_daily_cap": 1},
        "failed": {"status 502": 1},
    }
    assert told == [1, 2, 3, 4, 5, 6, 6]
    assert "6 sent, 0 under way, 3 served (1 degraded, 1 from cache)" in line(seen)


async def test_it_ends_when_its_time_is_over() -> None:
    """No request is begun after it; an address where nobody answers is a failure that counts."""
    seen = Drive()

    async with asyncio.timeout(5):
        await drive(
            "http://127.0.0.1:1/",
            keys={"acme.k": "sk-1"},
            models={"plain": "plain"},
            asks=iter([ask("plain")] * 10_000),
            rate=100,
            seconds=0.05,
            tell=lambda drive: None,
            into=seen,
        )

    assert (seen.sent, seen.failed.total()) == (5, 5)
