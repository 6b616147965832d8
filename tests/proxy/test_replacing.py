"""New settings in a proxy process: over a real Redis that comes and goes, and with TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import replace
from typing import Any

from fixtures_door import OpenDoor, rule, settings
from fixtures_outage import OpenSite, Site, until
from fixtures_tls import Authority
from fixtures_upstream import ScriptedUpstream

from metering.background import spawn
from metering.prices import PriceBook
from proxy.app import create_app, create_runner
from proxy.front import RECEPTION
from proxy.replacing import Replacing
from proxy.server import Runner
from proxy.settings import Settings, Tls, redis_keys
from proxy.settings_line import Answer, Change, ChildLine, Hint, Line


class Replaced:
    """A proxy's services with an application over them, and the supervisor's end of its line."""

    def __init__(self, site: Site, *, hears: bool = False) -> None:
        self.line = Line("proxy-0")
        self.line.renew()
        assert self.line._ends is not None
        services = site.services
        self.app = create_app(services.door, services.ready)
        self.runner = create_runner(self.app, shutdown_timeout_s=0.1)
        child = ChildLine(self.line._ends[1])
        replacing = Replacing(child, services, self.app, self.runner, 1)
        tasks = replacing.tasks(hears=hears)
        self.tasks = [spawn(work, name=name) for name, work in tasks.items()]

    async def answer(self) -> Any:
        async with asyncio.timeout(8):
            while not (heard := list(self.line.heard())):
                await asyncio.sleep(0.01)
        return heard[0]

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)
        self.line.close()


def _dearer(before: Settings) -> Settings:
    return replace(before, prices=PriceBook((rule("*", per_mtok="7.00"),)))


async def _has(site: Site, book: PriceBook) -> bool:
    keys = redis_keys(site.settings)
    names = [keys.prices(version) for version in (book.cost_version, book.sell_version)]
    return int(await site.redis.ask("EXISTS", *names)) == 2


async def test_prices_are_in_redis_before_they_are_used(open_site: OpenSite) -> None:
    """When the proxy says that it goes by them, the worker can find them."""
    site = await open_site()
    replaced = Replaced(site)
    fresh = _dearer(site.settings)
    replaced.line.send(Change(2, fresh))

    assert await replaced.answer() == Answer(2)
    assert await _has(site, fresh.prices)
    assert site.services.door.settings == fresh
    front = replaced.app[RECEPTION].now
    assert front.door is site.services.door
    await replaced.close()


async def test_new_prices_during_an_outage_come_to_redis_with_it(open_site: OpenSite) -> None:
    """The settings hold at once; the book is there before any of its events can be settled."""
    site = await open_site(on_outage="local")
    replaced = Replaced(site)
    site.redis.kill()
    fresh = _dearer(site.settings)
    replaced.line.send(Change(2, fresh))

    assert await replaced.answer() == Answer(2)
    await site.redis.start()
    await until(lambda: _has(site, fresh.prices))
    await until(lambda: _has(site, site.settings.prices))
    await replaced.close()


async def test_how_an_outage_is_met_is_replaced(open_site: OpenSite) -> None:
    """And so is what else the process holds of the settings beside the door."""
    site = await open_site(on_outage="closed")
    replaced = Replaced(site)
    redis = replace(site.settings.redis, on_outage="open")
    server = replace(site.settings.server, max_connections=3, max_connections_per_ip=2)
    replaced.line.send(Change(2, replace(site.settings, redis=redis, server=server)))

    assert await replaced.answer() == Answer(2)
    assert site.services.caps.slices.policy.mode == "open"
    assert (replaced.runner.crowd._max, replaced.runner.crowd._per_ip) == (3, 2)
    await replaced.close()


async def test_a_certificate_that_cannot_be_read_changes_nothing(
    open_site: OpenSite, authority: Authority
) -> None:
    """It is read before anything else is touched, and the answer says which file and why."""
    site = await open_site()
    replaced = Replaced(site)
    replaced.runner.tls = authority.server("127.0.0.1")
    before, front = site.services.door, replaced.app[RECEPTION].now
    cert, _ = authority.files("127.0.0.1")
    server = replace(site.settings.server, tls=Tls(cert, authority.folder / "gone.key"))
    replaced.line.send(Change(2, replace(site.settings, server=server, models={})))
    answer = await replaced.answer()

    assert answer.generation == 2
    assert "gone.key" in answer.cause
    assert site.services.door is before
    assert replaced.app[RECEPTION].now is front
    await replaced.close()


async def test_an_announcement_is_passed_on_once(open_site: OpenSite) -> None:
    """As what stands in Redis, cut short; nothing of it is believed."""
    site = await open_site()
    await site.redis.ask("SET", redis_keys(site.settings).announced, "1:abc")
    replaced = Replaced(site, hears=True)

    assert await replaced.answer() == Hint("1:abc")
    await replaced.close()


async def test_a_renewed_certificate_is_shown_from_the_next_handshake_on(
    open_door: OpenDoor, upstream: ScriptedUpstream, authority: Authority
) -> None:
    """Connections go on with what they were made with."""
    door = await open_door(settings({"one": upstream.url}), tls=authority.server("127.0.0.1"))
    trusting = ssl.create_default_context(cafile=authority.ca_file)

    def shown() -> bytes | None:
        port = int(door.url.rpartition(":")[2])
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            trusting.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
        ):
            return secured.getpeercert(binary_form=True)

    first = await asyncio.to_thread(shown)
    runner = door.runner
    assert isinstance(runner, Runner)
    runner.renew_tls(authority.server("127.0.0.1"))
    second, third = await asyncio.to_thread(shown), await asyncio.to_thread(shown)

    assert first != second
    assert second == third
