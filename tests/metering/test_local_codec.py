"""Hold records on disk: whole they come back as they were, and damaged they are never believed."""

from __future__ import annotations

import zlib

import pytest
from caps_samples import KEY, SHORT, cap, hold
from hypothesis import given
from hypothesis import strategies as st

from metering.caps import AdmittedBy
from metering.local_codec import LocalRecord, decode_local, encode_local
from metering.recovery import LostHold

RECORD = LocalRecord(
    LostHold(
        hold(cap(100), cap(5, scope=KEY, window=SHORT), number=1),
        owner="p-0",
        upstream="one/cheap",
        expires_ms=1_800_000_000_000,
        facts=b'{"user":"\xc3\xa9"}',
        checkpoint=b'{"nano":1}\n{"a":1}',
    ),
    AdmittedBy.LOCAL,
)
DATA = encode_local(RECORD)


@given(
    st.text(max_size=50), st.text(max_size=50), st.integers(0, 2**53), st.sampled_from(AdmittedBy)
)
def test_a_record_comes_back_as_it_was(
    facts: str, checkpoint: str, at_ms: int, admitted_by: AdmittedBy
) -> None:
    lost = LostHold(RECORD.lost.hold, "p-1", "one/dear", at_ms, facts.encode(), checkpoint.encode())

    assert decode_local(encode_local(LocalRecord(lost, admitted_by))) == LocalRecord(
        lost, admitted_by
    )


def test_a_record_that_was_cut_anywhere_is_refused() -> None:
    for length in range(len(DATA)):
        with pytest.raises(ValueError, match="torn"):
            decode_local(DATA[:length])


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_a_record_that_was_changed_anywhere_is_refused(at: int, flipped: int) -> None:
    changed = bytearray(DATA)
    changed[at] ^= flipped

    with pytest.raises(ValueError, match="torn"):
        decode_local(bytes(changed))


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b'{"v":2}', "schema 2"),
        (b'{"v":1}', "no record"),
        (b"[]", "no record"),
        (b"{", "unexpected end"),
    ],
)
def test_what_is_whole_and_no_record_says_so(body: bytes, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        decode_local(b"%08x " % zlib.crc32(body) + body)
