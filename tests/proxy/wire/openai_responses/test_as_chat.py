"""Requests for responses as chat bodies: recorded pairs, and what has no place there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.chat import UNSUPPORTED
from proxy.wire.openai_responses.as_chat import say
from proxy.wire.openai_responses.client import parse_request

GOLDEN = Path(__file__).parents[1] / "golden" / "openai_responses"
REQUESTS = sorted(path.stem for path in GOLDEN.glob("request_*.json"))


@pytest.mark.parametrize("name", REQUESTS)
def test_a_recorded_request_is_said_as_chat(name: str) -> None:
    """Body and chat body stand side by side."""
    pair = orjson.loads((GOLDEN / f"{name}.json").read_bytes())

    found = parse_request(orjson.dumps(pair["body"]))

    assert found.chat == pair["chat"]
    assert found.body == pair["body"]


NAMED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "tool_choice": ({"tool_choice": {"type": "mcp", "server_label": "x"}}, ["tool_choice"]),
    "choice_of_odd_tools": (
        {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]}},
        ["tool_choice.tools"],
    ),
    "text_extra": ({"text": {"future": 1}}, ["text.future"]),
    "custom_role": ({"input": [{"role": "critic", "content": "x"}]}, ["input[0].role"]),
    "no_object": ({"input": [5]}, ["input[0]"]),
    "content_number": ({"input": [{"role": "user", "content": 5}]}, ["input[0].content"]),
    "call_without_id": (
        {"input": [{"type": "function_call", "name": "f", "arguments": ""}]},
        ["input[0].call_id"],
    ),
    "result_without_id": (
        {"input": [{"type": "function_call_output", "output": "x"}]},
        ["input[0].call_id"],
    ),
    "namespace": (
        {
            "input": [
                {
                    "type": "function_call",
                    "name": "f",
                    "arguments": "",
                    "call_id": "c",
                    "namespace": "n",
                }
            ]
        },
        ["input[0].namespace"],
    ),
    "unknown": ({"context_management": [{"type": "compaction"}]}, ["context_management"]),
}


@pytest.mark.parametrize("name", NAMED)
def test_what_cannot_be_said_is_named(name: str) -> None:
    """The path of a field is what a refusal shows its author."""
    fields, named = NAMED[name]

    assert say({"model": "m", **fields}).chat[UNSUPPORTED] == named


NOTHING: list[dict[str, Any]] = [
    {"truncation": "disabled"},
    {"background": False},
    {"store": False, "metadata": {"a": "b"}, "max_tool_calls": 3},
    {"reasoning": {"summary": "auto", "mode": "standard", "context": "auto"}},
    {"include": ["reasoning.encrypted_content"]},
    {"text": {"format": {"type": "text"}}},
    {"previous_response_id": None, "tools": None, "future": None},
]


@pytest.mark.parametrize("fields", NOTHING, ids=str)
def test_what_means_nothing_is_not_named(fields: dict[str, Any]) -> None:
    """Defaults, hints and nulls change no answer."""
    assert UNSUPPORTED not in say({"model": "m", "input": "hi", **fields}).chat


def test_a_refusal_stays_readable() -> None:
    """A thousand items that cannot be said are not all named."""
    found = say({"model": "m", "input": [{"type": "item_reference", "id": "x"}] * 1000})

    assert len(found.chat[UNSUPPORTED]) == 16
    assert len(found.unsaid) == 1000
