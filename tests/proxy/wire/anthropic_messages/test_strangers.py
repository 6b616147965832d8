"""Thoughts of other makers' models, in a request that is relayed to Claude."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from message_samples import message_request
from wire_samples import any_json

from proxy.wire import Sending
from proxy.wire.anthropic_messages.strangers import without_strangers
from proxy.wire.anthropic_messages.upstream import same_format

USER = {"role": "user", "content": "hi"}
TEXT = {"type": "text", "text": "Hello"}
OWN = {"type": "thinking", "thinking": "Hm.", "signature": "EqQBCgIYAhIM=="}
HIDDEN = {"type": "redacted_thinking", "data": "Emw="}
CALL = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}
BUDGET = {"type": "enabled", "budget_tokens": 1024}


def stranger(signature: Any) -> dict[str, Any]:
    return {"type": "thinking", "thinking": "Hm.", "signature": signature}


def said(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


@pytest.mark.parametrize("signature", ["", "gemini:abc", None, 5])
def test_a_thought_without_a_signature_of_claudes_is_left_out(signature: Any) -> None:
    """The API would refuse the whole request for it; the rest of the turn stays."""
    body = {"messages": [USER, said(stranger(signature), OWN, HIDDEN, TEXT), USER]}

    assert without_strangers(body)["messages"] == [USER, said(OWN, HIDDEN, TEXT), USER]


def test_a_turn_of_nothing_else_goes_with_it() -> None:
    """The API refuses empty turns, and takes two of one role in a row."""
    body = {"messages": [USER, said(stranger("")), USER]}

    assert without_strangers(body)["messages"] == [USER, USER]


def test_what_has_none_is_the_same() -> None:
    """Usual requests are not copied, and a colon alone is no mark of another format."""
    body = {"messages": [USER, said(OWN, stranger("a:b"), TEXT)]}

    assert without_strangers(body) is body


def test_between_calls_nothing_is_thought_without_the_thoughts_of_before() -> None:
    """The API would refuse a budget there; a model that thinks adaptively is asked all the same."""
    late = {"messages": [USER, said(stranger(""), CALL), RESULT], "thinking": BUDGET}
    own = {"messages": [USER, said(stranger(""), OWN, CALL), RESULT], "thinking": BUDGET}
    over = {"messages": [said(stranger(""), CALL), RESULT, said(TEXT), USER], "thinking": BUDGET}

    assert "thinking" not in without_strangers(late)
    assert without_strangers(own)["thinking"] == BUDGET
    assert without_strangers(over)["thinking"] == BUDGET
    adaptive = {**late, "thinking": {"type": "adaptive"}}
    assert without_strangers(adaptive)["thinking"] == {"type": "adaptive"}


def test_they_are_left_out_of_what_is_relayed() -> None:
    """And the request of the client stays as it was."""
    request = message_request(messages=[USER, said(stranger("gemini:x"), TEXT), USER])

    sent = same_format(request, Sending(model="claude"))

    assert sent["messages"] == [USER, said(TEXT), USER]
    assert len(request.body["messages"][1]["content"]) == 2


@given(any_json("messages", "content", "type", "thinking", "signature", "role"))
def test_anything_may_stand_there(value: Any) -> None:
    """What has the wrong type is passed on: the API says what is wrong with it."""
    without_strangers({"messages": value, "thinking": value})
