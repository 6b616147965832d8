"""Identifiers: UUIDv7, and what may stand inside a Redis key."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.ids import derived_id, is_id, uuid7, uuid7_ms

MILLISECONDS = st.integers(min_value=0, max_value=2**48 - 1)
RANDOM = st.binary(min_size=10, max_size=10)


@given(MILLISECONDS, RANDOM)
def test_uuid7_is_one(now_ms: int, random: bytes) -> None:
    """It parses as version 7 of the RFC's variant and gives its milliseconds back."""
    parsed = uuid.UUID(uuid7(now_ms, random))

    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert uuid7_ms(str(parsed)) == now_ms


@given(MILLISECONDS, MILLISECONDS, RANDOM, RANDOM)
def test_uuid7_sorts_by_time(first: int, second: int, one: bytes, two: bytes) -> None:
    """An earlier millisecond sorts first, as text."""
    if first < second:
        assert uuid7(first, one) < uuid7(second, two)


@given(MILLISECONDS, RANDOM)
def test_uuid7_keeps_its_randomness(now_ms: int, random: bytes) -> None:
    """Other random bits make another id, but for the six that version and variant take."""
    flipped = bytes([*random[:9], random[9] ^ 1])

    assert uuid7(now_ms, random) != uuid7(now_ms, flipped)


def test_other_uuids_have_no_time() -> None:
    """A UUID of another version is refused."""
    with pytest.raises(ValueError, match="UUIDv7"):
        uuid7_ms("f47ac10b-58cc-4372-a567-0e02b2c3d479")


@pytest.mark.parametrize("text", ["a", "acme", "A.b_c-9", "x" * 64])
def test_ids(text: str) -> None:
    """Letters, digits, dots, dashes and underscores make an id."""
    assert is_id(text)


@pytest.mark.parametrize("text", ["", "a b", "a:b", "a/b", "{s1}", "é", "x" * 65, "a\n", "*"])
def test_no_ids(text: str) -> None:
    """What could end or tag a Redis key, or be empty, is no id."""
    assert not is_id(text)


@given(MILLISECONDS, RANDOM)
def test_a_derived_id_is_always_the_same_and_nobody_elses(now_ms: int, random: bytes) -> None:
    """A UUIDv7 of the same millisecond, one for each purpose."""
    source = uuid7(now_ms, random)

    derived = derived_id(source, "recovered")

    assert derived == derived_id(source, "recovered")
    assert len({source, derived, derived_id(source, "superseded")}) == 3
    assert uuid7_ms(derived) == now_ms
