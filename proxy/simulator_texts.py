"""What the simulator answers beside chats: legacy completions and embeddings. Pure.

Texts are those of `proxy.simulator_answers`; vectors are made of a hash of what they stand for, so
the same text has the same vector and no two texts have one in common.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any, Protocol

import tiktoken

from metering.tokenizer import count_text
from proxy.simulator_answers import Answer, BadRequestError, Choice, Json, answer, speaking
from proxy.simulator_chunks import Envelope, chunks, completion
from proxy.simulator_faults import Behaviour, usage_numbers

DIMENSIONS = 16
DIMENSIONS_MAX = 4096
PROMPTS_MAX = 2048
OUTPUT_TOKENS = 16
"""Of a completion without `max_tokens`, as OpenAI documents."""


class Chunks(Protocol):
    """Makes the chunks of a stream."""

    def __call__(
        self, answer: Answer, envelope: Envelope, *, include_usage: bool
    ) -> Iterator[Json]:
        """The chunks, usage where this provider puts it."""
        ...


@dataclass(frozen=True, slots=True)
class Surface:
    """One of the addresses: how a request there is answered. Without `chunks` nothing streams."""

    id_prefix: str
    answer: Callable[[Json, Behaviour, tiktoken.Encoding], Answer]
    whole: Callable[[Answer, Envelope], Json]
    chunks: Chunks | None = None


def text_answer(request: Json, behaviour: Behaviour, encoding: tiktoken.Encoding) -> Answer:
    """The answer to a request of /v1/completions; BadRequestError when it is none."""
    prompts = _texts(request, "prompt", encoding)
    number = 1 if request.get("n") is None else request["n"]
    if not isinstance(number, int) or not 1 <= number <= PROMPTS_MAX // len(prompts):
        raise BadRequestError("'n' is not in range.", "n")
    limit = OUTPUT_TOKENS if request.get("max_tokens") is None else request["max_tokens"]
    if not isinstance(limit, int) or limit < 0:
        raise BadRequestError("'max_tokens' must be an integer of at least 0.", "max_tokens")
    spoken = [
        (prompt, speaking(prompt, index, limit, behaviour, encoding))
        for prompt in prompts
        for index in range(number)
    ]
    if request.get("echo"):
        spoken = [(each, replace(said, pieces=(each, *said.pieces))) for each, said in spoken]
    counted = _tokens(request["prompt"], encoding)
    return Answer(tuple([said for _, said in spoken]), counted, behaviour)


def text_completion(said: Answer, envelope: Envelope) -> Json:
    """The body of a completion that is not streamed."""
    body = completion(said, envelope)
    body["choices"] = [
        _choice(index, each.text, each.finish_reason) for index, each in enumerate(said.choices)
    ]
    return _as_text(body)


def text_chunks(answer: Answer, envelope: Envelope, *, include_usage: bool) -> Iterator[Json]:
    """The chunks of a completion: those of a chat, but for the ones that open a message."""
    for chunk in chunks(answer, envelope, include_usage=include_usage):
        deltas = chunk["choices"]
        if any("role" in each["delta"] for each in deltas) and "usage" not in chunk:
            continue
        chunk["choices"] = [
            _choice(each["index"], each["delta"].get("content", ""), each["finish_reason"])
            for each in deltas
        ]
        yield _as_text(chunk)


def embedded(request: Json, behaviour: Behaviour, encoding: tiktoken.Encoding) -> Answer:
    """The answer to a request of /v1/embeddings: a choice whose one piece is a vector, for each
    input; BadRequestError when it is none."""
    dimensions = DIMENSIONS if request.get("dimensions") is None else request["dimensions"]
    if not isinstance(dimensions, int) or not 1 <= dimensions <= DIMENSIONS_MAX:
        raise BadRequestError(f"'dimensions' must be 1 to {DIMENSIONS_MAX}.", "dimensions")
    form = request.get("encoding_format") or "float"
    if form not in ("float", "base64"):
        raise BadRequestError("'encoding_format' must be float or base64.", "encoding_format")
    vectors = []
    for text in _texts(request, "input", encoding):
        packed = struct.pack(f"<{dimensions}f", *_vector(text, dimensions))
        vectors.append(Choice((base64.b64encode(packed).decode(), form), None, 0, ""))
    return Answer(tuple(vectors), _tokens(request["input"], encoding), behaviour)


def embeddings(said: Answer, envelope: Envelope) -> Json:
    """The list of vectors, with usage as true as the behaviour wants it."""
    data = [_embedding(index, *each.pieces) for index, each in enumerate(said.choices)]
    body: Json = {"object": "list", "data": data, "model": envelope.model}
    if said.behaviour.usage != "none":
        claimed, _ = usage_numbers(said.behaviour.usage, said.prompt_tokens, 0)
        body["usage"] = {"prompt_tokens": claimed, "total_tokens": claimed}
    return body


def _embedding(index: int, packed: str, form: str) -> Json:
    vector: str | list[float] = packed
    if form == "float":
        raw = base64.b64decode(packed)
        vector = list(struct.unpack(f"<{len(raw) // 4}f", raw))
    return {"object": "embedding", "index": index, "embedding": vector}


def _vector(text: str, dimensions: int) -> Iterator[float]:
    """Numbers between -1 and 1, which a 32-bit float holds exactly."""

    def numbers() -> Iterator[float]:
        for block in count():
            for byte in hashlib.sha256(f"{block}:{text}".encode(errors="replace")).digest():
                yield byte / 128 - 1

    return islice(numbers(), dimensions)


def _choice(index: int, text: str, finish_reason: str | None) -> Json:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish_reason}


def _as_text(body: Json) -> Json:
    body["object"] = "text_completion"
    return body


def _texts(request: Json, name: str, encoding: tiktoken.Encoding) -> list[str]:
    """Every prompt as a text, tokens decoded."""
    value = request.get(name)
    found = [value] if isinstance(value, str) or _are_tokens(value) else value
    if not isinstance(found, list) or not 0 < len(found) <= PROMPTS_MAX:
        raise BadRequestError(f"'{name}' must be a string, tokens, or a list of these.", name)
    return [_text(each, name, encoding) for each in found]


def _text(value: Any, name: str, encoding: tiktoken.Encoding) -> str:
    if isinstance(value, str):
        return value
    if not _are_tokens(value):
        raise BadRequestError(f"'{name}' must be a string, tokens, or a list of these.", name)
    try:
        return encoding.decode(value)
    except (KeyError, OverflowError):
        raise BadRequestError(f"'{name}' has tokens that the model does not have.", name) from None


def _tokens(value: Any, encoding: tiktoken.Encoding) -> int:
    if isinstance(value, str):
        return count_text(encoding, value)
    if _are_tokens(value):
        return len(value)
    return sum(_tokens(each, encoding) for each in value)


def _are_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(each) is int for each in value)


SURFACES = {
    "/v1/chat/completions": Surface("chatcmpl-", answer, completion, chunks),
    "/v1/completions": Surface("cmpl-", text_answer, text_completion, text_chunks),
    "/v1/embeddings": Surface("embd-", embedded, embeddings),
}
"""By path."""
