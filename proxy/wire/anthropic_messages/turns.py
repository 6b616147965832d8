"""The messages of a chat as the Messages API wants them: a system prompt, and turns that alternate.

Every system and developer message goes into the system prompt, in order, as there is one place for
them. Neighbours of one role become one turn, results of tools among them: the API wants all results
of one turn in the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from proxy.conversation import check_arguments
from proxy.errors import InvalidRequest
from proxy.wire import is_signed_here
from proxy.wire.anthropic_messages.blocks import (
    Block,
    content_blocks,
    text_blocks,
    tool_id,
    tool_use,
    with_cache,
)
from proxy.wire.anthropic_messages.carrying import is_message_uncarried, is_tool_uncarried

_SYSTEM_ROLES = ("system", "developer")
_THINKING = ("thinking", "redacted_thinking")


def conversation(messages: Sequence[Any]) -> tuple[list[Block], list[dict[str, Any]]]:
    """The blocks of the system prompt and the turns. What cannot be carried is left out;
    InvalidRequest names the message that is malformed."""
    check_arguments(messages)
    system: list[Block] = []
    turns: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        at = f"messages[{number}]"
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise InvalidRequest(f"`{at}` must be an object with a role.", param=at)
        if is_message_uncarried(message):
            continue
        if message["role"] in _SYSTEM_ROLES:
            system += with_cache(text_blocks(message.get("content"), f"{at}.content"), message)
            continue
        role, blocks = _turn(message, at)
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": [*blocks]})
    if not turns:
        raise InvalidRequest(
            "`messages` must have one message at least that is not empty and no system message.",
            param="messages",
        )
    return system, turns


def is_unthinking_loop(turns: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the model is in the middle of calling tools and its thoughts of before were not sent
    back: then it must not be asked to think, with a budget."""
    if turns[-1]["role"] != "user" or turns[-1]["content"][0]["type"] != "tool_result":
        return False
    before = turns[-2]["content"] if len(turns) > 1 else []
    return not before or before[0]["type"] not in _THINKING


def _turn(message: Mapping[str, Any], at: str) -> tuple[str, list[Block]]:
    content = f"{at}.content"
    if message["role"] == "tool":
        return "user", [_result(message, at)]
    blocks = content_blocks(message.get("content"), content)
    if message["role"] == "assistant":
        return "assistant", with_cache(_said(message, blocks, at), message)
    return "user", with_cache(blocks, message)


def _said(message: Mapping[str, Any], blocks: list[Block], at: str) -> list[Block]:
    """All that a model said in one message: first what it thought, at last what it called."""
    refusal = content_blocks(message.get("refusal"), f"{at}.refusal")
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise InvalidRequest(f"`{at}.tool_calls` must be a list.", param=f"{at}.tool_calls")
    used = [
        with_cache([tool_use(call, f"{at}.tool_calls[{number}]")], call)
        for number, call in enumerate(calls or [])
        if not is_tool_uncarried(call)
    ]
    called = [block for one in used for block in one]
    return [*_thoughts(message), *blocks, *refusal, *called]


def _thoughts(message: Mapping[str, Any]) -> list[Block]:
    """The blocks of its thinking as they were. Text without a signature is nothing that the API
    would believe, so `reasoning_content` alone stays behind, and so does what another maker's model
    thought."""
    found = message.get("thinking_blocks")
    return [
        block
        for block in (found if isinstance(found, list) else [])
        if isinstance(block, dict) and block.get("type") in _THINKING and not is_foreign(block)
    ]


def is_foreign(block: Mapping[str, Any]) -> bool:
    """Whether this is a thought that Claude has not signed: the API refuses the whole request."""
    return block.get("type") == "thinking" and not is_signed_here(block.get("signature"))


def _result(message: Mapping[str, Any], at: str) -> Block:
    block: Block = {
        "type": "tool_result",
        "tool_use_id": tool_id(message.get("tool_call_id"), f"{at}.tool_call_id"),
    }
    if blocks := content_blocks(message.get("content"), f"{at}.content"):
        block["content"] = blocks
    if message.get("is_error") is True:
        block["is_error"] = True
    return with_cache([block], message)[0]
