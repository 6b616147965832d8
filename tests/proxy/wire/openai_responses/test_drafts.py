"""Items in the making: ended once, by the events that are still missing."""

from __future__ import annotations

from typing import Any

from proxy.wire.openai_responses.drafts import Draft


def draft(kind: str, **fields: Any) -> Draft:
    return Draft(2, {"id": "x", "type": kind, "status": "in_progress", **fields})


def names(found: Draft) -> list[str]:
    return [name.removeprefix("response.") for name, _ in found.closing("incomplete")]


def test_each_part_is_ended_before_its_item() -> None:
    """Summaries and texts have events of their own."""
    thought = draft("reasoning", summary=[])
    thought.part("summary", 0, "summary_text").add("a")
    thought.part("content", 0, "reasoning_text").add("b")

    assert names(thought) == [
        "reasoning_text.done",
        "content_part.done",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
    ]
    assert thought.final == {
        "id": "x",
        "type": "reasoning",
        "status": "incomplete",
        "summary": [{"type": "summary_text", "text": "a"}],
        "content": [{"type": "reasoning_text", "text": "b"}],
    }


def test_what_has_ended_is_not_ended_again() -> None:
    """Only what is missing is said."""
    message = draft("message", content=[])
    part = message.part("content", 0, "refusal")
    part.add("no")
    part.is_said = True

    assert names(message) == ["content_part.done", "output_item.done"]
    assert names(message) == []


def test_calls_end_by_their_own_events() -> None:
    """Arguments and free input are told apart; calls of the vendor's tools have neither."""
    for kind, place, events in (
        ("function_call", "arguments", ["function_call_arguments.done", "output_item.done"]),
        ("custom_tool_call", "input", ["custom_tool_call_input.done", "output_item.done"]),
        ("mcp_call", "arguments", ["output_item.done"]),
    ):
        call = draft(kind, name="f")
        call.part(place, 0, place).add("{")
        assert names(call) == events
        assert call.whole("completed")[place] == "{"
        assert call.whole("completed")["status"] == "incomplete"


def test_only_what_is_new_of_a_text_is_its_rest() -> None:
    """A text that comes once more as a whole counts by what was not there before."""
    part = draft("message").part("content", 0, "output_text")
    part.add("ab")

    assert [part.rest("abc"), part.rest("abc"), part.rest("a")] == ["c", "", ""]
    assert part.whole()["text"] == "abc"
