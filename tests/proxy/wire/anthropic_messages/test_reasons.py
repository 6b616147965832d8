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
    ("openai", "sequence", "theirs"),
    [
        ("stop", None, "end_turn"),
        ("stop", "END", "stop_sequence"),
        ("length", None, "max_tokens"),
        ("tool_calls", "END", "tool_use"),
        ("function_call", None, "tool_use"),
        ("content_filter", None, "refusal"),
        ("something_new", None, "end_turn"),
        (None, "END", None),
    ],
)
def test_what_clients_of_anthropic_are_told(
    openai: object, sequence: object, theirs: str | None
) -> None:
    """And the other way; a stop sequence is told apart where it is known."""
    assert stop_reason(openai, sequence) == theirs
