"""What a JSON text may hold, told before it is parsed."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.json_bounds import (
    DEPTH_MAX,
    VALUES_MAX,
    TooMuchError,
    fault_in,
    is_too_full,
    load_event,
    load_writable,
)


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return opening * depth + closing * depth


FULL = b"[" + b"{}," * (VALUES_MAX // 2 - 1)

TEXTS: dict[str, tuple[bytes, bool]] = {
    "empty": (b"", True),
    "as_deep_as_may_be": (nested(DEPTH_MAX), True),
    "deeper_lists": (nested(DEPTH_MAX + 1), False),
    "deeper_objects": (b'{"a":' * (DEPTH_MAX + 1) + b"1" + b"}" * (DEPTH_MAX + 1), False),
    "never_closed": (b"[" * 10_000, False),
    "wide_not_deep": (b"[" + b"[]," * 5_000 + b"[]]", True),
    "as_full_as_may_be": (FULL + b"0]", True),
    "fuller": (FULL + b"{}," * 10 + b"0]", False),
    "full_of_strings": (b"[" + b'"",' * VALUES_MAX + b"0]", False),
    "brackets_in_a_string": (b'{"a":"' + b"[{" * 300_000 + b'"}', True),
    "commas_behind_an_escaped_quote": (b'{"a":"\\"' + b"," * 300_000 + b'"}', True),
    "commas_behind_an_escaped_backslash": (b'["\\\\"' + b",0" * 300_000 + b"]", False),
    "largest_unsigned": (b'{"a":18446744073709551615}', True),
    "one_more": (b'{"a":18446744073709551616}', False),
    "smallest_signed": (b'{"a":-9223372036854775808}', True),
    "one_less": (b'{"a":-9223372036854775809}', False),
    "a_million_digits": (b'{"a":' + b"9" * 1_000_000 + b"}", False),
    "wide_in_a_string": (b'{"a":"18446744073709551616"}', True),
    "a_long_fraction": (b'{"a":0.12345678901234567890123}', True),
    "an_exponent": (b'{"a":12345678901234567890123e-3}', True),
}


@pytest.mark.parametrize("name", TEXTS)
def test_t46_what_a_body_may_hold(name: str) -> None:
    """T-46: depth, number of values and width of integers are bounded, strings are not looked
    into."""
    raw, is_fine = TEXTS[name]

    assert (fault_in(raw) is None) is is_fine


@pytest.mark.parametrize("name", TEXTS)
def test_only_values_make_a_text_too_full(name: str) -> None:
    """Depth and width are other faults."""
    raw, _ = TEXTS[name]

    full = {"fuller", "full_of_strings", "commas_behind_an_escaped_backslash"}
    assert is_too_full(raw) is (name in full)


anything: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    # what text has to do with here are quotes, backslashes and brackets
    | st.text(st.sampled_from('\\"[]{},:09a\u00e9\n')),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.sampled_from('\\"[{,a')), inner),
)


@given(anything)
def test_ordinary_json_passes(value: object) -> None:
    """Whatever stands in the strings of a small body, nothing is found in it."""
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return

    assert fault_in(orjson.dumps(value)) is None


@given(st.binary() | st.text(st.sampled_from('\\"[]{},:09-.eE ')).map(str.encode))
def test_any_bytes_are_judged(raw: bytes) -> None:
    """Bytes that are no JSON at all are the parser's to refuse; here they raise nothing."""
    assert fault_in(raw) is None or len(raw) >= 19


def test_names_are_values_too() -> None:
    """An object has two strings for each comma: the short look at commas must not miss half."""
    members = (b'"%d":""' % number for number in range(VALUES_MAX // 2 + 1))
    raw = b"{" + b",".join(members) + b"}"

    assert fault_in(raw) is not None
    assert is_too_full(raw)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b'{"a":"\\ud83d!"}', {"a": "\ufffd!"}),
        (b'{"a":"\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b'{"a":1}', {"a": 1}),
    ],
)
def test_what_was_read_for_writing_can_be_written(data: bytes, found: object) -> None:
    """Half a surrogate pair, which readers of JSON take and no writer of UTF-8 can."""
    read = load_writable(data)

    assert read == found
    assert orjson.loads(orjson.dumps(read)) == found


def test_what_is_too_much_is_told_from_what_is_no_json() -> None:
    """One is our bound, the other the upstream's mistake."""
    for much in (b"[" + b"1," * 60_000 + b"1]", b"[" * 5000 + b"]" * 5000):
        for load in (load_event, load_writable):
            with pytest.raises(TooMuchError):
                load(much)
    for load in (load_event, load_writable):
        with pytest.raises(ValueError, match="Expecting") as told:
            load(b"{oops")
        assert not isinstance(told.value, TooMuchError)
