"""Streams that we end ourselves, at the same event however their bytes are cut."""

from __future__ import annotations

from fixtures_upstream import (
    DONE,
    FINISH,
)
from format_samples import chat_reader
from hypothesis import given
from hypothesis import strategies as st
from stream_samples import WORD

from metering.meter import Meter
from metering.tokenizer import tokenizer_for


@given(
    cuts=st.lists(st.integers(1, 60), min_size=1, max_size=40),
    room=st.integers(1, 40),
)
def test_where_the_bytes_are_cut_makes_no_difference(cuts: list[int], room: int) -> None:
    """A stream ends at the same event and with the same bytes, however it arrives."""
    raw, at, sent = WORD * 40 + FINISH + DONE, 0, b""
    meter = Meter(tokenizer_for("gpt-4o"), 1)
    reader = chat_reader(meter, strip_usage=True, must_wait=lambda: meter.reaches(room))
    while at < len(raw) and not reader.must_wait:
        size = cuts.pop(0) if cuts else len(raw)
        sent += reader.feed(raw[at : at + size])
        at += size

    assert sent == WORD * room
    assert meter.output_tokens == room
    assert reader.end_softly().endswith(DONE)
    assert reader.reply.finish_reason == "length"
