"""Gemini upstream: golden requests, answers and streams, in both directions and cut anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from format_samples import CREATED_S, asked, way

from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from proxy.errors import InvalidRequest
from proxy.stream_reader import StreamReader
from proxy.wire import Sending, upstream_format
from proxy.wire.gemini import upstream

GOLDEN = Path(__file__).parents[1] / "golden" / "gemini"
REQUESTS = sorted(GOLDEN.glob("request_*.json"))
ANSWERS = sorted(GOLDEN.glob("answer_*.json"))
STREAMS = sorted(GOLDEN.glob("stream_*.json"))


def name_of(path: Path) -> str:
    return path.stem


def golden(path: Path) -> dict[str, Any]:
    found = orjson.loads(path.read_bytes())
    assert isinstance(found, dict)
    return found


def meter() -> Meter:
    return Meter(tokenizer_for("gpt-4o"), 99)


class CollectingWriter:
    """Keeps the chunks that a client's writer is given."""

    def __init__(self) -> None:
        self.chunks: list[dict[str, Any]] = []

    def write(self, chunk: dict[str, Any]) -> bytes:
        self.chunks.append(chunk)
        return b"."

    def end(self, units: Any) -> bytes:
        return b"end"


def collecting(choices: int, used: Meter) -> tuple[StreamReader, CollectingWriter]:
    writer = CollectingWriter()
    request = asked(stream=True, n=choices)
    source = upstream.source(request, created_s=CREATED_S)
    reader = StreamReader(source, upstream.decoder(), used, writer=writer, choices=choices)
    return reader, writer


def test_it_is_an_upstream_format() -> None:
    """It is found by its name, with all that the contract asks for."""
    found = upstream_format("gemini")

    assert found.TRANSLATES
    assert found.USAGE_FIELD == "usageMetadata"


@pytest.mark.parametrize("path", REQUESTS, ids=name_of)
def test_a_request_in_geminis_words(path: Path) -> None:
    """A chat request becomes this body, and stays itself what it was."""
    case = golden(path)
    request = asked(**case["chat"])
    sending = Sending(model=case["chat"]["model"])

    assert upstream.cannot_carry(request.chat) == []
    assert upstream.from_chat(request, sending) == case["body"]
    assert upstream.same_format(request, sending) == case["body"]
    assert request.chat == case["chat"]


@pytest.mark.parametrize("path", ANSWERS, ids=name_of)
def test_an_answer_in_openais_words(path: Path) -> None:
    """A whole answer becomes this completion, metered by what Gemini reports."""
    case, used = golden(path), meter()
    request = asked(n=case["request"]["choices"])
    raw = orjson.dumps(case["answer"])

    read = way(upstream="gemini").read_reply(raw, request, used, created_s=CREATED_S)

    assert upstream.read_whole(case["answer"], request, created_s=CREATED_S) == case["completion"]
    assert read is not None
    assert orjson.loads(read[1])["choices"] == case["completion"]["choices"]
    assert used.final().units == case["units"]
    assert sum(case["units"].values()) == case["answer"]["usageMetadata"]["totalTokenCount"]
    assert (used.final().source, used.final().suspect) == ("provider", None)


@pytest.mark.parametrize("path", STREAMS, ids=name_of)
def test_a_stream_in_openais_words_wherever_it_is_cut(path: Path) -> None:
    """A stream becomes these chunks, and the same ones however its bytes come."""
    case, raw = golden(path), path.with_suffix(".sse").read_bytes()
    shared = ("id", "object", "created", "model")

    for cut in range(len(raw) + 1):
        reader, writer = collecting(case["request"]["choices"], used := meter())
        reader.feed(raw[:cut])
        reader.feed(raw[cut:])
        reader.flush()

        said = [{k: v for k, v in each.items() if k not in shared} for each in writer.chunks]
        assert said == case["chunks"]
        assert reader.reply.is_finished is case["is_finished"]
        assert used.final().units == case["units"]
        assert used.final().source == case["source"]
        assert used.final().suspect == case["suspect"]


@pytest.mark.parametrize("path", STREAMS, ids=name_of)
def test_a_broken_stream_is_metered(path: Path) -> None:
    """Wherever a stream breaks off, what came is billed, nothing is suspected, and only one that
    has its finish reasons is taken for whole."""
    case, raw = golden(path), path.with_suffix(".sse").read_bytes()
    events = raw.split(b"\r\n\r\n")

    for end in range(1, len(events)):
        came = b"\r\n\r\n".join(events[:end]) + b"\r\n\r\n"
        reader, _ = collecting(choices := case["request"]["choices"], used := meter())
        reader.feed(came)

        ends = came.count(b'"finishReason"') + came.count(b'"blockReason"')
        assert used.final().suspect is None
        assert used.final().units["input_uncached"] > 0
        assert reader.reply.is_finished is (case["is_finished"] and ends >= choices)


def test_an_openai_client_reads_a_stream() -> None:
    """Through the whole passage: chunks, finish reason, the usage that is billed, `[DONE]`."""
    request = asked(stream=True, stream_options={"include_usage": True})
    reader = way(upstream="gemini").reader(request, meter(), created_s=CREATED_S)

    told = reader.feed((GOLDEN / "stream_cached.sse").read_bytes()) + reader.tail

    events = [each.removeprefix(b"data: ") for each in told.split(b"\n\n") if each]
    last, done = orjson.loads(events[-2]), events[-1]
    assert orjson.loads(events[0])["model"] == "gemini-2.5-flash"
    assert last["usage"]["prompt_tokens"] == 1000
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 900, "audio_tokens": 50}
    assert last["usage"]["completion_tokens"] == 2
    assert done == b"[DONE]"


def test_a_turn_goes_there_and_back() -> None:
    """What Gemini answered goes back to it as it was: calls, ids, and the signature."""
    answer = golden(GOLDEN / "answer_tools.json")
    message = answer["completion"]["choices"][0]["message"]
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": "{}"}
        for call in message["tool_calls"]
    ]
    request = asked(messages=[{"role": "user", "content": "hi"}, message, *results])

    body = upstream.from_chat(request, Sending(model="gemini-3-flash-preview"))

    sent = answer["answer"]["candidates"][0]["content"]["parts"][1:]
    sent[1]["functionCall"]["id"] = "call_abc-_DEF_0_1"
    assert body["contents"][1] == {"role": "model", "parts": sent}
    assert [each["functionResponse"]["id"] for each in body["contents"][2]["parts"]] == [
        "jm4owj31",
        "call_abc-_DEF_0_1",
    ]


def test_a_change_of_ours_is_sent() -> None:
    """An instruction follows the client's own, and a smaller limit replaces its limit."""
    request = asked(
        messages=[{"role": "system", "content": "a"}, {"role": "user", "content": "b"}],
        max_tokens=500,
    )

    body = upstream.from_chat(request, Sending(model="m", output_max=50, instruct="Be brief."))

    assert body["systemInstruction"] == {"parts": [{"text": "a"}, {"text": "Be brief."}]}
    assert body["generationConfig"]["maxOutputTokens"] == 50


def test_what_cannot_be_carried_is_refused_or_left_out() -> None:
    """Never in silence: a refusal names it, and `drop_unsupported` sends the rest."""
    request = asked(logit_bias={"5": 1}, temperature=1)

    with pytest.raises(InvalidRequest) as caught:
        upstream.from_chat(request, Sending(model="m"))
    body = upstream.from_chat(request, Sending(model="m", drop_unsupported=True))

    assert caught.value.param == "logit_bias"
    assert body["generationConfig"] == {"temperature": 1}


def test_a_failure_of_the_model_is_no_answer() -> None:
    """A call that the model could not write is not passed off as an empty answer, but named."""
    whole = {"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]}

    read = upstream.read_whole(whole, asked(), created_s=CREATED_S)

    assert read is not None
    assert read["choices"] == []
    assert read["error"]["code"] == "malformed_function_call"


def test_arguments_are_weighed_before_they_are_built() -> None:
    """What is nested too deeply in a string is refused as it is in the body itself."""
    function = {"name": "f", "arguments": '{"a":' + "[" * 300 + "]" * 300 + "}"}
    said = {"role": "assistant", "tool_calls": [{"id": "c", "function": function}]}

    with pytest.raises(InvalidRequest, match="arguments of all tool calls") as caught:
        upstream.from_chat(asked(messages=[said]), Sending(model="m"))

    assert caught.value.param == "messages"


@pytest.mark.parametrize("answer", [{}, {"candidates": []}, {"candidates": 5}, {"error": {}}])
def test_nonsense_is_no_answer(answer: dict[str, Any]) -> None:
    """What has no candidates and was not blocked is not passed off as an answer."""
    assert upstream.read_whole(answer, asked(), created_s=CREATED_S) is None


def test_a_source_ends_softly_in_its_own_format() -> None:
    """The open candidates end at their limit, with the usage in Gemini's words."""
    source = upstream.source(asked(stream=True), created_s=CREATED_S)

    raw = source.end_softly([0, 2], {"input_uncached": 7, "output_text": 2, "output_reasoning": 3})

    event = orjson.loads(raw.removeprefix(b"data: "))
    assert [each["finishReason"] for each in event["candidates"]] == ["MAX_TOKENS"] * 2
    reported = upstream.read_usage(event["usageMetadata"])
    assert reported.output is not None
    assert {unit: count for unit, count in reported.output.items() if count} == {
        "output_text": 2,
        "output_reasoning": 3,
    }
    assert event["usageMetadata"]["totalTokenCount"] == 12
