"""What a request needs to have its stream continued, and what the next upstream is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from continued_samples import SAID, asked, continuable

from metering.caps import Vector
from proxy.continuable import INSTRUCTION, may_continue
from routing.upstreams import Upstream


@pytest.mark.parametrize(
    ("client", "fields", "may"),
    [
        ("openai_chat", {}, True),
        ("openai_chat", {"n": 1, "response_format": {"type": "text"}}, True),
        ("openai_chat", {"tools": [{"type": "function", "function": {"name": "f"}}]}, True),
        ("openai_chat", {"modalities": ["text"]}, True),
        ("anthropic_messages", {}, True),
        ("openai_chat", {"stream": False}, False),
        ("openai_chat", {"n": 2}, False),
        ("openai_chat", {"best_of": 2}, False),
        ("openai_chat", {"response_format": {"type": "json_object"}}, False),
        ("openai_chat", {"logprobs": True}, False),
        ("openai_chat", {"audio": {"voice": "alloy"}}, False),
        ("openai_chat", {"modalities": ["text", "audio"]}, False),
        ("openai_completions", {"prompt": "hi"}, False),
        ("openai_responses", {"input": "hi"}, False),
    ],
)
def test_who_may_be_continued(client: str, fields: dict[str, Any], may: bool) -> None:
    """One stream of text, in a format that can be gone on with."""
    assert may_continue(asked(client, **fields)) is may


def test_what_may_name_objects_stays() -> None:
    """What is kept at a provider is nowhere else."""
    assert may_continue(replace(asked(), may_refer=True)) is False


@pytest.mark.parametrize(
    ("provider", "is_beginning"), [("one", False), ("two", True), ("three", False), ("four", True)]
)
def test_what_is_asked(provider: str, is_beginning: bool) -> None:
    """Older Claudes go on with what they began, others are told to; blanks at the end go."""
    found, options = continuable(asked())

    messages = found.request_for(options[provider], SAID).body["messages"]

    assert messages[1] == {"role": "assistant", "content": SAID.rstrip()}
    assert messages[2:] == ([] if is_beginning else [{"role": "user", "content": INSTRUCTION}])


@pytest.mark.parametrize("fields", [{"reasoning_effort": "low"}, {"thinking": {"type": "enabled"}}])
def test_who_thinks_is_told(fields: dict[str, Any]) -> None:
    """A thought would have to come before the beginning of an answer."""
    found, options = continuable(asked(**fields))
    assert found.request_for(options["two"], SAID).body["messages"][-1]["content"] == INSTRUCTION


def test_both_forms_of_a_request_have_it() -> None:
    """What is relayed and what is translated are the same conversation."""
    found, options = continuable(asked("anthropic_messages"))
    request = found.request_for(options["one"], SAID)
    assert len(request.body["messages"]) == len(request.chat["messages"]) == 3


def test_without_a_word_the_request_is_the_same() -> None:
    """Nothing was said that could be said twice."""
    found, options = continuable(asked())
    assert found.request_for(options["one"], " \n") is found.request


def test_the_option_holds_what_was_spent() -> None:
    """Prompt and text so far, what is left of the answer, and what the first part cost."""
    found, options = continuable(asked())
    spent = Vector(1_000, 20, 0)

    plain = found.option(options["one"], SAID, left=40, spent=Vector())
    made = found.option(options["one"], SAID, left=40, spent=spent)

    assert plain is not None
    assert made is not None
    assert made.changes.max_tokens == made.output_tokens == 40
    assert made.prompt_tokens > options["one"].prompt_tokens
    assert made.hold == Vector(plain.hold.nano + 1_000, plain.hold.tokens + 20, 1)
    assert made.elastic is not None
    assert made.elastic.base.nano == plain.hold.nano - 40 * 4_000 + 1_000
    assert made.spent == spent


def test_an_upstream_of_another_route() -> None:
    """One that the route does not know cannot be priced."""
    found, options = continuable(asked())
    stranger = replace(options["one"], upstream=Upstream("nine", "x", "x"))
    assert found.option(stranger, SAID, left=None, spent=Vector()) is None
    assert found.request_for(stranger, SAID) is found.request
