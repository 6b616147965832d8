"""The metrics port: what it answers for which boards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from raw_http import close, connect, one

from metering.clock import monotonic_s
from proxy import metrics_catalogue as catalogue
from proxy.crowd import HEALTH_CONNECTIONS
from proxy.metrics import Metrics
from proxy.metrics_board import Board
from proxy.metrics_render import STALE_S
from proxy.metrics_report import write_report
from proxy.metrics_server import CONNECTIONS_MAX, create_app, create_runner, is_local_name

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
    runner = create_runner(create_app(boards, is_local=True))
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


SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: %s\r\n\r\n"


async def test_t40_a_name_of_a_strangers_is_refused(port: str) -> None:
    """T-40: a web page whose name leads to loopback for a moment reads nothing."""
    there = port.removeprefix("http://").encode()

    said = await one(port, SCRAPE % b"rebound.example")
    served = [(await one(port, SCRAPE % host)).status for host in (there, b"localhost:1")]

    assert (said.status, b"weir_" in said.body, said.headers["server"]) == (421, False, "tokenweir")
    assert served == [200, 200]


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("localhost", True),
        ("LOCALHOST:9464", True),
        ("weir.localhost", True),
        ("127.0.0.1:9464", True),
        ("[::1]:9464", True),
        ("10.1.2.3", True),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("example", False),
        ("", False),
    ],
)
def test_t40_names_of_this_machine(host: str, is_local: bool) -> None:
    """T-40: an address cannot be rebound; of names only those that never leave the machine."""
    assert is_local_name(host) is is_local


async def test_t17_silent_scrapers_do_not_keep_the_others_out(port: str) -> None:
    """T-17: this port has places, too, and who says nothing makes way for who asks."""
    silent = [await connect(port) for _ in range(CONNECTIONS_MAX + HEALTH_CONNECTIONS)]

    said = await one(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")

    for _, writer in silent:
        await close(writer)
    assert said.status == 503  # as the process that does not report has it
    assert b"not_reporting" in said.body
