"""A scripted upstream on a real socket: says exactly these bytes, then does exactly this."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import orjson
import pytest


class Act(Enum):
    """What an upstream does beside sending bytes."""

    CLOSE = auto()
    RESET = auto()
    HANG = auto()
    """Send nothing more until the other side leaves."""
    WAIT = auto()
    """Go on when the test says so by `proceed`."""
    PAUSE = auto()
    """Go on after a hundredth of a second."""


Step = bytes | Act
Script = Sequence[Step]


def head(status: int = 200, *, kind: str = "application/json", extra: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{extra}".encode()


def body(payload: Any, status: int = 200, extra: str = "") -> bytes:
    """A whole JSON answer."""
    raw = payload if isinstance(payload, bytes) else orjson.dumps(payload)
    return head(status, extra=extra) + f"Content-Length: {len(raw)}\r\n\r\n".encode() + raw


def stream_head(extra: str = "") -> bytes:
    return head(kind="text/event-stream", extra=extra) + b"Transfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


LAST_CHUNK = b"0\r\n\r\n"


def event(payload: Any) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def delta(text: str, **fields: Any) -> bytes:
    """A content event of a stream."""
    return event(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "model": "m-1",
            "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
            **fields,
        }
    )


FINISH = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
DONE = b"data: [DONE]\n\n"


def usage_event(prompt: int, completion: int) -> bytes:
    return event({"choices": [], "usage": usage(prompt, completion)})


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def streamed(*events: bytes) -> list[Step]:
    """A whole stream, one chunk per event."""
    return [stream_head(), *(chunk(each) for each in events), LAST_CHUNK]


def completion(text: str = "Hello", prompt: int = 10, output: int = 5) -> bytes:
    return body(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "m-1",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop",
                }
            ],
            "usage": usage(prompt, output),
        }
    )


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes
    method: str = "POST"

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class ScriptedUpstream:
    """`scripts` are played one per request, the last one again and again."""

    scripts: list[Script] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client left while we hung."""
    proceed: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""
    port: int = 0
    connections: int = 0
    serving: set[asyncio.Task[Any]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left.set()
        finally:
            self.serving.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await asyncio.shield(writer.wait_closed())

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        raw = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        start, *lines = raw.split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines if line)
        }
        size = int(headers.get("content-length", "0"))
        method, path, _ = start.split(" ")
        self.received.append(Received(path, headers, await reader.readexactly(size), method))
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        for step in script:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            elif step is Act.WAIT:
                await self.proceed.wait()
                self.proceed.clear()
            elif step is Act.PAUSE:
                await asyncio.sleep(0.01)
            elif step is Act.HANG:
                await reader.read()
                self.left.set()
                return False
            else:
                if step is Act.RESET:
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, linger
                    )
                    writer.transport.abort()
                return False
        return True


@contextlib.asynccontextmanager
async def scripted_upstream(tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedUpstream]:
    scripted = ScriptedUpstream()
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0, ssl=tls)
    scripted.port = server.sockets[0].getsockname()[1]
    scripted.url = f"http{'s' if tls else ''}://127.0.0.1:{scripted.port}/v1"
    try:
        yield scripted
    finally:
        server.close()
        serving = list(scripted.serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """One scripted upstream; set its `scripts` before the first request."""
    async with scripted_upstream() as scripted:
        yield scripted


@pytest.fixture
async def other_upstream() -> AsyncIterator[ScriptedUpstream]:
    """A second one."""
    async with scripted_upstream() as scripted:
        yield scripted
