"""What is asked of an answer, in Gemini's words: numbers, formats, thinking, tools."""

from __future__ import annotations

from typing import Any

import pytest
from format_samples import asked

from proxy.errors import InvalidRequest
from proxy.wire import Sending
from proxy.wire.gemini.generation import generation_config, tool_fields


def config(model: str = "gemini-2.5-flash", **fields: Any) -> dict[str, Any]:
    return generation_config(asked(**fields), Sending(model=model), ())


THINKING: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "nothing_asked": ("gemini-2.5-flash", {}, {}),
    "off": ("gemini-2.5-flash", {"reasoning_effort": "none"}, {"thinkingBudget": 0}),
    "budget_by_effort": (
        "gemini-2.5-flash",
        {"reasoning_effort": "medium"},
        {"thinkingBudget": 8192, "includeThoughts": True},
    ),
    "level": (
        "gemini-3-flash-preview",
        {"reasoning_effort": "medium"},
        {"thinkingLevel": "MEDIUM", "includeThoughts": True},
    ),
    "least": (
        "gemini-3-flash-preview",
        {"reasoning_effort": "minimal"},
        {"thinkingLevel": "MINIMAL", "includeThoughts": True},
    ),
    "least_of_the_large": (
        "gemini-3.1-pro-preview",
        {"reasoning_effort": "minimal"},
        {"thinkingLevel": "LOW", "includeThoughts": True},
    ),
    "most": (
        "gemini-3.5-flash",
        {"reasoning_effort": "max"},
        {"thinkingLevel": "XHIGH", "includeThoughts": True},
    ),
    "most_by_budget": (
        "gemini-2.5-pro",
        {"reasoning_effort": "max"},
        {"thinkingBudget": 24_576, "includeThoughts": True},
    ),
    "a_number_goes_first": (
        "gemini-3-pro",
        {"reasoning_effort": "low", "thinking": {"type": "enabled", "budget_tokens": 2000}},
        {"thinkingBudget": 2000, "includeThoughts": True},
    ),
    "disabled": ("gemini-2.5-flash", {"thinking": {"type": "disabled"}}, {"thinkingBudget": 0}),
    "adaptive": (
        "gemini-2.5-flash",
        {"thinking": {"type": "adaptive"}},
        {"includeThoughts": True},
    ),
}


@pytest.mark.parametrize("name", THINKING)
def test_how_much_is_thought(name: str) -> None:
    """By level from the third generation on, by a budget before; never both."""
    model, fields, expected = THINKING[name]

    assert config(model, **fields).get("thinkingConfig", {}) == expected


def test_the_limit_is_the_smaller_one() -> None:
    """What the hold covers bounds what the client asked for, and stands where it asked nothing."""
    held = Sending(model="m", output_max=50)

    assert generation_config(asked(max_tokens=10), held, ())["maxOutputTokens"] == 10
    assert generation_config(asked(max_completion_tokens=90), held, ())["maxOutputTokens"] == 50
    assert generation_config(asked(), held, ())["maxOutputTokens"] == 50
    assert config() == {}


@pytest.mark.parametrize(
    ("budget", "limit", "expected"),
    [
        (2000, 597, 512),
        (2000, 1500, 750),
        (2000, 2000, 1000),
        (2000, 2001, 2000),
        (300, 200, 300),
        (-1, 50, -1),
        (0, 50, 0),
    ],
)
def test_a_budget_leaves_room_for_the_answer(budget: int, limit: int, expected: int) -> None:
    """Thoughts count towards the limit, so they get half of it; no less than all models take."""
    thinking = {"type": "enabled", "budget_tokens": budget}
    held = Sending(model="gemini-2.5-flash", output_max=limit)

    found = generation_config(asked(thinking=thinking, max_tokens=9000), held, ())

    assert found["maxOutputTokens"] == limit
    assert found["thinkingConfig"]["thinkingBudget"] == expected


def test_a_budget_made_from_an_effort_fits_as_well() -> None:
    """The table knows nothing of the limit."""
    held = Sending(model="gemini-2.5-flash", output_max=4096)

    found = generation_config(asked(reasoning_effort="high"), held, ())

    assert found["thinkingConfig"] == {"thinkingBudget": 2048, "includeThoughts": True}


def test_formats_and_stops() -> None:
    """Plain JSON has a type only; texts and empty stops ask for nothing."""
    assert config(response_format={"type": "text"}, stop=["", "a"]) == {"stopSequences": ["a"]}
    assert config(response_format={"type": "json_object"}, n=1) == {
        "responseMimeType": "application/json"
    }


def test_more_stops_than_gemini_takes_are_cut_where_that_is_allowed() -> None:
    """With `drop_unsupported` the first five stay."""
    request = asked(stop=list("abcdefg"), n=9)

    assert generation_config(request, Sending(model="m"), ("stop", "n")) == {
        "candidateCount": 9,
        "stopSequences": list("abcde"),
    }


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "temperature": ({"temperature": "hot"}, "temperature"),
    "top_p": ({"top_p": True}, "top_p"),
    "top_k": ({"top_k": 1.5}, "top_k"),
    "seed": ({"seed": "x"}, "seed"),
    "stop": ({"stop": [5]}, "stop"),
    "top_logprobs": ({"logprobs": True, "top_logprobs": "x"}, "top_logprobs"),
    "format": ({"response_format": "json"}, "response_format"),
    "schema": (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": 5}}},
        "response_format.json_schema.schema",
    ),
    "budget": ({"thinking": {"type": "enabled", "budget_tokens": "x"}}, "thinking.budget_tokens"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_types_are_refused_by_name(name: str) -> None:
    """The refusal names the field."""
    fields, param = WRONG[name]

    with pytest.raises(InvalidRequest) as caught:
        config(**fields)

    assert caught.value.param == param


F = {"type": "function", "function": {"name": "f"}}
CHOICES: dict[str, tuple[Any, dict[str, Any]]] = {
    "auto": ("auto", {"mode": "AUTO"}),
    "none": ("none", {"mode": "NONE"}),
    "required": ("required", {"mode": "ANY"}),
    "named": (F, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    "allowed": (
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [F]}},
        {"mode": "VALIDATED", "allowedFunctionNames": ["f"]},
    ),
    "one_of": (
        {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [F]}},
        {"mode": "ANY", "allowedFunctionNames": ["f"]},
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_the_choice_of_a_tool(name: str) -> None:
    """Each of OpenAI's choices has its mode."""
    choice, expected = CHOICES[name]

    fields = tool_fields({"tools": [F], "tool_choice": choice}, ())

    assert fields["toolConfig"] == {"functionCallingConfig": expected}


def test_functions_of_old_clients_are_tools() -> None:
    """`functions` and `function_call` mean the same."""
    fields = tool_fields({"functions": [{"name": "f"}], "function_call": {"name": "f"}}, ())

    assert fields == {
        "tools": [{"functionDeclarations": [{"name": "f"}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
    }


def test_without_tools_there_is_no_choice() -> None:
    """Tools that are left out leave nothing to choose from."""
    assert tool_fields({"tools": [{"type": "custom"}], "tool_choice": "auto"}, ("tools[0]",)) == {}


@pytest.mark.parametrize(
    ("chat", "param"),
    [
        ({"tools": 5}, "tools"),
        ({"tools": [5]}, "tools[0]"),
        ({"tools": [{"function": {"name": ""}}]}, "tools[0]"),
        (
            {"tools": [{"function": {"name": "f", "parameters": []}}]},
            "tools[0].function.parameters",
        ),
        ({"tools": [F], "tool_choice": 5}, "tool_choice"),
        ({"functions": [F], "function_call": "x"}, "functions[0]"),
    ],
)
def test_wrong_tools_are_refused_by_name(chat: dict[str, Any], param: str) -> None:
    """The refusal names the tool."""
    with pytest.raises(InvalidRequest) as caught:
        tool_fields(chat, ())

    assert caught.value.param == param
