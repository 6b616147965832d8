"""What a degradation stage changes in a chat request before it goes out. Pure.

The client's body is never changed itself: another attempt may go out as it was asked. What is not
changed is passed on as it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from metering.prompt import count_prompt
from metering.tokenizer import Tokenizer

_LEADING_ROLES = ("system", "developer")


def instructed(body: dict[str, Any], text: str) -> dict[str, Any]:
    """The body with one more system message."""
    return {**body, "messages": _instructed(body["messages"], text)}


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
