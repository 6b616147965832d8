"""Detours and deadlines over real sockets: what is seen, what is sent, what is billed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from course_samples import FLAGGED, QUICK, TOO_LONG, models, told
from fixtures_door import KEY, OpenDoor, rule, settings, tenant
from fixtures_upstream import (
    DONE,
    Act,
    ScriptedUpstream,
    completion,
    delta,
    stream_head,
    streamed,
)

from metering.clock import monotonic_s
from metering.events import decode
from metering.recovery import LostHold, recovery
from proxy.settings import Server
from routing.abilities import Abilities
from routing.health import FAILURES_IN_A_ROW, State
from routing.readiness import figures
from routing.retries import OnFailure

# -- detours --------------------------------------------------------------------------------------


async def test_a_prompt_too_long_goes_to_a_larger_window(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """To the fallback model whose window is known to be larger, without asking the first again."""
    known = models("one", "two", fallbacks=("spare",), abilities=Abilities(max_context_tokens=5000))
    known["spare"] = replace(known["spare"], abilities=Abilities(max_context_tokens=9000))
    door = await open_door(settings({"one": upstream.url, "two": other_upstream.url}, models=known))
    upstream.scripts, other_upstream.scripts = [[TOO_LONG]], [[completion()]]

    answer = await door.chat()

    assert (answer.status, answer.headers["x-weir-model"]) == (200, "spare")
    assert [each[2] for each in told(door)] == [None, "context_too_long"]
    assert len(upstream.received) == 1


async def test_a_prompt_too_long_stays_with_no_larger_window(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """Fallbacks whose windows are not known to be larger are not asked: the error is relayed."""
    known = models("one", "two", fallbacks=("spare",))
    door = await open_door(settings({"one": upstream.url, "two": other_upstream.url}, models=known))
    upstream.scripts = [[TOO_LONG]]

    answer = await door.chat()

    assert answer.status == 400
    assert (await answer.json())["error"]["code"] == "context_length_exceeded"
    assert (len(upstream.received), len(other_upstream.received)) == (1, 0)
    assert [each.reason_code for each in door.events] == ["upstream_refused"]


@pytest.mark.parametrize("window", [None, 8])
async def test_context_fallbacks_are_gone_to(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    other_upstream: ScriptedUpstream,
    window: int | None,
) -> None:
    """After the upstream has said so, and at once where we know it ourselves; each time under the
    caps, at the price of the model that serves."""
    own = OnFailure(retries=QUICK, context_fallbacks=("spare",))
    known = models("one", "two", own=own, abilities=Abilities(max_context_tokens=window))
    rules = (rule("up-m"), rule("up-s", "3.00"))
    door = await open_door(
        settings({"one": upstream.url, "two": other_upstream.url}, models=known, rules=rules)
    )
    upstream.scripts, other_upstream.scripts = [[TOO_LONG]], [[completion(prompt=10, output=5)]]

    answer = await door.chat()

    assert (answer.status, answer.headers["x-weir-model"]) == (200, "spare")
    assert len(upstream.received) == (1 if window is None else 0)
    assert door.events[-1].admission_nano == 3 * 30_000
    assert door.events[-1].model_requested == "m"


@pytest.mark.parametrize("per_mtok", ["3.00", "0.50"])
async def test_a_hold_knows_of_its_detour(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    other_upstream: ScriptedUpstream,
    per_mtok: str,
) -> None:
    """Whoever has to recover it finds the upstream that its record names, dearer or cheaper."""
    own = OnFailure(retries=QUICK, context_fallbacks=("spare",))
    rules = (rule("up-m"), rule("up-s", per_mtok))
    door = await open_door(
        settings(
            {"one": upstream.url, "two": other_upstream.url},
            models=models("one", "two", own=own),
            rules=rules,
        )
    )
    upstream.scripts, other_upstream.scripts = [[TOO_LONG]], [[Act.HANG]]

    asking = asyncio.create_task(door.chat())
    async with asyncio.timeout(5):
        while not other_upstream.received:
            await asyncio.sleep(0)
    [record] = door.caps.model.records.values()
    [exchange] = door.door.open.open
    again = exchange.held
    asking.cancel()

    def found(upstream: str, facts: bytes) -> str:
        lost = LostHold(exchange.hold, "p", upstream, 1_000, facts)
        return decode(recovery(lost).events[0]).model_upstream

    is_dearer = per_mtok == "3.00"
    assert found(record.upstream, record.facts) == ("up-s" if is_dearer else "up-m")
    assert again is not None
    assert found(again.upstream, again.facts) == "up-s"


async def test_a_detour_passes_the_caps(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """One that the tenant cannot afford is passed over; the refusal is relayed."""
    own = OnFailure(retries=QUICK, context_fallbacks=("spare",))
    rules = (rule("up-m"), rule("up-s", "3000.00"))
    door = await open_door(
        settings(
            {"one": upstream.url, "two": other_upstream.url},
            models=models("one", "two", own=own),
            rules=rules,
            who=tenant("0.50"),
        )
    )
    upstream.scripts = [[TOO_LONG]]

    answer = await door.chat(max_tokens=900)

    assert answer.status == 400
    assert other_upstream.received == []


@pytest.mark.parametrize("named", [False, True])
async def test_what_is_against_a_policy_is_asked_once(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream, named: bool
) -> None:
    """Ordinary fallbacks are not for it; only those that were written for this."""
    own = OnFailure(retries=QUICK, content_policy_fallbacks=("spare",) if named else ())
    known = models("one", "two", own=own, fallbacks=("spare",))
    door = await open_door(settings({"one": upstream.url, "two": other_upstream.url}, models=known))
    upstream.scripts, other_upstream.scripts = [[FLAGGED]], [[completion()]]

    answer = await door.chat()

    assert answer.status == (200 if named else 400)
    assert (len(upstream.received), len(other_upstream.received)) == (1, int(named))
    assert sum(each.billable for each in door.events) == int(named)


# -- deadlines ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("script", [[Act.HANG], [stream_head(), Act.HANG]])
async def test_a_deadline_ends_it(
    open_door: OpenDoor, upstream: ScriptedUpstream, script: Any, stream: bool
) -> None:
    """504 with the time that it had, nothing billed, and nothing held against the upstream."""
    own = OnFailure(deadline_s=0.05)
    door = await open_door(settings({"one": upstream.url}, models=models("one", own=own)))
    upstream.scripts = [script]

    for _ in range(FAILURES_IN_A_ROW):
        answer = await door.chat(stream=stream)
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (504, "upstream_timeout")
        assert "0.05 s" in error["message"]

    assert door.door.health.state("one/up-m", monotonic_s()) is State.CLOSED
    [seen, _] = door.door.history.seen("one/up-m")
    found = figures([seen])
    assert (found.attempts, found.settled) == (FAILURES_IN_A_ROW, 0)
    assert {(each.billable, each.client_disconnected) for each in door.events} == {(False, False)}
    assert door.door.metrics.metrics.counters["weir_deadlines_total", "m"] == FAILURES_IN_A_ROW


async def test_a_deadline_ends_a_stream_in_band(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """What came is billed; the client is told, and gets no `[DONE]`."""
    door = await open_door(
        settings({"one": upstream.url}, models=models("one"), server=Server(deadline_s=0.1))
    )
    upstream.scripts = [[*streamed(delta("Hello"))[:2], Act.HANG]]

    answer = await door.chat(stream=True)
    seen = await answer.read()

    assert b"Hello" in seen
    assert b"upstream_timeout" in seen
    assert DONE not in seen
    assert [(each.status, each.billable) for each in door.events] == [("truncated", True)]


@pytest.mark.parametrize(
    ("asked", "status"), [("50", 504), ("999999", 504), ("0", 400), ("soon", 400)]
)
async def test_a_client_shortens_the_deadline(
    open_door: OpenDoor, upstream: ScriptedUpstream, asked: str, status: int
) -> None:
    """And cannot prolong it."""
    own = OnFailure(deadline_s=0.1)
    door = await open_door(settings({"one": upstream.url}, models=models("one", own=own)))
    upstream.scripts = [[Act.HANG]]

    answer = await door.http.post(
        f"{door.url}/v1/chat/completions",
        json={"model": "m", "messages": [{"role": "user", "content": "hi"}]},
        headers={"Authorization": f"Bearer {KEY}", "x-weir-deadline-ms": asked},
    )
    door.answers.append(answer)

    assert answer.status == status
    if asked == "50":
        assert "0.05 s" in (await answer.json())["error"]["message"]
