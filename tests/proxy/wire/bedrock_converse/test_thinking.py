"""How much models at Bedrock are asked to think, by their makers and by what clients said."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.chat import ChatRequest
from proxy.wire import Sending
from proxy.wire.anthropic_messages.client import parse_request as parse_messages
from proxy.wire.bedrock_converse.requests import from_chat
from proxy.wire.bedrock_converse.thinking import is_unthinking_loop
from proxy.wire.openai_chat.client import parse_request as parse_chat

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NEWER = "us.anthropic.claude-opus-4-6-v1"
HI = [{"role": "user", "content": "Hi"}]
BUDGET = {"type": "enabled", "budget_tokens": 2000}


def messages_request(**fields: Any) -> ChatRequest:
    body = {"model": "m", "max_tokens": 4000, "messages": HI, **fields}
    return parse_messages(orjson.dumps(body))


def chat_request(**fields: Any) -> ChatRequest:
    return parse_chat(orjson.dumps({"model": "m", "messages": HI, **fields}))


def asked(request: ChatRequest, model: str, **sending: Any) -> tuple[Any, Any]:
    """The thinking and the effort that a model is sent."""
    body = from_chat(request, Sending(model=model, **sending))
    thinking = body.get("additionalModelRequestFields", {}).get("thinking")
    return thinking, body.get("outputConfig", {}).get("effort")


@pytest.mark.parametrize("model", [SONNET, NEWER, "arn:aws:bedrock:r:1:inference-profile/x"])
def test_no_effort_is_sent_that_nobody_asked_for(model: str) -> None:
    """A budget says how much is to be thought; few models of its time know an effort."""
    assert asked(messages_request(thinking=BUDGET), model) == (BUDGET, None)


def test_an_effort_of_the_clients_own_stays_beside_its_thinking() -> None:
    """It has said both."""
    said = messages_request(thinking=BUDGET, output_config={"effort": "low"})

    assert asked(said, "us.anthropic.claude-opus-4-5-v1") == (BUDGET, "low")
    written = chat_request(thinking=BUDGET, reasoning_effort="high")
    assert asked(written, "us.anthropic.claude-opus-4-5-v1") == (BUDGET, "high")


def test_an_effort_makes_an_older_claude_think() -> None:
    """By a budget before 4.6, by the effort since, as at Anthropic."""
    high = chat_request(reasoning_effort="high")

    assert asked(high, SONNET) == ({"type": "enabled", "budget_tokens": 4096}, None)
    assert asked(high, NEWER) == ({"type": "adaptive"}, "high")


def test_a_budget_is_less_than_what_may_be_said() -> None:
    """A limit that was clamped takes the budget along; where it leaves no room, none is sent."""
    said = messages_request(thinking=BUDGET)

    assert asked(said, SONNET, output_max=1500) == ({**BUDGET, "budget_tokens": 1499}, None)
    assert asked(said, SONNET, output_max=597) == (None, None)
    high = chat_request(reasoning_effort="high", max_tokens=2000)
    assert asked(high, SONNET) == ({"type": "enabled", "budget_tokens": 1999}, None)


@pytest.mark.parametrize(
    ("model", "written"),
    [
        ("amazon.nova-2-lite-v1:0", {"reasoningConfig"}),
        ("openai.gpt-oss-120b-1:0", {"reasoning_effort"}),
        ("openai.gpt-5", {"reasoning"}),
        ("moonshot.kimi-k2-thinking", {"reasoning_effort"}),
    ],
)
def test_makers_with_an_effort_are_told_that_one(model: str, written: set[str]) -> None:
    """Not Claude's budget beside it, which they would refuse."""
    body = from_chat(messages_request(thinking=BUDGET), Sending(model=model))

    assert set(body["additionalModelRequestFields"]) == written


def test_a_claude_between_calls_is_not_asked_to_begin() -> None:
    """Without the thoughts of before it would refuse."""
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        *HI,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]
    tools = [{"type": "function", "function": {"name": "f"}}]
    high = chat_request(reasoning_effort="high", messages=messages, tools=tools)

    assert asked(high, SONNET) == (None, None)


def test_a_loop_is_told_by_its_blocks() -> None:
    """A result whose call had no thoughts before it."""
    result = {"role": "user", "content": [{"toolResult": {}}]}
    bare = {"role": "assistant", "content": [{"toolUse": {}}]}
    thoughtful = {"role": "assistant", "content": [{"reasoningContent": {}}, {"toolUse": {}}]}

    assert is_unthinking_loop([bare, result])
    assert is_unthinking_loop([result])
    assert not is_unthinking_loop([thoughtful, result])
    assert not is_unthinking_loop([bare])
    assert not is_unthinking_loop([])
