"""Messages as Gemini's contents: two speakers in turns, calls and results by name."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.errors import InvalidRequest
from proxy.wire.gemini.contents import ContentsWriter


def written(
    *messages: Any,
    model: str = "gemini-2.5-pro",
    lacking: tuple[str, ...] = (),
    instruct: str | None = None,
) -> dict[str, Any]:
    return ContentsWriter(model=model, lacking=lacking).write(list(messages), instruct)


def user(text: Any = "hi") -> dict[str, Any]:
    return {"role": "user", "content": text}


def call(arguments: Any = "{}", **fields: Any) -> dict[str, Any]:
    function = {"name": "f", "arguments": arguments}
    return {
        "role": "assistant",
        "tool_calls": [{"id": "c", "type": "function", "function": function}],
        **fields,
    }


def test_system_messages_lead_wherever_they_stood() -> None:
    """An instruction of ours follows those that led; later ones come last."""
    body = written(
        {"role": "developer", "content": "a"},
        user(),
        {"role": "system", "content": [{"type": "text", "text": "z"}]},
        instruct="ours",
    )

    assert [part["text"] for part in body["systemInstruction"]["parts"]] == ["a", "ours", "z"]
    assert body["contents"] == [{"role": "user", "parts": [{"text": "hi"}]}]


def test_a_system_message_alone_is_asked() -> None:
    """Gemini answers contents only, so the last system message is the question."""
    body = written({"role": "system", "content": "a"}, {"role": "system", "content": "b"})

    assert body["contents"] == [{"role": "user", "parts": [{"text": "b"}]}]
    assert body["systemInstruction"] == {"parts": [{"text": "a"}]}


def test_empty_texts_are_left_out() -> None:
    """Gemini refuses an empty part, which OpenAI's clients send beside calls."""
    body = written(user(), call(content=""), {"role": "assistant", "content": [], "refusal": "no"})

    assert [len(content["parts"]) for content in body["contents"]] == [1, 2]
    assert body["contents"][1]["parts"][1] == {"text": "no"}


RESULTS = {
    "text": ("sunny", {"output": "sunny"}),
    "object": ('{"a": 1}', {"a": 1}),
    "its_own_wrapping": ('{"output": 1}', {"output": {"output": 1}}),
    "its_own_error": ('{"error": "x"}', {"output": {"error": "x"}}),
    "list": ("[1]", {"output": "[1]"}),
    "broken": ('{"a":', {"output": '{"a":'}),
    "too_deep": ('{"a":' * 300 + "1" + "}" * 300, {"output": '{"a":' * 300 + "1" + "}" * 300}),
    "empty": ("", {"output": ""}),
}


@pytest.mark.parametrize("name", RESULTS)
def test_the_result_of_a_tool(name: str) -> None:
    """An object is told as it is, anything else as the output that it is."""
    content, expected = RESULTS[name]

    body = written(user(), call(), {"role": "tool", "tool_call_id": "c", "content": content})

    assert body["contents"][2]["parts"] == [
        {"functionResponse": {"name": "f", "id": "c", "response": expected}}
    ]


def test_a_tool_that_failed() -> None:
    """Its text is the error that Gemini has a name for."""
    failed = {"role": "tool", "tool_call_id": "c", "content": "no such city", "is_error": True}

    body = written(user(), call(), failed)

    response = body["contents"][2]["parts"][0]["functionResponse"]["response"]
    assert response == {"error": "no such city"}


def test_functions_of_old_clients() -> None:
    """`function_call` and the role `function` are calls and results without an id."""
    body = written(
        user(),
        {"role": "assistant", "function_call": {"name": "f", "arguments": '{"a":1}'}},
        {"role": "function", "name": "f", "content": "x"},
    )

    assert body["contents"][1]["parts"] == [{"functionCall": {"name": "f", "args": {"a": 1}}}]
    assert body["contents"][2]["parts"] == [
        {"functionResponse": {"name": "f", "response": {"output": "x"}}}
    ]


def signed(blocks: Any = None, model: str = "gemini-3-pro", **fields: Any) -> Any:
    body = written(user(), call(thinking_blocks=blocks, **fields), model=model)
    return body["contents"][1]["parts"][-1].get("thoughtSignature")


def test_the_signature_of_a_call() -> None:
    """Gemini's own where the client kept one; else the word for none, where one is wanted."""
    ours = [{"type": "thinking", "thinking": "", "signature": "gemini:abc"}]
    theirs = [{"type": "thinking", "thinking": "", "signature": "abc"}]

    assert signed(ours) == "abc"
    assert signed(theirs) == "skip_thought_signature_validator"
    assert signed(theirs, model="gemini-2.5-pro") is None
    assert signed(ours, model="gemini-2.5-pro") == "abc"


def test_the_signature_of_a_text() -> None:
    """It goes back with the last part of the text."""
    extra = {"google": {"thought_signature": "abc"}}

    body = written(user(), {"role": "assistant", "content": "a", "extra_content": extra})

    assert body["contents"][1]["parts"] == [{"text": "a", "thoughtSignature": "abc"}]


def test_what_is_lacking_is_left_out() -> None:
    """Parts and calls that cannot be carried, where the operator says so."""
    body = written(
        user([{"type": "text", "text": "a"}, {"type": "hologram"}]),
        {"role": "assistant", "content": "b", "tool_calls": [{"type": "custom"}]},
        lacking=("messages[0].content[1]", "messages[1].tool_calls[0]"),
    )

    assert [content["parts"] for content in body["contents"]] == [[{"text": "a"}], [{"text": "b"}]]


WRONG = {
    "message": ((5,), "messages[0]"),
    "role": (({"role": "boss", "content": "x"},), "messages[0].role"),
    "content": ((user(5),), "messages[0].content"),
    "part": ((user(["x"]),), "messages[0].content[0]"),
    "text": ((user([{"type": "text", "text": 5}]),), "messages[0].content[0].text"),
    "unknown_part": ((user([{"type": "hologram"}]),), "messages[0].content[0]"),
    "calls": ((call(tool_calls=5),), "messages[0].tool_calls"),
    "call": ((call(tool_calls=[5]),), "messages[0].tool_calls[0]"),
    "unnamed_call": (
        (call(tool_calls=[{"function": {}}]),),
        "messages[0].tool_calls[0].function.name",
    ),
    "arguments": ((call("[1]"),), "messages[0].tool_calls[0].function.arguments"),
    "arguments_broken": ((call("{"),), "messages[0].tool_calls[0].function.arguments"),
    "unknown_call": (({"role": "tool", "tool_call_id": "x"},), "messages[0].tool_call_id"),
    "id_list": (({"role": "tool", "tool_call_id": []},), "messages[0].tool_call_id"),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_malformed_is_refused_by_name(name: str) -> None:
    """The refusal names the field, as far down as it is."""
    messages, param = WRONG[name]

    with pytest.raises(InvalidRequest) as caught:
        written(*messages)

    assert caught.value.param == param
