"""Frames of AWS event streams: the same events however they are cut, and nothing that is broken."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from itertools import pairwise

import orjson
import pytest
from bedrock_frames import error, event, exception, frame, packed
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from proxy.sse import Event
from proxy.wire.bedrock_converse.frames import FrameDecoder

EVENTS = [
    {"messageStart": {"role": "assistant", "p": "abcd"}},
    {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Grüße, 世界"}}},
    {"contentBlockStop": {"contentBlockIndex": 0}},
    {"messageStop": {"stopReason": "end_turn"}},
    {"exception": {"type": "throttlingException", "message": "Too many tokens"}},
    {"metadata": {"usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}}},
]
STREAM = packed(EVENTS)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def decoded(pieces: list[bytes], *, frame_bytes_max: int = 1 << 20) -> list[Event]:
    decoder = FrameDecoder(frame_bytes_max)
    events = [found for piece in pieces for found in decoder.feed(piece)]
    return [*events, *([left] if (left := decoder.flush()) else [])]


def read(events: list[Event]) -> list[object]:
    return [orjson.loads(each.data) for each in events if each.data is not None]


def test_the_packer_of_these_tests_speaks_as_aws_does() -> None:
    """botocore reads in these frames what was packed into them."""
    buffer = EventStreamBuffer()
    buffer.add_data(STREAM)

    found = [(each.headers, orjson.loads(each.payload)) for each in buffer]

    assert [said for _, said in found if "message" not in said] == [
        said for each in EVENTS for kind, said in each.items() if kind != "exception"
    ]
    assert found[4][0][":exception-type"] == "throttlingException"


@pytest.mark.parametrize("size", [*range(1, 40), len(STREAM) - 1, len(STREAM)])
def test_the_same_events_however_they_are_cut(size: int) -> None:
    """Type and payload of each event are one object, and its raw bytes are those that came."""
    events = decoded(cut(STREAM, size))

    assert read(events) == EVENTS
    assert b"".join(each.raw for each in events) == STREAM


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_the_same_events_at_any_cuts(places: list[int]) -> None:
    """Empty pieces are pieces, too."""
    ends = [0, *sorted(places), len(STREAM)]

    pieces = [STREAM[start:end] for start, end in pairwise(ends)]

    assert read(decoded(pieces)) == EVENTS


@pytest.mark.parametrize("at", range(len(event("messageStop", {"stopReason": "end_turn"}))))
def test_a_byte_that_changed_on_its_way_ends_the_stream(at: int) -> None:
    """No byte of a frame can change unseen, and nothing after it is read as an event."""
    broken = bytearray(event("messageStop", {"stopReason": "end_turn"}))
    broken[at] ^= 0x41
    stream = event("messageStart", {"role": "assistant"}) + bytes(broken) + STREAM

    for size in (1, 7, len(stream)):
        events = decoded(cut(stream, size))
        first, failure, *rest = read(events)

        assert first == {"messageStart": {"role": "assistant"}}
        assert failure["exception"]["type"] == "CorruptStream"  # type: ignore[index]
        assert rest == []
        assert sum(len(each.raw) for each in events if each.is_opaque) == len(stream) - len(
            event("messageStart", {"role": "assistant"})
        )


@pytest.mark.parametrize("size", [1, 3, 100, 5000])
def test_a_frame_that_is_too_long_is_given_out_in_pieces(size: int) -> None:
    """What is past the bound is not kept, is counted as unread, and its stream has failed."""
    long = event("contentBlockDelta", {"delta": {"text": "x" * 3000}})
    stream = event("messageStart", {}) + long + event("messageStop", {})

    events = decoded(cut(stream, size), frame_bytes_max=1000)

    assert [next(iter(each)) for each in read(events)] == ["messageStart", "exception"]  # type: ignore[call-overload]
    assert sum(len(each.raw) for each in events if each.is_opaque) == len(stream) - len(
        event("messageStart", {})
    )


def test_a_frame_of_four_gigabytes_takes_no_memory() -> None:
    """A length is only a claim: pieces go out as they come, whatever it says."""
    claim = frame(b"", {})
    head = b"\xff\xff\xff\xff" + claim[4:8]

    decoder = FrameDecoder()
    piece = bytes(64 * 1024)
    tracemalloc.start()
    try:
        decoder.feed(head + struct.pack("!I", zlib.crc32(head)))
        for _ in range(500):
            assert all(each.is_opaque for each in decoder.feed(piece))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 1_000_000


def test_exceptions_and_errors_are_events() -> None:
    """With or without a shape, a failure says its name and its words."""
    stream = exception("modelStreamErrorException", "It broke") + error("Oops", "No idea")

    assert read(decoded([stream])) == [
        {"exception": {"type": "modelStreamErrorException", "message": "It broke"}},
        {"exception": {"type": "Oops", "message": "No idea"}},
    ]


@pytest.mark.parametrize("payload", [b"", b"<html>", b"[]", b'{"message": 5}', b"\xff\xfe"])
def test_an_exception_with_an_odd_payload_is_one_all_the_same(payload: bytes) -> None:
    """What it says may be lost; that it failed may not."""
    headers = {":message-type": "exception", ":exception-type": "validationException"}

    (found,) = read(decoded([frame(payload, headers)]))

    assert found["exception"]["type"] == "validationException"  # type: ignore[index]


def test_headers_that_are_no_text_are_passed_over() -> None:
    """Every type of header that AWS knows may stand before the one that counts."""
    others = b"".join(
        bytes([1]) + b"h" + bytes([kind]) + bytes(width)
        for kind, width in ((0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (8, 8), (9, 16))
    )
    others += b"\x01h\x06\x00\x03abc"
    own = b"\x0b:event-type\x07\x00\x01a"

    block = others + own
    head = struct.pack("!II", 16 + len(block) + 2, len(block))
    head += struct.pack("!I", zlib.crc32(head))
    whole = head + block + b"{}"

    assert read(decoded([whole + struct.pack("!I", zlib.crc32(whole))])) == [{"a": {}}]


def test_an_event_type_cannot_break_out_of_its_name() -> None:
    """A type with quotes in it is no type."""
    (found,) = decoded([frame(b"{}", {":message-type": "event", ":event-type": 'a":1,"b'})])

    assert found.data is None


def test_a_frame_that_was_begun_is_counted() -> None:
    """A stream that breaks off in the middle of a frame has cost something."""
    decoder = FrameDecoder()

    assert decoder.feed(STREAM[:30]) == []
    assert decoder.flush() == Event(STREAM[:30], None, is_opaque=True)
    assert decoder.flush() is None


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_noise_never_raises(pieces: list[bytes]) -> None:
    """Whatever comes is given out again, byte by byte."""
    events = decoded(pieces)

    assert b"".join(each.raw for each in events) == b"".join(pieces)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_noise_in_sound_frames_never_raises(block: bytes, payload: bytes) -> None:
    """Checksums that hold say nothing of what they are over."""

    head = struct.pack("!II", 16 + len(block) + len(payload), len(block))
    head += struct.pack("!I", zlib.crc32(head))
    whole = head + block + payload
    whole += struct.pack("!I", zlib.crc32(whole))

    assert b"".join(each.raw for each in decoded([whole])) == whole
