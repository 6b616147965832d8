"""The simulator's answers as OpenAI puts them on the wire: a body, or a stream of chunks. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

import orjson

from proxy.simulator_answers import Answer, Choice, Json


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every chunk of one answer repeats."""

    id: str
    created: int
    model: str
    tier: str = "default"
    """The service tier that served."""


def completion(answer: Answer, envelope: Envelope) -> Json:
    """The body of an answer that is not streamed."""
    body: Json = {
        "id": envelope.id,
        "object": "chat.completion",
        "created": envelope.created,
        "model": envelope.model,
        "choices": [
            {
                "index": index,
                "message": _message(choice),
                "logprobs": None,
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(answer.choices)
        ],
        "usage": answer.usage(),
        "service_tier": envelope.tier,
        "system_fingerprint": "fp_simulator",
    }
    if answer.behaviour.usage == "none":
        del body["usage"]
    return body


def chunks(answer: Answer, envelope: Envelope, *, include_usage: bool) -> Iterator[Json]:
    """The chunks of a stream, usage where this provider puts it."""
    shape = answer.behaviour.usage
    is_quirky = shape in ("early", "cumulative", "split", "none")
    deltas = list(_deltas(answer))
    last_content = max(
        (at for at, (_, delta, _) in enumerate(deltas) if delta), default=len(deltas) - 1
    )
    for at, (index, delta, finish_reason) in enumerate(deltas):
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": None,
            "finish_reason": finish_reason,
        }
        chunk = _chunk(envelope, [choice])
        if shape == "early" and at == last_content:
            chunk["usage"] = answer.usage()
        elif shape == "cumulative":
            is_last = at == len(deltas) - 1
            chunk["usage"] = answer.usage(None if is_last else min(at, answer.completion_tokens))
        elif shape == "split" and at == 0:
            chunk["usage"] = answer.usage(0)
        elif include_usage and not is_quirky:
            chunk["usage"] = None
        yield chunk
    if shape == "split":
        only_output = answer.usage() | {"prompt_tokens": 0}
        yield _chunk(envelope, []) | {"usage": only_output}
    elif include_usage and not is_quirky:
        yield _chunk(envelope, []) | {"usage": answer.usage()}


def event(data: bytes, newline: str) -> bytes:
    """A server-sent event in the line ending of this provider."""
    end = newline.encode()
    return b"data: " + data + end + end


def encoded(chunk: Json, newline: str) -> bytes:
    """A chunk as an event."""
    return event(orjson.dumps(chunk), newline)


def _chunk(envelope: Envelope, choices: list[Json]) -> Json:
    return {
        "id": envelope.id,
        "object": "chat.completion.chunk",
        "created": envelope.created,
        "model": envelope.model,
        "service_tier": envelope.tier,
        "system_fingerprint": "fp_simulator",
        "choices": choices,
    }


def _deltas(answer: Answer) -> Iterator[tuple[int, Json, str | None]]:
    """Choice index, delta and finish reason; the choices of one answer take turns."""
    for index, choice in enumerate(answer.choices):
        yield index, _opening(choice), None
    for turn in zip_longest(*(choice.pieces for choice in answer.choices)):
        for index, piece in enumerate(turn):
            if piece is not None:
                yield index, _continuing(answer.choices[index], piece), None
    for index, choice in enumerate(answer.choices):
        yield index, {}, choice.finish_reason


def _opening(choice: Choice) -> Json:
    if choice.call is None:
        return {"role": "assistant", "content": "", "refusal": None}
    function = {"name": choice.call.name, "arguments": ""}
    call = {"index": 0, "id": choice.call.id, "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None}


def _continuing(choice: Choice, piece: str) -> Json:
    if choice.call is None:
        return {"content": piece}
    return {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}


def _message(choice: Choice) -> Json:
    if choice.call is None:
        return {"role": "assistant", "content": choice.text, "refusal": None, "annotations": []}
    function = {"name": choice.call.name, "arguments": choice.call.arguments}
    call = {"id": choice.call.id, "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None}
