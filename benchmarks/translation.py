"""`python -m benchmarks.translation`: what a chunk of a stream costs that is written anew for a
client of another format, beside one that is relayed.

In one process and without sockets, in CPU time: bytes of events in, bytes for the client out,
metered in both cases. Each way takes its turn in every round, and the medians of all rounds are
compared. A format takes part when it has a sample here. Gemini and Bedrock are relayed to no
client; what their relaying would cost is there to compare with.
"""

from __future__ import annotations

import argparse
import statistics
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from proxy.chat import OPENAI_CHAT, ChatRequest
from proxy.passage import Passage
from proxy.wire import client_format, client_formats, upstream_format

WORDS = ("The", " quick", " brown", " fox", " jumps", " over", " the", " lazy", " dog", ".")
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}

REQUESTS: dict[str, dict[str, Any]] = {
    OPENAI_CHAT: {**CHAT, "stream": True},
    "anthropic_messages": {**CHAT, "max_tokens": 100_000, "stream": True},
    "openai_completions": {"model": "m", "prompt": "hi", "max_tokens": 100_000, "stream": True},
    "openai_responses": {"model": "m", "input": "hi", "stream": True},
}
"""What a client of each format asks."""


def chat_events(count: int) -> Iterator[bytes]:
    """A stream of chat completion chunks."""
    shared = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    for number in range(count):
        delta = {"content": WORDS[number % len(WORDS)]}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        yield b"data: " + orjson.dumps({**shared, "choices": [choice]}) + b"\n\n"


def messages_events(count: int) -> Iterator[bytes]:
    """A stream of one block of text."""

    def event(**fields: Any) -> bytes:
        return b"event: %s\ndata: %s\n\n" % (fields["type"].encode(), orjson.dumps(fields))

    usage = {"input_tokens": 9, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "content": [], "usage": usage}
    yield event(type="message_start", message={**message, "model": "m"})
    yield event(type="content_block_start", index=0, content_block={"type": "text", "text": ""})
    for number in range(count):
        delta = {"type": "text_delta", "text": WORDS[number % len(WORDS)]}
        yield event(type="content_block_delta", index=0, delta=delta)


def gemini_events(count: int) -> Iterator[bytes]:
    """A stream of parts, each with the usage so far."""
    shared = {"responseId": "r", "modelVersion": "m"}
    for number in range(count):
        content = {"role": "model", "parts": [{"text": WORDS[number % len(WORDS)]}]}
        usage = {
            "promptTokenCount": 9,
            "candidatesTokenCount": number + 1,
            "totalTokenCount": number + 10,
        }
        told = {"candidates": [{"content": content, "index": 0}], "usageMetadata": usage}
        yield b"data: " + orjson.dumps({**told, **shared}) + b"\r\n\r\n"


def converse_events(count: int) -> Iterator[bytes]:
    """A stream of frames, one block of text in them."""
    yield frame("messageStart", {"role": "assistant"})
    for number in range(count):
        delta = {"text": WORDS[number % len(WORDS)]}
        yield frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": delta, "p": "abcdef"})


def frame(kind: str, said: dict[str, Any]) -> bytes:
    """One frame of an AWS event stream."""
    named = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(
        bytes([len(name)])
        + name.encode()
        + b"\x07"
        + struct.pack("!H", len(value))
        + value.encode()
        for name, value in named.items()
    )
    payload = orjson.dumps(said)
    head = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    whole = head + struct.pack("!I", zlib.crc32(head)) + headers + payload
    return whole + struct.pack("!I", zlib.crc32(whole))


def completion_events(count: int) -> Iterator[bytes]:
    """A stream of text completion chunks."""
    shared = {"id": "c", "object": "text_completion", "created": 1, "model": "m"}
    for number in range(count):
        text = WORDS[number % len(WORDS)]
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": None}
        yield b"data: " + orjson.dumps({**shared, "choices": [choice]}) + b"\n\n"


def response_events(count: int) -> Iterator[bytes]:
    """A stream of one text, as responses have it."""
    where = {"item_id": "m", "output_index": 0, "content_index": 0, "logprobs": []}
    for number in range(count):
        told = {"type": "response.output_text.delta", "sequence_number": number, **where}
        told["delta"] = WORDS[number % len(WORDS)]
        yield b"event: response.output_text.delta\ndata: " + orjson.dumps(told) + b"\n\n"


SAMPLES: dict[str, Callable[[int], Iterator[bytes]]] = {
    OPENAI_CHAT: chat_events,
    "anthropic_messages": messages_events,
    "gemini": gemini_events,
    "bedrock_converse": converse_events,
    "openai_completions": completion_events,
    "openai_responses": response_events,
}
"""What an upstream of each format says, by the number of its chunks."""


def asked(client: str) -> ChatRequest:
    return client_format(client).parse_request(orjson.dumps(REQUESTS[client]))


def chunk_us(client: str, upstream: str, events: list[bytes]) -> float:
    """Microseconds per event of one stream that is fed an event at a time."""
    is_same = client == upstream
    spoken = client_format(client if client in client_formats() else OPENAI_CHAT)
    request = asked(client if client in client_formats() else OPENAI_CHAT)
    way = Passage(spoken, upstream_format(upstream), upstream, is_same=is_same)
    reader = way.reader(request, Meter(tokenizer_for("gpt-4o"), 7), created_s=1)
    started = time.thread_time_ns()
    for each in events:
        reader.feed(each)
    return (time.thread_time_ns() - started) / 1000 / len(events)


def main() -> None:
    """Print what each way costs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.translation", description=__doc__)
    parser.add_argument("--chunks", type=int, default=2000, help="chunks of one stream")
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    streams = {name: list(make(options.chunks)) for name, make in SAMPLES.items()}
    clients = [name for name in client_formats() if name in REQUESTS]
    # a format that no client speaks yet is relayed all the same
    ways = [(name, name) for name in streams]
    ways += [
        (client, name)
        for name in streams
        if upstream_format(name).TRANSLATES
        for client in clients
        if client != name
    ]
    ways.sort(key=lambda way: list(streams).index(way[1]))
    taken: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    for number in range(options.rounds + 1):
        for client, upstream in ways:
            us = chunk_us(client, upstream, streams[upstream])
            if number:
                taken[client, upstream].append(us)
    print(f"{'upstream':<22}{'client':<22}{'us per chunk':>14}{'beside relayed':>16}")
    for client, upstream in ways:
        median = statistics.median(taken[client, upstream])
        relayed = statistics.median(taken[upstream, upstream])
        told = "relayed" if client == upstream else client
        print(f"{upstream:<22}{told:<22}{median:>14.2f}{median / relayed:>15.2f}x")


if __name__ == "__main__":
    main()
