"""Prices that change at a moment: what was admitted before it keeps its price, whenever it ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from fixtures_door import OpenDoor, rule, settings, tenant
from fixtures_upstream import Act, ScriptedUpstream, completion

from metering.clock import now_ns
from metering.prices import PriceBook
from metering.tenants import Principal
from proxy.admission import Routes
from proxy.event_booking import book
from proxy.event_items import Item
from proxy.settings import Settings
from proxy.settings_changes import replaced

SOON_NS = 200 * 10**6
OLD, NEW = PriceBook((rule("*", "1.00"),)), PriceBook((rule("*", "9.00"),))


def dated(url: str, begins_ns: int) -> Settings:
    """One price until this moment, nine times it from then on."""
    made = settings({"one": url}, who=tenant("50.00"))
    return replace(made, prices=replace(OLD, others=(replace(NEW, effective_from_ns=begins_ns),)))


async def test_each_request_has_the_price_of_its_admission(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """No reload, and no process that is late: the request's own time decides."""
    begins_ns = now_ns() + SOON_NS
    made = dated(upstream.url, begins_ns)
    door = await open_door(made)
    upstream.scripts = [[completion(prompt=10, output=5)] for _ in range(2_000)]

    while not door.events or door.events[-1].occurred_at < begins_ns:
        assert (await door.chat(max_tokens=5)).status == 200

    for event in door.events:
        of_its_time = made.prices.at(event.occurred_at)
        assert event.sell_version == of_its_time.sell_version
        price = of_its_time.find(provider="one", model="up-m", public_name="m")
        assert price is not None
        assert event.admission_nano == price.sell.total_nano(event.units)


async def test_an_answer_that_ends_after_the_change_has_the_old_price(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """What was held for it was held by that, too."""
    begins_ns = now_ns() + 10 * SOON_NS
    made = dated(upstream.url, begins_ns)
    door = await open_door(made)
    upstream.scripts = [[Act.WAIT, completion(prompt=10, output=5)]]

    asked = asyncio.ensure_future(door.chat(max_tokens=5))
    while now_ns() < begins_ns:
        await asyncio.sleep(0)
    upstream.proceed.set()
    assert (await asked).status == 200

    [event] = door.events
    assert event.completed_at >= begins_ns
    assert event.sell_version == made.prices.at(event.occurred_at).sell_version


def test_a_route_is_found_once_for_each_era() -> None:
    """Without a time it has the prices of the loading."""
    made = dated("http://x", 1_000)
    routes, who = Routes(made), made.tenants["acme"]

    found = {
        at: routes.find(who, "m", at_ns=at).own[0].price for at in (None, 0, 999, 1_000, 2_000)
    }

    versions = {at: price and price.sell.version for at, price in found.items()}
    old, new = (each.sell_version for each in made.prices.eras)
    assert versions == {None: old, 0: old, 999: old, 1_000: new, 2_000: new}
    assert routes.find(who, "m", at_ns=1_000) is routes.find(who, "m", at_ns=2_000)


def test_what_is_reported_late_has_the_price_of_its_time() -> None:
    """An event from outside says when it was."""
    made = dated("http://x", 1_000)
    who = made.tenants["acme"]
    versions = []
    for at in (999, 1_000, None):
        item = Item(0, "e", "", "m", {"input_uncached": 3}, occurred_at=at)
        principal = Principal(who, who.keys[0])
        done = book(item, principal, made.tenants, made.prices, now_ns=5_000, proxy_id="p")
        versions.append(done.event.sell_version)

    old, new = (each.sell_version for each in made.prices.eras)
    assert versions == [old, new, new]


def test_a_price_to_come_is_a_change_of_the_file() -> None:
    """A reload takes it up, although nothing changes yet; the same file later is no change."""
    made = dated("http://x", 1_000)
    without = replace(made, prices=OLD)
    later = replace(made, prices=replace(made.prices.eras[1], others=(made.prices.eras[0],)))

    assert "pricing" in replaced(without, made).applied
    assert not replaced(made, later).applied
