"""The console for tests: its application on a real port, a ledger, Redis, a key of each role."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from config_samples import BASE, loaded
from fixtures_redis import RedisServer

from metering.settlement.ledger.store import open_ledger
from proxy import telemetry
from proxy.admin.app import create_app
from proxy.admin.opened import Console
from proxy.api_keys import key_sha256, new_admin_key
from proxy.console import create_runner
from proxy.settings import AdminKey, AdminPort, Secret

TENANTS = """
limits: {tenant: {daily_cap: 50.00}}
tenants:
  - id: acme
    name: Acme
    projects: [{id: web}]
    keys: [{id: k1, sha256: %s}]
""" % ("ab" * 32)


@dataclass(frozen=True)
class Said:
    """What the console answered."""

    status: int
    headers: Any
    raw: bytes

    @property
    def body(self) -> Any:
        """It, read as JSON."""
        return orjson.loads(self.raw)

    @property
    def code(self) -> str:
        """The code of a refusal."""
        return str(self.body["error"]["code"])


@dataclass
class Desk:
    """A served console, and a raw key of each role."""

    console: Console
    url: str
    client: aiohttp.ClientSession
    keys: dict[str, str] = field(default_factory=dict)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        role: str | None = "admin",
        **headers: str,
    ) -> Said:
        """What it answers to this role; None for who sends no key."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if role is not None:
            sent.setdefault("Authorization", f"Bearer {self.keys[role]}")
        data = None if body is None else orjson.dumps(body)
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        url = path if path.startswith("http") else self.url + path
        async with self.client.request(method, url, data=data, headers=sent) as answer:
            return Said(answer.status, answer.headers, await answer.read())

    async def get(self, path: str, *, role: str | None = "admin") -> Any:
        """The body of a 200."""
        said = await self.ask("GET", path, role=role)
        assert said.status == 200, said.raw
        return said.body


@pytest.fixture
async def desk(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Desk]:
    """A console over a new ledger and an empty corner of Redis."""
    keys = {role: new_admin_key() for role in ("viewer", "billing", "admin")}
    settings = dataclasses.replace(
        loaded(tmp_path, BASE + TENANTS).settings,
        admin=AdminPort(port=0),
        admin_keys=tuple(AdminKey(role, key_sha256(raw), role) for role, raw in keys.items()),
        ledger_url=f"sqlite:///{tmp_path / 'ledger.db'}",
        data_dir=tmp_path,
    )
    redis = dataclasses.replace(
        settings.redis, url=Secret(redis_server.url), prefix=f"console-{tmp_path.name}"[-40:]
    )
    ledger = open_ledger(settings.ledger_url)
    ledger.migrate()
    ledger.close()
    console = Console(dataclasses.replace(settings, redis=redis), telemetry.logger("console"))
    runner = create_runner(create_app(console, is_local=True))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
        yield Desk(console, f"http://127.0.0.1:{runner.addresses[0][1]}", client, keys)
    await runner.cleanup()
    await console.close()
