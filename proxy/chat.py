"""The neutral chat request: what admission, routing and metering need to know of one.

Formats translate to and from this, never to each other. Where the client's format is the
upstream's, `body` travels on with only the fields changed that must be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OPENAI_CHAT = "openai_chat"
"""The wire format that is our neutral one, too."""

UNSUPPORTED = "x_unsupported"
"""Under this name `as_chat` lists the fields of a request that chat completions have no place for;
it is never sent."""

CHOICES_MAX = 128
"""OpenAI's own bound for `n`."""

OUTPUT_TOKENS_MAX = 10**9
"""More than any model can say; what is above it is a mistake or an attack."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request to a model.

    `output_limit` is the largest of the limits the client set, None when it set none; `choices`
    is `n`, `candidates` what is generated for them (`best_of`, where a server has it);
    `wants_usage` is whether the client asked for the usage chunk of a stream. `format` is the wire
    format that the client speaks, `body` what it sent; `as_chat` the same as the body of an OpenAI
    chat completion, where the format is another one: prompts are counted, needs are read and other
    formats are written from that.
    """

    model: str
    body: dict[str, Any]
    stream: bool
    wants_usage: bool
    output_limit: int | None
    choices: int
    candidates: int
    user: str | None
    format: str = OPENAI_CHAT
    as_chat: dict[str, Any] | None = None
    may_refer: bool = False
    """Whether it may name objects that live at a provider."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those of the client that go on to an upstream of the same format."""

    @property
    def chat(self) -> dict[str, Any]:
        """The request as the body of an OpenAI chat completion."""
        return self.body if self.as_chat is None else self.as_chat

    def output_bound(self, default_output_tokens: int) -> int:
        """How many output tokens the hold must cover, over all choices."""
        limit = default_output_tokens if self.output_limit is None else self.output_limit
        return limit * self.candidates
