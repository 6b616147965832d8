"""What OpenAI-compatible upstreams are sent of a request that came in another format."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.chat import ChatRequest
from proxy.wire import Sending
from proxy.wire.anthropic_messages.client import parse_request
from proxy.wire.openai_chat.upstream import from_chat

HI = {"role": "user", "content": "Hi"}
BUDGET = {"type": "enabled", "budget_tokens": 10_000}
USER = "user_" + "0123456789abcdef" * 4 + "_account__session_3f2e1d0c-0000-4000-8000-1234567890ab"


def request(**fields: Any) -> ChatRequest:
    body = {"model": "m", "max_tokens": 99, "messages": [HI], **fields}
    return parse_request(orjson.dumps(body))


def sent(model: str, **fields: Any) -> dict[str, Any]:
    return from_chat(request(**fields), Sending(model=model))


def test_a_user_that_is_too_long_is_sent_as_its_hash() -> None:
    """The same one each time, another for another user; the event keeps the whole."""
    body = sent("gpt-5", metadata={"user_id": USER})

    assert len(body["user"]) == 64
    assert body["user"] == sent("gpt-5", metadata={"user_id": USER})["user"]
    assert body["user"] != sent("gpt-5", metadata={"user_id": USER + "c"})["user"]
    assert sent("gpt-5", metadata={"user_id": USER[:64]})["user"] == USER[:64]
    assert request(metadata={"user_id": USER}).user == USER


def test_an_effort_made_from_a_budget_is_for_models_that_reason() -> None:
    """The others would refuse what the client has never said."""
    assert sent("gpt-5", thinking=BUDGET)["reasoning_effort"] == "medium"
    assert sent("deepseek-reasoner", thinking=BUDGET)["reasoning_effort"] == "medium"
    assert "reasoning_effort" not in sent("gpt-4o", thinking=BUDGET)
    assert "thinking" not in sent("gpt-4o", thinking=BUDGET)


def test_an_effort_of_the_clients_own_is_sent_to_any_model() -> None:
    """What it asks for in words is not left out without a word."""
    body = sent("gpt-4o", thinking=BUDGET, output_config={"effort": "high"})

    assert body["reasoning_effort"] == "high"


@pytest.mark.parametrize(("model", "is_kept"), [("deepseek-reasoner", True), ("gpt-5", False)])
def test_thoughts_go_back_to_those_who_may_want_them(model: str, *, is_kept: bool) -> None:
    """DeepSeek wants the thoughts before a call back; OpenAI's models have no such field."""
    thought = {"type": "thinking", "thinking": "Let me see", "signature": ""}
    said = {"role": "assistant", "content": [thought, {"type": "text", "text": "Yes"}]}

    message = sent(model, messages=[HI, said, HI])["messages"][1]

    assert message.get("reasoning_content") == ("Let me see" if is_kept else None)
    assert message["content"] == "Yes"
