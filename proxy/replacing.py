"""New settings in a proxy process: prepared beside the path, then put in place in one step.

Whatever can fail is done first, while the old settings serve: certificates are read, encodings
loaded, prices published. Then the new front takes the place of the old one between two requests.
An exchange that is open keeps the front it began with, so no stream notices anything.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from aiohttp import web

from metering.caps import CapsUnavailableError
from proxy import metrics_catalogue as catalogue
from proxy.crowd import connections_bound, memory_bound
from proxy.front import RECEPTION, open_front
from proxy.ingress import MEMORY
from proxy.preload import preload
from proxy.registry_watch import RegistryWatch
from proxy.server import Runner
from proxy.settings import Settings
from proxy.settings_line import Answer, Change, ChildLine, Hint
from proxy.tls import server_context

if TYPE_CHECKING:
    from proxy.services import Services

LISTEN_EVERY_S = 2.0
"""How soon an announcement is heard; it is a word in Redis, read beside the path."""


class Replacing:
    """Takes changes from the supervisor's line and carries them out, one after the other."""

    def __init__(
        self,
        line: ChildLine,
        services: Services,
        app: web.Application,
        runner: Runner,
        generation: int,
    ) -> None:
        self._line = line
        self._services = services
        self._app = app
        self._runner = runner
        self._told: bytes | None = None
        self._show(generation)

    def tasks(self, *, hears: bool) -> dict[str, Coroutine[Any, Any, None]]:
        """What runs as long as the process; one process of a machine `hears` announcements."""
        more = {"announcements": self._hear(), "registry": self._watch().run()} if hears else {}
        return {"replacing": self._run(), **more}

    async def _run(self) -> None:
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._line.fileno(), readable.set)
        try:
            while True:
                await readable.wait()
                readable.clear()
                while (change := self._line.receive()) is not None:
                    self._line.say(await self._answer(change))
        finally:
            loop.remove_reader(self._line.fileno())

    async def _answer(self, change: Change) -> Answer:
        try:
            await self._apply(change)
        except Exception as error:  # noqa: BLE001 - the top of a task; the old settings serve on
            cause = f"{type(error).__name__}: {error}"
            self._services.door.log.error("settings_not_replaced", cause=cause)
            return Answer(change.generation, cause)
        self._services.door.log.info("settings_replaced", generation=change.generation)
        return Answer(change.generation)

    async def _apply(self, change: Change) -> None:
        settings = change.settings
        await asyncio.to_thread(preload, settings)
        fresh = await asyncio.to_thread(self._read_certificate, settings)
        door = await self._services.adopt(settings, renews_files=change.renews_files)
        front = open_front(door)
        self._use_certificate(settings, fresh)
        server = settings.server
        self._app[MEMORY].bound = memory_bound(server.memory_limit_mb, server.workers)
        self._runner.crowd.adopt(
            connections_bound(server.max_connections), server.max_connections_per_ip
        )
        self._app[RECEPTION].now = front  # the one moment at which everything is new
        self._show(change.generation)

    def _read_certificate(self, settings: Settings) -> ssl.SSLContext | None:
        """Raises for files that cannot be used, before anything is touched."""
        tls = settings.server.tls
        return server_context(tls) if tls is not None and self._runner.tls is not None else None

    def _use_certificate(self, settings: Settings, fresh: ssl.SSLContext | None) -> None:
        """Handshakes from now on are made with it; connections go on as they are."""
        if fresh is not None and settings.server.tls is not None:
            self._runner.renew_tls(fresh)

    def _show(self, generation: int) -> None:
        metrics = self._services.door.metrics.metrics
        metrics.set(catalogue.CONFIG_GENERATION, to=generation)

    def _watch(self) -> RegistryWatch:
        services = self._services
        return RegistryWatch(
            services.link,
            services.keys,
            data_dir=services.door.settings.data_dir,
            door=lambda: services.door,
            say=self._line.say,
        )

    async def _hear(self) -> None:
        """Pass on what is announced in Redis to all machines; a hint, and no configuration."""
        services = self._services
        while True:
            try:
                told = await services.link.call("GET", services.keys.announced)
                if told != self._told and told is not None:
                    self._line.say(Hint(told.decode("ascii", "replace")[:200]))
                self._told = told
            except CapsUnavailableError:
                pass  # others say that Redis is away
            await asyncio.sleep(LISTEN_EVERY_S)
