"""Batches: billed flat when they begin, and by what they used, once somebody sees their end."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batch_samples import BEGUN, OVER
from fixtures_door import CollectingLog, MemorySpool, OpenDoor, RunningDoor, rule, tenant, usd
from fixtures_ledger import make_entry, new_ledger
from fixtures_upstream import ScriptedUpstream, body
from hypothesis import given, settings
from hypothesis import strategies as st
from passthrough_samples import OTHER_KEY, ask, other_tenant, passing_settings, terms

from metering.batch_notes import DONE, MemoryBatchNotes
from metering.caps import CapsUnavailableError
from metering.events import Kind, UsageEvent, decode, encode
from metering.memory_caps import MemoryCaps
from metering.price_variants import Overlay, Variants
from metering.prices import PriceRule, RatesByModel
from metering.settlement.batches import Batch, Booking
from metering.settlement.entries import Arrival, read_entry
from metering.settlement.ledger.queries import invoice_report
from metering.settlement.ledger.verify import verify
from metering.settlement.ledger.writer import write_batch
from metering.settlement.rating import RateCards
from metering.tenants import ApiKey
from proxy.door import Door
from proxy.passthrough_batches import Batches
from proxy.passthrough_rules import Terms
from proxy.settings import Settings

HALF = Variants(tiers={"batch": Overlay(None, 500_000, 500_000)})
RULE = rule("up-m", "2.00", multiplier_ppm=1_500_000, variants=HALF)
FLAT = usd("2.00")
TRUE = usd("4.50") + 1_500
"""A million of input at 2.00 and half a million of output at 8.00, halved and sold at half as much
on top; and one token more, at 1.50 a million."""


def configured(url: str = "", *, made: PriceRule = RULE, **fields: Any) -> Settings:
    allowed = terms(terms={"batches": Terms(FLAT)}, **fields)
    return passing_settings(
        url,
        passthrough=allowed,
        rules=(made,),
        who=tenant(cap="100.00"),
        others=(other_tenant(cap="100.00"),),
    )


async def begin(door: RunningDoor, **fields: Any) -> None:
    said = {"endpoint": "/v1/responses", "completion_window": "24h"}
    answer = await ask(door, "POST", "/v1/batches", json=said, **fields)
    assert answer.status == 200


def billed(events: Sequence[UsageEvent]) -> list[tuple[str, int]]:
    return [(each.kind, each.admission_nano) for each in events if each.admission_nano]


ONCE = [("usage", FLAT), ("usage", TRUE), ("correction", -FLAT)]


async def test_a_batch_costs_what_it_used(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """Read while it runs nothing changes; read after its end, by itself, in a list or cancelled, it
    is billed by its tokens at the batch price, once, and the flat amount is taken back."""
    listed = body({"object": "list", "data": [OVER], "has_more": False})
    over = body(OVER)
    upstream.scripts = [[body(BEGUN)], [body(BEGUN)], [over], [listed], [over], [over]]
    door = await open_door(configured(upstream.url))

    await begin(door)
    await ask(door, "GET", "/v1/batches/batch_1")
    assert billed(door.events) == ONCE[:1]
    seen = await ask(door, "GET", "/v1/batches/batch_1")
    await ask(door, "GET", "/v1/batches")
    await ask(door, "POST", "/v1/batches/batch_1/cancel")
    await ask(door, "GET", "/v1/batches/batch_1")

    assert await seen.json() == OVER
    assert billed(door.events) == ONCE
    used = next(each for each in door.events if each.upstream_request_id == "batch_1")
    back = next(each for each in door.events if each.kind == Kind.CORRECTION)
    assert (back.corrects, back.correction_reason) == (door.events[0].event_id, "batch")
    assert back.units == {"api_call": -1, "inference": -1}
    assert (used.model_upstream, used.model_answered) == ("up-m", "up-m-2026-08-07")
    assert (used.price_tier, used.service_tier, used.usage_suspect) == ("batch", "batch", None)
    assert used.units == {
        "input_uncached": 1_000_000,
        "input_cache_read": 1,
        "output_text": 300_000,
        "output_reasoning": 200_000,
        "api_call": 8,
        "inference": 8,
    }


async def test_whoever_reads_it_whoever_began_it_pays(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """The key and the labels of the request that began it, in their caps, too."""
    upstream.scripts = [[body(BEGUN)], [body(OVER)]]
    made = configured(upstream.url)
    second = ApiKey("k9", hashlib.sha256(b"sk-weir-second-0123456789").hexdigest(), "other")
    acme = made.tenants["acme"]
    acme = replace(acme, keys=(*acme.keys, second), projects={"other": "Other"})
    door = await open_door(replace(made, tenants={**made.tenants, "acme": acme}))

    await begin(door, headers={"x-weir-feature": "nightly"})
    await ask(door, "GET", "/v1/batches/batch_1", key="sk-weir-second-0123456789")

    used = [each for each in door.events if each.upstream_request_id == "batch_1"]
    assert [(each.api_key_id, each.project, each.feature) for each in used] == [
        ("k1", "default", "nightly")
    ]


async def test_another_tenants_batch_is_not_there(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """It is neither shown nor booked, in a list either."""
    listed = body({"object": "list", "data": [OVER], "has_more": False})
    upstream.scripts = [[body(BEGUN)], [listed]]
    door = await open_door(configured(upstream.url))

    await begin(door)
    alone = await ask(door, "GET", "/v1/batches/batch_1", key=OTHER_KEY)
    rows = await ask(door, "GET", "/v1/batches", key=OTHER_KEY)

    assert alone.status == 404
    assert (await rows.json())["data"] == []
    assert billed(door.events) == ONCE[:1]


async def test_a_batch_from_elsewhere_is_not_booked(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """In an account of its own a tenant sees what was begun past us, and is not billed for it."""
    listed = body({"object": "list", "data": [OVER], "has_more": False})
    upstream.scripts = [[body(OVER)], [listed]]
    door = await open_door(configured(upstream.url, own_accounts={"acme": "one"}))

    await ask(door, "GET", "/v1/batches/batch_1")
    await ask(door, "GET", "/v1/batches")

    assert billed(door.events) == []


async def test_an_account_of_ones_own(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """What was begun through us is booked there as well, from a list as it comes."""
    listed = body({"object": "list", "data": ["odd", OVER], "has_more": False})
    upstream.scripts = [[body(BEGUN)], [listed], [body(OVER)]]
    door = await open_door(configured(upstream.url, own_accounts={"acme": "one"}))

    await begin(door)
    await ask(door, "GET", "/v1/batches")
    await ask(door, "GET", "/v1/batches/batch_1")

    assert billed(door.events) == ONCE


async def test_without_a_price_for_batches(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """The list price is billed, and the event says so; a tier that is dearer is not taken."""
    dear = Variants(tiers={"priority": Overlay(None, 3_000_000, 3_000_000)})
    upstream.scripts = [[body(BEGUN)], [body(OVER)]]
    door = await open_door(configured(upstream.url, made=replace(RULE, variants=dear)))

    await begin(door)
    await ask(door, "GET", "/v1/batches/batch_1")

    used = next(each for each in door.events if each.upstream_request_id == "batch_1")
    assert used.admission_nano == 2 * TRUE
    assert (used.price_tier, used.usage_suspect) == (
        None,
        "batches have no price of their own: billed at the list price",
    )


async def test_without_any_price_the_flat_amount_stands(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """And the log names the model."""
    upstream.scripts = [[body(BEGUN)], [body(OVER)]]
    door = await open_door(configured(upstream.url, made=rule("something-else")))

    await begin(door)
    await ask(door, "GET", "/v1/batches/batch_1")

    assert billed(door.events) == ONCE[:1]
    stays = [fields for event, fields in door.log.lines if event == "batch_stays_flat"]
    assert [each["model"] for each in stays] == ["up-m-2026-08-07"]


class AwayNotes(MemoryBatchNotes):
    """Cannot be asked."""

    async def look(self, tenant: str, names: Sequence[str]) -> list[bytes]:
        raise CapsUnavailableError("away")

    async def swap(self, tenant: str, name: str, *, was: bytes, becomes: bytes) -> bytes:
        raise CapsUnavailableError("away")


async def test_without_redis() -> None:
    """Nothing is booked, and nothing fails: whoever reads it the next time finds it as it was."""
    notes = MemoryBatchNotes()
    door, batches = opened(notes)
    await batches.begun("batch_1", flat_event())

    away = Batches(replace(door, batches=AwayNotes()), TENANT, "one", CollectingLog())
    await away.look([OVER])
    await away.begun("batch_2", flat_event())
    assert events_of(door) == []
    await batches.look([OVER])

    assert billed(events_of(door)) == ONCE[1:]


# -- however often, in whatever order -------------------------------------------------------------

SETTINGS = configured()
TENANT = SETTINGS.tenants["acme"]
CARDS = RateCards()
for _sell in (False, True):
    _version = SETTINGS.prices.sell_version if _sell else SETTINGS.prices.cost_version
    CARDS.add(RatesByModel(SETTINGS.prices.body(sell=_sell), version=_version))


def flat_event(number: int = 1) -> bytes:
    """What is recorded when a batch begins."""

    prices = SETTINGS.prices
    return encode(
        UsageEvent(
            event_id=f"01930000-0000-7000-8000-{number:012x}",
            exchange_id=f"01930000-0001-7000-8000-{number:012x}",
            tenant="acme",
            project="default",
            api_key_id="k1",
            request_id="req_1",
            occurred_at=1_793_491_200_000_000_000,
            completed_at=1_793_491_200_000_000_001,
            emitted_at=1_793_491_200_000_000_002,
            vendor="openai",
            provider="one",
            model_requested="POST batches",
            model_public="path:batches",
            model_upstream="path:batches",
            units={"api_call": 1},
            cost_version=prices.cost_version,
            sell_version=prices.sell_version,
            cost_nano=FLAT,
            admission_nano=FLAT,
        )
    )


def opened(notes: MemoryBatchNotes) -> tuple[Door, Batches]:
    log = CollectingLog()
    door = Door(
        settings=SETTINGS,
        caps=MemoryCaps(),
        transport=None,  # type: ignore[arg-type]  # nothing is sent
        spool=MemorySpool(),
        open=None,  # type: ignore[arg-type]  # nothing is held
        log=log,
        proxy_id="p-0",
        batches=notes,
    )
    return door, Batches(door, TENANT, "one", log)


def events_of(door: Door) -> list[UsageEvent]:
    assert isinstance(door.caps, MemoryCaps)
    return [decode(event) for event in door.caps.model.events]


class CrashError(Exception):
    """A process ends here."""


class CrashingNotes(MemoryBatchNotes):
    """Ends the process before the step that says that all is done, so many times."""

    crashes = 0

    async def swap(self, tenant: str, name: str, *, was: bytes, becomes: bytes) -> bytes:
        if becomes == DONE and self.crashes:
            self.crashes -= 1
            raise CrashError
        await asyncio.sleep(0)
        return await MemoryBatchNotes.swap(self, tenant, name, was=was, becomes=becomes)


LOOKS = st.lists(
    st.lists(st.sampled_from([BEGUN, OVER, {**OVER, "id": "batch_2"}, {"id": 3}]), max_size=3),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(looks=LOOKS, together=st.booleans(), crashes=st.integers(0, 3))
def test_booked_once_whatever_the_order_and_the_number(
    looks: list[list[dict[str, Any]]], together: bool, crashes: int
) -> None:
    """Two batches are read any number of times, one after the other or at once, by processes that
    may die in between: what was seen to be over is booked once, its flat amount gone."""
    notes = CrashingNotes()

    async def read() -> list[UsageEvent]:
        door, batches = opened(notes)
        for number in (1, 2):
            await batches.begun(f"batch_{number}", flat_event(number))
        notes.crashes = crashes
        tasks = [batches.look(look) for look in looks]
        if together:
            await asyncio.gather(*tasks, return_exceptions=True)
        else:
            for each in tasks:
                await asyncio.gather(each, return_exceptions=True)
        return events_of(door)

    events = asyncio.run(read())

    over = {each["id"] for look in looks for each in look if each.get("status") == "completed"}
    made = [each for each in events if each.kind == Kind.USAGE]
    back = [each for each in events if each.kind == Kind.CORRECTION]
    seen = {str(each.upstream_request_id) for each in made}
    assert seen == over if not crashes else seen <= over
    assert len({each.event_id for each in events}) == len(events)
    assert len(made) == len(back) == len(seen)
    assert all(each.admission_nano == TRUE for each in made)


def test_the_ledger_has_it_once_and_to_the_nano(tmp_path: Path) -> None:
    """The worker rates what the proxy booked to the same nano; the invoice is what the batch used,
    and a second record of the very same changes nothing."""

    async def read() -> list[bytes]:
        door, batches = opened(MemoryBatchNotes())
        await batches.begun("batch_1", flat_event())
        await batches.look([OVER, OVER])
        assert isinstance(door.caps, MemoryCaps)
        return list(door.caps.model.events)

    events = [decode(flat_event()), *map(decode, asyncio.run(read()))]
    ledger, bookings = new_ledger(tmp_path), []
    for event in (*reversed(events), *events):
        arrival = read_entry(make_entry(event))
        assert isinstance(arrival, Arrival)
        bookings.append(Booking(arrival, CARDS.rate(event)))
    prices = SETTINGS.prices
    published = {
        prices.cost_version: prices.body(sell=False),
        prices.sell_version: prices.body(sell=True),
    }
    for booking in bookings:
        write_batch(ledger, Batch([booking], []), prices=published, now_ns=events[0].emitted_at)

    assert not any(booking.rated.differs for booking in bookings)
    assert sum(booking.rated.sell_nano for booking in bookings[:3]) == TRUE
    months = {datetime.fromtimestamp(e.occurred_at // 10**9, UTC).strftime("%Y-%m") for e in events}
    reports = [invoice_report(ledger, "acme", month) for month in months]
    assert sum(each.invoice["total_nano"] for each in reports if each) == TRUE
    assert verify(ledger) == []
    ledger.close()
