"""One exchange, end to end: served, fallen back, degraded, refused, cut, abandoned; billed once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import orjson
import pytest
from fixtures_door import OpenDoor, RunningDoor, rule, settings, tenant, usd
from fixtures_upstream import (
    DONE,
    FINISH,
    Act,
    ScriptedUpstream,
    body,
    chunk,
    completion,
    delta,
    stream_head,
    streamed,
    usage_event,
)

from metering.caps import CapsUnavailableError, Commit, Hold, Vector
from metering.memory_caps import MemoryCaps
from routing.upstreams import Model, Upstream

HELD = "held"


def held(door: RunningDoor) -> list[str]:
    """The states of hold records that are left."""
    assert isinstance(door.caps, MemoryCaps)
    return [record.state for record in door.caps.model.records.values()]


async def test_a_json_answer(door: RunningDoor, upstream: ScriptedUpstream) -> None:
    """The answer is relayed to the byte, with what it cost; one event, one charge."""
    script = completion(prompt=10, output=5)
    upstream.scripts = [[script]]

    answer = await door.chat()

    assert await answer.read() == script.partition(b"\r\n\r\n")[2]
    assert answer.headers["x-weir-cost-usd"] == "0.000030000"
    assert answer.headers["x-weir-model"] == "m"
    assert answer.headers["x-weir-provider"] == "one"
    assert answer.headers["x-weir-cap-remaining-usd"] == "9.999970"
    assert answer.headers["x-request-id"] == door.events[0].request_id
    event = door.events[0]
    assert (event.admission_nano, event.cost_nano) == (30_000, 30_000)
    assert (event.model_requested, event.model_upstream) == ("m", "up-m")
    assert event.units == {"input_uncached": 10, "output_text": 5, "api_call": 1, "inference": 1}
    assert event.usage_source == "provider"
    assert held(door) == []


async def test_what_the_upstream_gets(door: RunningDoor, upstream: ScriptedUpstream) -> None:
    """T-05, T-31: our key, the upstream's model name, unknown fields; no header of the client."""
    upstream.scripts = [[completion()]]

    answer = await door.http.post(
        f"{door.url}/v1/chat/completions",
        data=b'{"model":"m","messages":[],"future":{"x":[1]},"temperature":0.5}',
        headers={
            "Authorization": "Bearer sk-weir-acme-0123456789",
            "Cookie": "a=b",
            "X-Forwarded-For": "1.2.3.4",
            "OpenAI-Organization": "org",
            "Connection": "keep-alive, X-Private",
            "X-Private": "p",
        },
    )
    await answer.read()

    received = upstream.received[0]
    assert received.json == {
        "model": "up-m",
        "messages": [],
        "future": {"x": [1]},
        "temperature": 0.5,
    }
    assert received.path == "/v1/chat/completions"
    assert received.headers.keys() == {
        "host",
        "authorization",
        "content-type",
        "accept",
        "accept-encoding",
        "user-agent",
        "content-length",
    }
    assert received.headers["accept-encoding"] == "identity"


async def test_a_stream(door: RunningDoor, upstream: ScriptedUpstream) -> None:
    """A stream is relayed untouched but for the injected usage chunk, and billed by its usage."""
    events = [delta("Hello"), delta(" world"), FINISH, usage_event(10, 2), DONE]
    upstream.scripts = [streamed(*events)]

    answer = await door.chat(stream=True)

    assert await answer.read() == b"".join([*events[:3], DONE])
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert upstream.received[0].json["stream_options"] == {"include_usage": True}
    event = door.events[0]
    assert event.units["output_text"] == 2
    assert event.counted == {"input_uncached": event.counted["input_uncached"], "output_text": 2}
    assert (event.status, event.finish_reason, event.stream) == ("success", "stop", True)
    assert event.ttft_ms is not None


async def test_the_end_waits_for_the_commit(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """The client gets `[DONE]` only after the commit has taken the usage."""
    gate = asyncio.Event()

    class SlowCaps(MemoryCaps):
        async def commit(self, hold: Hold, actual: Vector, events: Sequence[bytes]) -> Commit:
            await gate.wait()
            return await super().commit(hold, actual, events)

    door = await open_door(settings({"one": upstream.url}), SlowCaps())
    upstream.scripts = [streamed(delta("a"), FINISH, DONE)]

    answer = await door.chat(stream=True)
    seen = await answer.content.readany()
    while FINISH not in seen:
        seen += await answer.content.readany()
    assert DONE not in seen
    gate.set()

    assert await answer.content.read() == DONE


async def test_redis_away_at_commit_goes_to_the_spool(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """When the commit cannot be made, the usage is spooled before the client gets its end."""

    class LosingCaps(MemoryCaps):
        async def commit(self, hold: Hold, actual: Vector, events: Sequence[bytes]) -> Commit:
            raise CapsUnavailableError("gone")

    door = await open_door(settings({"one": upstream.url}), LosingCaps())
    upstream.scripts = [[completion(prompt=10, output=5)]]

    answer = await door.chat()

    assert answer.status == 200
    hold, actual, events = door.spool.records[0]
    assert (hold.tenant, actual.nano, len(events)) == ("acme", 30_000, 1)


async def test_usage_that_cannot_be_recorded_is_not_served(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """With Redis away and the spool full, the client does not see a completed answer."""

    class LosingCaps(MemoryCaps):
        async def commit(self, hold: Hold, actual: Vector, events: Sequence[bytes]) -> Commit:
            raise CapsUnavailableError("gone")

    door = await open_door(settings({"one": upstream.url}), LosingCaps())
    door.spool.is_full = True
    upstream.scripts = [streamed(delta("a"), FINISH, DONE)]

    answer = await door.chat(stream=True)
    received = await answer.read()

    assert DONE not in received
    assert b"internal_error" in received


async def test_redis_away_at_reserve(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """When spend cannot be checked nothing is sent, and the client is told to come back."""

    class NoCaps(MemoryCaps):
        async def reserve(self, *_: object, **__: object) -> object:  # type: ignore[override]
            raise CapsUnavailableError("gone")

    door = await open_door(settings({"one": upstream.url}), NoCaps())

    answer = await door.chat()

    assert answer.status == 503
    assert (await answer.json())["error"]["code"] == "budget_backend_unavailable"
    assert "Retry-After" in answer.headers
    assert upstream.received == []


FAILURES = {
    "429": [body({"error": {"message": "slow", "code": None}}, 429, "Retry-After: 7\r\n")],
    "500": [body(b"oops", 500)],
    "closed": [Act.CLOSE],
    "garbage": [b"SSH-2.0\r\n\r\n", Act.CLOSE],
    "html": [body(b"<html>")],
    "cut_body": [b"HTTP/1.1 200 X\r\nContent-Length: 99\r\n\r\n{", Act.CLOSE],
    "401": [body({"error": {"message": "bad key sk-canary-provider-key-31337"}}, 401)],
    "redirect": [body(b"", 302, "Location: http://127.0.0.1:1/\r\n")],
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_failure_falls_back(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    other_upstream: ScriptedUpstream,
    name: str,
) -> None:
    """Before the first byte every failure of an upstream leads to the next one; billed once."""
    door = await open_door(settings({"one": upstream.url, "two": other_upstream.url}))
    upstream.scripts = [FAILURES[name]]
    other_upstream.scripts = [[completion(prompt=10, output=5)]]

    answer = await door.chat()

    assert answer.status == 200
    assert answer.headers["x-weir-provider"] == "two"
    first, second = door.events
    assert (first.billable, first.admission_nano, first.attempt) == (False, 0, 1)
    assert (second.billable, second.admission_nano, second.attempt) == (True, 30_000, 2)
    assert second.fallback_reason is not None
    assert first.exchange_id == second.exchange_id


FINAL = {
    "429": (429, None, "upstream"),
    "500": (500, None, "upstream"),
    "closed": (502, "upstream_error", "upstream"),
    "garbage": (502, "upstream_error", "upstream"),
    "html": (502, "upstream_error", "upstream"),
    "401": (502, "upstream_auth", "upstream"),
    "redirect": (502, "upstream_error", "upstream"),
}


@pytest.mark.parametrize("name", FINAL)
async def test_the_last_failure_is_told(
    door: RunningDoor, upstream: ScriptedUpstream, name: str
) -> None:
    """With nowhere left to go the client gets the upstream's refusal, or a name for the failure."""
    status, code, source = FINAL[name]
    upstream.scripts = [FAILURES[name]]

    answer = await door.chat()
    raw = await answer.read()

    assert (answer.status, answer.headers["x-weir-error-source"]) == (status, source)
    assert answer.headers["x-weir-provider"] == "one"
    if code:
        assert orjson.loads(raw)["error"]["code"] == code
    assert b"sk-canary" not in raw
    assert "sk-canary" not in repr(door.log.lines)
    assert door.events[0].billable is False
    assert held(door) == []


async def test_retry_after_is_relayed(door: RunningDoor, upstream: ScriptedUpstream) -> None:
    """An upstream's 429 comes with its Retry-After and its own body."""
    upstream.scripts = [FAILURES["429"]]

    answer = await door.chat()

    assert answer.headers["Retry-After"] == "7"
    assert (await answer.json())["error"]["message"] == "slow"


async def test_a_refused_request_does_not_fall_back(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """A 400 is about the request: relayed as it is, and no other upstream is asked."""
    door = await open_door(settings({"one": upstream.url, "two": other_upstream.url}))
    refused = {"error": {"message": "no", "type": "invalid_request_error", "code": "x"}}
    upstream.scripts = [[body(refused, 400)]]

    answer = await door.chat()

    assert (answer.status, await answer.json()) == (400, refused)
    assert other_upstream.received == []
    assert door.events[0].reason_code == "upstream_refused"


async def test_the_silent_upstream(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """An upstream that says nothing within its time is a 504."""
    door = await open_door(settings({"one": upstream.url}, timeout_s=0.1))
    upstream.scripts = [[Act.HANG]]

    answer = await door.chat()

    assert answer.status == 504
    assert (await answer.json())["error"]["code"] == "upstream_timeout"


CUTS = {
    "reset": [stream_head(), chunk(delta("Hello world")), Act.RESET],
    "closed": [stream_head(), chunk(delta("Hello world")), Act.CLOSE],
    "close_delimited": [
        b"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\n\r\n",
        delta("Hello world"),
        Act.CLOSE,
    ],
    "stalled": [stream_head(), chunk(delta("Hello world")), Act.HANG],
}


@pytest.mark.parametrize("name", CUTS)
async def test_a_cut_stream_is_billed_and_told(
    open_door: OpenDoor, upstream: ScriptedUpstream, name: str
) -> None:
    """After the first byte a break is told in-band, without `[DONE]`, and billed as counted."""
    door = await open_door(settings({"one": upstream.url}, timeout_s=0.2))
    upstream.scripts = [CUTS[name]]

    answer = await door.chat(stream=True)
    received = await answer.read()

    assert received.startswith(delta("Hello world"))
    assert b'"code":"upstream_error"' in received
    assert DONE not in received
    event = door.events[0]
    assert (event.status, event.reason_code, event.billable) == ("truncated", "partial", True)
    assert event.units["output_text"] == 2
    assert event.usage_source == "counted"


async def test_a_stream_cut_before_its_first_event_falls_back(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """Headers are no byte for the client: a stream that dies before an event is tried elsewhere."""
    door = await open_door(settings({"one": upstream.url, "two": other_upstream.url}))
    upstream.scripts = [[stream_head(), chunk(b"data: {"), Act.CLOSE]]
    other_upstream.scripts = [streamed(delta("b"), FINISH, DONE)]

    answer = await door.chat(stream=True)

    assert await answer.read() == delta("b") + FINISH + DONE


async def test_an_error_as_first_event_falls_back(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """A 200 whose first event is an error is a failure, not an answer."""
    door = await open_door(settings({"one": upstream.url, "two": other_upstream.url}))
    upstream.scripts = [streamed(b'data: {"error": {"message": "overloaded"}}\n\n')]
    other_upstream.scripts = [streamed(delta("b"), FINISH, DONE)]

    answer = await door.chat(stream=True)

    assert await answer.read() == delta("b") + FINISH + DONE


async def test_no_done_is_an_end_when_finished(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """A server that sends no `[DONE]` but a finish reason has ended its stream."""
    upstream.scripts = [streamed(delta("Hello world"), FINISH)]

    answer = await door.chat(stream=True)

    assert await answer.read() == delta("Hello world") + FINISH
    assert door.events[0].status == "success"


async def test_zero_usage_with_content_is_suspect(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """T-58: content with a usage of zero is billed by our count and flagged."""
    upstream.scripts = [streamed(delta("Hello world"), FINISH, usage_event(10, 0), DONE)]

    await (await door.chat(stream=True)).read()

    event = door.events[0]
    assert event.units["output_text"] == 2
    assert event.usage_suspect is not None
    assert event.usage_source == "mixed"


async def test_json_where_a_stream_was_asked_for(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """T-28: a server that ignores `stream` is served as what it sent, and metered."""
    upstream.scripts = [[completion(prompt=1, output=1)]]

    answer = await door.chat(stream=True)

    assert (await answer.json())["usage"]["completion_tokens"] == 1
    assert door.events[0].units["output_text"] == 1


@pytest.mark.parametrize("sent", [[delta("Hello world")], []], ids=["in_stream", "before_it"])
async def test_a_client_that_leaves_stops_the_upstream(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    sent: list[bytes],
) -> None:
    """T-59: when the client leaves, the upstream is stopped and what was counted is billed."""
    door = await open_door(settings({"one": upstream.url}))
    upstream.scripts = [[stream_head(), *map(chunk, sent), Act.HANG]]

    asking = asyncio.ensure_future(door.chat(stream=True))
    if sent:
        await (await asking).content.readany()
    else:
        while not upstream.received:
            await asyncio.sleep(0)
        asking.cancel()
    await door.http.close()
    await upstream.left.wait()
    while not door.events:
        await asyncio.sleep(0)

    event = door.events[0]
    assert (event.status, event.client_disconnected) == ("cancelled", True)
    assert event.units.get("output_text", 0) == (2 if sent else 0)
    assert event.units["input_uncached"] > 0
    assert event.billable
    assert held(door) == []


async def test_a_client_that_leaves_a_server_that_does_not_cancel(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Without handler cancellation the next write finds out; it is billed the same."""
    door = await open_door(settings({"one": upstream.url}), cancels=False)
    endless = [chunk(delta("Hello world ") * 50) for _ in range(400)]
    upstream.scripts = [[stream_head(), chunk(delta("first")), Act.WAIT, *endless, Act.HANG]]

    answer = await door.chat(stream=True)
    await answer.content.readany()
    answer.close()
    await door.http.close()
    upstream.proceed.set()
    while not door.events:
        await asyncio.sleep(0)

    assert (door.events[0].status, door.events[0].client_disconnected) == ("cancelled", True)
    assert held(door) == []


async def test_draining_reads_on_for_the_meter(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """`on_disconnect: drain`: the client has left, the provider's own usage is still learnt."""
    from proxy.settings import Server

    door = await open_door(settings({"one": upstream.url}, server=Server(on_disconnect="drain")))
    upstream.scripts = [
        [
            stream_head(),
            chunk(delta("Hello world")),
            Act.WAIT,
            *map(chunk, [delta(" again"), FINISH, usage_event(10, 3), DONE]),
            b"0\r\n\r\n",
        ]
    ]

    answer = await door.chat(stream=True)
    await answer.content.readany()
    answer.close()
    await door.http.close()
    upstream.proceed.set()
    while not door.events:
        await asyncio.sleep(0)

    assert door.events[0].units["output_text"] == 3
    assert door.events[0].usage_source == "provider"


def two_models(upstream: ScriptedUpstream, **limits: object) -> object:
    """`dear` and `cheap` on one upstream; the tenant degrades from one to the other."""
    return settings(
        {"one": upstream.url},
        who=tenant("1.00", burst_threshold_ppm=800_000, fallback_model="cheap", **limits),
        models={
            "dear": Model("dear", (Upstream("one", "dear", "dear"),)),
            "cheap": Model("cheap", (Upstream("one", "cheap", "cheap"),)),
        },
        rules=(rule("dear", "100.00"), rule("cheap", "0.10")),
    )


async def test_near_the_cap_the_cheaper_model_answers(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """From `burst_threshold` of the cap on, requests go to `fallback_model`, and say so."""
    door = await open_door(two_models(upstream))
    upstream.scripts = [[completion(prompt=0, output=2000)], [completion()]]

    first = await door.chat(model="dear", max_tokens=2000)
    second = await door.chat(model="dear", max_tokens=10)

    assert (first.status, first.headers["x-weir-model"]) == (200, "dear")
    assert "x-weir-degraded" not in first.headers
    assert (second.status, second.headers["x-weir-model"]) == (200, "cheap")
    assert second.headers["x-weir-degraded"].startswith("from=dear; to=cheap")
    assert upstream.received[1].json["model"] == "cheap"
    assert door.events[1].degrade_step == "cheap"


async def test_past_the_cap_nothing_is_sent(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A spent cap is a 429 that says not to retry, which cap, and when there is room again."""
    door = await open_door(
        settings({"one": upstream.url}, who=tenant("0.01"), rules=(rule("*", "1.00"),))
    )
    upstream.scripts = [[completion(prompt=0, output=2400)]]

    await door.chat(max_tokens=2400)
    answer = await door.chat(max_tokens=500)

    error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (429, "insufficient_quota")
    assert answer.headers["x-should-retry"] == "false"
    assert "Retry-After" not in answer.headers
    assert answer.headers["x-weir-limit-source"] == "tenant_daily_cap"
    metadata = error["metadata"]
    assert metadata["limit_usd"] == "0.010000"
    assert metadata["spent_usd"] == "0.009600"
    assert metadata["resets_at"].endswith("Z")
    assert len(upstream.received) == 1


async def test_a_request_that_can_never_fit(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A request dearer than the whole cap is a 400 that names max_tokens."""
    door = await open_door(settings({"one": upstream.url}, who=tenant("0.01")))

    answer = await door.chat(max_tokens=1_000_000)

    error = (await answer.json())["error"]
    assert (answer.status, error["code"], error["param"]) == (
        400,
        "request_exceeds_budget",
        "max_tokens",
    )


async def test_holds_in_flight_ask_for_a_moment(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """When only requests in flight stand in the way, the client may come back at once."""
    door = await open_door(settings({"one": upstream.url}, who=tenant("0.01")))
    upstream.scripts = [[stream_head(), chunk(delta("a")), Act.WAIT, b"0\r\n\r\n"]]

    first = await door.chat(stream=True, max_tokens=2000)
    second = await door.chat(max_tokens=2000)

    assert (second.status, second.headers["Retry-After"]) == (429, "1")
    assert (await second.json())["error"]["code"] == "rate_limit_exceeded"
    upstream.proceed.set()
    await first.read()


async def test_a_hundred_at_once_stay_under_the_cap(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """T-50: a hundred in flight at a cap worth ten: ten are served, spent + held never passes."""
    door = await open_door(settings({"one": upstream.url}, who=tenant("0.04")))
    upstream.scripts = [[completion(prompt=0, output=1000)]]

    answers = await asyncio.gather(*(door.chat(max_tokens=950, messages=[]) for _ in range(100)))

    served = [answer for answer in answers if answer.status == 200]
    assert len(served) == 10
    assert sum(event.admission_nano for event in door.events) == usd("0.04")


async def test_a_dearer_fallback_must_fit(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """T-53: a fallback that is dearer than what is held is asked for room first."""
    door = await open_door(
        settings(
            {"one": upstream.url, "two": other_upstream.url},
            who=tenant("0.01"),
            rules=(rule("*", "1.00", provider="one"), rule("*", "9.00", provider="two")),
        )
    )
    upstream.scripts = [[body(b"", 500)]]

    answer = await door.chat(max_tokens=2000)

    assert answer.status == 500
    assert other_upstream.received == []


async def test_an_unpriced_model_under_a_cap(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """T-52: a model without a price is refused for a tenant with a money cap, naming the fix."""
    door = await open_door(settings({"one": upstream.url}, rules=()))

    answer = await door.chat()

    error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (400, "model_not_priced")
    assert "pricing.rules" in error["message"]
    assert upstream.received == []


async def test_an_unpriced_model_without_a_cap_says_so_in_its_event(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Without a cap it is served; the event carries no price version, so it is never zero-rated."""
    door = await open_door(settings({"one": upstream.url}, rules=(), who=tenant(None)))
    upstream.scripts = [[completion()]]

    assert (await door.chat()).status == 200
    assert (door.events[0].sell_version, door.events[0].cost_version) == (None, None)
