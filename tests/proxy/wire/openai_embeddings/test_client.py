"""Embeddings from clients: read, held for their input alone, counted."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_samples import any_json, read_or_refused

from metering.tokenizer import tokenizer_for
from proxy.error_words import ErrorWords
from proxy.errors import InvalidRequest
from proxy.wire import client_format, client_formats
from proxy.wire.openai_embeddings.client import (
    VALUES_MAX,
    error_body,
    error_event,
    parse_request,
    prompt_tokens,
)

FORM = "openai_embeddings"
ADA = tokenizer_for("text-embedding-3-small")


def request(value: Any = "hello world", **fields: Any) -> bytes:
    return orjson.dumps({"model": "text-embedding-3-small", "input": value, **fields})


REFUSED = {
    "no_model": (b'{"input": "a"}', "model"),
    "no_input": (b'{"model": "m"}', "input"),
    "empty_input": (request([]), "input"),
    "object_input": (request({"text": "a"}), "input"),
    "mixed_input": (request(["a", 1]), "input"),
    "streamed": (request(stream=True), "stream"),
    "no_dimensions": (request(dimensions=0), "dimensions"),
    "text_dimensions": (request(dimensions="256"), "dimensions"),
    "other_encoding": (request(encoding_format="int8"), "encoding_format"),
    "list_encoding": (request(encoding_format=["float"]), "encoding_format"),
    "user_number": (request(user=1), "user"),
    "too_full": (request([1] * VALUES_MAX), None),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_request_is_refused_by_name(name: str) -> None:
    """What cannot be priced is refused, and `param` names the field."""
    raw, param = REFUSED[name]

    with pytest.raises(InvalidRequest) as caught:
        parse_request(raw)

    assert caught.value.param == param


def test_it_is_found_where_clients_look() -> None:
    """The format is one that clients may speak, has its path, and is never translated."""
    assert FORM in client_formats()
    assert client_format(FORM).PATH == "/v1/embeddings"
    assert not client_format(FORM).TRANSLATES


def test_no_output_is_held() -> None:
    """The hold covers the input alone, whatever is held where no limit is set."""
    assert parse_request(request()).output_bound(default_output_tokens=4096) == 0


@pytest.mark.parametrize(
    ("value", "tokens"),
    [("hello world", 2), (["hello world", "hello"], 3), ([1, 2, 3], 3), ([[1, 2, 3], [4]], 4)],
    ids=str,
)
def test_inputs_are_counted_without_a_frame(value: Any, tokens: int) -> None:
    """The text alone, and tokens by their number."""
    parsed = parse_request(request(value, dimensions=256, encoding_format="base64"))

    assert prompt_tokens(parsed, ADA, "text-embedding-3-small") == tokens


def test_as_many_tokens_as_openai_takes_are_taken() -> None:
    """300,000 numbers, as LangChain sends them, are within the bound that is this format's own."""
    parsed = parse_request(request([[1] * 300] * 1000))

    assert prompt_tokens(parsed, ADA, "m") == 300_000


def test_errors_are_openais() -> None:
    """A refusal looks as OpenAI's do."""
    words = ErrorWords(404, "No such model.", "invalid_request_error", "model_not_found", "model")

    assert orjson.loads(error_body(words, "r"))["error"]["param"] == "model"
    assert error_event(words, "r") == b"data: " + error_body(words, "r") + b"\n\n"


_FIELDS = ("input", "dimensions", "encoding_format", "stream", "user")


@given(
    st.fixed_dictionaries({"model": st.just("m")}, optional={name: any_json() for name in _FIELDS})
)
def test_hostile_requests_are_read_or_refused(body: dict[str, Any]) -> None:
    """Any JSON is either refused by name or can be counted."""
    parsed = read_or_refused(parse_request, body)

    assert parsed is not None
    if isinstance(parsed, str):
        return
    assert prompt_tokens(parsed, ADA, "m") >= 0
