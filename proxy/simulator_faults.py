"""How the simulator misbehaves, by model name. Pure: a table and the reading of its options.

Each row is something a provider has been seen to do. A name may carry options after a question
mark: `demo?tokens=200&chunk_ms=5` (an answer of exactly that many tokens, a pause before each
chunk), `first_ms` (before the first byte), `after` (chunks before a fault in mid-stream).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import parse_qsl

End = Literal["done", "no_done", "reset", "eof", "stall"]
"""How a stream ends: properly, without `[DONE]`, connection reset, FIN, or never."""

UsageShape = Literal[
    "final", "none", "early", "cumulative", "split", "zero", "negative", "huge", "lies", "text"
]
"""`final`: one chunk with empty choices, when asked for, as OpenAI does."""

OPTION_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An answer that is an error, in OpenAI's shape, with its extra headers."""

    status: int
    type: str
    code: str | None
    message: str
    param: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What one model name does. The defaults are a good provider."""

    first_ms: int = 20
    chunk_ms: int = 10
    error: ErrorAnswer | None = None
    end: End = "done"
    after: int = 5
    usage: UsageShape = "final"
    newline: str = "\n"
    comments: bool = False
    is_split: bool = False
    garbage: Literal["bytes", "json"] | None = None
    reasoning_tokens: int = 0
    cached_share: float = 0.0
    calls_tools: bool = False
    tokens: int | None = None


BEHAVIOURS: Mapping[str, Behaviour] = {
    "demo": Behaviour(),
    "demo-mini": Behaviour(first_ms=10, chunk_ms=5),
    "demo-slow": Behaviour(first_ms=1000, chunk_ms=50),
    "demo-400": Behaviour(
        error=ErrorAnswer(
            400, "invalid_request_error", "invalid_value", "Invalid value.", param="messages"
        )
    ),
    "demo-401": Behaviour(
        error=ErrorAnswer(
            401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided."
        )
    ),
    "demo-429": Behaviour(
        error=ErrorAnswer(
            429,
            "requests",
            "rate_limit_exceeded",
            "Rate limit reached for requests.",
            headers=(("retry-after", "1"), ("x-ratelimit-remaining-requests", "0")),
        )
    ),
    "demo-quota": Behaviour(
        error=ErrorAnswer(
            429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota."
        )
    ),
    "demo-500": Behaviour(error=ErrorAnswer(500, "server_error", None, "The server had an error.")),
    "demo-503": Behaviour(
        error=ErrorAnswer(
            503, "service_unavailable_error", "server_is_overloaded", "The server is overloaded."
        )
    ),
    "demo-cut": Behaviour(end="reset"),
    "demo-eof": Behaviour(end="eof"),
    "demo-stall": Behaviour(end="stall"),
    "demo-no-done": Behaviour(end="no_done"),
    "demo-no-usage": Behaviour(usage="none"),
    "demo-usage-early": Behaviour(usage="early"),
    "demo-usage-cumulative": Behaviour(usage="cumulative"),
    "demo-usage-split": Behaviour(usage="split"),
    "demo-usage-zero": Behaviour(usage="zero"),
    "demo-usage-negative": Behaviour(usage="negative"),
    "demo-usage-huge": Behaviour(usage="huge"),
    "demo-usage-lies": Behaviour(usage="lies"),
    "demo-usage-text": Behaviour(usage="text"),
    "demo-garbage": Behaviour(garbage="bytes"),
    "demo-not-json": Behaviour(garbage="json"),
    "demo-crlf": Behaviour(newline="\r\n", comments=True),
    "demo-split": Behaviour(is_split=True),
    "demo-reasoning": Behaviour(reasoning_tokens=64),
    "demo-cached": Behaviour(cached_share=0.5),
    "demo-tools": Behaviour(calls_tools=True),
}
"""The table in the docstring of `proxy.simulator` says the same in words; a test compares them."""


def behaviour_of(model: str) -> Behaviour | None:
    """What this model does; None for a `demo-` name we do not have.

    Any other name answers as `demo`, so that the simulator can stand in for a real provider.
    """
    name, _, query = model.partition("?")
    found = BEHAVIOURS.get(name)
    if found is None:
        if name.startswith("demo"):
            return None
        found = BEHAVIOURS["demo"]
    options = {key: _bounded(value) for key, value in parse_qsl(query)}
    return replace(
        found,
        tokens=options.get("tokens", found.tokens),
        first_ms=options.get("first_ms", found.first_ms),
        chunk_ms=options.get("chunk_ms", found.chunk_ms),
        after=options.get("after", found.after),
    )


def usage_numbers(shape: UsageShape, prompt: int, completion: int) -> tuple[object, object]:
    """The prompt and completion tokens that a provider of this kind claims."""
    match shape:
        case "zero":
            return 0, 0
        case "negative":
            return prompt, -completion
        case "huge":
            return prompt, 10**15
        case "lies":
            return -prompt, 10**18
        case "text":
            return str(prompt), str(completion)
        case _:
            return prompt, completion


def _bounded(value: str) -> int:
    return min(OPTION_MAX, int(value)) if value.isdecimal() else 0
