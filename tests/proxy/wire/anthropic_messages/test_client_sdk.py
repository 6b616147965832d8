"""Anthropic's own Python SDK reads what we write: messages, streams, errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from message_samples import GOLDEN, chunk, golden, load, message_request, written

from proxy.error_words import ErrorWords
from proxy.wire.anthropic_messages import client

UNITS = {"input_uncached": 20, "output_text": 5}
ASKED: dict[str, Any] = {
    "model": "our-sonnet",  # of the maker's own names the SDK knows when they end, and warns
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "hi"}],
}


@asynccontextmanager
async def answering(
    body: bytes, status: int = 200, *, kind: str = "application/json"
) -> AsyncIterator[tuple[anthropic.AsyncAnthropic, list[bytes]]]:
    """A client of a server that always answers this, and what it was sent."""
    received: list[bytes] = []

    async def handle(request: web.Request) -> web.Response:
        received.append(await request.read())
        return web.Response(body=body, status=status, content_type=kind)

    app = web.Application()
    app.router.add_post("/{path:.*}", handle)
    async with (
        TestServer(app) as server,
        anthropic.AsyncAnthropic(
            base_url=str(server.make_url("")), api_key="sk-1", max_retries=0
        ) as sdk,
    ):
        yield sdk, received


@pytest.mark.parametrize("name", golden("chunks"))
async def test_a_stream_is_put_together(name: str) -> None:
    """The SDK's stream helper has the message in the end, with the usage that is billed."""
    recorded = load(name, "chunks")
    raw = (GOLDEN / f"{name}.sse").read_bytes()

    async with (
        answering(raw, kind="text/event-stream") as (sdk, _),
        sdk.messages.stream(**ASKED) as stream,
    ):
        message = await stream.get_final_message()

    said = [part["choices"][0]["delta"] for part in recorded["chunks"]]
    for kind, field in (("text", "content"), ("thinking", "reasoning_content")):
        expected = "".join(
            delta.get(field) or (delta.get("refusal") or "" if kind == "text" else "")
            for delta in said
        )
        assert (
            "".join(getattr(each, kind) for each in message.content if each.type == kind)
            == expected
        )
    inputs = [block.input for block in message.content if block.type == "tool_use"]
    places = {"tools": [{"city": "Paris"}, {"city": "Rome"}]}
    places["tools_mixed"] = [{"city": "Paris"}, {"zone": "CET"}]
    assert inputs == places.get(name, [])
    usage, units = message.usage, recorded["units"]
    assert usage.input_tokens == units["input_uncached"]
    assert usage.cache_read_input_tokens == units.get("input_cache_read", 0)
    assert usage.cache_creation_input_tokens == units.get("input_cache_write_5m", 0) + units.get(
        "input_cache_write_1h", 0
    )
    # the SDK keeps what `message_start` said of them, so zeros there would contradict the sum
    assert usage.cache_creation is None
    thinking = units.get("output_reasoning", 0)
    assert usage.output_tokens == units["output_text"] + thinking
    if thinking:
        assert usage.output_tokens_details is not None
        assert usage.output_tokens_details.thinking_tokens == thinking
        assert [b.signature for b in message.content if b.type == "thinking"] == ["EqoBCkgIARAB"]


@pytest.mark.parametrize("name", golden("whole"))
async def test_a_whole_message_is_read(name: str) -> None:
    """The message the SDK has is the one we wrote, with every class of usage."""
    recorded = load(name, "whole")

    async with answering(orjson.dumps(recorded["message"])) as (sdk, _):
        message = await sdk.messages.create(**ASKED)

    assert message.to_dict() == recorded["message"]
    assert message.usage.cache_creation is not None
    assert message.usage.cache_creation.ephemeral_1h_input_tokens == recorded["units"].get(
        "input_cache_write_1h", 0
    )


async def test_an_answer_may_be_sent_back() -> None:
    """What the SDK makes of our answer is a message that our parser takes."""
    raw = orjson.dumps(load("thinking", "whole")["message"])

    async with answering(raw) as (sdk, received):
        answer = await sdk.messages.create(**ASKED)
        later = {"role": "user", "content": "Sure?"}
        await sdk.messages.create(
            **{**ASKED, "messages": [*ASKED["messages"], answer.to_param(), later]}
        )

    request = client.parse_request(received[1])
    assert request.chat["messages"][1]["content"] == "391"
    assert request.chat["messages"][1]["thinking_blocks"][1]["type"] == "redacted_thinking"


ERRORS = {
    400: (anthropic.BadRequestError, "invalid_request_error"),
    401: (anthropic.AuthenticationError, "authentication_error"),
    402: (anthropic.APIStatusError, "billing_error"),
    403: (anthropic.PermissionDeniedError, "permission_error"),
    404: (anthropic.NotFoundError, "not_found_error"),
    413: (anthropic.APIStatusError, "request_too_large"),
    429: (anthropic.RateLimitError, "rate_limit_error"),
    500: (anthropic.InternalServerError, "api_error"),
    502: (anthropic.InternalServerError, "api_error"),
    503: (anthropic.InternalServerError, "overloaded_error"),
    504: (anthropic.InternalServerError, "timeout_error"),
    529: (anthropic.InternalServerError, "overloaded_error"),
}


@pytest.mark.parametrize("status", ERRORS)
async def test_every_failure_has_its_class(status: int) -> None:
    """The SDK raises what it raises at Anthropic, with our code where it looks for one."""
    kind, word = ERRORS[status]
    words = ErrorWords(status, "No.", "x", "our_code", "max_tokens", {"scope": "tenant:acme"})

    async with answering(client.error_body(words, "req_1"), status) as (sdk, _):
        with pytest.raises(kind) as caught:
            await sdk.messages.create(**ASKED)

    error = caught.value
    assert (error.status_code, error.type, error.error_code) == (status, word, "our_code")
    assert error.api_message == "No."
    assert isinstance(error.body, dict) and error.body["request_id"] == "req_1"
    assert error.body["error"]["details"]["metadata"] == {"scope": "tenant:acme"}


async def test_a_stream_that_fails_raises() -> None:
    """An error event after the first words raises, and says what it was."""
    writer = client.writer(message_request(stream=True))
    words = ErrorWords(502, "Broke off.", code="upstream_error")
    raw = writer.write(chunk({"content": "Hel"})) + client.error_event(words, "req_1")
    texts: list[str] = []

    async def read(stream: anthropic.AsyncMessageStream[Any]) -> None:
        async for text in stream.text_stream:
            texts.append(text)  # noqa: PERF401 - what came before the failure is looked at

    async with (
        answering(raw, kind="text/event-stream") as (sdk, _),
        sdk.messages.stream(**ASKED) as stream,
    ):
        with pytest.raises(anthropic.APIStatusError) as caught:
            await read(stream)

    assert texts == ["Hel"]
    assert (caught.value.type, caught.value.error_code) == ("api_error", "upstream_error")


async def test_keepalive_comments_are_passed_over() -> None:
    """Comments between events, which hold a slow stream open, are no events to the SDK."""
    raw = written([chunk({"content": "Hi"}), chunk(finish="stop")], UNITS)
    kept = b": keepalive\n\n" + raw.replace(b"\n\n", b"\n\n: keepalive\n\n")

    async with (
        answering(kept, kind="text/event-stream") as (sdk, _),
        sdk.messages.stream(**ASKED) as stream,
    ):
        assert await stream.get_final_text() == "Hi"


async def test_a_count_is_read() -> None:
    """`count_tokens` sends what our parser takes, and reads what we answer."""
    request = message_request()

    async with answering(orjson.dumps(client.count_answer(request, 12))) as (sdk, received):
        counted = await sdk.messages.count_tokens(
            model=ASKED["model"],
            messages=ASKED["messages"],
            system="Be brief.",
            tools=[{"name": "now", "input_schema": {"type": "object"}}],
        )

    assert counted.input_tokens == 12
    assert client.parse_count(received[0]).chat["messages"][0]["role"] == "system"
