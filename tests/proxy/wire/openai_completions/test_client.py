"""Legacy completions from clients: read, held, counted, said as a chat, and answered."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_samples import any_json, golden, golden_json, read_cut, read_or_refused, way

from metering.tokenizer import tokenizer_for
from proxy.chat import UNSUPPORTED
from proxy.error_words import ErrorWords
from proxy.errors import InvalidRequest
from proxy.wire import Sending, client_format, client_formats, upstream_format
from proxy.wire.openai_completions.client import (
    error_body,
    error_event,
    parse_request,
    prompt_tokens,
    write_whole,
    writer,
)

FORM = "openai_completions"
INSTRUCT = tokenizer_for("gpt-3.5-turbo-instruct")
UNITS = {"input_uncached": 9, "output_text": 2}


def request(prompt: Any = "Say this", **fields: Any) -> bytes:
    return orjson.dumps({"model": "gpt-3.5-turbo-instruct", "prompt": prompt, **fields})


REFUSED = {
    "not_json": (b"{", None),
    "list": (b"[]", None),
    "no_model": (b'{"prompt": "a"}', "model"),
    "no_prompt": (b'{"model": "m"}', "prompt"),
    "null_prompt": (request(None), "prompt"),
    "number_prompt": (request(5), "prompt"),
    "no_prompts": (request([]), "prompt"),
    "empty_tokens": (request([[]]), "prompt"),
    "mixed": (request(["a", [1]]), "prompt"),
    "negative_token": (request([1, -1]), "prompt"),
    "huge_token": (request([2**32]), "prompt"),
    "bool_token": (request([True]), "prompt"),
    "nested_deeper": (request([[[1]]]), "prompt"),
    "too_many_choices": (request(["a"] * 129, stream=True), "prompt"),
    "far_too_many": (request(["a"] * 1025, n=2), "prompt"),
    "stream_string": (request(stream="yes"), "stream"),
    "options_list": (request(stream_options=[]), "stream_options"),
    "negative_max": (request(max_tokens=-1), "max_tokens"),
    "float_max": (request(max_tokens=1.5), "max_tokens"),
    "zero_n": (request(n=0), "n"),
    "wrong_best_of": (request(best_of="2"), "best_of"),
    "echo_text": (request(echo="true"), "echo"),
    "echo_of_tokens_streamed": (request([1, 2], echo=True, stream=True), "echo"),
    "suffix_list": (request(suffix=[]), "suffix"),
    "user_number": (request(user=5), "user"),
    "another_limit": (
        request(max_tokens=1, max_completion_tokens=9000),
        "max_completion_tokens",
    ),
    "llama_cpps_limit": (request(n_predict=-1), "n_predict"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_request_is_refused_by_name(name: str) -> None:
    """What cannot be priced or metered is refused, and `param` names the field."""
    raw, param = REFUSED[name]

    with pytest.raises(InvalidRequest) as caught:
        parse_request(raw)

    assert caught.value.param == param


def test_it_is_found_where_clients_look() -> None:
    """The format is one of those that clients may speak, and has its path."""
    assert FORM in client_formats()
    assert client_format(FORM).PATH == "/v1/completions"
    assert client_format(FORM).TRANSLATES


@pytest.mark.parametrize(
    ("fields", "bound"),
    [
        ({}, 16),
        ({"max_tokens": None}, 16),
        ({"max_tokens": 0}, 0),
        ({"max_tokens": 100}, 100),
        ({"max_tokens": 100, "n": 3}, 300),
        ({"max_tokens": 100, "n": 2, "best_of": 5}, 500),
        ({"max_tokens": 100, "n": 2, "prompt": ["a", "b", "c"]}, 600),
        ({"max_tokens": 100, "prompt": [[1], [2, 3]]}, 200),
        ({"max_tokens": 100, "prompt": [1, 2, 3]}, 100),
    ],
    ids=str,
)
def test_the_hold_covers_every_candidate(fields: dict[str, Any], bound: int) -> None:
    """16 tokens where no limit is set, for each prompt and each candidate of it."""
    parsed = parse_request(request(**fields))

    assert parsed.output_bound(default_output_tokens=4096) == bound


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ("hello world", 2),
        (["hello world", "hello"], 3),
        ([1, 2, 3], 3),
        ([[1, 2, 3], [4]], 4),
        ("", 0),
    ],
    ids=str,
)
def test_a_prompt_is_counted_without_a_frame(prompt: Any, tokens: int) -> None:
    """The text alone, and tokens by their number, which no factor changes."""
    parsed = parse_request(request(prompt))

    assert prompt_tokens(parsed, INSTRUCT, "gpt-3.5-turbo-instruct") == tokens
    if isinstance(prompt, list) and not isinstance(prompt[0], str):
        assert prompt_tokens(parsed, tokenizer_for("claude-3"), "claude-3") == tokens


def test_a_suffix_is_part_of_the_prompt() -> None:
    """What the model is to write towards, it reads."""
    parsed = parse_request(request("hello world", suffix=" hello"))

    assert prompt_tokens(parsed, INSTRUCT, "m") == 3


def test_a_plain_prompt_is_a_users_message() -> None:
    """A text becomes one message; all that a chat has, too, stays."""
    fields = {"temperature": 0.5, "stop": ["\n"], "seed": 7, "top_k": 5, "user": "u"}
    parsed = parse_request(request(**fields, best_of=1, logprobs=None))

    assert parsed.chat == {
        "model": "gpt-3.5-turbo-instruct",
        "messages": [{"role": "user", "content": "Say this"}],
        "max_tokens": 16,
        **fields,
    }


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"prompt": ["a", "b"]}, ["prompt"]),
        ({"prompt": [1]}, ["prompt"]),
        ({"prompt": ["a"]}, None),
        ({"echo": True}, ["echo"]),
        ({"echo": False}, None),
        ({"suffix": "x"}, ["suffix"]),
        ({"suffix": ""}, None),
        ({"logprobs": 0}, ["logprobs"]),
        ({"best_of": 2}, ["best_of"]),
        ({"best_of": 2, "n": 2}, None),
        ({"max_tokens": 0}, ["max_tokens"]),
        ({"echo": True, "logprobs": 1}, ["echo", "logprobs"]),
        ({UNSUPPORTED: ["temperature"]}, None),
        ({"models": ["dear"], "messages": [], "thinking": None}, ["models", "messages"]),
        ({"echo": True, "service_tier": "priority"}, ["echo", "service_tier"]),
        ({f"x{each}": 1 for each in range(50)}, [f"x{each}" for each in range(16)]),
    ],
    ids=str,
)
def test_what_a_chat_cannot_say_is_named(fields: dict[str, Any], named: list[str] | None) -> None:
    """The names stand in the neutral form, by us alone, and go to no upstream."""
    parsed = parse_request(request(**fields))
    sent = upstream_format("openai_chat").from_chat(parsed, Sending("up"))

    assert parsed.chat.get(UNSUPPORTED) == named
    assert UNSUPPORTED not in sent
    assert {"models", "thinking", "service_tier", "x0", "x49"}.isdisjoint(sent)


@pytest.mark.parametrize("prompt", [["a", "b"], [1], [[1]]], ids=str)
def test_a_prompt_that_cannot_be_said_is_never_said_in_part(prompt: Any) -> None:
    """Even where what is unsupported is dropped, no half of a prompt is answered."""
    assert parse_request(request(prompt)).chat["messages"] == []


def test_a_chats_answer_is_written_as_a_completion() -> None:
    """Golden: chunks of a chat become completion chunks; roles and thinking are none."""
    parsed = parse_request(request(stream=True, stream_options={"include_usage": True}))
    chunks = golden(FORM, "from_chat.chunks.sse")
    expected = golden(FORM, "from_chat.sse")

    for cut in range(len(chunks)):
        relayed, tail, reader, used = read_cut(way(FORM, "openai_chat"), parsed, chunks, cut)
        assert relayed + tail == expected.replace(
            b'"prompt_tokens":9,"completion_tokens":2,"total_tokens":11',
            b'"prompt_tokens":7,"completion_tokens":4,"total_tokens":11,'
            b'"completion_tokens_details":{"reasoning_tokens":2}',
        )
        assert reader.reply.is_finished
        assert used.final().source == "counted"


def test_a_whole_answer_is_written_as_a_completion() -> None:
    """Golden: messages become texts, a refusal among them."""
    written = write_whole(golden_json(FORM, "from_chat.chat.json"), UNITS, parse_request(request()))

    assert written == golden_json(FORM, "from_chat.json")


def test_the_end_tells_usage_only_when_asked() -> None:
    """Without `include_usage` there is no usage chunk, and a failure writes nothing here."""
    quiet = writer(parse_request(request(stream=True)))

    assert quiet.write({"error": {"message": "x"}, "choices": []}) == b""
    assert quiet.end(UNITS) == b"data: [DONE]\n\n"


def test_an_upstream_cannot_say_what_is_not_metered() -> None:
    """The field in which we keep a completion's own text is ours: JSON cannot fill it."""
    choice = {"index": 0, "x_completion": {"text": "free"}, "finish_reason": None}
    told = writer(parse_request(request(stream=True))).write(
        {"choices": [{**choice, "delta": {"content": "paid"}}]}
    )

    assert b"paid" in told
    assert b"free" not in told


def test_errors_are_openais() -> None:
    """A refusal and a failure in mid-stream look as OpenAI's do."""
    words = ErrorWords(429, "Too much.", "requests", "rate_limit_exceeded")

    assert orjson.loads(error_body(words, "r"))["error"]["code"] == "rate_limit_exceeded"
    assert error_event(words, "r") == b"data: " + error_body(words, "r") + b"\n\n"


_FIELDS = (
    *("prompt", "n", "best_of", "max_tokens", "echo", "suffix", "logprobs"),
    *("stream", "stream_options", "user"),
)


@given(
    st.fixed_dictionaries(
        {"model": st.just("m")}, optional={name: any_json("include_usage") for name in _FIELDS}
    )
)
def test_hostile_requests_are_read_or_refused(body: dict[str, Any]) -> None:
    """Any JSON is either refused by name, or can be counted, held and sent."""
    parsed = read_or_refused(parse_request, body)

    assert parsed is not None
    if isinstance(parsed, str):
        return
    assert prompt_tokens(parsed, INSTRUCT, "m") >= 0
    assert parsed.output_bound(1) >= 0
    orjson.dumps(upstream_format(FORM).same_format(parsed, Sending("m", output_max=5)))


@given(any_json("choices", "delta", "message", "content", "refusal", "index", "finish_reason"))
def test_hostile_answers_can_be_written(answer: Any) -> None:
    """Whatever a source makes of its upstream is written without a failure."""
    shape = answer if isinstance(answer, dict) else {"choices": answer}

    writer(parse_request(request(stream=True))).write(shape)
    orjson.dumps(write_whole(shape, UNITS, parse_request(request())))
