"""Legacy completions of upstreams: sent with a limit, relayed untouched, metered without echo."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_samples import any_json, golden, meter, read_cut, way

from proxy.chat import ChatRequest
from proxy.errors import InvalidRequest
from proxy.passage import passage
from proxy.wire import Sending, upstream_format
from proxy.wire.openai_completions.client import parse_request
from proxy.wire.openai_completions.upstream import (
    cannot_carry,
    from_chat,
    read_whole,
    same_format,
    source,
)

FORM = "openai_completions"
SAME = way(FORM, FORM)
DONE = b"data: [DONE]\n\n"


def request(prompt: Any = "Say this", **fields: Any) -> ChatRequest:
    return parse_request(orjson.dumps({"model": "gpt-4o", "prompt": prompt, **fields}))


STREAMS: dict[str, tuple[ChatRequest, dict[str, int], str]] = {
    "plain.sse": (
        request(stream=True, stream_options={"include_usage": True}),
        {"input_uncached": 5, "output_text": 7},
        "length",
    ),
    "two_prompts.sse": (
        request(["a", "b"], stream=True, stream_options={"include_usage": True}),
        {"input_uncached": 8, "output_text": 9},
        "stop",
    ),
    "continuous.sse": (
        request(stream=True),
        {"input_uncached": 1, "input_cache_read": 4, "output_text": 3},
        "stop",
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_streams_are_relayed_and_metered_however_they_are_cut(name: str) -> None:
    """Golden: the bytes are the upstream's own, the usage its last, at every cut."""
    asked, units, reason = STREAMS[name]
    stream = golden(FORM, name)

    for cut in range(len(stream)):
        relayed, tail, reader, used = read_cut(SAME, asked, stream, cut)
        assert relayed + tail == stream
        assert tail == DONE
        assert reader.reply.finish_reason == reason
        assert reader.reply.is_finished
        assert used.final().units == units
        assert used.final().source == "provider"


def test_an_injected_usage_chunk_is_taken_out() -> None:
    """A client that did not ask for usage does not get its chunk."""
    stream = golden(FORM, "plain.sse")

    relayed, tail, _, used = read_cut(SAME, request(stream=True), stream)

    assert b'"usage"' not in relayed + tail
    assert used.final().units == {"input_uncached": 5, "output_text": 7}


@pytest.mark.parametrize("name", ["plain.sse", "two_prompts.sse", "continuous.sse"])
def test_a_stream_that_breaks_off_is_metered(name: str) -> None:
    """What came is billed: what was counted, or reported if that is more."""
    asked, _, _ = STREAMS[name]
    stream = golden(FORM, name)
    middle = stream.index(b"\n\n") + 2

    _, _, reader, used = read_cut(SAME, asked, stream[:middle])

    assert not reader.reply.is_finished
    assert used.final().units["output_text"] > 0


def test_an_error_in_mid_stream_fails_it() -> None:
    """Golden: the error is relayed, and no end comes of it."""
    stream = golden(FORM, "error.sse")

    relayed, _, reader, used = read_cut(SAME, request(stream=True), stream)

    assert relayed == stream
    assert reader.reply.error is not None
    assert not reader.reply.is_finished
    assert used.final().units["output_text"] == 2


def test_an_echo_is_relayed_and_is_no_output() -> None:
    """Golden: the prompt before the answer is not counted, wherever the chunks cut it."""
    stream = golden(FORM, "echo.sse")
    asked = request("Say this is a test.", echo=True, stream=True)
    without_usage = stream[: stream.index(b'data: {"id"', stream.index(b'"stop"'))]

    for cut in range(len(without_usage)):
        relayed, _, _, used = read_cut(SAME, asked, without_usage, cut)
        assert relayed == without_usage
        assert used.final().counted["output_text"] == 5  # " Yes, it is."


def test_the_echo_of_tokens_is_known_by_their_text() -> None:
    """Where the model's encoding is known, tokens are read; otherwise their echo is counted."""
    choices = [{"text": "hello world!", "index": 0, "finish_reason": "stop"}]
    tokens = [24912, 2375]

    def said(asked: ChatRequest) -> Any:
        answer = read_whole({"choices": choices}, asked, created_s=1) or {}
        return answer["choices"][0]["message"]["content"]

    assert said(request(tokens, echo=True)) == "!"
    assert said(request([2**31, 5], echo=True)) == "hello world!"
    assert said(request(tokens, echo=True, model="fast")) == "hello world!"
    assert said(request(tokens)) == "hello world!"


def test_what_is_no_echo_is_counted() -> None:
    """An answer that leaves its prompt is output from there on; so is one of no known prompt."""
    reading = source(request("abcdef", echo=True, stream=True), created_s=1)

    def said(text: str, index: int = 0) -> Any:
        chunk = reading.read({"choices": [{"text": text, "index": index}]}).chunks[0]
        return chunk["choices"][0]["delta"]["content"]

    assert [said("abc"), said("xyz"), said("def")] == ["", "xyz", "def"]
    assert said("abc", index=1) == "abc"
    assert said("abc", index=-1) == "abc"


@pytest.mark.parametrize(
    ("name", "units", "reason"),
    [
        ("plain.json", {"input_uncached": 5, "output_text": 7}, "length"),
        ("logprobs.json", {"input_uncached": 4, "output_text": 1}, "stop"),
        ("filtered.json", {"input_uncached": 4}, "content_filter"),
    ],
)
def test_whole_answers_are_metered_as_they_come(
    name: str, units: dict[str, int], reason: str
) -> None:
    """Golden: untouched bytes, and the provider's usage."""
    raw, used = golden(FORM, name), meter()

    read = SAME.read_reply(raw, request(), used, created_s=1)

    assert read is not None
    assert read.body == raw
    assert read.reply.finish_reason == reason
    assert used.final().units == units


def test_a_whole_answer_to_a_streamed_request_is_told_as_a_stream() -> None:
    """Of an upstream that does not stream: with its echo and logprobs, metered without them."""
    logprobs = {"tokens": ["hello"], "text_offset": [8]}
    choice = {"text": "Say this hello", "index": 0, "finish_reason": "stop", "logprobs": logprobs}
    used = meter()

    read = SAME.read_reply(
        orjson.dumps({"id": "cmpl-1", "choices": [choice]}),
        request(stream=True, echo=True, logprobs=1),
        used,
        created_s=1,
    )

    assert read is not None
    assert orjson.loads(read.body[6:])["choices"] == [choice]
    assert read.tail == DONE
    assert used.final().units == {"input_uncached": 7, "output_text": 1}


def test_without_usage_the_text_is_counted() -> None:
    """Every choice of a whole answer counts."""
    choices = [{"text": "hello world", "index": at, "finish_reason": "stop"} for at in (0, 1)]
    used = meter(3)

    SAME.read_reply(orjson.dumps({"choices": choices}), request(n=2), used, created_s=1)

    assert used.final().units == {"input_uncached": 3, "output_text": 4}


@pytest.mark.parametrize(
    ("fields", "output_max", "sent"),
    [
        ({}, None, 16),
        ({}, 4, 4),
        ({"max_tokens": 100}, None, 100),
        ({"max_tokens": 100}, 40, 40),
        ({"max_tokens": 10}, 40, 10),
        ({"max_tokens": 0}, None, 0),
        ({"max_tokens": None}, None, 16),
    ],
    ids=str,
)
def test_a_limit_is_always_sent(fields: dict[str, Any], output_max: int | None, sent: int) -> None:
    """What was held is what the upstream is told, whatever its own default is."""
    asked = request(**fields)

    body = same_format(asked, Sending("up", output_max=output_max))

    assert body["max_tokens"] == sent
    assert body["model"] == "up"
    assert asked.body.get("max_tokens") == fields.get("max_tokens")


def test_usage_is_asked_for_whatever_the_client_said() -> None:
    """A stream's usage is asked for beside other options; a whole answer has it anyway."""
    asked = request(stream=True, stream_options={"include_usage": False, "other": 1})

    body = same_format(asked, Sending("up"))

    assert body["stream_options"] == {"include_usage": True, "other": 1}
    assert "stream_options" not in same_format(request(), Sending("up"))
    assert "stream_options" not in same_format(
        request(stream=True), Sending("up", inject_usage=False)
    )


def test_a_chat_cannot_be_sent_as_a_completion() -> None:
    """There is no way from a chat to a completion, and none is offered."""
    assert passage("openai_chat", (FORM,)) is None
    assert cannot_carry({"messages": []}) == ("messages",)
    with pytest.raises(InvalidRequest):
        from_chat(request(), Sending("up"))


def test_we_end_a_stream_as_the_model_would() -> None:
    """A cut answer gets `length` for each open choice and, if asked for, what is billed."""
    asked = request(["a", "b"], stream=True, stream_options={"include_usage": True})
    used = meter()
    reader = SAME.reader(asked, used, created_s=1)
    reader.feed(golden(FORM, "two_prompts.sse").partition(b"\n\n")[0] + b"\n\n")

    *ends, usage, done, _ = reader.end_softly().split(b"\n\n")

    assert done == DONE.strip()
    for index, end in enumerate(ends):
        chunk = orjson.loads(end[6:])
        assert chunk["id"] == "cmpl-7QmVI15qgYVllxK0FtxVGG6ywfzaq"
        assert chunk["choices"] == [
            {"text": "", "index": index, "logprobs": None, "finish_reason": "length"}
        ]
    assert orjson.loads(usage[6:])["usage"]["prompt_tokens"] == 7


@pytest.mark.parametrize("raw", [b"<html>", b"[]", b"{}", b'{"choices": {}}'])
def test_nonsense_is_no_reply(raw: bytes) -> None:
    """What is not a completion is not passed off as one."""
    assert SAME.read_reply(raw, request(), meter(), created_s=1) is None


NAMES = ("choices", "text", "index", "finish_reason", "usage", "prompt_tokens", "error", "logprobs")


@given(st.lists(any_json(*NAMES), max_size=3), st.booleans())
def test_hostile_answers_are_relayed(values: list[Any], is_echoed: bool) -> None:
    """Any JSON at all is metered without a failure, streamed or whole."""
    asked = request("ab", stream=True, echo=is_echoed)
    stream = b"".join(b"data: " + orjson.dumps(each) + b"\n\n" for each in values)

    relayed, tail, _, used = read_cut(SAME, asked, stream)

    assert len(relayed + tail) <= len(stream)
    assert used.final().counted
    for each in values:
        SAME.read_reply(orjson.dumps(each), asked, meter(), created_s=1)
        if isinstance(each, dict):
            upstream_format(FORM).read_usage(each)
