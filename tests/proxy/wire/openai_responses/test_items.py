"""Input items as messages: what belongs to one turn, and what starts another."""

from __future__ import annotations

from typing import Any

from proxy.wire.openai_responses.items import Conversation
from proxy.wire.openai_responses.thinking import packed


def messages(*items: Any) -> list[dict[str, Any]]:
    talk = Conversation()
    talk.add(list(items))

    assert talk.unsupported == []
    return talk.messages


def call(call_id: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}"}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def thought(text: str, **fields: Any) -> dict[str, Any]:
    return {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}], **fields}


def ids(message: dict[str, Any]) -> list[str]:
    return [each["id"] for each in message["tool_calls"]]


def test_calls_of_a_turn_stay_together() -> None:
    """Their results follow after all of them, whatever stood between."""
    found = messages(call("a"), thought("x"), call("b"), said("y"), call("c"))

    assert len(found) == 1
    assert ids(found[0]) == ["a", "b", "c"]
    assert (found[0]["content"], found[0]["reasoning_content"]) == ("y", "x")


def test_a_second_text_is_another_message() -> None:
    """Two texts that follow each other were two answers."""
    found = messages(said("a"), thought("x"), said("b"))

    assert [each["content"] for each in found] == ["a", "b"]
    assert found[1]["reasoning_content"] == "x"


def test_two_texts_around_a_call_are_both_kept() -> None:
    """They are parts of one message, as a call between them has its result after them."""
    (found,) = messages(said("a"), call("c"), said("b"))

    assert found["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


def test_a_result_ends_the_turn() -> None:
    """What is called after a result is another turn."""
    result = {"type": "function_call_output", "call_id": "a", "output": "1"}

    found = messages(call("a"), result, call("b"))

    assert [each["role"] for each in found] == ["assistant", "tool", "assistant"]


def test_signed_thinking_comes_back() -> None:
    """What another vendor signed stands in its message again."""
    blocks = [{"type": "thinking", "thinking": "x", "signature": "s"}]

    (found,) = messages(thought("x", encrypted_content=packed(blocks)), said("a"))

    assert found["thinking_blocks"] == blocks


def test_what_an_upstream_wants_back_with_a_call_comes_back() -> None:
    """Google signs calls, and clients send items back as they got them."""
    extra = {"google": {"thought_signature": "x"}}

    (found,) = messages({**call("a"), "extra_content": extra})

    assert found["tool_calls"][0]["extra_content"] == extra


def test_thinking_that_says_nothing_is_nothing() -> None:
    """An item without a word of it makes no message."""
    assert messages({"type": "reasoning", "id": "rs_1", "summary": []}) == []


def test_one_text_is_a_text() -> None:
    """Strict servers know no parts in messages of some roles."""
    part = {"type": "input_text", "text": "a"}

    (one,) = messages({"role": "system", "content": [part]})
    (two,) = messages({"role": "system", "content": [part, part]})

    assert one["content"] == "a"
    assert two["content"] == [{"type": "text", "text": "a"}] * 2


def test_many_items_take_no_longer_each() -> None:
    """A turn of fifty thousand calls is put together in one go."""
    (found,) = messages(*[call(str(place)) for place in range(50_000)])

    assert len(found["tool_calls"]) == 50_000
