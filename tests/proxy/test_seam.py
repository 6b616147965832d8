"""The seam between two parts of one text: what is said twice is left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.seam import OVERLAP_MAX, OVERLAP_MIN, Seam


def sewn(text: str, *pieces: str) -> str:
    """What comes of the pieces after this text."""
    seam = Seam(text)
    return "".join([seam.feed(piece) for piece in pieces]) + seam.flush()


@pytest.mark.parametrize(
    ("text", "pieces", "new"),
    [
        ("The weir counts ", ("every drop",), "every drop"),
        ("The weir counts ", (" every drop",), "every drop"),
        ("The weir counts", (" every drop",), " every drop"),
        ("The weir counts every", ("weir counts ", "every drop"), " drop"),
        ("The weir counts every ", ("weir counts every", " drop"), "drop"),
        ("The weir counts every ", ("The weir counts every\ndrop",), "\ndrop"),
        ("The weir counts every", ("every drop",), "every drop"),
        ("ha ha ha ha ha ha ha", (" ha", " ha", "!"), " ha ha!"),
        ("", ("The weir",), "The weir"),
        ("The weir", (), ""),
        ("The weir", ("The",), "The"),
    ],
)
def test_what_is_new(text: str, pieces: tuple[str, ...], new: str) -> None:
    """At least sixteen characters, or blanks, that both sides share."""
    assert sewn(text, *pieces) == new


def test_nothing_is_held_longer_than_needed() -> None:
    """What cannot be a repetition goes on at once, and so does all that follows."""
    seam = Seam("The weir counts every drop")

    assert seam.feed("weir") == ""
    assert seam.feed(" again") == "weir again"
    assert seam.feed("weir") == "weir"


def test_a_long_text_is_looked_at_from_its_end() -> None:
    """What was said long before is not looked for."""
    start = "It all began with a river. "
    assert sewn(start + "x" * OVERLAP_MAX, start) == start


@given(st.text("ab ", max_size=40), st.text("ab ", max_size=40), st.integers(1, 7))
def test_pieces_do_not_matter(text: str, rest: str, size: int) -> None:
    """However the second part is cut, the same comes of it."""
    pieces = [rest[at : at + size] for at in range(0, len(rest), size)]
    assert sewn(text, *pieces) == sewn(text, rest)


@given(st.text(min_size=OVERLAP_MIN, max_size=60), st.text(max_size=20))
def test_a_whole_repetition_adds_nothing(text: str, more: str) -> None:
    """A model that says all of it again has said the rest alone."""
    assert sewn(text, text + more).endswith(more.lstrip()) or more.strip() == ""
    assert len(sewn(text, text + more)) <= len(more)
