"""What the upstreams of every format say, in no format of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fixtures_upstream import event

GIVEN, MADE = 10, 5
"""Tokens that each of them reports."""

CALLS = (("weather", {"city": "Paris"}), ("weather", {"city": "Rome", "days": 2}))


@dataclass(frozen=True)
class Answer:
    """What a model says. `signature` is that of its thought or, where it has none, of its call."""

    words: tuple[str, ...] = ("Hello", " there", ".")
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    thought: str = ""
    signature: str = ""
    reason: str = "stop"
    met: str | None = None
    """The stop sequence that was met."""

    @property
    def text(self) -> str:
        return "".join(self.words)


HELLO = Answer()
CALLING = Answer(words=("I look.",), calls=CALLS, reason="calls")

CHAT_REASONS = {"stop": "stop", "length": "length", "calls": "tool_calls"}
"""What OpenAI calls why it ended."""


def named(**fields: Any) -> bytes:
    """An event with its name beside it."""
    return b"event: %s\n" % fields["type"].encode() + event(fields)
