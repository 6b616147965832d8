"""Chats as bodies of Messages requests."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.chat import ChatRequest
from proxy.errors import InvalidRequest
from proxy.wire import Sending, client_format, upstream_format

GOLDEN = Path(__file__).parents[1] / "golden" / "anthropic_messages" / "upstream"
UPSTREAM = upstream_format("anthropic_messages")
HI = {"role": "user", "content": "hi"}


def asked(**fields: Any) -> ChatRequest:
    chat = {"model": "m", "messages": [HI], **fields}
    return client_format("openai_chat").parse_request(orjson.dumps(chat))


def body(model: str = "claude-sonnet-4-5", *, drop: bool = False, **fields: Any) -> dict[str, Any]:
    return UPSTREAM.from_chat(asked(**fields), Sending(model, drop_unsupported=drop))


def content(*messages: dict[str, Any]) -> list[Any]:
    return [turn["content"] for turn in body(messages=list(messages))["messages"]]


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("request_*.json")), ids=lambda path: path.stem)
def test_golden_requests(path: Path) -> None:
    """A chat becomes exactly this body, and is left as it was; nothing of it is lost."""
    golden = orjson.loads(path.read_bytes())
    request = asked(**golden["chat"])
    before = copy.deepcopy(request.body)
    sending = {"model": "claude-sonnet-4-5", **golden.get("sending", {})}

    assert UPSTREAM.from_chat(request, Sending(**sending)) == golden["body"]
    assert request.body == before
    assert UPSTREAM.cannot_carry(request.chat) == ()


def test_the_limit_is_the_least_of_all() -> None:
    """What was asked for, what may be said at most, and a default: the API wants one."""
    sending = Sending("claude-sonnet-4-5", output_max=50)

    assert body()["max_tokens"] == 4096
    assert body(max_tokens=9, max_completion_tokens=30)["max_tokens"] == 30
    assert UPSTREAM.from_chat(asked(max_tokens=80), sending)["max_tokens"] == 50
    assert UPSTREAM.from_chat(asked(max_tokens=20), sending)["max_tokens"] == 20
    assert UPSTREAM.from_chat(asked(), sending)["max_tokens"] == 50


def test_a_stream_is_asked_for() -> None:
    """`stream` goes on; there are no options for it."""
    assert body(stream=True, stream_options={"include_usage": True})["stream"] is True
    assert "stream" not in body()


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"parallel_tool_calls": True}, None),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"parallel_tool_calls": False, "tool_choice": "none"}, {"type": "none"}),
        (
            {"parallel_tool_calls": False, "tool_choice": "required"},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_tool_choice(fields: dict[str, Any], choice: object) -> None:
    """Every choice of tools has its word, and so has one call at a time."""
    tools = [{"type": "function", "function": {"name": "f"}}]

    assert body(tools=tools, **fields).get("tool_choice") == choice


def test_a_choice_without_tools_is_left_out() -> None:
    """The API refuses a choice of nothing; one that forces a tool is refused here."""
    assert "tool_choice" not in body(tool_choice="auto", parallel_tool_calls=False)
    with pytest.raises(InvalidRequest):
        body(tool_choice="required")


def test_blanks_are_no_blocks() -> None:
    """The API refuses texts of blanks, and turns without anything."""
    assert content(
        HI, {"role": "assistant", "content": " \n"}, {"role": "user", "content": ""}
    ) == [[{"type": "text", "text": "hi"}]]


def test_a_mark_on_a_message_goes_to_its_last_block() -> None:
    """`cache_control` of a message means: up to here."""
    mark = {"type": "ephemeral"}
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]

    [blocks] = content({"role": "user", "content": parts, "cache_control": mark})

    assert blocks == [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "cache_control": mark},
    ]


def test_thoughts_without_a_signature_stay_behind() -> None:
    """`reasoning_content` is for readers; the API believes what it has signed."""
    [_, said] = content(HI, {"role": "assistant", "content": "b", "reasoning_content": "a"})

    assert said == [{"type": "text", "text": "b"}]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "s"}]}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"content": "hi"}]}, "messages[0]"),
        ({"messages": [HI, {"role": "user", "content": 5}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": ["hi"]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]},
            "messages[0].content[0]",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].image_url.url",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "file:///etc"}}],
                    }
                ]
            },
            "messages[0].content[0].image_url.url",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "file", "file": {"file_data": "data:text/plain;base64,@"}}
                        ],
                    }
                ]
            },
            "messages[0].content[0].file.file_data",
        ),
        ({"messages": [HI, {"role": "tool", "content": "1"}]}, "messages[1].tool_call_id"),
        ({"messages": [HI, {"role": "assistant", "tool_calls": {}}]}, "messages[1].tool_calls"),
        (
            {
                "messages": [
                    HI,
                    {
                        "role": "assistant",
                        "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{"}}],
                    },
                ]
            },
            "messages[1].tool_calls[0].function.arguments",
        ),
        ({"tools": {}}, "tools"),
        ({"tools": [{}]}, "tools[0]"),
        ({"tools": [{"function": {"name": "f", "parameters": []}}]}, "tools[0]"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": True, "top_k": 1}, "top_p"),
        ({"stop": [1]}, "stop"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"reasoning_effort": []}, "reasoning_effort"),
        ({"thinking": "yes"}, "thinking"),
        ({"n": 2}, "n"),
    ],
)
def test_what_is_malformed_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    """The error says where; and what cannot be carried is not lost if nobody has said so."""
    with pytest.raises(InvalidRequest) as caught:
        body(**fields)

    assert caught.value.param == param


def test_what_cannot_be_carried_is_dropped_where_that_is_wanted() -> None:
    """`drop_unsupported` leaves out what has no place, parts of messages among it."""
    audio = {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}
    sent = body(
        drop=True,
        n=3,
        seed=1,
        temperature=1.5,
        response_format={"type": "json_object"},
        tools=[{"type": "custom", "custom": {"name": "c"}}],
        tool_choice={"type": "custom", "custom": {"name": "c"}},
        messages=[{"role": "user", "content": [audio, {"type": "text", "text": "hi"}]}],
    )

    assert sent == {
        "model": "claude-sonnet-4-5",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    }


def test_new_models_lose_their_temperature_only_where_that_is_wanted() -> None:
    """A model that refuses any temperature is asked with it, and refuses by name, or without."""
    assert body("claude-opus-5", temperature=0.2)["temperature"] == 0.2
    assert "temperature" not in body("claude-opus-5", drop=True, temperature=0.2)
    assert body("claude-opus-4-6", drop=True, temperature=0.2)["temperature"] == 0.2


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.sampled_from(
        ["user", "assistant", "tool", "system", "function", "text", "image_url", "x"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "role",
                    "content",
                    "type",
                    "text",
                    "image_url",
                    "url",
                    "file",
                    "file_data",
                    "tool_calls",
                    "tool_call_id",
                    "id",
                    "function",
                    "name",
                    "arguments",
                    "thinking_blocks",
                    "cache_control",
                    "json_schema",
                    "schema",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)
FIELDS = [
    "tools",
    "tool_choice",
    "response_format",
    "temperature",
    "stop",
    "reasoning_effort",
    "thinking",
    "service_tier",
    "user",
    "metadata",
]


@given(
    st.lists(json_values, max_size=4),
    st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=4),
    st.booleans(),
)
def test_hostile_chats_are_written_or_refused(
    messages: list[Any], fields: dict[str, Any], drop: bool
) -> None:
    """Any JSON at all is a body that can be sent, or a refusal that names a field."""
    chat = {"model": "m", "messages": messages, **fields}
    request = ChatRequest("m", chat, False, False, None, 1, 1, None)

    sending = Sending("claude-x", drop_unsupported=drop)

    assert _sent_or_refused(request, sending)


def _sent_or_refused(request: ChatRequest, sending: Sending) -> object:
    try:
        return orjson.loads(orjson.dumps(UPSTREAM.from_chat(request, sending)))["messages"]
    except InvalidRequest as error:
        return error.param
