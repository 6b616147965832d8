"""One account asked over a socket, kept and compared."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from fixtures_ledger import book, make_event, new_ledger

from metering.settlement.ledger.provider_books import Run
from proxy.cli_reconciling import compare, source_of
from proxy.config import load

FIRST_NS = 1_793_491_200_000_000_000
SINCE, UNTIL = "2026-11-01", "2026-11-02"
USAGE = {
    "data": [
        {
            "starting_at": "2026-11-01T00:00:00Z",
            "results": [
                {"uncached_input_tokens": 500, "output_tokens": 200, "model": "gpt-4o"}
                | {"service_tier": "standard", "workspace_id": None}
            ],
        }
    ],
    "has_more": False,
}
COSTS = {
    "data": [
        {
            "starting_at": "2026-11-01T00:00:00Z",
            "results": [{"amount": "110", "currency": "USD", "model": "gpt-4o"}],
        }
    ],
    "has_more": False,
}


@pytest.fixture
def url() -> Iterator[str]:
    """A provider on a socket of its own, in a thread: the command has a loop of its own."""
    loop, ready, found = asyncio.new_event_loop(), threading.Event(), []

    async def answer(request: web.Request) -> web.Response:
        assert request.headers["x-api-key"] == "sk-ant-admin-1"
        return web.json_response(COSTS if request.path.endswith("cost_report") else USAGE)

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/{tail:.*}", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    def serve() -> None:
        runner = loop.run_until_complete(start())
        found.append(runner.addresses[0])
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=serve)
    thread.start()
    ready.wait(5)
    host, port = found[0]
    yield f"http://{host}:{port}/v1"
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)


def _config(tmp_path: Path, reconcile: str, egress: str = "{}") -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(
        f"data_dir: .\negress: {egress}\nproviders:\n"
        f"  openai: {{type: anthropic, api_key: '${{K}}', reconcile: {reconcile}}}\n"
    )
    return path


def test_what_was_asked_for_is_kept_and_compared(tmp_path: Path, url: str) -> None:
    """Once fetched it can be compared again without asking."""
    ledger = new_ledger(tmp_path)
    book(ledger, [make_event(occurred_at=FIRST_NS + 5)])
    section = f"{{admin_key: '${{ADMIN}}', url: '{url}'}}"
    settings = load(_config(tmp_path, section), {"K": "k", "ADMIN": "sk-ant-admin-1"}).settings

    made = compare(ledger, settings, "openai", since=SINCE, until=UNTIL, by="ann")
    again = compare(ledger, settings, "openai", since=SINCE, until=UNTIL, by="ann", fetches=False)

    assert isinstance(made, Run) and isinstance(again, Run)
    lines = {line["unit"]: (line["ours"], line["theirs"]) for line in made.body["lines"]}
    assert lines == {
        "input_uncached": (500, 500),
        "output_text": (200, 200),
        "cost": (5_500_000, 1_100_000_000),
    }
    assert again.body == made.body
    ledger.close()


def test_a_key_that_is_not_set_is_named(tmp_path: Path) -> None:
    """Instead of a comparison."""
    ledger = new_ledger(tmp_path)
    settings = load(_config(tmp_path, "{admin_key: '${NOT_THERE}'}"), {"K": "k"}).settings

    found = compare(ledger, settings, "openai", since=SINCE, until=UNTIL, by="ann")

    assert found == "environment variable NOT_THERE is not set"
    ledger.close()


def test_the_way_out_is_that_of_requests(tmp_path: Path) -> None:
    """Through the proxy that the file names, with its password in a header."""
    egress = "{proxy: 'http://user:secret@127.0.0.1:3128'}"
    path = _config(tmp_path, "{admin_key: '${ADMIN}'}", egress)
    settings = load(path, {"K": "k", "ADMIN": "a"}).settings

    source = source_of(settings, settings.providers["openai"])

    assert source is not None
    assert source.url == "https://api.anthropic.com/v1"
    assert source.proxy["proxy"] == "http://127.0.0.1:3128"
    assert source.proxy["proxy_headers"]["Proxy-Authorization"].startswith("Basic ")
    assert "secret" not in repr(source)
