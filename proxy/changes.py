"""What a degradation stage changes in a chat request before it goes out. Pure.

The client's body is never changed itself: another attempt may go out as it was asked. What is not
changed is passed on as it came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from metering.prompt import count_prompt
from metering.tokenizer import Tokenizer
from routing.degrade import Changes

_LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")
_REFUSES_MAX_TOKENS = re.compile(r"(?:^|[/:])(?:o[1-9](?:$|-)|gpt-5)")
"""OpenAI's reasoning models answer 400 to `max_tokens` (their API reference of it)."""
_LEADING_ROLES = ("system", "developer")


def changed(body: dict[str, Any], changes: Changes, *, model: str) -> dict[str, Any]:
    """The body with these changes for an upstream's `model`; the very same when there are none."""
    if changes.instruct is not None:
        body = {**body, "messages": _instructed(body["messages"], changes.instruct)}
    return body if changes.max_tokens is None else bounded(body, changes.max_tokens, model=model)


def bounded(body: dict[str, Any], output_tokens: int, *, model: str) -> dict[str, Any]:
    """The body with no more than so many output tokens per choice.

    By the field that the client used; without one, by `max_tokens`, which every server knows, but
    for the models that refuse it.
    """
    own = "max_completion_tokens" if _REFUSES_MAX_TOKENS.search(model) else "max_tokens"
    used = [name for name in _LIMIT_FIELDS if body.get(name) is not None]
    return {
        **body,
        **{name: min(body[name], output_tokens) for name in used},
        **({} if used else {own: output_tokens}),
    }


def _instructed(messages: list[Any], text: str) -> list[Any]:
    """The text as one more system message, after those that lead; where these are called
    `developer`, it is, too: a request must not have both."""
    place, role = 0, "system"
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in _LEADING_ROLES:
            break
        place, role = place + 1, message["role"]
    return [*messages[:place], {"role": role, "content": text}, *messages[place:]]


@lru_cache(maxsize=1024)
def instruction_tokens(tokenizer: Tokenizer, text: str) -> int:
    """What one more system message with this text adds to a prompt, in the model's tokens."""
    message: Mapping[str, Any] = {"role": "system", "content": text}
    with_it = count_prompt(tokenizer, {"messages": [message]})
    return with_it - count_prompt(tokenizer, {"messages": []})
