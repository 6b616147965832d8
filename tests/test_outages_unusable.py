"""A Redis that answers and must not be used: nobody is served by what it says.

docs/reliability.md names these tests.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures_outage import OpenSite, all_booked, refused, until

from metering.redis_caps import CapsSetupError
from proxy.services import open_services


async def test_other_shards_end_the_start(open_site: OpenSite) -> None:
    """Before anybody can send a request: it would count in windows beside the true ones."""
    site = await open_site(on_outage="closed")
    await site.served()
    other = replace(site.settings, redis=replace(site.settings.redis, shards=5))

    with pytest.raises(CapsSetupError, match="shards"):
        async with open_services(other, proxy_id="p-other"):
            pass

    assert await site.redis.ask("HGET", "weir:meta", "shards") != b"5"


async def test_one_that_evicts_is_as_good_as_away(open_site: OpenSite) -> None:
    """The process stays and refuses, what was served waits on disk, and all is well again once the
    policy is."""
    site = await open_site(on_outage="closed")
    await site.served()
    site.redis.kill()
    await site.redis.start("--maxmemory-policy", "allkeys-lru")

    async def is_refused() -> bool:
        return bool(site.services.watch.unusable)

    await until(is_refused)
    await refused(site)
    assert not await site.services.ready()
    assert not site.services.failed.done()

    await site.redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    await site.until_served()
    await all_booked(site, 2)


async def test_a_commit_to_one_that_evicts_goes_to_the_spool(open_site: OpenSite) -> None:
    """What is admitted by `open` meanwhile is kept here, and counted there later."""
    site = await open_site(on_outage="open")
    await site.served()
    site.redis.kill()
    await site.redis.start("--maxmemory-policy", "volatile-ttl")

    async def is_unusable() -> bool:
        return bool(site.services.watch.unusable)

    await until(is_unusable)
    await site.served(2)
    assert site.services.spool.depth.records == 2

    await site.redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    await site.until_replayed()
    await all_booked(site, 3)
