"""Messages as turns: sides that alternate, calls that are JSON in strings."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import InvalidRequest
from proxy.json_bounds import VALUES_MAX
from proxy.wire.bedrock_converse.messages import conversation, has_tools


def call(arguments: str, id: str = "call_1") -> dict[str, Any]:  # noqa: A002
    return {"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}}


def said(*calls: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": "x", "tool_calls": list(calls)}]


@pytest.mark.parametrize(
    "calls",
    [
        [call('{"a":' * 300 + "1" + "}" * 300)],
        [call('{"a":[' + "{}," * VALUES_MAX + "1]}")],
        [call('{"a":[' + "{}," * (VALUES_MAX // 4) + "1]}")] * 5,
        [call('{"a":12345678901234567890123}')],
    ],
    ids=["deep", "full", "full_together", "wide_number"],
)
def test_arguments_are_bounded_as_a_body_is(calls: list[dict[str, Any]]) -> None:
    """JSON in a string is JSON all the same, one call or many."""
    with pytest.raises(InvalidRequest, match="The arguments of all tool calls") as caught:
        conversation(said(*calls), [])

    assert caught.value.param == "messages"


def test_text_in_arguments_weighs_nothing() -> None:
    """A file that a tool wrote has commas by the thousand."""
    text = '{"text": "' + "a,{[" * 300_000 + '"}'

    _, turns = conversation(said(call(text)), [])

    assert has_tools(turns)


def test_arguments_that_hide_the_next_ones_are_refused_first() -> None:
    """A quote too many makes strings of what is none; it is malformed itself."""
    with pytest.raises(InvalidRequest) as caught:
        conversation(said(call('{"'), call("[" + "{}," * VALUES_MAX + "{}]")), [])

    assert caught.value.param == "messages[0].tool_calls[0].function.arguments"


def test_ids_that_bedrock_refuses_become_others_that_match() -> None:
    """A call and its result keep the same id, and two calls keep two."""
    messages = [
        *said(call("{}", "a b"), call("{}", "a/b")),
        {"role": "tool", "tool_call_id": "a b", "content": "1"},
        {"role": "tool", "tool_call_id": "a/b", "content": "2"},
    ]

    _, (spoken, results) = conversation(messages, [])

    uses = [each["toolUse"]["toolUseId"] for each in spoken["content"] if "toolUse" in each]
    assert uses == [each["toolResult"]["toolUseId"] for each in results["content"]]
    assert len(set(uses)) == 2


ROLES = st.sampled_from(["system", "developer", "user", "assistant", "tool"])


@given(st.lists(st.tuples(ROLES, st.text(max_size=3)), max_size=12))
def test_the_sides_alternate(spoken: list[tuple[str, str]]) -> None:
    """Whatever the order of messages, no two turns of one side follow each other, none is empty,
    and no text is lost or blank."""
    messages = [
        {"role": role, "content": text, **({"tool_call_id": "c"} if role == "tool" else {})}
        for role, text in spoken
    ]

    system, turns = conversation(messages, [])

    roles = [turn["role"] for turn in turns]
    assert all(one != two for one, two in pairwise(roles))
    assert all(turn["content"] for turn in turns)
    texts = [block["text"] for turn in turns for block in turn["content"] if "text" in block]
    assert texts == [
        text for role, text in spoken if role in {"user", "assistant"} and text.strip()
    ]
    assert [block["text"] for block in system] == [
        text for role, text in spoken if role in {"system", "developer"} and text.strip()
    ]
