"""Why answers end, in two languages."""

from __future__ import annotations

import pytest

from proxy.wire.anthropic_messages.reasons import finish_reason, stop_reason


@pytest.mark.parametrize(
    ("theirs", "openai"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "stop"),
        ("compaction", "stop"),
        ("something_new", "stop"),
        (None, None),
        ("", None),
        (["end_turn"], None),
    ],
)
def test_what_clients_of_openai_are_told(theirs: object, openai: str | None) -> None:
    """Every reason has a word of OpenAI's; one that is not known is an end like any other."""
    assert finish_reason(theirs) == openai


@pytest.mark.parametrize(
    ("openai", "theirs"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("function_call", "tool_use"),
        ("content_filter", "refusal"),
        ("something_new", "end_turn"),
        (None, "end_turn"),
        (["stop"], "end_turn"),
    ],
)
def test_what_clients_of_anthropic_are_told(openai: object, theirs: str) -> None:
    """And the other way; one that is not known is an end like any other."""
    assert stop_reason(openai) == theirs
