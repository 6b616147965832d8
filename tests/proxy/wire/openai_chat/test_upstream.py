"""A request of another format as a chat completion that strict servers take."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.chat import ChatRequest
from proxy.wire import Sending
from proxy.wire.anthropic_messages.client import parse_request
from proxy.wire.openai_chat.upstream import from_chat

USER = {"role": "user", "content": "hi"}
IMAGE = {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}}
AS_CHAT = {"type": "image_url", "image_url": {"url": "https://x/a.png"}}


def asked(*messages: Any, **fields: Any) -> ChatRequest:
    body = {"model": "m", "max_tokens": 64, "messages": list(messages), **fields}
    return parse_request(orjson.dumps(body))


def used(own: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": own, "name": "look", "input": {}}


def gave(own: str, *content: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": own, "content": list(content)}


def test_what_tools_gave_beside_text_follows_as_the_users() -> None:
    """A result is text there; its pictures come after all results, which must not be parted."""
    text = {"type": "text", "text": "a cat"}
    request = asked(
        USER,
        {"role": "assistant", "content": [used("c1"), used("c2")]},
        {"role": "user", "content": [gave("c1", IMAGE), gave("c2", text, IMAGE)]},
        {"role": "assistant", "content": "I see."},
    )

    sent = from_chat(request, Sending(model="gpt"))["messages"]

    assert [each["role"] for each in sent] == [
        *("user", "assistant", "tool", "tool", "user", "assistant"),
    ]
    assert sent[2]["content"] == "See the next message of the user."
    assert sent[3]["content"] == [text]
    assert sent[4]["content"] == [
        {"type": "text", "text": "From c1:"},
        AS_CHAT,
        {"type": "text", "text": "From c2:"},
        AS_CHAT,
    ]


def test_pictures_of_the_last_result_are_sent_as_well() -> None:
    """They end the conversation; a result of text alone is left as it is."""
    call = {"role": "assistant", "content": [used("c1")]}
    shown = asked(USER, call, {"role": "user", "content": [gave("c1", IMAGE)]})
    told = asked(
        USER, call, {"role": "user", "content": [gave("c1", {"type": "text", "text": "x"})]}
    )

    assert from_chat(shown, Sending(model="m"))["messages"][-1]["content"][1] == AS_CHAT
    assert from_chat(told, Sending(model="m"))["messages"][-1]["role"] == "tool"


@pytest.mark.parametrize(("model", "kept"), [("gpt-5", False), ("google/Gemini-3-pro", True)])
def test_what_google_signs_is_sent_to_its_models_only(model: str, kept: bool) -> None:
    """Its OpenAI-compatible API wants it back; others refuse fields that they do not know."""
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "look", "arguments": "{}"},
        "extra_content": {"google": {"thought_signature": "s"}},
    }
    said = {"role": "assistant", "content": None, "tool_calls": [call], "extra_content": {}}
    chat = {"model": "m", "messages": [USER, said]}
    request = ChatRequest("m", {}, False, False, None, 1, 1, None, "openai_responses", chat)

    [_, sent] = from_chat(request, Sending(model=model))["messages"]

    assert ("extra_content" in sent["tool_calls"][0]) is kept
    assert ("extra_content" in sent) is kept
    assert chat["messages"][1] is said
    assert "extra_content" in call


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 9000}}, "medium"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "max"),
        ({"thinking": {"type": "adaptive"}}, None),
        ({}, None),
    ],
)
def test_a_budget_to_think_with_is_said_as_an_effort(
    fields: dict[str, Any], effort: str | None
) -> None:
    """Chat completions know no budgets."""
    sent = from_chat(asked(USER, **fields), Sending(model="m"))

    assert sent.get("reasoning_effort") == effort
    assert "thinking" not in sent
