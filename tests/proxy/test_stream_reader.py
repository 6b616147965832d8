"""OpenAI chat: requests checked, usage normalised, streams metered and relayed untouched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest
from format_samples import chat_reader, read_reply
from hypothesis import given
from hypothesis import strategies as st

from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from proxy import sse
from proxy.redaction import Redaction
from proxy.reply import label
from proxy.stream_reader import StreamReader
from proxy.wire import Reading
from proxy.wire.openai_chat.upstream import ChunkSource

MESSAGES = [{"role": "user", "content": "hi"}]


def request(**fields: Any) -> bytes:
    return orjson.dumps({"model": "m", "messages": MESSAGES, **fields})


def meter() -> Meter:
    return Meter(tokenizer_for("gpt-4o"), 7)


def event(**fields: Any) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"


def content(text: str, **fields: Any) -> bytes:
    return event(
        id="c", model="gpt-4o-x", choices=[{"index": 0, "delta": {"content": text}}], **fields
    )


FINISH = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
USAGE_ONLY = event(choices=[], usage=USAGE)
DONE = b"data: [DONE]\n\n"


def test_the_injected_usage_chunk_is_taken_out() -> None:
    """All but the injected usage chunk and the end is relayed, byte for byte."""
    reader = chat_reader(used := meter(), strip_usage=True)

    relayed = reader.feed(content("Hello wor") + content("ld") + FINISH + USAGE_ONLY + DONE)

    assert relayed == content("Hello wor") + content("ld") + FINISH
    assert reader.tail == DONE
    assert used.final().units == {"input_uncached": 7, "output_text": 3}
    assert used.final().source == "provider"


def test_an_asked_for_usage_chunk_stays() -> None:
    """A client that asked for usage gets the chunk as the upstream wrote it."""
    reader = chat_reader(meter(), strip_usage=False)

    assert reader.feed(FINISH + USAGE_ONLY) == FINISH + USAGE_ONLY


def test_usage_on_a_content_chunk_is_taken_and_relayed() -> None:
    """Usage may ride on a chunk with choices; such a chunk is never taken out."""
    reader = chat_reader(used := meter(), strip_usage=True)
    chunk = content("hi", usage=USAGE)

    assert reader.feed(chunk) == chunk
    assert used.final().units["output_text"] == 3


def test_cumulative_usage_is_not_summed() -> None:
    """Usage on every chunk is a running total: the last one holds."""
    reader = chat_reader(used := meter(), strip_usage=True)

    for tokens in (1, 2, 3):
        reader.feed(content("a", usage={**USAGE, "completion_tokens": tokens}))

    assert used.final().units["output_text"] == 3


def test_a_null_usage_says_nothing() -> None:
    """`usage: null` on the chunks before the last one is not a report of zero."""
    reader = chat_reader(used := meter(), strip_usage=True)

    reader.feed(content("Hello world", usage=None) + FINISH + DONE)

    assert used.final().source == "counted"
    assert used.final().units == {"input_uncached": 7, "output_text": 2}


STREAM = (
    b": hello\n\n"
    + content("Grüße, 世界 👋 ")
    + event(choices=[{"index": 0, "delta": {"reasoning_content": "think"}}])
    + event(
        choices=[
            {
                "index": 0,
                "delta": {
                    "tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{"}}]
                },
            }
        ]
    )
    + FINISH
    + USAGE_ONLY
    + DONE
)


def test_cut_at_every_byte_the_relay_and_the_meter_agree() -> None:
    """Cut anywhere, the bytes relayed and the tokens counted are the same."""
    whole = chat_reader(whole_meter := meter(), strip_usage=True)
    expected = whole.feed(STREAM)

    for cut in range(1, len(STREAM)):
        reader = chat_reader(cut_meter := meter(), strip_usage=True)
        relayed = reader.feed(STREAM[:cut]) + reader.feed(STREAM[cut:])
        assert relayed == expected
        assert reader.tail == DONE
        assert cut_meter.final() == whole_meter.final()


def test_end_without_done_is_an_end_when_all_finished() -> None:
    """A finish reason for every open choice is an end; a closed connection alone is none."""
    reader = chat_reader(meter(), strip_usage=True)

    reader.feed(content("a"))
    assert not reader.reply.is_finished
    reader.feed(FINISH)
    assert reader.reply.is_finished


def test_one_of_two_choices_finished_is_no_end() -> None:
    """With n = 2, the stream ends with the second finish reason, opened before or not."""
    reader = chat_reader(meter(), strip_usage=True, choices=2)
    reader.feed(event(choices=[{"index": 0, "delta": {"content": "a"}}]))

    reader.feed(FINISH)
    assert not reader.reply.is_finished

    reader.feed(event(choices=[{"index": 1, "delta": {}, "finish_reason": "stop"}]))
    assert reader.reply.is_finished


@pytest.mark.parametrize("error", [{"message": "overloaded"}, "overloaded"], ids=["object", "text"])
def test_a_stream_with_an_error_has_not_ended_well(error: object) -> None:
    """An error in mid-stream is a failure, in any shape and whatever follows it."""
    reader = chat_reader(meter(), strip_usage=True)

    reader.feed(content("a") + event(error=error) + FINISH + DONE)

    assert reader.reply.error == error
    assert not reader.reply.is_finished


def test_nonsense_is_a_failure_only_while_nobody_has_seen_anything() -> None:
    """As the first event another upstream may answer instead; later it goes on as it came."""
    first, later = chat_reader(meter(), strip_usage=True), chat_reader(meter(), strip_usage=True)

    first.feed(b": hello\n\ndata: {broken\n\n" + content("a"))
    relayed = later.feed(content("a") + b"data: {broken\n\n" + FINISH + DONE)

    assert first.reply.error is not None
    assert later.reply.is_finished
    assert relayed == content("a") + b"data: {broken\n\n" + FINISH


def test_labels_of_the_upstream_are_cleaned() -> None:
    """T-29: what enters an event from outside is short and printable."""
    reader = chat_reader(meter(), strip_usage=True)

    reader.feed(event(model="m" * 999, system_fingerprint="fp\x00\x1b[31m", choices=[]))

    assert reader.reply.model == "m" * 256
    assert reader.reply.version == "fp[31m"


def test_what_follows_the_end_goes_out_with_the_end() -> None:
    """Usage after `[DONE]` is taken, and nothing overtakes the end on its way to the client."""
    reader = chat_reader(used := meter(), strip_usage=True)
    late = content("late")

    relayed = reader.feed(content("Hello") + FINISH + DONE + USAGE_ONLY + late)

    assert relayed == content("Hello") + FINISH
    assert reader.tail == DONE + USAGE_ONLY + late
    assert used.final().source == "provider"


def test_a_json_reply_is_metered() -> None:
    """A whole answer without usage is counted from its text, tool arguments included."""
    used = meter()
    said = {"content": "Hello world", "tool_calls": [{"function": {"arguments": "{}"}}]}
    raw = orjson.dumps({"model": "m", "choices": [{"message": said, "finish_reason": "stop"}]})

    reply = read_reply(raw, used)

    assert reply is not None
    assert reply.finish_reason == "stop"
    assert used.final().units["output_text"] == 3


@pytest.mark.parametrize("raw", [b"<html>", b"[]", b"{}", b'{"choices": {}}', b""])
def test_nonsense_is_no_reply(raw: bytes) -> None:
    """T-28: what is not a chat completion is not passed off as one."""
    assert read_reply(raw, meter()) is None


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "message",
                    "content",
                    "usage",
                    "tool_calls",
                    "function",
                    "index",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_hostile_shapes_do_not_break_the_reader(value: object) -> None:
    """Upstreams are untrusted: any JSON at all is relayed and metered without a failure."""
    raw = b"data: " + orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS) + b"\n\n"
    used = meter()

    chat_reader(used, strip_usage=True).feed(raw)

    assert used.final().counted


PROVIDER_KEY = "sk-canary-provider-31337"


def test_t30_a_label_is_cut_after_the_key_is_hidden() -> None:
    """T-30: no part of a key is left over at the edge, and no control sign hides one."""
    redaction = Redaction([PROVIDER_KEY])

    assert label(PROVIDER_KEY, redaction) == "***"
    assert label("x" * 250 + PROVIDER_KEY, redaction) == "x" * 250 + "***"
    assert label("\0".join(PROVIDER_KEY), redaction) == "***"


def test_t30_errors_in_a_stream_are_searched_and_completions_are_not() -> None:
    """T-30: what is no part of a completion loses the key; a text that has it is a text."""
    reader = chat_reader(meter(), strip_usage=True, redaction=Redaction([PROVIDER_KEY]))
    text = b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % PROVIDER_KEY.encode()
    error = b'data: {"error":{"message":"no %s"},"choices":[]}\n\n'
    others = b': %s\n\ndata: oops %s\n\ndata: {"detail":"%s"}\n\n: %s\ndata: [DONE]\n\n'
    key = PROVIDER_KEY.encode()

    assert reader.feed(text) == text
    assert reader.feed(error % key) == error % b"***"
    assert reader.feed(others % (key, key, key, key)) + reader.tail == others % ((b"***",) * 4)


class _Broken:
    """A format that fails at whatever it is given."""

    def read(self, data: dict[str, Any]) -> Reading:
        raise KeyError(data)

    def write(self, chunk: dict[str, Any]) -> bytes:
        raise TypeError

    def end(self, units: Mapping[str, int]) -> bytes:
        return b""

    def end_softly(self, choices: Sequence[int], units: Mapping[str, int]) -> bytes:
        return b""


def test_what_breaks_a_writer_ends_the_answer_as_a_failure() -> None:
    """An event that nobody can write is not left out: the answer has failed, and is metered."""
    metering = meter()
    source = ChunkSource(strip_usage=False)
    reader = StreamReader(source, sse.Decoder(), metering, writer=_Broken())

    assert reader.feed(content("hello")) == b""
    assert reader.reply.error is not None
    assert metering.output_tokens == 1


def test_what_breaks_a_source_is_relayed_and_unread() -> None:
    """Where bytes are relayed a client may read better than we do; where not, it has failed."""
    metering = meter()
    relaying = StreamReader(_Broken(), sse.Decoder(), metering)
    writing = StreamReader(_Broken(), sse.Decoder(), meter(), writer=_Broken())

    assert relaying.feed(content("hello")) == content("hello")
    assert relaying.reply.error is None
    assert metering.output_tokens > 1
    assert writing.feed(content("hello")) == b""
    assert writing.reply.error is not None
