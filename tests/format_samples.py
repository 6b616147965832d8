"""Readers of answers as tests want them: a stream, or a whole answer, between two formats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from metering.meter import Meter
from proxy.chat import OPENAI_CHAT, ChatRequest
from proxy.passage import Passage, passage
from proxy.redaction import NOTHING, Redaction
from proxy.reply import Reply
from proxy.stream_reader import StreamReader
from proxy.wire import client_format

CREATED_S = 1_700_000_000

BODIES: dict[str, dict[str, Any]] = {
    OPENAI_CHAT: {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
}
"""A small request of each client format."""


def asked(name: str = OPENAI_CHAT, **fields: Any) -> ChatRequest:
    """A request of a client that speaks this format."""
    return client_format(name).parse_request(orjson.dumps({**BODIES[name], **fields}))


def way(client: str = OPENAI_CHAT, upstream: str = OPENAI_CHAT) -> Passage:
    """From one format to another."""
    found = passage(client, (upstream,))
    assert found is not None
    return found


def chat_reader(
    meter: Meter,
    *,
    strip_usage: bool,
    choices: int = 1,
    redaction: Redaction = NOTHING,
    must_wait: Callable[[], bool] | None = None,
) -> StreamReader:
    """A streamed chat completion, relayed."""
    options = {"stream_options": {"include_usage": not strip_usage}}
    return way().reader(
        asked(stream=True, n=choices, **options),
        meter,
        created_s=CREATED_S,
        redaction=redaction,
        must_wait=must_wait,
    )


def read_reply(raw: bytes, meter: Meter, redaction: Redaction = NOTHING) -> Reply | None:
    """A whole chat completion, relayed."""
    read = way().read_reply(raw, asked(), meter, created_s=CREATED_S, redaction=redaction)
    return None if read is None else read[0]
