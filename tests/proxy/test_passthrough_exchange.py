"""A flat hold from its reserve to its commit, whatever becomes of what is relayed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from fixtures_door import OpenDoor, held, tenant, usd
from fixtures_upstream import Act, ScriptedUpstream, body, chunk, head
from passthrough_samples import ask, passing_settings

from metering.caps import (
    CapsUnavailableError,
    Commit,
    Denial,
    DenialReason,
    Hold,
    Limit,
    ScopeKind,
    Vector,
    Window,
)
from metering.memory_caps import MemoryCaps
from metering.recovery import LostHold, recovery
from metering.tenants import CapRule

SPEECH = {"model": "tts-1", "input": "hi"}
BEGUN = [head(kind="audio/mpeg") + b"Transfer-Encoding: chunked\r\n\r\n", chunk(b"abc"), Act.HANG]


async def test_a_flag_ends_it(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """Killed in the middle, the upstream is stopped, and what was begun is billed."""
    upstream.scripts = [BEGUN]
    door = await open_door(passing_settings(upstream.url))
    answer = await ask(door, "POST", "/v1/audio/speech", json=SPEECH)
    await answer.content.readany()

    (open_one,) = door.renewals.open
    open_one.stop(Denial(DenialReason.KILLED))
    await upstream.left.wait()
    while not door.events:
        await asyncio.sleep(0.005)

    (made,) = door.events
    assert (made.reason_code, made.admission_nano) == ("stopped_by_flag", usd("0.50"))
    assert held(door) == []


async def test_a_flag_before_the_answer(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """The client is told which."""
    upstream.scripts = [[Act.HANG]]
    door = await open_door(passing_settings(upstream.url))
    asking = asyncio.ensure_future(ask(door, "POST", "/v1/audio/speech", json=SPEECH))
    while not upstream.received:
        await asyncio.sleep(0.005)

    (open_one,) = door.renewals.open
    open_one.stop(Denial(DenialReason.PAUSED))
    answer = await asking

    assert (answer.status, (await answer.json())["error"]["code"]) == (403, "tenant_paused")


class CommitsNothing(MemoryCaps):
    """Redis that is away when the usage comes."""

    async def commit(self, hold: Hold, actual: Vector, events: object) -> Commit:
        raise CapsUnavailableError("away")


async def test_redis_away_the_usage_is_spooled(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """The client gets its answer once the disk has it; where that is full, too, it gets none."""
    upstream.scripts = [[body({"data": [{}]})]]
    door = await open_door(passing_settings(upstream.url), caps=CommitsNothing())
    url = "/v1/images/generations"

    spooled = await ask(door, "POST", url, json={"model": "dall-e-2"})
    door.spool.is_full = True
    withheld = await ask(door, "POST", url, json={"model": "dall-e-2"})

    assert spooled.status == 200
    assert [vector.nano for _, vector, _ in door.spool.records] == [usd("0.04")]
    assert (withheld.status, (await withheld.json())["error"]["code"]) == (
        503,
        "usage_not_recorded",
    )


async def test_what_a_crash_leaves_can_be_recovered(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """The checkpoint of an open one bills the flat price; its facts alone bill nothing."""
    upstream.scripts = [BEGUN]
    door = await open_door(passing_settings(upstream.url))
    answer = await ask(door, "POST", "/v1/audio/speech", json=SPEECH)
    await answer.content.readany()

    (open_one,) = door.renewals.open
    assert isinstance(door.caps, MemoryCaps)
    (record,) = door.caps.model.records.values()
    lost = LostHold(open_one.hold, "p-0", "one/path:audio", 0, facts=record.facts)

    assert open_one.progress != ()
    assert recovery(replace(lost, checkpoint=open_one.checkpoint())).actual.nano == usd("0.50")
    assert recovery(lost).actual.nano == 0


async def test_a_request_cap_counts_every_one(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Requests of every path count under the caps, also those that spend nothing."""
    upstream.scripts = [[body({"object": "list", "data": []})]]
    twice = CapRule(ScopeKind.TENANT, Window("1m", 1_000, 60), Limit(requests=2))
    who = replace(tenant(), cap_rules=(twice,))
    door = await open_door(passing_settings(upstream.url, who=who))

    answers = [await ask(door, "GET", "/v1/files") for _ in range(3)]

    assert [each.status for each in answers] == [200, 200, 429]
    assert [made.model_upstream for made in door.events] == ["path:files:free"] * 2
    assert [made.units for made in door.events] == [{"api_call": 1}] * 2
