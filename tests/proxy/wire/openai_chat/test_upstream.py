"""A request of another format as a chat completion that strict servers take."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.chat import ChatRequest
from proxy.wire import Sending
from proxy.wire.anthropic_messages.client import parse_request
from proxy.wire.openai_chat import client
from proxy.wire.openai_chat.upstream import from_chat, same_format

OWN = "provider_specific_fields"  # LiteLLM's own, and it sends it back with all the others
USER = {"role": "user", "content": "hi"}
IMAGE = {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}}
AS_CHAT = {"type": "image_url", "image_url": {"url": "https://x/a.png"}}


def asked(*messages: Any, **fields: Any) -> ChatRequest:
    body = {"model": "m", "max_tokens": 64, "messages": list(messages), **fields}
    return parse_request(orjson.dumps(body))


def chatted(*messages: Any) -> ChatRequest:
    return client.parse_request(orjson.dumps({"model": "m", "messages": list(messages)}))


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
    ("model", "kept"),
    [
        ("gpt-5", set()),
        ("mistral-large", {"reasoning_content", "images"}),
        ("google/gemini-3-pro", {"reasoning_content", "images", "extra_content", OWN}),
        ("anthropic/claude-opus-5", {"reasoning_content", "images", "thinking_blocks", OWN}),
    ],
)
def test_a_message_of_another_makers_model_may_be_sent_back(model: str, kept: set[str]) -> None:
    """Clients send back all that they were answered; a strict server refuses what it has no field
    for. What the client had keeps its form."""
    signed = {"google": {"thought_signature": "s"}}
    function = {"name": "look", "arguments": "{}"}
    call = {"id": "c1", "type": "function", "function": function, "extra_content": signed}
    fields: dict[str, Any] = {
        "thinking_blocks": [{"type": "thinking", "thinking": "Hm.", "signature": "s"}],
        "reasoning_content": "Hm.",
        "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}],
        "extra_content": signed,
        OWN: {"extra_content": signed},
    }
    said = {"role": "assistant", "content": None, "tool_calls": [call], **fields}
    result = {"role": "tool", "tool_call_id": "c1", "content": "x"}
    request = chatted(USER, said, result)

    [asked_for, sent, after] = same_format(request, Sending(model=model))["messages"]

    assert fields.keys() & sent.keys() == kept
    assert ("extra_content" in sent["tool_calls"][0]) is ("extra_content" in kept)
    assert sent["tool_calls"][0]["function"] == function
    assert (asked_for, after) == (USER, result)
    assert request.body["messages"][1] == said


def test_messages_without_such_fields_are_sent_as_they_came() -> None:
    """Nothing is copied for them, whatever they are."""
    messages = [USER, {"role": "assistant", "content": "a", "cache_control": {}}, 5, None]
    request = chatted(*messages)

    body = same_format(request, Sending(model="gpt-5"))

    assert body["messages"] is request.body["messages"]


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


BUDGET = {"type": "enabled", "budget_tokens": 10_000}
LONG = "user_" + "0123456789abcdef" * 4 + "_account__session_3f2e1d0c-0000-4000-8000-1234567890ab"


def sent(model: str, *, messages: Any = (USER,), **fields: Any) -> dict[str, Any]:
    return from_chat(asked(*messages, **fields), Sending(model=model))


def test_a_user_that_is_too_long_is_sent_as_its_hash() -> None:
    """The same one each time, another for another user; the event keeps the whole."""
    body = sent("gpt-5", metadata={"user_id": LONG})

    assert len(body["user"]) == 64
    assert body["user"] == sent("gpt-5", metadata={"user_id": LONG})["user"]
    assert body["user"] != sent("gpt-5", metadata={"user_id": LONG + "c"})["user"]
    assert sent("gpt-5", metadata={"user_id": LONG[:64]})["user"] == LONG[:64]
    assert asked(USER, metadata={"user_id": LONG}).user == LONG


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

    message = sent(model, messages=[USER, said, USER])["messages"][1]

    assert message.get("reasoning_content") == ("Let me see" if is_kept else None)
    assert message["content"] == "Yes"
