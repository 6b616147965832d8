"""One exchange, end to end: served, fallen back, degraded, refused, cut, abandoned; billed once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import orjson
import pytest
from fixtures_door import OpenDoor, RunningDoor, held, settings
from fixtures_upstream import (
    DONE,
    FINISH,
    Act,
    ScriptedUpstream,
    body,
    completion,
    delta,
    streamed,
    usage_event,
)

from metering.caps import (
    CapsNotAskedError,
    CapsUnavailableError,
    Commit,
    Denial,
    Hold,
    Reservation,
    Vector,
)
from metering.clock import monotonic_s, now_ms
from metering.events import UsageEvent, decode
from metering.memory_caps import MemoryCaps
from metering.recovery import recovery


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


async def test_what_was_never_asked_is_not_given_back(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Refusals of a long outage do not pile up as holds to release."""

    class AwayCaps(MemoryCaps):
        released = 0

        async def reserve(self, *_: object, **__: object) -> Reservation | Denial:
            raise CapsNotAskedError("gone")

        async def release(self, hold: Hold) -> None:
            self.released += 1

    caps = AwayCaps()
    door = await open_door(settings({"one": upstream.url}), caps)

    answer = await door.chat()

    assert answer.status == 503
    assert (await answer.json())["error"]["code"] == "budget_backend_unavailable"
    assert caps.released == 0


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
    assert b"usage_not_recorded" in received


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


def lost(door: RunningDoor) -> list[UsageEvent]:
    """What would be recorded if the process ended here and its holds lapsed."""
    assert isinstance(door.caps, MemoryCaps)
    left = door.caps.model.lost(grace_ms=0, now_ms=now_ms() + 3_600_000)
    return [decode(body) for each in left for body in recovery(each).events]


async def test_what_an_open_exchange_leaves_behind(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """F-01: its facts, then what the client has had, and after its end nothing."""
    door = await open_door(settings({"one": upstream.url, "two": other_upstream.url}))
    upstream.scripts = [FAILURES["500"]]
    other_upstream.scripts = [[*streamed(delta("hello world"))[:-1], Act.HANG]]

    answer = await door.chat(stream=True, user="ann")
    await answer.content.readany()
    [before] = lost(door)
    await door.renewals.turn(monotonic_s() + 1.0)
    failed, partial = lost(door)
    await door.close()
    async with asyncio.timeout(5):
        while held(door):
            await asyncio.sleep(0.01)

    assert (before.provider, before.user, before.billable) == ("one", "ann", False)
    assert before.reason_code == "recovered_unconfirmed"
    assert (failed.provider, failed.reason_code) == ("one", "upstream_error")
    assert (partial.provider, partial.reason_code, partial.attempt) == ("two", "partial", 2)
    assert partial.units["output_text"] == 2
    assert partial.admission_nano == door.events[1].admission_nano
    assert lost(door) == []
    assert before.request_id == partial.request_id == door.events[1].request_id
