"""How much a model is asked to think."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.wire.anthropic_messages.thinking import fitted, thinking_fields
from proxy.wire.anthropic_messages.turns import is_unthinking_loop

USER = {"role": "user", "content": [{"type": "text", "text": "hi"}]}
CALL = {"type": "tool_use", "id": "1", "name": "f", "input": {}}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1"}]}
THOUGHT = {"type": "thinking", "thinking": "a", "signature": "b"}


def fields(
    effort: object, *turns: dict[str, Any], model: str = "claude-haiku-4-5", max_tokens: int = 8000
) -> dict[str, Any]:
    chat = {"reasoning_effort": effort}
    return thinking_fields(
        chat,
        model=model,
        max_tokens=max_tokens,
        is_unthinking=is_unthinking_loop(turns or (USER,)),
    )


@pytest.mark.parametrize(
    ("effort", "budget"),
    [("minimal", 1024), ("low", 1024), ("medium", 2048), ("high", 4096), ("max", 7999)],
)
def test_older_models_get_a_budget(effort: str, budget: int) -> None:
    """A number by effort, which is less than what may be said at all."""
    assert fields(effort) == {"thinking": {"type": "enabled", "budget_tokens": budget}}


@pytest.mark.parametrize(
    ("effort", "told"),
    [("minimal", "low"), ("low", "low"), ("high", "high"), ("xhigh", "xhigh"), ("max", "max")],
)
def test_newer_models_get_the_effort(effort: str, told: str) -> None:
    """They decide themselves how long to think."""
    assert fields(effort, model="claude-opus-5") == {
        "thinking": {"type": "adaptive"},
        "effort": told,
    }


def test_no_effort_is_no_thinking() -> None:
    """Newer models think unless told not to; older ones only when told."""
    assert fields("none", model="claude-opus-5") == {"thinking": {"type": "disabled"}}
    assert fields("none") == {}
    assert fields(None) == {}
    assert fields(None, model="claude-opus-5") == {}


@pytest.mark.parametrize(
    "model", ["claude-mythos-preview", "claude-fable-5", "us.anthropic.claude-mythos-5-1"]
)
def test_who_always_thinks_is_asked_for_the_least(model: str) -> None:
    """Mythos and Fable refuse `disabled` with a 400."""
    found = fields("none", model=model)

    assert found == {"thinking": {"type": "adaptive"}, "effort": "low"}
    assert fields("high", model=model)["effort"] == "high"


def test_where_there_is_no_room_there_is_no_thinking() -> None:
    """1,024 tokens are the least budget, and it must be less than `max_tokens`."""
    assert fields("high", max_tokens=1025) == {
        "thinking": {"type": "enabled", "budget_tokens": 1024}
    }
    assert fields("high", max_tokens=1024) == {}


def test_older_models_do_not_begin_to_think_between_calls() -> None:
    """Without the thoughts of before, which OpenAI's clients do not send, the API would refuse."""
    bare = {"role": "assistant", "content": [CALL]}
    thoughtful = {"role": "assistant", "content": [THOUGHT, CALL]}

    assert fields("high", USER, bare, RESULT) == {}
    assert fields("high", RESULT) == {}
    assert "thinking" in fields("high", USER, thoughtful, RESULT)
    assert "thinking" in fields("high", USER, bare, RESULT, bare, USER)
    assert "thinking" in fields("high", USER, bare, RESULT, model="claude-opus-5")


def test_what_is_anthropics_own_goes_first() -> None:
    """`thinking` is passed on as it is, with the effort beside it."""
    own = {"type": "enabled", "budget_tokens": 9000}
    chat = {"thinking": own, "reasoning_effort": "low"}

    found = thinking_fields(chat, model="claude-opus-4-5", max_tokens=9500, is_unthinking=False)

    assert found == {"thinking": own, "effort": "low"}


def test_a_budget_is_cut_with_the_limit() -> None:
    """Where the answer may be less long than was asked, so may the thoughts."""
    body = {"thinking": {"type": "enabled", "budget_tokens": 5000, "display": "omitted"}, "x": 1}

    assert fitted(body, 6000) is body
    assert fitted(body, 2000)["thinking"]["budget_tokens"] == 1999
    assert fitted(body, 2000)["thinking"]["display"] == "omitted"
    assert fitted(body, 500) == {"x": 1}
    assert fitted({"thinking": {"type": "adaptive"}}, 1) == {"thinking": {"type": "adaptive"}}
