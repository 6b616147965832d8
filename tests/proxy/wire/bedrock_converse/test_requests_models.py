"""What a request has for some models at Bedrock and not for others."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.chat import ChatRequest
from proxy.wire import Sending
from proxy.wire.bedrock_converse.requests import cannot_carry, from_chat

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
HI = [{"role": "user", "content": "Hi"}]


def sent_to(model: str, *messages: Any, **fields: Any) -> dict[str, Any]:
    chat = {"model": "m", "messages": list(messages), **fields}
    request = ChatRequest("m", {}, False, False, 9999, 1, 1, None, "openai_responses", chat)
    return from_chat(request, Sending(model=model))


CALLED = {
    "role": "assistant",
    "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}],
}
FAILED = {"role": "tool", "tool_call_id": "a", "content": "x", "is_error": True}


@pytest.mark.parametrize(
    ("model", "status"),
    [(CLAUDE, "error"), ("us.amazon.nova-pro-v1:0", "error"), ("meta.llama4", None)],
)
def test_a_failure_of_a_tool_is_told_to_those_who_know_of_it(
    model: str, status: str | None
) -> None:
    """AWS has the field for Claude and Nova only."""
    body = sent_to(model, *HI, CALLED, FAILED)

    assert body["messages"][-1]["content"][0]["toolResult"].get("status") == status


def test_only_signed_thoughts_are_sent_back() -> None:
    """Those of another maker's model are left out, as Claude would refuse them."""
    own = {"type": "thinking", "thinking": "Hm.", "signature": "EqQBCg=="}
    blocks = [{**own, "signature": "gemini:x"}, {**own, "signature": ""}, own]
    said = {"role": "assistant", "content": "Hi", "thinking_blocks": blocks}

    body = sent_to(CLAUDE, *HI, said)

    thought = {"text": "Hm.", "signature": "EqQBCg=="}
    assert body["messages"][1]["content"] == [
        {"reasoningContent": {"reasoningText": thought}},
        {"text": "Hi"},
    ]


def test_a_budget_is_claudes_own() -> None:
    """Claude gets it without an effort made of it; others get the effort that it comes to."""
    thinking = {"type": "enabled", "budget_tokens": 9000}

    own = sent_to(CLAUDE, *HI, thinking=thinking)
    nova = sent_to("us.amazon.nova-2", *HI, thinking=thinking)

    assert own["additionalModelRequestFields"] == {"thinking": thinking}
    assert "outputConfig" not in own
    assert nova["additionalModelRequestFields"] == {
        "reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}
    }


def test_what_litellm_notes_of_an_answer_is_no_word_to_the_model() -> None:
    """LiteLLM sends it back with every message it was answered."""
    noted = {"role": "assistant", "content": "Hi", "provider_specific_fields": {"refusal": None}}

    assert cannot_carry({"messages": [noted]}) == ()
