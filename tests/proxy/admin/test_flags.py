"""Pauses, stops, holds and caps through the admin API, over a real Redis."""

from __future__ import annotations

import orjson
from fixtures_console import Desk

from metering.caps import Candidate, Hold, Reservation, Scope, ScopeKind, Vector
from metering.clock import now_ns
from metering.ids import uuid7
from metering.redis_caps import RedisCaps
from metering.redis_link import RedisLink
from metering.redis_url import RedisTarget
from metering.tenant_caps import caps_under

FLAGS = "/admin/v1/tenants/acme/flags"


async def test_a_pause_is_put_up_and_taken_back(desk: Desk) -> None:
    """Over the tenant or a scope of it, by whom and why; a scope that there is not is refused."""
    put = await desk.ask("POST", FLAGS, {"flag": "paused", "reason": "a leak", "scope": "key:k1"})
    none = await desk.ask("POST", FLAGS, {"flag": "paused", "reason": "x", "scope": "key:k9"})
    rows = (await desk.get(FLAGS))["data"]
    seen = await desk.console.redis.hexists(desk.console.keys.state("acme"), "paused:key/k1")
    gone = await desk.ask("DELETE", f"{FLAGS}?flag=paused&scope=key:k1")
    again = await desk.ask("DELETE", f"{FLAGS}?flag=paused&scope=key:k1")
    trail = (await desk.get("/admin/v1/audit"))["data"]

    assert (put.status, none.code, gone.status, again.code) == (201, "not_found", 200, "not_found")
    assert [(row["scope"], row["flag"], row["by"], row["why"]) for row in rows] == [
        ("key:k1", "paused", "admin", "a leak")
    ]
    assert seen
    assert [each["action"] for each in trail] == ["flag.remove", "flag.put"]


async def _hold(desk: Desk, *scopes: Scope) -> str:
    """An exchange that holds 0.25 USD; its id."""
    tenant = desk.console.settings.tenants["acme"]
    keys = desk.console.keys
    url = desk.console.settings.redis.url
    assert url is not None
    path = url.reveal().removeprefix("unix://")
    caps = caps_under(tenant, scopes)
    exchange_id = uuid7(now_ns() // 1_000_000, bytes([len(scopes)] * 10))
    async with RedisLink(RedisTarget(path=path), timeout_ms=5_000) as link:
        await link.wait_up(5)
        await link.call("SET", keys.epoch(keys.shard("acme")), "1")
        answer = await RedisCaps(link, keys).reserve(
            Hold("acme", exchange_id, caps, scopes),
            [Candidate("sim/up-big", Vector(250_000_000, 700, 1))],
            owner="p-7",
            ttl_ms=60_000,
            facts=orjson.dumps({"v": 1, "labels": {each.kind.value: each.id for each in scopes}}),
        )
    assert isinstance(answer, Reservation)
    return exchange_id


async def test_holds_and_what_they_leave(desk: Desk) -> None:
    """What an exchange holds is listed, and missing under its cap."""
    key = Scope(ScopeKind.KEY, "k1")
    exchange_id = await _hold(desk, key)
    [row] = (await desk.get("/admin/v1/holds?tenant=acme"))["data"]
    [cap] = (await desk.get("/admin/v1/tenants/acme/caps?key=k1"))["caps"]

    assert (row["exchange_id"], row["usd"]) == (exchange_id, "0.250000000")
    assert cap["nano"] == {
        "limit": 50_000_000_000,
        "spent": 0,
        "held": 250_000_000,
        "remaining": 49_750_000_000,
    }
    assert (await desk.ask("GET", "/admin/v1/tenants/acme/caps?key=k9")).code == "not_found"


async def test_an_exchange_is_ended_with_its_run(desk: Desk) -> None:
    """Its run is stopped; one that belongs to none is left to the flags of wider scopes."""
    alone = await _hold(desk)
    of_run = await _hold(desk, Scope(ScopeKind.RUN, "r-1"))
    body = {"tenant": "acme", "reason": "it loops"}
    ended = await desk.ask("POST", f"/admin/v1/holds/{of_run}/end", body)
    other = await desk.ask("POST", f"/admin/v1/holds/{alone}/end", body)

    assert (ended.body["stopped"], other.code) == ("run:r-1", "conflict")
    [flag] = (await desk.get(FLAGS))["data"]
    assert (flag["scope"], flag["flag"], flag["why"]) == ("run:r-1", "killed", "it loops")
