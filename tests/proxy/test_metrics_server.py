"""The metrics port: what it answers for which boards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from metering.clock import monotonic_s
from proxy import metrics_catalogue as catalogue
from proxy.metrics import Metrics
from proxy.metrics_board import Board
from proxy.metrics_render import STALE_S
from proxy.metrics_report import write_report
from proxy.metrics_server import create_app

Boards = dict[str, Board]


@pytest.fixture
def boards() -> Boards:
    """A supervisor and two proxies; the second has not reported yet."""
    made = {name: Board() for name in ("supervisor", "proxy-0", "proxy-1")}
    write_report(made["supervisor"], Metrics(), {"is_stopping": False})
    write_report(made["proxy-0"], Metrics(), {"is_ready": True, "redis_up": True})
    return made


@pytest.fixture
async def port(boards: Boards) -> AsyncIterator[str]:
    """The server over these boards; its URL."""
    runner = web.AppRunner(create_app(boards))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def ask(url: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as client, client.get(url) as answer:
        return answer.status, await answer.json()


async def test_ready_is_when_one_proxy_is(port: str) -> None:
    """The detail says how each process stands."""
    status, said = await ask(f"{port}/readyz")

    assert (status, said["status"]) == (200, "ready")
    assert said["processes"]["proxy-0"]["redis_up"] is True
    assert "proxy-1" not in said["processes"]


@pytest.mark.parametrize(
    ("name", "standing", "word"),
    [
        ("proxy-0", {"is_ready": False}, "not_ready"),
        ("supervisor", {"is_stopping": True}, "draining"),
    ],
)
async def test_not_ready(
    boards: Boards, port: str, name: str, standing: dict[str, Any], word: str
) -> None:
    """No proxy that serves, or somebody asked for the end: 503, and which of them it is."""
    write_report(boards[name], Metrics(), standing)
    status, said = await ask(f"{port}/readyz")

    assert (status, said["status"]) == (503, word)


async def test_a_silent_process_is_named(
    boards: Boards, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alive means that each process reports; one that never did or no longer does is named."""
    status, said = await ask(f"{port}/healthz")
    assert (status, said["not_reporting"]) == (503, ["proxy-1"])

    write_report(boards["proxy-1"], Metrics(), {"is_ready": False})
    status, said = await ask(f"{port}/healthz")
    assert (status, said["status"], said["not_reporting"]) == (200, "ok", [])

    later_s = monotonic_s() + STALE_S + 1
    monkeypatch.setattr("proxy.metrics_server.monotonic_s", lambda: later_s)
    assert (await ask(f"{port}/readyz"))[1]["status"] == "not_ready"
    assert (await ask(f"{port}/healthz"))[1]["not_reporting"] == list(boards)


async def test_metrics_are_those_of_all_boards(boards: Boards, port: str) -> None:
    """One scrape, every process; the content type says which format it is."""
    for name in ("proxy-0", "proxy-1"):
        metrics = Metrics()
        metrics.add(catalogue.WRITE_STALLS, by=2)
        write_report(boards[name], metrics, {})
    async with aiohttp.ClientSession() as client, client.get(f"{port}/metrics") as answer:
        text = await answer.text()

    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert "\nweir_write_stalls_total 4.0\n" in text
    assert "\nweir_build_info{" in text
