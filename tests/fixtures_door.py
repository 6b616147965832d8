"""A whole proxy application over real sockets: memory caps, scripted upstreams, collected logs."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from fixtures_upstream import ScriptedUpstream

from metering.caps import Caps, Hold, Vector
from metering.events import UsageEvent, decode
from metering.memory_caps import MemoryCaps
from metering.memory_replies import MemoryReplies
from metering.money import rate_pico_per_mtok, usd_to_nano
from metering.prices import PriceBook, PriceRule
from metering.replies import Replies
from metering.tenants import ApiKey, SpendLimits, Tenant
from proxy.app import create_app, create_runner
from proxy.client_connection import PATIENCE, Patience
from proxy.crowd import Memory
from proxy.door import Door
from proxy.ingress import MEMORY
from proxy.metrics_exchange import ExchangeMetrics
from proxy.pool import HttpTransport
from proxy.renewals import Renewals
from proxy.settings import Metering, Provider, RedisSettings, Secret, Server, Settings
from proxy.telemetry_open import with_tracing
from routing.upstreams import Model, Upstream

KEY = "sk-weir-acme-0123456789"
PROVIDER_KEY = "sk-canary-provider-key-31337"


def usd(amount: str) -> int:
    return usd_to_nano(Decimal(amount))


def rule(model: str, per_mtok: str = "1.00", **fields: Any) -> PriceRule:
    """A rule with one rate for input and four times that for output."""
    rate = rate_pico_per_mtok(Decimal(per_mtok))
    return PriceRule(model=model, input_rate_pico=rate, output_rate_pico=4 * rate, **fields)


def tenant(cap: str | None = "10.00", **limits: Any) -> Tenant:
    nano = None if cap is None else usd(cap)
    return Tenant(
        id="acme",
        name="Acme",
        limits=SpendLimits(daily_cap_nano=nano, **limits),
        keys=(ApiKey("k1", hashlib.sha256(KEY.encode()).hexdigest(), "default"),),
    )


@dataclass
class CollectingLog:
    """Keeps what is logged, so that a test can look for what must not be there."""

    lines: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def _note(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    debug = info = warning = error = _note

    def bind(self, **fields: Any) -> CollectingLog:
        """The same log; what is bound is not looked at."""
        return self


@dataclass
class MemorySpool:
    """Keeps what could not be committed; `is_full` makes it refuse."""

    records: list[tuple[Hold, Vector, list[bytes]]] = field(default_factory=list)
    is_full: bool = False

    acknowledged: list[int] = field(default_factory=list)

    def take_seq(self) -> int:
        return len(self.records) + 1

    def committed(self, seq: int) -> None:
        self.acknowledged.append(seq)

    async def append(
        self, hold: Hold, actual: Vector, events: Sequence[bytes], *, seq: int | None = None
    ) -> int:
        if self.is_full:
            raise OSError(28, "No space left on device")
        self.records.append((hold, actual, list(events)))
        return seq or len(self.records)


def settings(
    upstreams: dict[str, str],
    *,
    who: Tenant | None = None,
    models: dict[str, Model] | None = None,
    rules: tuple[PriceRule, ...] = (rule("*"),),
    server: Server | None = None,
    clamps: bool = True,
    **providers: Any,
) -> Settings:
    """Settings with one provider per entry of `upstreams` (name to URL) and a model `m` on all."""
    who = who or tenant()
    return Settings(
        source=None,
        server=server or Server(),
        data_dir=Path(),
        redis=RedisSettings(),
        ledger_url="",
        providers={
            name: Provider(
                name=name,
                type="openai",
                base_url=url,
                api_key=Secret(PROVIDER_KEY),
                timeout_s=providers.get("timeout_s", 5.0),
                connect_timeout_s=1.0,
            )
            for name, url in upstreams.items()
        },
        models=models
        or {"m": Model("m", tuple(Upstream(name, "up-m", "m") for name in upstreams))},
        prices=PriceBook(rules),
        tenants={who.id: who},
        metering=Metering(),
        default_output_tokens=1000,
        clamp_max_tokens=clamps,
    )


@dataclass
class RunningDoor:
    """A proxy that listens, with everything it keeps open to look into."""

    url: str
    caps: Caps
    spool: MemorySpool
    log: CollectingLog
    renewals: Renewals
    http: aiohttp.ClientSession
    door: Door
    runner: web.AppRunner
    answers: list[aiohttp.ClientResponse] = field(default_factory=list)

    @property
    def crowd_size(self) -> int:
        """How many connections are open."""
        assert self.runner.server is not None
        return len(self.runner.server.connections)

    @property
    def memory(self) -> Memory:
        """What the bodies of requests are counted in."""
        return self.runner.app[MEMORY]  # type: ignore[attr-defined,no-any-return]

    @property
    def events(self) -> list[UsageEvent]:
        """The events of committed exchanges, in order."""
        assert isinstance(self.caps, MemoryCaps)
        return [decode(body) for body in self.caps.model.events]

    async def chat(self, **fields: Any) -> aiohttp.ClientResponse:
        """POST a chat completion with the tenant's key."""
        payload = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
        answer = await self.http.post(
            f"{self.url}/v1/chat/completions",
            json=payload,
            headers={"Authorization": f"Bearer {KEY}"},
        )
        self.answers.append(answer)
        return answer

    async def close(self) -> None:
        """Let go of every answer, read or not, and of the client's connections."""
        for answer in self.answers:
            answer.close()
        await self.http.close()


def held(door: RunningDoor) -> list[str]:
    """The states of hold records that are left."""
    assert isinstance(door.caps, MemoryCaps)
    return [record.state for record in door.caps.model.records.values()]


OpenDoor = Callable[..., Awaitable[RunningDoor]]


@pytest.fixture(params=[True, False], ids=["cancelling", "not_cancelling"])
def handler_cancellation(request: pytest.FixtureRequest) -> bool:
    """Whether the server cancels the handler of a client that left: both must come out right."""
    return bool(request.param)


@pytest.fixture
async def open_door(tmp_path: Path) -> AsyncIterator[OpenDoor]:
    """Starts a proxy for these settings; closed after the test."""
    runners: list[web.AppRunner] = []
    closing: list[Callable[[], Awaitable[None]]] = []
    stack = contextlib.AsyncExitStack()

    async def start(
        configured: Settings,
        caps: Caps | None = None,
        *,
        cancels: bool = True,
        patience: Patience = PATIENCE,
        tls: ssl.SSLContext | None = None,
        replies: Replies | None = None,
    ) -> RunningDoor:
        log, spool, caps = CollectingLog(), MemorySpool(), caps or MemoryCaps()
        transport = HttpTransport()
        renewals = Renewals(caps, log)
        door = Door(
            settings=replace(configured, data_dir=tmp_path),
            caps=caps,
            transport=transport,
            spool=spool,
            open=renewals,
            log=log,
            proxy_id="p-0",
            metrics=ExchangeMetrics(models=configured.models, tenants=configured.tenants),
            replies=replies or MemoryReplies(),
        )
        door, sending = with_tracing(door)
        await stack.enter_async_context(sending)

        async def ready() -> bool:
            return True

        runner = create_runner(
            create_app(door, ready, patience=patience),
            handler_cancellation=cancels,
            shutdown_timeout_s=0.1,
            tls=tls,
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        port = runner.addresses[0][1]
        session = aiohttp.ClientSession()
        url = f"http{'s' if tls is not None else ''}://127.0.0.1:{port}"
        running = RunningDoor(url, caps, spool, log, renewals, session, door, runner)
        runners.append(runner)
        closing.extend([running.close, transport.close])
        return running

    yield start
    for close in closing:
        await close()
    for runner in runners:
        await runner.cleanup()
    await stack.aclose()


@pytest.fixture
async def door(open_door: OpenDoor, upstream: ScriptedUpstream) -> RunningDoor:
    """A proxy in front of one scripted upstream, with a cap of $10."""
    return await open_door(settings({"one": upstream.url}))
