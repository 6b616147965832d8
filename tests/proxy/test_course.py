"""The course of an exchange over real sockets: what is seen, what is sent, what is billed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import openai
import pytest
from fixtures_door import KEY, OpenDoor, RunningDoor, rule, settings, tenant
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
from routing.abilities import Abilities
from routing.health import FAILURES_IN_A_ROW, State
from routing.retries import OnFailure, Retries
from routing.upstreams import Model, Upstream

QUICK = Retries(max=1, max_wait_s=1.0, backoff_s=0.01)
USUAL = OnFailure(retries=QUICK)
ERROR = {"error": {"message": "slow down", "type": "requests", "code": None}}
TOO_LONG = body(
    {"error": {"message": "too long", "code": "context_length_exceeded", "param": "messages"}}, 400
)
FLAGGED = body({"error": {"message": "no", "code": "content_policy_violation"}}, 400)
NO_MODEL = body({"error": {"message": "gone", "code": "model_not_found"}}, 404)


def limited(headers: str = "", status: int = 429) -> bytes:
    return body(ERROR, status, headers)


def models(*providers: str, own: OnFailure = USUAL, **fields: Any) -> Any:
    """A model `m` on the first provider, and `spare` on the second."""
    first, *others = providers
    made = {"m": Model("m", (Upstream(first, "up-m", "m"),), on_failure=own, **fields)}
    for other in others:
        made["spare"] = Model("spare", (Upstream(other, "up-s", "spare"),))
    return made


def told(door: RunningDoor) -> list[tuple[str, int, str | None, bool]]:
    """Of each event: its upstream, the retries, why it was made, and whether it was billed."""
    return [
        (each.model_upstream, each.retry_count, each.fallback_reason, each.billable)
        for each in door.events
    ]


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


async def test_who_leaves_is_not_waited_for(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """The client leaves while a retry is waited for: the exchange ends, and nothing is held."""
    own = OnFailure(retries=PATIENT)
    door = await open_door(settings({"one": upstream.url}, models=models("one", own=own)))
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
