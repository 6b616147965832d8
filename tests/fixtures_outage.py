"""A proxy over a Redis of its own that can be killed, emptied, and set back in time."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fixtures_door import KEY, settings
from fixtures_needs import need
from fixtures_redis import RedisServer, stop_redis
from fixtures_upstream import (
    DONE,
    FINISH,
    Act,
    ScriptedUpstream,
    chunk,
    completion,
    delta,
    stream_head,
)
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import select

from metering.background import spawn
from metering.events import UsageEvent, decode
from metering.settlement import worker
from metering.settlement.ledger import tables
from metering.settlement.ledger.store import open_ledger
from metering.settlement.ledger.verify import verify
from metering.settlement.redis_client import connect
from metering.settlement.redis_windows import rebuild_windows
from metering.settlement.timing import Timing
from proxy.app import create_app, create_runner
from proxy.services import Services, open_services
from proxy.settings import Metering, RedisSettings, Secret, Settings, redis_keys

SELL_NANO = 30_000
"""What one answer of the scripted upstream costs the tenant."""

TIMEOUT_MS = 250

FAST = Timing(
    block_ms=20,
    claim_idle_ms=50,
    retry_first_s=0.02,
    retry_max_s=0.1,
    upkeep_every_s=0,
    spools_wait_s=0.5,
)


class DurableRedis:
    """A redis-server with an AOF, in a folder that can be copied, lost, or put back."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="weir-"))  # a socket's path is short
        self.data = self.folder / "data"
        self.path = str(self.folder / "s")
        self._server: RedisServer | None = None

    async def start(self, *words: str) -> None:
        self.data.mkdir(exist_ok=True)
        command = [str(need("redis-server")), "--port", "0", "--unixsocket", self.path]
        command += ["--dir", str(self.data), "--save", "", "--appendonly", "yes"]
        command += words
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self._server = RedisServer(process, self.path)
        async with asyncio.timeout(8):
            while not await self._answers():
                await asyncio.sleep(0.02)

    def kill(self) -> None:
        if self._server is not None:
            stop_redis(self._server)
            self._server = None

    def pause(self) -> None:
        assert self._server is not None
        self._server.pause()

    def resume(self) -> None:
        assert self._server is not None
        self._server.resume()

    def copy(self) -> Path:
        """The data as a power cut now would leave it, had Redis just synced."""
        return Path(shutil.copytree(self.data, self.folder / "copy"))

    def put_back(self, copy: Path) -> None:
        self.lose()
        copy.rename(self.data)

    def lose(self) -> None:
        """Everything that was on disk."""
        shutil.rmtree(self.data)

    async def ask(self, *command: str | int) -> Any:
        async with Redis(unix_socket_path=self.path) as redis:
            return await redis.execute_command(*command)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    async def _answers(self) -> bool:
        with contextlib.suppress(RedisError):
            return bool(await self.ask("PING"))
        return False


class Relay:
    """Between a proxy and Redis: swallows what Redis answers when told, as a one-way partition."""

    def __init__(self, redis: DurableRedis) -> None:
        self._redis = redis
        self.path = str(redis.folder / "relay")
        self.swallows = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        answers, commands = await asyncio.open_unix_connection(self._redis.path)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, commands, lambda: False))
                group.create_task(self._pump(answers, writer, lambda: self.swallows))
        except asyncio.CancelledError:
            pass  # the end of the test; the server would tell of it
        finally:
            self._tasks.discard(task)
            for each in (commands, writer):
                each.close()
                with contextlib.suppress(OSError):
                    await each.wait_closed()

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        drops: Callable[[], bool],
    ) -> None:
        while data := await source.read(65_536):
            if not drops():
                sink.write(data)
        sink.close()

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Site:
    """One proxy, its Redis, its ledger; the worker runs when told."""

    redis: DurableRedis
    settings: Settings
    upstream: ScriptedUpstream
    services: Services
    url: str
    http: aiohttp.ClientSession
    relay: Relay | None = None
    answers: list[aiohttp.ClientResponse] = field(default_factory=list)

    async def chat(self, **fields: Any) -> aiohttp.ClientResponse:
        """A completion, read to its end."""
        answer = await self.begin(**fields)
        await answer.read()
        return answer

    async def begin(self, **fields: Any) -> aiohttp.ClientResponse:
        payload = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
        answer = await self.http.post(
            f"{self.url}/v1/chat/completions",
            json=payload,
            headers={"Authorization": f"Bearer {KEY}"},
        )
        self.answers.append(answer)
        return answer

    async def served(self, count: int = 1) -> None:
        """So many completions, each answered."""
        for _ in range(count):
            assert (await self.chat()).status == 200

    async def until_served(self) -> None:
        """One completion, as soon as it is served."""

        async def is_served() -> bool:
            return (await self.chat()).status == 200

        await until(is_served)

    async def until_replayed(self) -> None:
        async def is_empty() -> bool:
            return self.services.link.is_up and self.services.spool.depth.records == 0

        await until(is_empty)

    async def until_ready(self) -> None:
        await until(self.services.ready)

    async def settle(self) -> list[UsageEvent]:
        """Run the worker until nothing is left; the events of a ledger that is in order."""
        await worker.run(
            f"unix://{self.redis.path}",
            redis_keys(self.settings),
            self.settings.ledger_url,
            stop=asyncio.Event(),
            drain=True,
            timing=FAST,
        )
        with closing(open_ledger(self.settings.ledger_url)) as ledger:
            assert verify(ledger) == []
            with ledger.read() as connection:
                rows = connection.execute(select(tables.usage_event.c.payload)).all()
        return [decode(bytes(row.payload)) for row in rows]

    async def spent_nano(self) -> int:
        """What the tenant's window counts."""
        return int(await self._window("24h:n") or 0)

    async def held_nano(self) -> int:
        return int(await self._window("held:n") or 0)

    async def _window(self, name: str) -> Any:
        keys = redis_keys(self.settings)
        return await self.redis.ask("HGET", f"{keys.of('acme')}:c:tenant:acme", name)

    async def stream_length(self) -> int:
        keys = redis_keys(self.settings)
        return int(await self.redis.ask("XLEN", keys.stream(keys.shard("acme"))))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Until it holds; eight seconds are more than any outage here takes to be over."""
    async with asyncio.timeout(8):
        while not await condition():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def outage_site(
    folder: Path,
    upstream: ScriptedUpstream,
    *,
    on_outage: Any = "closed",
    spool: Any = "outage",
    starts: bool = True,
    relays: bool = False,
) -> AsyncIterator[Site]:
    """A proxy that serves, over windows that are whole; nobody works on the streams yet."""
    redis = DurableRedis()
    relay = Relay(redis) if relays else None
    path = relay.path if relay else redis.path
    configured = replace(
        settings({"one": upstream.url}),
        redis=RedisSettings(
            url=Secret(f"unix://{path}"), timeout_ms=TIMEOUT_MS, on_outage=on_outage
        ),
        metering=Metering(spool=spool),
        data_dir=folder,
        ledger_url=f"sqlite:///{folder / 'ledger.db'}",
    )
    upstream.scripts = [[completion(prompt=10, output=5)]]
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(redis.close)
        if relay is not None:
            server = await asyncio.start_unix_server(relay.serve, relay.path)
            stack.push_async_callback(relay.close)
            stack.callback(server.close)
        if starts:
            await redis.start()
            async with contextlib.aclosing(connect(f"unix://{redis.path}")) as client:
                await rebuild_windows(_ledger(configured), client, redis_keys(configured))
        services = await stack.enter_async_context(open_services(configured, proxy_id="p-0"))
        runner = create_runner(create_app(services.door, services.ready), shutdown_timeout_s=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        listening = await asyncio.get_running_loop().create_server(runner.server, "127.0.0.1", 0)
        stack.callback(listening.close)
        port = listening.sockets[0].getsockname()[1]
        http = await stack.enter_async_context(aiohttp.ClientSession())
        site = Site(redis, configured, upstream, services, f"http://127.0.0.1:{port}", http, relay)
        yield site
        for answer in site.answers:
            answer.close()


def _ledger(configured: Settings) -> Any:
    ledger = open_ledger(configured.ledger_url)
    ledger.migrate()
    return ledger


OpenSite = Callable[..., Awaitable[Site]]

REFUSAL_S = TIMEOUT_MS / 1000 + 1.0
"""`redis.timeout_ms` and what a busy machine may need besides."""

STREAM = [stream_head(), chunk(delta("a")), Act.WAIT, chunk(FINISH), chunk(DONE), b"0\r\n\r\n"]


@pytest.fixture
async def open_site(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OpenSite]:
    monkeypatch.setattr("proxy.services.REDIS_AT_START_S", 0.5)
    monkeypatch.setattr("proxy.redis_watch.TURN_S", 0.1)
    monkeypatch.setattr("proxy.redis_watch.REPLAY_AFTER_S", 0.1)
    monkeypatch.setattr("proxy.redis_watch.CONFIRMED_EVERY_S", 0.1)
    async with contextlib.AsyncExitStack() as stack:

        async def start(**options: Any) -> Site:
            site = await stack.enter_async_context(outage_site(tmp_path, upstream, **options))
            if options.get("starts", True):
                await site.until_ready()
            return site

        yield start


async def refused(site: Site) -> None:
    """The next request is refused by name, in time, and nothing is sent for it."""
    sent, started_s = len(site.upstream.received), time.monotonic()
    answer = await site.chat()

    assert answer.status == 503
    assert (await answer.json())["error"]["code"] == "budget_backend_unavailable"
    assert answer.headers["Retry-After"] == "1"
    assert time.monotonic() - started_s < REFUSAL_S
    assert len(site.upstream.received) == sent


async def all_booked(site: Site, count: int) -> None:
    """Every answer is in the ledger once, in the window once, and nothing is held."""
    await site.until_replayed()
    events = await site.settle()

    assert len(events) == len({event.event_id for event in events}) == count
    assert await site.spent_nano() == count * SELL_NANO
    assert await site.held_nano() == 0


async def until_stream(site: Site, length: int) -> None:
    """Until the stream has so many events."""

    async def has_them() -> bool:
        return await site.stream_length() == length

    await until(has_them)


async def begin_stream(site: Site) -> asyncio.Task[bytes]:
    """A streamed answer whose upstream waits for `proceed`; its body in the end."""
    site.upstream.scripts = [STREAM]
    answer = await site.begin(stream=True)
    await answer.content.readany()
    return spawn(answer.content.read(), name="read")
