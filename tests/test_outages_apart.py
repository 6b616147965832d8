"""What Redis refuses of one tenant is no outage of the others. A real redis-server."""

from __future__ import annotations

import asyncio

import pytest
from caps_samples import ask, cap, hold
from fixtures_outage import OpenSite, until

from metering.caps import CapsUnavailableError, Hold, Reservation, Vector
from proxy.settings import redis_keys


async def test_one_tenants_broken_key_is_no_outage(open_site: OpenSite) -> None:
    """That one is refused; the others are admitted by Redis, and the proxy stays ready."""
    site = await open_site(on_outage="local")
    guarded = site.services.watch._guarded
    await site.redis.ask("SET", redis_keys(site.settings).holds("broken"), "x")
    outages, ready = guarded.counts.outages, []

    for _ in range(5):
        with pytest.raises(CapsUnavailableError, match="WRONGTYPE"):
            await guarded.reserve(
                hold(cap(1_000), tenant="broken"), [ask(1)], owner="p", ttl_ms=1_000
            )
        ready.append(await site.services.ready())
        await site.served()

    assert all(ready)
    assert guarded.counts.outages == outages
    assert guarded.counts.admitted == 0


async def test_a_release_that_redis_refuses_stops_nobody_behind_it(open_site: OpenSite) -> None:
    site = await open_site()
    services, broken = site.services, hold(cap(1_000), tenant="broken")
    await site.redis.ask("SET", redis_keys(site.settings).holds("broken"), "x")
    unused = hold(cap(10**9))
    answer = await services.watch._guarded.reserve(unused, [ask(1_000)], owner="p", ttl_ms=180_000)

    services.renewals.give_back(broken)
    services.renewals.give_back(unused)

    async def is_given_back() -> bool:
        return await site.held_nano() == 0

    assert isinstance(answer, Reservation)
    await until(is_given_back)


async def test_f10_no_second_slice_after_commits_that_were_applied_unseen(
    open_site: OpenSite,
) -> None:
    """Redis comes and goes, its answers lost whenever a commit is made: a tenth is a tenth."""
    site = await open_site(on_outage="local", relays=True)
    relay, guarded, spool = site.relay, site.services.watch._guarded, site.services.spool
    assert relay is not None
    bound, spent = (cap(1_000_000),), 0
    seen = Hold("acme", hold().exchange_id, bound)
    await guarded.reserve(seen, [ask(1)], owner="p", ttl_ms=60_000)
    await guarded.commit(seen, Vector(1, 1, 1), [])

    async def is_up() -> bool:
        return site.services.link.is_up

    for _ in range(3):
        what = Hold("acme", hold().exchange_id, bound)
        relay.swallows = True
        try:
            await guarded.reserve(what, [ask(90_000)], owner="p", ttl_ms=60_000)
        except CapsUnavailableError:
            break
        relay.swallows = False
        await until(is_up)
        relay.swallows = True
        with pytest.raises(CapsUnavailableError):
            await guarded.commit(what, Vector(90_000, 1, 1), [b"{}"])
        await spool.append(what, Vector(90_000, 1, 1), [b"{}"])
        spent += 90_000
        await asyncio.sleep(0)
        relay.swallows = False
        await site.until_replayed()

    assert spent == 90_000
