"""A real browser, and a console for it that is served from a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from config_samples import BASE, loaded
from fixtures_ledger import make_event
from fixtures_needs import need
from fixtures_redis import RedisServer
from redis import Redis

from metering.clock import now_ns
from metering.events import encode, payload_hash
from metering.redis_keys import RedisKeys
from metering.settlement.ledger.store import open_ledger
from proxy import telemetry
from proxy.admin.app import create_app
from proxy.admin.opened import Console
from proxy.api_keys import key_sha256, new_admin_key
from proxy.console import create_runner
from proxy.settings import AdminKey, AdminPort, Secret

NASTY = "<img src=x onerror=document.title='taken'>"
TENANTS = f"""
limits: {{tenant: {{daily_cap: 50.00}}}}
tenants:
  - {{id: acme, name: "{NASTY}", keys: [{{id: k1, sha256: {"ab" * 32}}}]}}
"""


@dataclass
class Board:
    """A served console, its Redis, and a raw key of each role."""

    url: str
    console: Console
    keys: dict[str, str]
    redis: Redis
    loop: asyncio.AbstractEventLoop
    sessions: dict[str, Any] = field(default_factory=dict)
    """By role, what a browser keeps that has logged in."""

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """In the console's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def spend(self, **changes: Any) -> None:
        """An event in the stream of its tenant, as a proxy's commit leaves it."""
        event = make_event(**{"tenant": "acme", "completed_at": now_ns(), **changes})
        body = encode(event)
        stream = self.console.keys.stream(self.console.keys.shard(event.tenant))
        self.redis.xadd(stream, {"e": body, "h": payload_hash(body)})


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Debian's Chromium, started once for a file.

    Not for the session: what drives it keeps an event loop running in this thread, and the tests
    of other files have loops of their own.
    """
    path = need("chromium")
    need("playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def serving_board(folder: Path, redis_server: RedisServer, *, more: str = "") -> Iterator[Board]:
    """The console over a new ledger and a corner of Redis of its own."""
    keys = {role: new_admin_key() for role in ("viewer", "billing", "admin")}
    settings = loaded(folder, BASE + TENANTS + more).settings
    prefix = f"board-{folder.name}"[-40:]
    settings = dataclasses.replace(
        settings,
        admin=AdminPort(port=0),
        admin_keys=tuple(
            AdminKey(role, key_sha256(raw), role)  # type: ignore[arg-type] # they are roles
            for role, raw in keys.items()
        ),
        ledger_url=f"sqlite:///{folder / 'ledger.db'}",
        data_dir=folder,
        redis=dataclasses.replace(settings.redis, url=Secret(redis_server.url), prefix=prefix),
    )
    ledger = open_ledger(settings.ledger_url)
    ledger.migrate()
    ledger.close()
    console = Console(settings, telemetry.logger("console"))
    client = Redis(unix_socket_path=redis_server.path)
    for shard in range(RedisKeys(prefix).shards):
        client.set(console.keys.epoch(shard), 1)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="console")
    thread.start()
    board = Board("", console, keys, client, loop)
    runner = create_runner(create_app(console, is_local=True))

    async def start() -> str:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def stop() -> None:
        await console.close()
        await runner.cleanup()

    board.url = board.run(start())
    yield board
    board.run(stop())
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()
    client.close()


@pytest.fixture(scope="module")
def board(redis_server: RedisServer) -> Iterator[Board]:
    """One for all tests of a file."""
    need("chromium")
    need("playwright")
    with (
        tempfile.TemporaryDirectory(prefix="weir-board-") as folder,
        serving_board(Path(folder), redis_server) as served,
    ):
        yield served
