"""Long events: read where they can be, in outline where they are too full, however they are cut."""

from __future__ import annotations

import orjson
import pytest

from proxy import json_bounds
from proxy.sse import Event
from proxy.wire.openai_responses.decoder import EVENT_BYTES_MAX, ResponseDecoder

USAGE = {"input_tokens": 3, "input_tokens_details": {"cached_tokens": 1}, "output_tokens": 2}
FULL = [0] * (json_bounds.EVENT_VALUES_MAX + 1)


def sent(kind: str, **fields: object) -> bytes:
    data = orjson.dumps({"type": kind, "sequence_number": 1, **fields})
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def one(stream: bytes) -> Event:
    (event,) = ResponseDecoder().feed(stream)
    return event


def response(**fields: object) -> dict[str, object]:
    shape = {"id": "resp_1", "object": "response", "model": "gpt", "output": FULL, "usage": USAGE}
    return {**shape, "user": None, "metadata": {"usage": "mine"}, **fields}


def test_an_image_is_no_opaque_event() -> None:
    """The last event of an answer with an image in it is read to its usage."""
    stream = sent("response.completed", response={"output": ["x" * 3_000_000], "usage": USAGE})

    event = one(stream)

    assert event.raw == stream
    assert orjson.loads(event.data or b"")["response"]["usage"] == USAGE


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete", "response.failed"])
def test_an_end_with_too_many_values_is_read_in_outline(kind: str) -> None:
    """Twenty logprobs for each token are not built in memory, and the usage is billed."""
    stream = sent(kind, response=response())

    event = one(stream)

    assert event.raw == stream
    assert orjson.loads(event.data or b"") == {
        "type": kind,
        "response": {"id": "resp_1", "model": "gpt", "usage": USAGE},
    }


def test_the_name_may_stand_in_the_data_only() -> None:
    """Some servers send no `event` lines."""
    stream = sent("response.completed", response=response()).split(b"\n", 1)[1]

    assert orjson.loads(one(stream).data or b"")["type"] == "response.completed"


def test_new_text_is_not_read_in_outline() -> None:
    """Only what has been read before may be passed over."""
    stream = sent("response.output_text.delta", delta="x", logprobs=FULL)

    assert len(one(stream).data or b"") > json_bounds.EVENT_VALUES_MAX


def test_a_usage_that_is_none_is_left_out() -> None:
    """What only looks like a usage is no reason to fail."""
    stream = sent("response.completed", response=response(usage=None, text='"usage":{x}'))

    assert "usage" not in orjson.loads(one(stream).data or b"")["response"]


def test_an_endless_event_is_bounded() -> None:
    """Past the bound it is given out unread, so that no stream takes more memory."""
    decoder = ResponseDecoder()
    piece = b"x" * (1024 * 1024)
    events = decoder.feed(b"data: ")
    for _ in range(EVENT_BYTES_MAX // len(piece) + 1):
        events += decoder.feed(piece)

    assert events
    assert all(event.is_opaque for event in events)
    assert sum(len(event.raw) for event in events) > EVENT_BYTES_MAX


def test_it_is_the_same_however_it_is_cut() -> None:
    """Pieces of one byte give the events of the whole; what has no end yet comes at the end."""
    stream = sent("response.created", response={}) + sent("response.completed", response={})
    stream = stream.removesuffix(b"\n")
    decoder = ResponseDecoder()
    events = [event for at in range(len(stream)) for event in decoder.feed(stream[at : at + 1])]
    rest = decoder.flush()

    assert rest is not None
    assert [event.data for event in [*events, rest]] == [
        line[6:] for line in stream.split(b"\n") if line.startswith(b"data: ")
    ]
