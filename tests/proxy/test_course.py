"""The course of an exchange over real sockets: what is seen, what is sent, what is billed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import openai
import pytest
from course_samples import NO_MODEL, limited, models, told
from fixtures_door import KEY, OpenDoor, RunningDoor, settings
from fixtures_upstream import (
    DONE,
    FINISH,
    Act,
    ScriptedUpstream,
    body,
    completion,
    delta,
    stream_head,
    streamed,
)

from metering.caps import Denial, DenialReason
from metering.clock import monotonic_s
from proxy.settings import Server
from routing.health import FAILURES_IN_A_ROW, State
from routing.retries import OnFailure, Retries

SHORT = {
    "seconds": limited("Retry-After: 0.02\r\n"),
    "ms": limited("retry-after-ms: 20\r\n"),
    "azure": limited("x-ms-retry-after-ms: 20\r\n"),
    "go": limited("x-ratelimit-reset-requests: 20ms\r\nx-ratelimit-remaining-requests: 0\r\n"),
    "none": limited(),
    "overloaded": limited(status=529),
    "lock": limited(status=409),
    "once": limited(status=500),
    "cut": Act.CLOSE,
    "reset": Act.RESET,
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", SHORT)
async def test_a_moment_is_waited_for(
    open_door: OpenDoor, upstream: ScriptedUpstream, name: str, stream: bool
) -> None:
    """The client sees one answer; of the two attempts the second is billed."""
    door = await open_door(settings({"one": upstream.url}, models=models("one")))
    good = streamed(delta("Hello"), FINISH, DONE) if stream else [completion()]
    upstream.scripts = [[SHORT[name]], good]

    answer = await door.chat(stream=stream)

    assert answer.status == 200
    assert b"Hello" in await answer.read()
    assert answer.headers["x-weir-attempts"] == "2"
    first, second = told(door)
    assert (first[1:], second[1], second[3]) == ((0, None, False), 1, True)
    assert second[2] in ("rate_limited", "server_error", "nonsense")
    assert len(upstream.received) == 2
    assert door.door.metrics.metrics.counters["weir_retries_total", "one/up-m", second[2]] == 1


LONG = {
    "seconds": limited("Retry-After: 7\r\n"),
    "date": limited("Retry-After: Fri, 01 Jan 2100 00:00:00 GMT\r\n"),
    "go": limited("x-ratelimit-reset-tokens: 6m0s\r\n"),
    "auth": limited(status=401),
    "quota": limited(status=402),
    "html": body(b"<html>"),
    "no_model": NO_MODEL,
}


@pytest.mark.parametrize("name", LONG)
async def test_what_takes_longer_is_not_waited_for(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream, name: str
) -> None:
    """It falls back to the other model at once, which the answer names."""
    known = models("one", "two", fallbacks=("spare",))
    door = await open_door(settings({"one": upstream.url, "two": other_upstream.url}, models=known))
    upstream.scripts, other_upstream.scripts = [[LONG[name]]], [[completion()]]

    answer = await door.chat()

    assert (answer.status, answer.headers["x-weir-model"]) == (200, "spare")
    assert [(retries, billed) for _, retries, _, billed in told(door)] == [(0, False), (0, True)]
    assert len(upstream.received) == len(other_upstream.received) == 1


@pytest.mark.parametrize("script", [[Act.HANG], [stream_head(), Act.HANG]])
async def test_silence_is_not_asked_again(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream, script: Any
) -> None:
    """Before the headers or after them: whoever says nothing is left for the next one."""
    known = models("one", "two", fallbacks=("spare",))
    made = settings({"one": upstream.url, "two": other_upstream.url}, models=known)
    quick = replace(made.providers["one"], first_event_timeout_s=0.05)
    door = await open_door(replace(made, providers={**made.providers, "one": quick}))
    upstream.scripts = [script]
    other_upstream.scripts = [streamed(delta("Hello"), FINISH, DONE)]

    answer = await door.chat(stream=True)

    assert b"Hello" in await answer.read()
    assert [each[1:] for each in told(door)] == [(0, None, False), (0, "timeout", True)]
    assert len(upstream.received) == 1


async def test_the_error_of_the_last_attempt_is_told(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Asked twice, the 429 is relayed with its time, and nothing is billed."""
    door = await open_door(settings({"one": upstream.url}, models=models("one")))
    upstream.scripts = [[limited(status=500)], [limited("Retry-After: 7\r\n")]]

    answer = await door.chat()

    assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
    assert [each[3] for each in told(door)] == [False, False]


async def test_openais_client_sees_one_answer(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Its own retries are not needed for a 429 that is over in a moment."""
    door = await open_door(settings({"one": upstream.url}, models=models("one")))
    upstream.scripts = [[limited("Retry-After: 0.02\r\n")], [completion()]]

    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{door.url}/v1", max_retries=0) as client:
        said = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}]
        )

    assert said.choices[0].message.content == "Hello"
    assert len(door.events) == 2


async def test_a_dead_upstream_gets_hardly_more_than_its_requests(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Two hundred requests at once, all of which fail: a tenth more, and a few."""
    door = await open_door(settings({"one": upstream.url}, models=models("one")))
    upstream.scripts = [[limited(status=503)]]

    answers = await asyncio.gather(*[door.chat() for _ in range(200)])

    assert {each.status for each in answers} == {503}
    assert 200 < len(upstream.received) <= 200 * 1.1 + 10 + 10
    unpaid = door.door.metrics.metrics.counters["weir_retries_unpaid_total", "one/up-m"]
    assert unpaid == 400 - len(upstream.received)


async def test_it_recovers_at_once(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """A single probe that is served closes what many failures opened."""
    door = await open_door(settings({"one": upstream.url}, models=models("one", own=OnFailure())))
    upstream.scripts = [*[[limited(status=503)]] * FAILURES_IN_A_ROW, [completion()]]
    for _ in range(FAILURES_IN_A_ROW):
        await door.chat()
    health = door.door.health
    assert health.state("one/up-m", monotonic_s()) is State.OPEN
    breaker = health._breakers["one/up-m"]
    breaker.until_s = monotonic_s()

    answer = await door.chat()

    assert answer.status == 200
    assert health.state("one/up-m", monotonic_s()) is State.CLOSED


async def test_the_last_of_a_limit_sends_others_elsewhere(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """The answer that says so is served, and the next request goes to the other upstream."""
    door = await open_door(settings({"one": upstream.url, "two": other_upstream.url}))
    used_up = b"\r\nx-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 30s\r\n"
    upstream.scripts = [[completion().replace(b"\r\n", used_up, 1)]]
    other_upstream.scripts = [[completion()]]

    served = [(await door.chat()).headers["x-weir-provider"] for _ in range(2)]

    assert served == ["one", "two"]


# -- while it waits -------------------------------------------------------------------------------

PATIENT = Retries(max=1, max_wait_s=60.0)


async def test_a_stop_ends_a_wait(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """Somebody kills the run while a retry is waited for: nothing more is sent."""
    own = OnFailure(retries=PATIENT)
    door = await open_door(settings({"one": upstream.url}, models=models("one", own=own)))
    upstream.scripts = [[limited("Retry-After: 30\r\n")]]

    asking = asyncio.ensure_future(door.chat())
    await waits(door, upstream)
    [exchange] = door.renewals._open
    exchange.stop(Denial(DenialReason.KILLED, 0, None))
    answer = await asking

    assert answer.status == 403
    assert len(upstream.received) == 1


@pytest.mark.parametrize("on_disconnect", ["abort", "drain"])
async def test_who_leaves_is_not_waited_for(
    open_door: OpenDoor, upstream: ScriptedUpstream, on_disconnect: Any
) -> None:
    """The client leaves while a retry is waited for: the exchange ends, and nothing is held."""
    known = models("one", own=OnFailure(retries=PATIENT))
    server = Server(on_disconnect=on_disconnect)
    door = await open_door(settings({"one": upstream.url}, models=known, server=server))
    upstream.scripts = [[limited("Retry-After: 30\r\n")]]

    asking = asyncio.ensure_future(door.chat())
    await waits(door, upstream)
    asking.cancel()
    while door.renewals._open:
        await asyncio.sleep(0)

    assert len(upstream.received) == 1
    assert [each.billable for each in door.events] == [False]


async def test_a_stream_that_waits_is_kept_open(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Its client is told that it goes on, and then gets its answer."""
    own = OnFailure(retries=PATIENT)
    server = Server(keepalive_after_s=0.05, keepalive_s=0.05)
    door = await open_door(
        settings({"one": upstream.url}, models=models("one", own=own), server=server)
    )
    upstream.scripts = [
        [limited("retry-after-ms: 200\r\n")],
        streamed(delta("Hello"), FINISH, DONE),
    ]

    answer = await door.chat(stream=True)
    seen = await answer.read()

    assert seen.startswith(b": keepalive\n\n")
    assert b"Hello" in seen
    assert seen.endswith(DONE)


async def waits(door: RunningDoor, upstream: ScriptedUpstream) -> None:
    """Until the first attempt has failed."""
    while not any(name == "attempt_failed" for name, _ in door.log.lines):
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
