"""Requests to the Messages API, and chat completions that answer them, as tests want them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
from hypothesis import strategies as st

from proxy.chat import ChatRequest
from proxy.wire.anthropic_messages import client

GOLDEN = Path(__file__).parent / "proxy" / "wire" / "golden" / "anthropic_messages" / "client"
MODEL = "claude-sonnet-4-5"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
"""Any JSON, NaN included."""


def golden(kind: str) -> list[str]:
    """The names of the golden files of a kind: `request`, `whole` or `chunks`."""
    return sorted(path.name.removesuffix(f".{kind}.json") for path in GOLDEN.glob(f"*.{kind}.json"))


def load(name: str, kind: str) -> Any:
    return orjson.loads((GOLDEN / f"{name}.{kind}.json").read_bytes())


def body(**fields: Any) -> dict[str, Any]:
    """The body of a small request; a field that is None is left out."""
    messages = [{"role": "user", "content": "hi"}]
    made = {"model": MODEL, "max_tokens": 64, "messages": messages, **fields}
    return {name: value for name, value in made.items() if value is not None}


def message_request(**fields: Any) -> ChatRequest:
    return client.parse_request(orjson.dumps(body(**fields)))


def said(*blocks: Any, role: str = "user") -> list[dict[str, Any]]:
    """The messages of a request with these blocks in one message."""
    return [{"role": role, "content": list(blocks)}]


def chunk(delta: Any = None, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """One chunk of a chat completion."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish, **fields}
    return {"id": "chatcmpl-1", "model": "gpt-4o", "choices": [choice]}


def call(index: int, arguments: str = "", **fields: str) -> dict[str, Any]:
    """A delta with a piece of a tool call; `fields` may have its `id` and `name`."""
    function = {"arguments": arguments}
    if "name" in fields:
        function["name"] = fields.pop("name")
    return {"tool_calls": [{"index": index, "function": function, **fields}]}


def events(raw: bytes) -> list[dict[str, Any]]:
    """What stands in the events of a stream; each bears its own type as its name."""
    found = []
    for part in raw.split(b"\n\n")[:-1]:
        name, _, data = part.partition(b"\n")
        found.append(orjson.loads(data.removeprefix(b"data: ")))
        assert name == b"event: " + found[-1]["type"].encode()
    return found


def written(chunks: Iterable[dict[str, Any]], units: dict[str, int], **fields: Any) -> bytes:
    """The stream of a message from these chunks."""
    writer = client.writer(message_request(stream=True, **fields))
    return b"".join([*[writer.write(each) for each in chunks], writer.end(units)])


def _input(arguments: str) -> Any:
    """A tool's input as clients are told to keep one that was cut."""
    try:
        return orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return {"INVALID_JSON": arguments}


def accumulated(raw: bytes) -> dict[str, Any]:
    """The message that a client puts together, by the rules of Anthropic's streams.

    AssertionError for what breaks them: a block that begins before the last one has ended, a delta
    for one that is not open, anything after the end.
    """
    first, *rest, delta, stop = events(raw)
    assert (first["type"], delta["type"], stop["type"]) == (
        "message_start",
        "message_delta",
        "message_stop",
    )
    message: dict[str, Any] = first["message"]
    inputs: list[str] = []
    is_open = False
    for event in rest:
        if event["type"] == "content_block_start":
            assert not is_open
            assert event["index"] == len(message["content"])
            message["content"].append(event["content_block"])
            inputs, is_open = [], True
            continue
        assert is_open
        assert event["index"] == len(message["content"]) - 1
        block = message["content"][-1]
        if event["type"] == "content_block_stop":
            if block["type"] == "tool_use" and inputs:
                block["input"] = _input("".join(inputs))
            is_open = False
            continue
        match event["delta"]:
            case {"type": "text_delta", "text": text}:
                block["text"] += text
            case {"type": "thinking_delta", "thinking": text}:
                block["thinking"] += text
            case {"type": "signature_delta", "signature": text}:
                block["signature"] = text
            case {"type": "input_json_delta", "partial_json": text}:
                inputs.append(text)
            case other:
                raise AssertionError(other)
    assert not is_open
    return {**message, **delta["delta"], "usage": {**message["usage"], **delta["usage"]}}
