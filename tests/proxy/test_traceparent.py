"""W3C Trace Context: what a stranger's header is taken for."""

from __future__ import annotations

import pytest

from proxy.traceparent import Parent, parent_in, traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("value", "is_sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"01-{TRACE}-{SPAN}-01-what-comes-later", True),
        (f"cc-{TRACE}-{SPAN}-fe", False),
    ],
)
def test_a_sound_header_is_a_parent(value: str, is_sampled: bool) -> None:
    """Its ids are kept, and of its flags the one that there is."""
    assert parent_in([value]) == Parent(TRACE, SPAN, is_sampled)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        [f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01"],
        [f"ff-{TRACE}-{SPAN}-01"],
        [f"00-{TRACE}-{SPAN}-01-more"],
        [f"00-{TRACE.upper()}-{SPAN}-01"],
        [f"00-{'0' * 32}-{SPAN}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"00-{TRACE[1:]}-{SPAN}-01"],
        [f"00-{TRACE}-{SPAN}-1"],
        [f" 00-{TRACE}-{SPAN}-01"],
        [f"00-{TRACE}-{SPAN}-01\n"],
        [f"01-{TRACE}-{SPAN}-01-{'x' * 1000}"],
        ["00-' OR 1=1 --"],
    ],
)
def test_anything_else_is_nothing(values: list[str]) -> None:
    """What is not to the letter is as if it were not there."""
    assert parent_in(values) is None


def test_what_we_write_is_sound() -> None:
    """An upstream reads in our header what we meant."""
    for is_sampled in (True, False):
        written = traceparent(TRACE, SPAN, is_sampled=is_sampled)

        assert parent_in([written]) == Parent(TRACE, SPAN, is_sampled)
