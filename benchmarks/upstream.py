"""A fast upstream for measuring: a whole JSON answer at once, or a stream with a pause per chunk.

    python -m benchmarks.upstream PORT [CHUNKS PAUSE_S WORDS]

`POST .../chat/completions` with `"stream": true` sends so many events of so many words, one per
pause, then usage and `[DONE]`. Written on bare asyncio protocols, so that it costs little beside a
proxy.
"""

from __future__ import annotations

import asyncio
import sys

import orjson
import uvloop

CHUNKS = 200
PAUSE_S = 0.005
USAGE = {"prompt_tokens": 12, "completion_tokens": CHUNKS, "total_tokens": 12 + CHUNKS}
WORDS = [
    "A",
    "weir",
    "is",
    "a",
    "low",
    "dam",
    "that",
    "measures",
    "and",
    "holds",
    "back",
    "the",
    "water",
    "of",
    "a",
    "stream",
]


def _answer() -> bytes:
    body = orjson.dumps(
        {
            "id": "chatcmpl-bench",
            "object": "chat.completion",
            "created": 1,
            "model": "bench",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": " ".join(WORDS * 4)},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 12, "completion_tokens": 60, "total_tokens": 72},
        }
    )
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _event(payload: dict[str, object]) -> bytes:
    raw = b"data: " + orjson.dumps(payload) + b"\n\n"
    return f"{len(raw):x}\r\n".encode() + raw + b"\r\n"


def _delta(number: int, words: int = 1) -> bytes:
    return _event(
        {
            "id": "chatcmpl-bench",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "bench",
            "system_fingerprint": "fp_bench",
            "choices": [
                {
                    "index": 0,
                    "delta": {
                        "content": "".join(
                            f" {WORDS[(number + at) % len(WORDS)]}" for at in range(words)
                        )
                    },
                    "logprobs": None,
                    "finish_reason": None,
                }
            ],
        }
    )


ANSWER = _answer()
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
FINISH = _event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
USAGE_EVENT = _event({"choices": [], "usage": USAGE})
END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


class Upstream(asyncio.Protocol):
    """Answers each request on a connection in turn; requests are not pipelined here."""

    def __init__(self, chunks: int, pause_s: float, deltas: list[bytes]) -> None:
        self._chunks = chunks
        self._pause_s = pause_s
        self._deltas = deltas

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        size = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < size:
            return
        self._buffer = body[size:]
        if b'"stream":true' in body.replace(b" ", b""):
            self._transport.write(STREAM_HEAD)  # type: ignore[attr-defined]
            self._next(0)
        else:
            self._transport.write(ANSWER)  # type: ignore[attr-defined]

    def _next(self, number: int) -> None:
        if self._transport.is_closing():
            return
        if number < self._chunks:
            self._transport.write(self._deltas[number % CHUNKS])  # type: ignore[attr-defined]
            asyncio.get_running_loop().call_later(self._pause_s, self._next, number + 1)
        else:
            self._transport.write(FINISH + USAGE_EVENT + END)  # type: ignore[attr-defined]


async def main(port: int, chunks: int, pause_s: float, words: int) -> None:
    deltas = [_delta(number, words) for number in range(CHUNKS)]
    server = await asyncio.get_running_loop().create_server(
        lambda: Upstream(chunks, pause_s, deltas), "127.0.0.1", port, backlog=4096
    )
    await server.serve_forever()


if __name__ == "__main__":
    port, *pace = sys.argv[1:]
    given = dict(enumerate(pace))
    chunks, pause_s = int(given.get(0, CHUNKS)), float(given.get(1, PAUSE_S))
    uvloop.run(main(int(port), chunks, pause_s, int(given.get(2, 1))))
