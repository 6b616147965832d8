"""What of a chat request the Messages API has no place for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.anthropic_messages.carrying import uncarried

HI = {"role": "user", "content": "hi"}


def named(*messages: dict[str, Any], **fields: Any) -> tuple[str, ...]:
    return uncarried({"model": "m", "messages": list(messages or [HI]), **fields})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("logit_bias", {"50256": -100}),
        ("presence_penalty", 0.5),
        ("frequency_penalty", -1),
        ("seed", 0),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy"}),
        ("verbosity", "low"),
        ("web_search_options", {}),
        ("functions", [{"name": "f"}]),
        ("temperature", 1.2),
        ("response_format", {"type": "json_object"}),
        ("tools", [{"type": "custom", "custom": {"name": "c"}}]),
        ("tool_choice", {"type": "allowed_tools", "allowed_tools": {}}),
        ("min_p", 0.1),
        ("guided_json", {"type": "object"}),
    ],
)
def test_what_matters_is_named(field: str, value: object) -> None:
    """Every field that cannot be carried, those of other servers among them."""
    assert named(**{field: value}) == (field,)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 1),
        ("logprobs", False),
        ("top_logprobs", 0),
        ("logit_bias", {}),
        ("presence_penalty", 0),
        ("seed", None),
        ("modalities", ["text"]),
        ("verbosity", "medium"),
        ("function_call", "auto"),
        ("temperature", 1),
        ("response_format", {"type": "text"}),
        ("response_format", {"type": "json_schema", "json_schema": {"schema": {}}}),
        ("parallel_tool_calls", True),
        ("store", True),
        ("metadata", {"a": "b"}),
        ("user", "u"),
        ("service_tier", "flex"),
        ("stream_options", {"include_usage": True}),
        ("prediction", {"type": "content", "content": "x"}),
        ("prompt_cache_key", "k"),
        ("x_unsupported", ["container"]),
    ],
)
def test_what_changes_nothing_is_not_named(field: str, value: object) -> None:
    """Defaults and hints do not keep a request from an upstream."""
    assert named(**{field: value}) == ()


@pytest.mark.parametrize(
    "message",
    [
        {"role": "function", "name": "f", "content": "1"},
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "assistant", "audio": {"id": "a"}},
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "custom", "custom": {}}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": ""}}]},
        {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]},
        {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "u"}}]},
    ],
)
def test_messages_with_what_has_no_place(message: dict[str, Any]) -> None:
    """Older function calls, sounds, and files that lie at OpenAI."""
    assert named(HI, message) == ("messages",)


def test_names_matter_where_they_tell_apart() -> None:
    """One name for all says nothing; two in one role do."""
    ann, bob = {**HI, "name": "ann"}, {**HI, "name": "bob"}

    assert named(ann, ann) == ()
    assert named(HI, ann, bob) == ("messages[2].name",)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "file", "tool_calls", "name", "audio"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
FIELDS = ["messages", "tools", "tool_choice", "response_format", "temperature", "seed", "n", "x"]


@given(st.dictionaries(st.sampled_from(FIELDS), json_values))
def test_hostile_requests_raise_nothing(chat: dict[str, Any]) -> None:
    """Any JSON at all: only fields of the request are named."""
    fields = {name for name in uncarried(chat) if not name.startswith("messages[")}
    assert fields <= set(chat)
