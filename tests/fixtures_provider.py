"""A provider that answers what it is asked: OpenAI's chat, completions and embeddings, and
Anthropic's messages, whole and streamed. For clients whose requests a script cannot foresee."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

HELLO = "Hello there."
POINT = '{"x":1,"y":2}'
ARGUMENTS = '{"city":"Paris"}'


class Talker:
    """Says hello; calls the first tool it is offered, once; sees pictures; fills in schemas."""

    def __init__(self) -> None:
        self.url = ""
        self.received: list[dict[str, Any]] = []

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._completions)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_post("/anthropic/messages", self._messages)
        return app

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request)
        text, tool = self._answer(body)
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        head = {"id": "chatcmpl-1", "created": 1, "model": "up-1"}
        reason = "stop" if tool is None else "tool_calls"
        call = {
            "id": "call_1",
            "type": "function",
            "function": {"name": tool, "arguments": ARGUMENTS},
        }
        if not body.get("stream"):
            message: dict[str, Any] = {"role": "assistant", "content": text}
            if tool is not None:
                message["tool_calls"] = [call]
            choice = {"index": 0, "message": message, "finish_reason": reason}
            return web.json_response(
                {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
            )
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        if tool is None:
            deltas += [{"content": part} for part in re.findall(r"\S+\s*", text or "")]
        else:
            half = len(ARGUMENTS) // 2
            begun = {**call, "function": {"name": tool, "arguments": ""}, "index": 0}
            deltas.append({"tool_calls": [begun]})
            for part in (ARGUMENTS[:half], ARGUMENTS[half:]):
                deltas.append({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
        choices = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
        choices.append([{"index": 0, "delta": {}, "finish_reason": reason}])
        head["object"] = "chat.completion.chunk"
        events: list[Any] = [{**head, "choices": each} for each in choices]
        events.append({**head, "choices": [], "usage": usage})
        return await _stream(request, [*events, b"[DONE]"])

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        await self._body(request)
        choice = {"index": 0, "text": HELLO, "finish_reason": "stop", "logprobs": None}
        usage = {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
        head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "up-1"}
        return web.json_response({**head, "choices": [choice], "usage": usage})

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request)
        count = len(body["input"]) if isinstance(body["input"], list) else 1
        vector: Any = [0.25, -0.5, 1.0]
        if body.get("encoding_format") == "base64":
            vector = "AACAPgAAAL8AAIA/"  # the same three numbers
        data = [{"object": "embedding", "index": i, "embedding": vector} for i in range(count)]
        usage = {"prompt_tokens": count, "total_tokens": count}
        return web.json_response({"object": "list", "model": "up-1", "data": data, "usage": usage})

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request)
        text, tool = self._answer(body)
        block: dict[str, Any] = {"type": "text", "text": text}
        if tool is not None:
            block = {
                "type": "tool_use",
                "id": "toolu_1",
                "name": tool,
                "input": orjson.loads(ARGUMENTS),
            }
        reason = "end_turn" if tool is None else "tool_use"
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-1"}
        if not body.get("stream"):
            usage = {"input_tokens": 10, "output_tokens": 5}
            ends = {"stop_reason": reason, "stop_sequence": None, "usage": usage}
            return web.json_response({**message, "content": [block], **ends})
        begun = {**block, "text": ""} if tool is None else {**block, "input": {}}
        said = {"type": "text_delta", "text": text}
        if tool is not None:
            said = {"type": "input_json_delta", "partial_json": ARGUMENTS}
        opening = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
        events = [
            {"message": {**opening, "usage": {"input_tokens": 10, "output_tokens": 1}}},
            {"index": 0, "content_block": begun},
            {"index": 0, "delta": said},
            {"index": 0},
            {
                "delta": {"stop_reason": reason, "stop_sequence": None},
                "usage": {"output_tokens": 5},
            },
            {},
        ]
        kinds = [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
        named = [{"type": kind, **event} for kind, event in zip(kinds, events, strict=True)]
        return await _stream(request, named)

    async def _body(self, request: web.Request) -> dict[str, Any]:
        body: dict[str, Any] = orjson.loads(await request.read())
        self.received.append(body)
        return body

    def _answer(self, body: dict[str, Any]) -> tuple[str | None, str | None]:
        """The text to say, or the tool to call."""
        written = orjson.dumps(body["messages"])
        if b"sunny" in written:
            return "It is sunny.", None
        if tools := body.get("tools"):
            return None, tools[0].get("name") or tools[0]["function"]["name"]
        if b'"image' in written:
            return "A picture.", None
        return (POINT if body.get("response_format") else HELLO), None


async def _stream(request: web.Request, events: list[Any]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for event in events:
        data = event if isinstance(event, bytes) else orjson.dumps(event)
        name = b""
        if isinstance(event, dict) and "type" in event:
            name = b"event: %s\n" % event["type"].encode()
        await response.write(name + b"data: " + data + b"\n\n")
    await response.write_eof()
    return response


@pytest.fixture
async def talker() -> AsyncIterator[Talker]:
    """A provider that talks, on a port of its own."""
    made = Talker()
    server = TestServer(made.app())
    await server.start_server()
    made.url = f"http://127.0.0.1:{server.port}"
    try:
        yield made
    finally:
        await server.close()
