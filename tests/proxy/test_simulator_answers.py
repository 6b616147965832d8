"""The simulator's answers: whatever is in a request, it is counted and answered."""

from __future__ import annotations

from typing import Any

import pytest

from metering.tokenizer import load_encoding
from proxy.simulator_answers import BadRequestError, answer, tier_of
from proxy.simulator_chunks import Envelope, chunks, completion
from proxy.simulator_faults import behaviour_of

BLANKS = " " * 1_000_000
"""So many blanks in a row crash tiktoken when it gets them in one call."""


def _tool(name: str, **schema: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": schema}}


HARD_TO_COUNT: dict[str, dict[str, Any]] = {
    "prompt": {"messages": [{"role": "user", "content": BLANKS}]},
    "tool_name": {"tools": [_tool(BLANKS)], "tool_choice": "required"},
    "property": {"tools": [_tool("f", properties={BLANKS: {}})], "tool_choice": "required"},
}


@pytest.mark.parametrize("name", HARD_TO_COUNT)
def test_a_million_blanks(name: str) -> None:
    """A text that the tokenizer cannot take in one piece is counted all the same."""
    request = {"messages": [{"role": "user", "content": "hi"}], **HARD_TO_COUNT[name]}
    behaviour = behaviour_of("demo")
    assert behaviour is not None
    encoding = load_encoding("o200k_base")

    said = answer(request, behaviour, encoding)

    assert said.prompt_tokens > 1000
    assert all(choice.text or choice.call for choice in said.choices)


def test_long_arguments_come_whole() -> None:
    """The pieces of long tool arguments add up to the arguments."""
    key = "weir dam " * 5000
    tools = [_tool("f", properties={key: {"type": "integer"}})]
    request = {
        "messages": [{"role": "user", "content": "hi"}],
        "tools": tools,
        "tool_choice": "required",
    }
    behaviour = behaviour_of("demo")
    assert behaviour is not None

    [choice] = answer(request, behaviour, load_encoding("o200k_base")).choices

    assert choice.call is not None
    assert choice.text == choice.call.arguments
    assert key in choice.text


@pytest.mark.parametrize(
    ("asked", "told"),
    [({}, "default"), ({"service_tier": "auto"}, "default"), ({"service_tier": "flex"}, "flex")],
)
def test_the_tier_that_was_asked_for_serves(asked: dict[str, Any], told: str) -> None:
    """It is on the answer and on every chunk; the usual one where none is named."""
    behaviour = behaviour_of("demo")
    assert behaviour is not None
    request = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}], **asked}
    said = answer(request, behaviour, load_encoding("o200k_base"))
    envelope = Envelope("c", 1, "demo", tier_of(request))

    sent = list(chunks(said, envelope, include_usage=True))

    assert completion(said, envelope)["service_tier"] == told
    assert {each["service_tier"] for each in sent} == {told}


def test_a_tier_is_a_word() -> None:
    """As OpenAI has it: anything else is refused by its name."""
    with pytest.raises(BadRequestError) as refused:
        tier_of({"service_tier": 1})

    assert refused.value.param == "service_tier"
