"""Embeddings of upstreams: relayed untouched, billed by their input."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_samples import any_json, golden, meter, way

from metering.usage import COUNT_MAX
from proxy.chat import ChatRequest
from proxy.errors import InvalidRequest
from proxy.passage import passage
from proxy.wire import Sending
from proxy.wire.openai_embeddings.client import parse_request
from proxy.wire.openai_embeddings.upstream import (
    cannot_carry,
    from_chat,
    read_usage,
    read_whole,
    same_format,
)

FORM = "openai_embeddings"
SAME = way(FORM, FORM)


def request(**fields: Any) -> ChatRequest:
    return parse_request(orjson.dumps({"model": "m", "input": "hello", **fields}))


@pytest.mark.parametrize(
    ("name", "tokens"), [("float.json", 8), ("base64.json", 8), ("voyage.json", 10)]
)
def test_vectors_pass_untouched(name: str, tokens: int) -> None:
    """Golden: the bytes are the upstream's own, numbers and base64 alike; usage is all there is."""
    raw, used = golden(FORM, name), meter()

    read = SAME.read_reply(raw, request(), used, created_s=1)

    assert read is not None
    assert read.body == raw
    assert used.final().units == {"input_uncached": tokens}
    assert used.final().source == "provider"
    assert used.final().suspect is None


def test_without_usage_our_count_is_billed() -> None:
    """A server that reports nothing is billed by the input as we counted it."""
    used = meter(7)

    SAME.read_reply(b'{"data": [], "model": "m"}', request(), used, created_s=1)

    assert used.final().units == {"input_uncached": 7}
    assert used.final().source == "counted"


def test_more_vectors_than_are_parsed_are_billed_by_their_usage() -> None:
    """An answer of more numbers than are built in memory passes, and its size is no output."""
    vector = b'{"object":"embedding","index":0,"embedding":[' + b"0.1," * 300_000 + b"0.1]}"
    raw = b'{"object":"list","data":[%s],"model":"m","usage":{"prompt_tokens":8,"total_tokens":8}}'
    used, silent = meter(7), meter(7)

    read = SAME.read_reply(raw % vector, request(), used, created_s=1)
    SAME.read_reply(b'{"data":[%s]}' % vector, request(), silent, created_s=1)

    assert read is not None
    assert read.body == raw % vector
    assert used.final().units == {"input_uncached": 8}
    assert silent.final().units == {"input_uncached": 7}


def test_the_body_is_the_one_that_was_priced() -> None:
    """Only the model's name is changed: there is no output to bound."""
    asked = request(dimensions=256, encoding_format="base64", user="u", truncate="END")

    assert same_format(asked, Sending("up", output_max=5, instruct="Be brief.")) == {
        **asked.body,
        "model": "up",
    }


def test_there_is_no_way_to_or_from_a_chat() -> None:
    """Vectors of another model are no substitute, and a chat has none."""
    assert passage("openai_chat", (FORM,)) is None
    assert passage(FORM, ("openai_chat",)) is None
    assert cannot_carry({}) == ("messages",)
    with pytest.raises(InvalidRequest):
        from_chat(request(), Sending("up"))


@pytest.mark.parametrize("lie", [-1, COUNT_MAX + 1, 1e308, 1.0, "12", True, [], {}], ids=repr)
def test_a_lying_count_is_not_believed(lie: object) -> None:
    """A count that cannot be is left out and said to be suspect."""
    assert read_usage({"prompt_tokens": lie}).suspect is not None
    assert read_usage({"total_tokens": lie}).suspect is not None
    assert read_usage({"prompt_tokens": lie}).input is None


def test_an_odd_total_is_doubted_and_nothing_is_no_report() -> None:
    """A total that is not the prompt is billed by the prompt; null is not zero."""
    assert read_usage({"prompt_tokens": 5, "total_tokens": 6}).doubt is not None
    assert read_usage({"prompt_tokens": 5, "total_tokens": 6}).input == {"input_uncached": 5}
    assert read_usage({"prompt_tokens": None}).input is None
    assert read_usage({"prompt_tokens": 0}).input == {"input_uncached": 0}


@given(st.integers(0, COUNT_MAX))
def test_classes_sum_to_the_total(tokens: int) -> None:
    """The total is the input, however it is told."""
    for usage in ({"prompt_tokens": tokens, "total_tokens": tokens}, {"total_tokens": tokens}):
        reported = read_usage(usage)
        assert sum((reported.input or {}).values()) == tokens
        assert reported.output == {}
        assert reported.doubt is None


@given(any_json("data", "embedding", "usage", "prompt_tokens", "total_tokens", "model", "error"))
def test_hostile_answers_are_relayed_or_refused(value: Any) -> None:
    """Any JSON at all is metered without a failure; what is no list of vectors is no answer."""
    raw, used = orjson.dumps(value), meter()

    read = SAME.read_reply(raw, request(), used, created_s=1)

    assert used.final().counted == {"input_uncached": 7}
    if isinstance(value, dict):
        assert (read is None) is (read_whole(value, request(), created_s=1) is None)
        read_usage(value)
