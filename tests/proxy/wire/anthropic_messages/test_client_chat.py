"""Fields of a request to the Messages API, as those of a chat completion."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from message_samples import load, message_request, said

from proxy.chat import UNSUPPORTED
from proxy.errors import InvalidRequest
from proxy.passage import passage
from proxy.wire import Sending

THOUGHTS = {
    "budget": ({"thinking": {"type": "enabled", "budget_tokens": 8192}}, None),
    "disabled": ({"thinking": {"type": "disabled"}}, None),
    "adaptive": ({"thinking": {"type": "adaptive"}}, None),
    "asked_for": (
        {
            "thinking": {"type": "enabled", "budget_tokens": 30000},
            "output_config": {"effort": "max"},
        },
        "max",
    ),
}


@pytest.mark.parametrize("name", THOUGHTS)
def test_thinking_stays_as_it_is(name: str) -> None:
    """The effort is what was asked for; what a budget comes to as one is not for here to say."""
    fields, effort = THOUGHTS[name]

    chat = message_request(**fields).chat

    assert chat.get("reasoning_effort") == effort
    assert chat.get("thinking") == fields.get("thinking")


CHOICES = {
    "auto": ({"type": "auto"}, {"tool_choice": "auto"}),
    "any": ({"type": "any"}, {"tool_choice": "required"}),
    "none": ({"type": "none"}, {"tool_choice": "none"}),
    "one_at_a_time": (
        {"type": "auto", "disable_parallel_tool_use": True},
        {"tool_choice": "auto", "parallel_tool_calls": False},
    ),
    "many_at_a_time": (
        {"type": "auto", "disable_parallel_tool_use": False},
        {"tool_choice": "auto"},
    ),
    "one": (
        {"type": "tool", "name": "x"},
        {"tool_choice": {"type": "function", "function": {"name": "x"}}},
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_every_choice_of_tools_has_its_word(name: str) -> None:
    """Both formats can say the same of which tools are used, and how many at a time."""
    choice, expected = CHOICES[name]

    chat = message_request(tool_choice=choice).chat

    names = ("tool_choice", "parallel_tool_calls")
    assert {each: chat[each] for each in names if each in chat} == expected


FOREIGN: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing": ({}, []),
    "null": ({"container": None}, []),
    "hints": ({"diagnostics": {}, "metadata": {}, "speed": "standard"}, []),
    "fast": ({"speed": "fast"}, ["speed"]),
    "place": ({"inference_geo": "us"}, ["inference_geo"]),
    "budget_of_a_task": ({"output_config": {"task_budget": {}}}, ["output_config.task_budget"]),
    "server_tool": (
        {
            "tools": [
                {"name": "x", "input_schema": {}},
                {"type": "web_search_20250305", "name": "web_search"},
            ]
        },
        ["tools.1"],
    ),
    "deferred_tool": (
        {"tools": [{"name": "x", "input_schema": {}, "defer_loading": True}]},
        ["tools.0"],
    ),
    "usual_tool": (
        {
            "tools": [
                {
                    "name": "x",
                    "input_schema": {},
                    "defer_loading": False,
                    "allowed_callers": ["direct"],
                    "eager_input_streaming": True,
                }
            ]
        },
        [],
    ),
    "file": (
        {"messages": said({"type": "image", "source": {"type": "file", "file_id": "f"}})},
        ["messages"],
    ),
    "result_of_a_search": (
        {"messages": said({"type": "search_result", "source": "s", "title": "t", "content": []})},
        ["messages"],
    ),
    "citations": (
        {
            "messages": said(
                {
                    "type": "document",
                    "source": {"type": "text", "media_type": "text/plain", "data": "x"},
                    "citations": {"enabled": True},
                }
            )
        },
        ["messages"],
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_has_no_place_is_named(name: str) -> None:
    """What another format could not be told is listed, so that it is refused and not forgotten."""
    fields, expected = FOREIGN[name]

    assert message_request(**fields).chat.get(UNSUPPORTED, []) == expected


def test_the_names_are_bounded() -> None:
    """A body of a thousand unknown fields makes no list of a thousand names."""
    named = message_request(**{f"{at:04}" + "x" * 500: 1 for at in range(1000)}).chat[UNSUPPORTED]

    assert len(named) == 16
    assert {len(each) for each in named} == {64}


def test_a_passage_refuses_what_it_lacks() -> None:
    """The planner asks the passage, which names the fields; the same format lacks nothing."""
    request = message_request(container="c")
    found = passage("anthropic_messages", ("openai_chat",))
    assert found is not None

    assert list(found.lacks(request)) == ["container"]
    assert list(found.lacks(message_request())) == []


def test_what_is_dropped_on_request_is_dropped_whole() -> None:
    """With `drop_unsupported` an OpenAI server gets nothing that only Anthropic's have."""
    recorded = load("foreign", "request")["messages"]
    found = passage("anthropic_messages", ("openai_chat",))
    assert found is not None

    raw = found.body(
        message_request(**recorded), Sending(model="up", drop_unsupported=True, inject_usage=False)
    )

    sent = orjson.loads(raw)
    assert sent.keys() == {"model", "messages", "max_tokens", "tools"}
    assert [tool.keys() for tool in sent["tools"]] == [{"type", "function"}]
    assert [len(message["content"]) for message in sent["messages"]] == [3, 1, len("Sure?")]
    assert all(
        part["type"] == "text" for message in sent["messages"][:2] for part in message["content"]
    )


def test_a_tool_result_is_sent_without_our_own_fields() -> None:
    """`is_error` and `cache_control` are the neutral form's, and strict servers refuse them."""
    recorded = load("tools", "request")["messages"]
    found = passage("anthropic_messages", ("openai_chat",))
    assert found is not None

    raw = found.body(message_request(**recorded), Sending(model="up"))

    assert b"is_error" not in raw and b"cache_control" not in raw
    assert orjson.loads(raw)["stream_options"] == {"include_usage": True}


def test_the_schema_may_have_its_older_name() -> None:
    """`output_format` was the name in beta; both give the same."""
    form = {"type": "json_schema", "schema": {"type": "object"}}

    newer = message_request(output_config={"format": form}).chat["response_format"]

    assert message_request(output_format=form).chat["response_format"] == newer
    assert newer["json_schema"] == {"name": "answer", "schema": form["schema"], "strict": True}


def test_only_known_tiers_are_passed_on() -> None:
    """A service tier without a word in the other format is left out: it is a hint."""
    tiers = [
        message_request(service_tier=tier).chat.get("service_tier")
        for tier in ("auto", "standard_only", "other", None)
    ]

    assert tiers == ["auto", "default", None, None]


def test_a_wrong_tier_is_refused() -> None:
    """A tier that is no string is refused by name."""
    with pytest.raises(InvalidRequest) as caught:
        message_request(service_tier=5)

    assert caught.value.param == "service_tier"
