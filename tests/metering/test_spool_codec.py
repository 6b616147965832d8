"""Records of the spool as bytes, whole and damaged."""

from __future__ import annotations

import pytest
from caps_samples import KEY, PARIS_DAY, SHORT, USER, cap, hold
from hypothesis import given
from hypothesis import strategies as st

from metering.caps import CapMode, Vector
from metering.spool_codec import (
    BODY_BYTES_MAX,
    MARK,
    Damage,
    SpoolRecord,
    decode_records,
    encode_record,
)

SOFT = cap(window=PARIS_DAY, scope=USER, concurrent=2, mode=CapMode.ALERT, marks=(0.5, 1))
RECORDS = [
    SpoolRecord(
        seq, hold(cap(100), cap(5, scope=KEY, window=SHORT), SOFT, number=seq), Vector(seq), events
    )
    for seq, events in enumerate([(b'{"a":"\xc3\xa9"}',), (), (b"{}", b'{"b":2}')], start=1)
]
DATA = b"".join(encode_record(record) for record in RECORDS)
ENDS = [sum(len(encode_record(r)) for r in RECORDS[: n + 1]) for n in range(len(RECORDS))]


def whole(data: bytes) -> list[SpoolRecord]:
    return [found for found in decode_records(data) if isinstance(found, SpoolRecord)]


def test_records_come_back_as_they_were() -> None:
    """Caps, windows, amounts and the bytes of each event."""
    assert list(decode_records(DATA)) == RECORDS


def test_a_tail_cut_at_any_byte_costs_the_cut_record_only() -> None:
    """What was whole before the cut is read, and the rest is told as damage."""
    for cut in range(len(DATA)):
        found = list(decode_records(DATA[:cut]))
        complete = sum(end <= cut for end in ENDS)

        assert found[:complete] == RECORDS[:complete]
        torn = cut - ([0, *ENDS][complete])
        assert found[complete:] == ([Damage([0, *ENDS][complete], torn)] if torn else [])


def test_a_byte_changed_anywhere_costs_its_record_only() -> None:
    """Those before and behind it are found; nothing false is."""
    for at in range(len(DATA)):
        damaged = bytearray(DATA)
        damaged[at] ^= 0x55
        hit = sum(end <= at for end in ENDS)

        assert whole(bytes(damaged)) == RECORDS[:hit] + RECORDS[hit + 1 :]


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_any_bytes_around_a_record_do_not_hide_it(before: bytes, after: bytes) -> None:
    """Even bytes that look like the beginning of a record."""
    data = before + MARK + after + DATA

    assert whole(data)[-len(RECORDS) :] == RECORDS


def test_a_record_too_large_to_be_read_is_not_written() -> None:
    """Better refused now than taken for damage later."""
    events = (b"x" * BODY_BYTES_MAX,)

    with pytest.raises(ValueError, match="above"):
        encode_record(SpoolRecord(1, hold(), Vector(), events))
