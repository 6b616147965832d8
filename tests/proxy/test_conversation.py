"""What formats ask of a conversation: who speaks, and what stands in its strings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from wire_samples import any_json

from proxy.conversation import check_arguments, told_apart
from proxy.errors import InvalidRequest


def named(role: str, name: Any) -> dict[str, Any]:
    return {"role": role, "name": name, "content": "x"}


@pytest.mark.parametrize(
    ("messages", "place"),
    [
        ([named("user", "Ann")], None),
        ([named("user", "Ann"), named("user", "Ann")], None),
        ([named("user", "Ann"), named("assistant", "Bob")], None),
        ([named("user", "Ann"), {"role": "user"}, named("user", "Bob")], 2),
        ([named("tool", "f"), named("tool", "g")], None),
        ([named("user", 1), named("user", "Ann")], None),
        ("none", None),
        ([1, None], None),
    ],
)
def test_names_matter_where_they_differ(messages: Any, place: int | None) -> None:
    """One and the same name in a role tells nobody apart; that of a tool is no speaker."""
    assert told_apart(messages) == place


def called(arguments: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"function": {"arguments": arguments}}]}


DEEP = "[" * 201 + "]" * 201


@pytest.mark.parametrize(
    "messages",
    [
        [called(DEEP)],
        [called("{}"), called(DEEP)],
        [{"role": "assistant", "function_call": {"arguments": DEEP}}],
        [called("[" + "1," * 150_000 + "1]"), called("[" + "1," * 150_000 + "1]")],
    ],
    ids=["deep", "second", "legacy", "many_in_all"],
)
def test_arguments_that_may_not_be_built_are_refused(messages: Any) -> None:
    """Each is as deep as a body may be, and all together are as many values."""
    with pytest.raises(InvalidRequest, match="arguments of all tool calls") as caught:
        check_arguments(messages)

    assert caught.value.param == "messages"


def test_usual_arguments_pass() -> None:
    """Objects, nothing, and what is no JSON: that is for the format to refuse."""
    check_arguments([called('{"city": "Paris"}'), called(""), called("{"), called(None)])


@given(any_json("role", "name", "tool_calls", "function", "arguments", "function_call"))
def test_anything_is_looked_at(messages: Any) -> None:
    """Whatever stands there, neither raises for its type."""
    told_apart(messages)
    check_arguments(messages)
