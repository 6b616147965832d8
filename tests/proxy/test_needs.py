"""What a body uses beside plain text, in whatever shape it comes."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.needs import needs_of
from routing.abilities import Needs

TABLE: dict[str, tuple[dict[str, Any], Needs]] = {
    "plain": ({"messages": [{"role": "user", "content": "hi"}], "tools": []}, Needs()),
    "tools": ({"messages": [], "tools": [{"type": "function"}]}, Needs(tools=True)),
    "functions": ({"messages": [], "functions": [{"name": "f"}]}, Needs(tools=True)),
    "a call before": (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]},
        Needs(tools=True),
    ),
    "a result before": ({"messages": [{"role": "tool", "content": "x"}]}, Needs(tools=True)),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "text"}, {"type": "image_url"}]}]},
        Needs(vision=True),
    ),
    "text parts": ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, Needs()),
    "a schema": (
        {"messages": [], "response_format": {"type": "json_schema"}},
        Needs(json_schema=True),
    ),
    "sound": (
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        Needs(audio=True),
    ),
    "an answer in sound": ({"messages": [], "audio": {"voice": "alloy"}}, Needs(audio=True)),
    "no sound": ({"messages": [], "audio": None}, Needs()),
    "sound and pictures": (
        {"messages": [{"content": [{"type": "input_audio"}, {"type": "image_url"}]}]},
        Needs(audio=True, vision=True),
    ),
    "an effort": ({"messages": [], "reasoning_effort": "low"}, Needs(reasoning=True)),
    "no effort": ({"messages": [], "reasoning_effort": "none"}, Needs()),
    "thinking": ({"messages": [], "thinking": {"type": "enabled"}}, Needs(reasoning=True)),
    "no thinking": ({"messages": [], "thinking": {"type": "disabled"}}, Needs()),
    "any json": ({"messages": [], "response_format": {"type": "json_object"}}, Needs()),
    "nonsense": (
        {"messages": [1, None, {"role": [], "content": [7, {"type": 3}]}], "response_format": "x"},
        Needs(),
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_needs(name: str) -> None:
    """What is there in a form that means something, counts."""
    body, needs = TABLE[name]

    assert needs_of(body) == needs
