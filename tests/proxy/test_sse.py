"""The SSE decoder: the WHATWG grammar on bytes, any cut, nothing lost."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sse import Decoder, Event

DIALECTS = {
    "lf": (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
    "crlf": (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    "cr": (b"data: a\r\rdata: b\r\rx", [b"a", b"b"]),
    "no_space": (b"data:a\n\n", [b"a"]),
    "two_spaces": (b"data:  a\n\n", [b" a"]),
    "two_lines": (b"data: a\ndata: b\n\n", [b"a\nb"]),
    "comment": (b": ping\n\ndata: a\n\n", [None, b"a"]),
    "named": (b"event: x\ndata: a\n\nevent: y\ndata: b\n\n", [b"a", b"b"]),
    "named_twice_data": (b"event: x\ndata: a\ndata: b\n\n", [b"a\nb"]),
    "named_last": (b"data: a\nevent: x\n\n", [b"a"]),
    "name_alone": (b"event: data: x\n\n", [None]),
    "event_name": (b"event: x\ndata: a\nid: 1\n\n", [b"a"]),
    "bom": (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    "empty_data": (b"data\n\ndata:\n\n", [b"", b""]),
    "extra_blank": (b"data: a\n\n\ndata: b\n\n", [b"a", b"b"]),
    "line_separator_in_text": ("data: a\u2028b\n\n".encode(), ["a\u2028b".encode()]),
    "nested_text": (b'data: {"t":"\\n\\ndata: {}"}\n\n', [b'{"t":"\\n\\ndata: {}"}']),
    "mixed": (b"data: a\r\n\ndata: b\n\r\n", [b"a", b"b"]),
}


def decode(pieces: list[bytes]) -> list[Event]:
    decoder = Decoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    rest = decoder.flush()
    return [*events, rest] if rest is not None else events


@pytest.mark.parametrize("name", DIALECTS)
def test_dialect(name: str) -> None:
    """Every dialect of the grammar gives its data."""
    stream, expected = DIALECTS[name]

    events = [event.data for event in Decoder().feed(stream)]

    assert events == expected


@pytest.mark.parametrize("name", DIALECTS)
def test_cut_at_every_byte(name: str) -> None:
    """Fed one byte at a time, a stream gives the same data as in one piece."""
    stream, _ = DIALECTS[name]

    whole = [event.data for event in decode([stream])]
    bytewise = [event.data for event in decode([stream[i : i + 1] for i in range(len(stream))])]

    assert bytewise == whole


fragments = st.sampled_from(
    [b"data: ", b"data:", b"x", b"\n", b"\r", b"\r\n", b"\n\n", b": c", b"event: e", b"\xc3\xa9"]
)


@given(st.lists(fragments, max_size=40), st.lists(st.integers(0, 200), max_size=8))
def test_any_cut_gives_the_same_events(parts: list[bytes], cuts: list[int]) -> None:
    """However the bytes are cut, the data and their order are the same."""
    stream = b"".join(parts)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[a:b] for a, b in pairwise(edges)]

    whole = [event.data for event in decode([stream]) if event.data is not None]
    cut = [event.data for event in decode(pieces) if event.data is not None]

    assert cut == whole


@given(st.lists(fragments, max_size=40), st.integers(1, 7))
def test_raw_bytes_are_kept(parts: list[bytes], size: int) -> None:
    """The raw bytes of all events together are the stream, to the byte."""
    stream = b"".join(parts)
    pieces = [stream[i : i + size] for i in range(0, len(stream), size)]

    assert b"".join(event.raw for event in decode(pieces)) == stream


def test_an_endless_event_is_relayed_unread() -> None:
    """An event past the bound comes out in raw pieces, and the next event is read again."""
    decoder = Decoder(event_bytes_max=100)
    pieces = [b"data: " + b"x" * 90, b"y" * 90, b"z" * 90, b"\n\ndata: a\n\n"]

    events = [event for piece in pieces for event in decoder.feed(piece)]

    assert b"".join(event.raw for event in events) == b"".join(pieces)
    assert [event.data for event in events if event.data is not None] == [b"a"]
    assert all(len(event.raw) < 300 for event in events)


def test_many_tiny_pieces_of_one_long_event_are_cheap() -> None:
    """T-25: an event that comes in 200,000 pieces is joined once, not at each of them."""
    decoder = Decoder()
    pieces = [b"data: ", *([b"ab"] * 200_000), *([b"a\n"] * 50_000), b"\n"]

    events = [event for piece in pieces for event in decoder.feed(piece)]

    assert len(events) == 1
    assert len(events[0].raw) == sum(map(len, pieces))
