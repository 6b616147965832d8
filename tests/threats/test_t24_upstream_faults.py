"""T-24: every way in which an upstream can break HTTP, asked for a stream and for a whole body.

What comes out is one of four things, and each is settled by one rule:

- `served`: the answer was whole, whatever stood around it; billed as reported.
- `502`, `504`: nothing has reached the client; a documented error, and nothing is billed.
- `cut`: the client had an event; told in-band, without `[DONE]`, billed as counted.
"""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import dataclass

import orjson
import pytest
from fixtures_door import OpenDoor, held, settings
from fixtures_upstream import (
    DONE,
    FINISH,
    LAST_CHUNK,
    Act,
    Script,
    ScriptedUpstream,
    chunk,
    completion,
    delta,
    head,
    streamed,
    usage_event,
)

from metering.events import UsageEvent

HELLO = delta("Hello world")
REST = FINISH + usage_event(10, 2) + DONE
WHOLE_JSON = completion("Hello world", prompt=10, output=2).partition(b"\r\n\r\n")[2]
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Mode:
    """The same fault in a stream and in a whole body: `begun` is what may come before it."""

    name: str
    head: bytes
    begun: bytes
    rest: bytes

    @property
    def whole(self) -> bytes:
        return self.begun + self.rest

    def length(self, size: int) -> bytes:
        return self.head + f"Content-Length: {size}\r\n\r\n".encode()

    def good(self) -> bytes:
        return self.length(len(self.whole)) + self.whole


STREAM = Mode("stream", head(kind="text/event-stream"), HELLO, REST)
JSON = Mode("json", head(), WHOLE_JSON[:40], WHOLE_JSON[40:])


def faults(mode: Mode) -> dict[str, tuple[Script, str]]:
    """Script and what comes of it; `cut` and `silent` are a stream's names for what is
    a 502 and a 504 before a byte."""
    begun, whole = mode.begun, mode.whole
    cut = "cut" if mode is STREAM else "502"
    stalled = "silent" if mode is STREAM else "504"
    arrived = [Act.WAIT] if mode is STREAM else []
    packed = gzip.compress(whole)
    encoded = mode.head + b"Content-Encoding: gzip\r\n"

    def sized(data: bytes) -> bytes:
        return encoded + f"Content-Length: {len(data)}\r\n\r\n".encode() + data

    return {
        "chunked_then_fin": ([mode.head + CHUNKED + chunk(begun), Act.CLOSE], cut),
        "fin_in_chunk": ([mode.head + CHUNKED + b"ffff\r\n" + begun, Act.CLOSE], cut),
        "rst_mid": ([mode.head + CHUNKED + chunk(begun), *arrived, Act.RESET], cut),
        "rst_before": ([Act.RESET], "502"),
        "fin_before": ([Act.CLOSE], "502"),
        "fin_in_headers": ([mode.head, Act.CLOSE], "502"),
        "close_delimited_fin": ([mode.head + b"\r\n" + begun, Act.CLOSE], cut),
        "length_larger": ([mode.length(len(begun) + 9) + begun, Act.CLOSE], cut),
        "length_smaller": ([mode.length(len(begun)) + whole], cut),
        "silence_before": ([Act.HANG], "504"),
        "silence_mid": ([mode.head + CHUNKED + chunk(begun), Act.HANG], stalled),
        "garbage": ([b"\x00\xff\x13\x37" * 64, Act.CLOSE], "502"),
        "ssh_banner": ([b"SSH-2.0-OpenSSH_9.2\r\n", Act.HANG], "502"),
        "negative_length": ([mode.head + b"Content-Length: -5\r\n\r\n" + whole], "502"),
        "length_and_chunked": ([mode.length(5)[:-2] + CHUNKED + chunk(whole) + LAST_CHUNK], "502"),
        "two_lengths": ([mode.length(5)[:-2] + b"Content-Length: 6\r\n\r\n" + whole], "502"),
        "header_of_1_mb": ([mode.head + b"X-A: " + b"a" * 2**20 + b"\r\n\r\n"], "502"),
        "headers_10_000": ([mode.head + b"X-A: aaa\r\n" * 10_000 + b"\r\n"], "502"),
        "nul_in_header": ([mode.head + b"X-A: a\x00b\r\n\r\n" + whole, Act.CLOSE], "502"),
        "bad_chunk_size": ([mode.head + CHUNKED + chunk(begun) + b"zz\r\n", Act.HANG], cut),
        "no_content_with_body": ([b"HTTP/1.1 204 X\r\nContent-Length: 3\r\n\r\nabc"], "502"),
        "redirect": (
            [b"HTTP/1.1 302 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"],
            "502",
        ),
        "bad_gzip": ([sized(b"\x1f\x8b" + whole)], "502"),
        "truncated_gzip": ([sized(packed[: len(packed) // 2])], "502"),
        "gzip": ([sized(packed)], "served"),
        "interim_x_1000": ([b"HTTP/1.1 100 Continue\r\n\r\n" * 1000 + mode.good()], "served"),
        "extra_bytes_after": ([mode.good() + b"HTTP/1.1 200 X\r\nContent-"], "served"),
        "status_999": ([b"HTTP/1.1 999 X\r\nContent-Length: 2\r\n\r\n{}"], "502"),
        "html_200": ([head(kind="text/html") + b"Content-Length: 6\r\n\r\n<html>"], "502"),
        "the_other_kind": (
            (streamed(HELLO, REST), "502") if mode is JSON else ([JSON.good()], "served")
        ),
    }


KEPT = {"redirect", "status_999", "html_200", "the_other_kind", "interim_x_1000"}
"""Whole answers by HTTP's own rules: their connection may be used again."""

UNREAD = {"bad_gzip", "truncated_gzip", "gzip"}
"""Whole by HTTP's rules too, but given up or ended before: kept if all of it has come by then."""

CASES = [
    pytest.param(mode, name, id=f"{mode.name}-{name}")
    for mode in (STREAM, JSON)
    for name in faults(mode)
]


@pytest.mark.parametrize(("mode", "name"), CASES)
async def test_t24_a_broken_answer_has_one_outcome(
    open_door: OpenDoor, upstream: ScriptedUpstream, mode: Mode, name: str
) -> None:
    """One documented outcome for client and money, and the next exchange is none the worse."""
    door = await open_door(settings({"one": upstream.url}, timeout_s=0.25))
    script, outcome = faults(mode)[name]
    upstream.scripts = [script, [mode.good()]]

    answer = await door.chat(stream=mode is STREAM)
    upstream.proceed.set()  # what resets after its first event does so when that has arrived
    raw = await answer.read()
    after = await door.chat(stream=mode is STREAM)
    next_raw = await after.read()

    first, second = door.events
    _is_told(outcome, answer.status, raw)
    _is_billed(outcome, first)
    assert (after.status, b"Hello world" in next_raw, second.status) == (200, True, "success")
    assert held(door) == []
    assert [line for line in door.log.lines if line[0] == "request_failed"] == []
    if name not in UNREAD:
        assert upstream.connections == (1 if name in KEPT else 2)


def _is_told(outcome: str, status: int, raw: bytes) -> None:
    """The client has the answer, or an error of a documented code and nothing of the cause."""
    assert b"Traceback" not in raw
    if outcome == "served":
        assert (status, b"Hello world" in raw) == (200, True)
    elif outcome in ("cut", "silent"):
        assert raw.startswith(HELLO)
        assert status == 200
        last = raw.removeprefix(HELLO).removeprefix(b"data: ")
        code = "upstream_error" if outcome == "cut" else "upstream_timeout"
        assert orjson.loads(last)["error"]["code"] == code
    else:
        code = {"502": "upstream_error", "504": "upstream_timeout"}[outcome]
        assert (str(status), orjson.loads(raw)["error"]["code"]) == (outcome, code)


def _is_billed(outcome: str, event: UsageEvent) -> None:
    said = (event.status, event.billable, event.units.get("output_text", 0), event.usage_source)
    if outcome == "served":
        assert said == ("success", True, 2, "provider")
    elif outcome in ("cut", "silent"):
        assert said == ("truncated", True, 2, "counted")
    else:
        assert said[:3] == ("error", False, 0)
        assert event.admission_nano == 0


@pytest.mark.parametrize("mode", [STREAM, JSON], ids=lambda mode: mode.name)
@pytest.mark.parametrize("ending", [Act.CLOSE, Act.RESET], ids=["closed", "reset"])
async def test_t24_a_stale_pooled_connection(
    open_door: OpenDoor, upstream: ScriptedUpstream, mode: Mode, ending: Act
) -> None:
    """A kept connection that ended meanwhile is not used: nothing breaks, nothing is sent twice."""
    door = await open_door(settings({"one": upstream.url}))
    upstream.scripts = [[mode.good(), Act.WAIT, ending], [mode.good()]]

    await (await door.chat(stream=mode is STREAM)).read()
    upstream.proceed.set()
    while upstream.serving:
        await asyncio.sleep(0)
    answer = await door.chat(stream=mode is STREAM)

    assert (answer.status, b"Hello world" in await answer.read()) == (200, True)
    assert (len(upstream.received), upstream.connections) == (2, 2)
    assert [event.status for event in door.events] == ["success", "success"]
