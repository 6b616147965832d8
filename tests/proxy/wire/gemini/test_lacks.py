"""What Gemini cannot be told: named, field by field; hints and defaults are not."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.wire.gemini.lacks import cannot_carry


def part(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, fields]}]}


LACKING: dict[str, tuple[dict[str, Any], list[str]]] = {
    "logit_bias": ({"logit_bias": {"1": 5}}, ["logit_bias"]),
    "one_call_only": ({"parallel_tool_calls": False}, ["parallel_tool_calls"]),
    "sound": ({"modalities": ["text", "audio"], "audio": {"voice": "x"}}, ["modalities", "audio"]),
    "search": ({"web_search_options": {"x": 1}}, ["web_search_options"]),
    "verbosity": ({"verbosity": "low"}, ["verbosity"]),
    "many_choices": ({"n": 9}, ["n"]),
    "many_stops": ({"stop": list("abcdef")}, ["stop"]),
    "wide_seed": ({"seed": 2**31}, ["seed"]),
    "effort": ({"reasoning_effort": "absurd"}, ["reasoning_effort"]),
    "thinking": ({"thinking": {"type": "odd"}}, ["thinking"]),
    "grammar": ({"response_format": {"type": "grammar"}}, ["response_format"]),
    "custom_choice": ({"tool_choice": {"type": "custom", "custom": {}}}, ["tool_choice"]),
    "custom_tool": (
        {"tools": [{"type": "function", "function": {}}, {"type": "custom", "custom": {}}]},
        ["tools[1]"],
    ),
    "unknown": ({"min_p": 0.1, "cached_content": "cachedContents/1"}, ["min_p", "cached_content"]),
    "http_image": (
        part(type="image_url", image_url={"url": "http://e.test/a.png"}),
        ["messages[0].content[1]"],
    ),
    "file_id": (part(type="file", file={"file_id": "f"}), ["messages[0].content[1]"]),
    "unknown_part": (part(type="hologram"), ["messages[0].content[1]"]),
    "system_image": (
        {
            "messages": [
                {
                    "role": "system",
                    "content": [{"type": "image_url", "image_url": {"url": "https://e.test/a"}}],
                }
            ]
        },
        ["messages[0].content[0]"],
    ),
    "custom_call": (
        {"messages": [{"role": "assistant", "tool_calls": [{"type": "custom"}]}]},
        ["messages[0].tool_calls[0]"],
    ),
    "said_aloud": (
        {"messages": [{"role": "assistant", "audio": {"id": "a"}}]},
        ["messages[0].audio"],
    ),
}


@pytest.mark.parametrize("name", LACKING)
def test_what_matters_is_named(name: str) -> None:
    """Each field by its own name, down to the part of a message."""
    chat, expected = LACKING[name]

    assert cannot_carry(chat) == expected


@pytest.mark.parametrize(
    "chat",
    [
        {"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "priority"},
        {"parallel_tool_calls": True, "modalities": ["text"], "verbosity": "medium"},
        {"logit_bias": {}, "min_p": 0, "audio": None, "x_unsupported": ["thing"]},
        {"n": 8, "seed": -1, "stop": "a", "reasoning_effort": "minimal"},
        {"thinking": {"type": "adaptive"}, "response_format": {"type": "json_object"}},
        {"tool_choice": {"type": "function", "function": {"name": "f"}}, "function_call": "auto"},
        {"messages": 5, "tools": {}, "n": "x", "seed": "x", "stop": 5},
    ],
    ids=["hints", "defaults", "empty", "small", "known", "choices", "malformed"],
)
def test_what_does_not_matter_is_not_named(chat: dict[str, Any]) -> None:
    """Hints, defaults and empty values are no reason to refuse; the malformed is refused later."""
    assert cannot_carry(chat) == []
