"""Takes thoughts that Claude has not signed out of a request in its own format.

A conversation may have been led by another maker's model before: through a fallback, or because its
client chose one. What that model thought comes back with no signature or with one that is not
Claude's, and the API would refuse the whole request for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.wire.anthropic_messages.turns import is_foreign, is_unthinking_loop


def without_strangers(body: dict[str, Any]) -> dict[str, Any]:
    """The body without them; the same one where there are none.

    A message of nothing else goes with them. In the middle of calling tools a model that thinks by
    a budget must have its thoughts of before, so that one is not asked to think there.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not any(map(_has_strangers, messages)):
        return body
    kept = [_cleaned(each) if _has_strangers(each) else each for each in messages]
    cleaned = {**body, "messages": [each for each in kept if each is not None]}
    thinking = body.get("thinking")
    has_budget = isinstance(thinking, Mapping) and thinking.get("type") == "enabled"
    if has_budget and _is_between_calls(cleaned["messages"]):
        del cleaned["thinking"]
    return cleaned


def _has_strangers(message: object) -> bool:
    content = message.get("content") if isinstance(message, Mapping) else None
    return isinstance(content, list) and any(map(_is_stranger, content))


def _is_stranger(block: object) -> bool:
    return isinstance(block, Mapping) and is_foreign(block)


def _cleaned(message: dict[str, Any]) -> dict[str, Any] | None:
    content = [block for block in message["content"] if not _is_stranger(block)]
    return {**message, "content": content} if content else None


def _is_between_calls(messages: list[Any]) -> bool:
    last = messages[-2:]
    are_blocks = all(_is_of_blocks(message) for message in last)
    return bool(last) and are_blocks and is_unthinking_loop(last)


def _is_of_blocks(message: object) -> bool:
    content = message.get("content") if isinstance(message, Mapping) else None
    return (
        isinstance(message, Mapping)
        and "role" in message
        and isinstance(content, list)
        and bool(content)
        and all(isinstance(block, Mapping) and "type" in block for block in content)
    )
