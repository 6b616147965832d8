"""The Messages API as an upstream for its own clients."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from proxy.chat import ChatRequest
from proxy.wire import Sending, upstream_format

UPSTREAM = upstream_format("anthropic_messages")
BODY: dict[str, Any] = {
    "model": "m",
    "max_tokens": 8000,
    "messages": [{"role": "user", "content": "hi"}],
    "thinking": {"type": "enabled", "budget_tokens": 4000},
    "container": "c",
}


def sent(sending: Sending, **fields: Any) -> dict[str, Any]:
    body = {**BODY, **fields}
    before = copy.deepcopy(body)
    request = ChatRequest("m", body, False, False, 8000, 1, 1, None, "anthropic_messages", {})

    written = UPSTREAM.same_format(request, sending)

    assert body == before
    return written


def test_only_the_model_is_changed() -> None:
    """What is not known is passed on as it came."""
    assert sent(Sending("claude-x")) == {**BODY, "model": "claude-x"}


def test_the_limit_is_cut_with_what_is_thought_of_it() -> None:
    """`max_tokens` and the budget within it; never made more."""
    cut = sent(Sending("claude-x", output_max=2000))

    assert cut["max_tokens"] == 2000
    assert cut["thinking"] == {"type": "enabled", "budget_tokens": 1999}
    assert sent(Sending("claude-x", output_max=9000))["max_tokens"] == 8000
    assert sent(Sending("claude-x", output_max=5), max_tokens=0)["max_tokens"] == 0
    assert sent(Sending("claude-x", output_max=5), max_tokens="no")["max_tokens"] == 5
    assert "thinking" not in sent(Sending("claude-x", output_max=100))


@pytest.mark.parametrize(
    ("system", "written"),
    [
        (None, [{"type": "text", "text": "Be cheap."}]),
        ("", [{"type": "text", "text": "Be cheap."}]),
        ("Be kind.", [{"type": "text", "text": "Be kind."}, {"type": "text", "text": "Be cheap."}]),
        (
            [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
            [
                {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": "Be cheap."},
            ],
        ),
        (5, 5),
    ],
)
def test_an_instruction_comes_after_the_system_prompt(system: object, written: object) -> None:
    """Behind what may be cached, as a block of its own; what is malformed is for the API to say."""
    assert sent(Sending("claude-x", instruct="Be cheap."), system=system)["system"] == written
