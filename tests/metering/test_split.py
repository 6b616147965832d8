"""Safe cuts, checked against the split patterns themselves on every small text."""

from collections.abc import Iterator
from itertools import product

import pytest
import regex

from metering.split import CL100K_PATTERN, O200K_PATTERN, R50K_PATTERN, Splitter, for_encoding

PATTERNS = {
    "o200k_base": O200K_PATTERN,
    "cl100k_base": CL100K_PATTERN,
    "r50k_base": R50K_PATTERN,
}
# Contractions in both cases, every kind of blank and sign, a mark, a letter without case, emoji.
WIDE = "aEsl1'-/ \n\t漢\u0301😀。\x1c"
NARROW = "vE' \n1"


def texts() -> Iterator[str]:
    for alphabet, length in ((WIDE, 4), (NARROW, 6)):
        yield from map("".join, product(alphabet, repeat=length))


@pytest.mark.parametrize("name", PATTERNS)
def test_cutting_changes_no_piece(name: str) -> None:
    """For every small text, the pieces on both sides of a safe cut are the pieces of the whole."""
    splitter, pieces = for_encoding(name), regex.compile(PATTERNS[name]).findall
    cuts = 0
    for text in texts():
        cut = splitter.last_cut(text, 1)
        if cut:
            cuts += 1
            assert pieces(text[:cut]) + pieces(text[cut:]) == pieces(text), (text, cut)

    assert cuts > 20_000


@pytest.mark.parametrize("name", PATTERNS)
def test_a_cut_stays_a_cut_whatever_follows(name: str) -> None:
    """Every cut found in a prefix is a boundary in every continuation of it."""
    splitter, pieces = for_encoding(name), regex.compile(PATTERNS[name]).findall
    for head in map("".join, product(WIDE, repeat=2)):
        cut = splitter.last_cut(head, 1)
        if not cut:
            continue
        for rest in map("".join, product(WIDE, repeat=2)):
            text = head + rest
            assert pieces(text[:cut]) + pieces(text[cut:]) == pieces(text), (text, cut)


@pytest.mark.parametrize("name", PATTERNS)
def test_settled_pieces_are_final(name: str) -> None:
    """What is settled in a prefix is split alike, and cleanly, in every continuation."""
    splitter, pattern = for_encoding(name), regex.compile(PATTERNS[name])
    settled = 0
    for head in map("".join, product("aE'漢 \n-1", repeat=4)):
        end = splitter.settled(head)
        if not end:
            continue
        settled += 1
        kept = [p.group() for p in pattern.finditer(head) if p.end() <= end]
        assert "".join(kept) == head[:end]
        for rest in ("", "s", "ll", "E", "b", " ", "\n", " \n", "1", "-", "/"):
            assert pattern.findall(head + rest) == kept + pattern.findall(head[end:] + rest)

    assert settled > 500


def test_the_rule_for_case_knows_contractions() -> None:
    """In "'vE" the E belongs to the contraction; in "xvE" it starts a piece."""
    splitter = for_encoding("o200k_base")

    assert splitter.last_cut("'vE", 1) == 0
    assert splitter.last_cut("xvE", 1) == 2


@pytest.mark.parametrize(
    "open_text", ["a" * 500, " " * 500, "漢" + "A" * 500, "\n" + " " * 500, "!" * 500, "it'", "ab"]
)
def test_what_may_still_grow_is_not_settled(open_text: str) -> None:
    """Later text may join any of these into one piece, however long ago they began."""
    assert for_encoding("o200k_base").settled(open_text) == 0


def test_an_unknown_encoding_has_no_cuts() -> None:
    """Without known cuts there is no counting in pieces: better a KeyError than a wrong count."""
    with pytest.raises(KeyError):
        for_encoding("p100k_base")


def test_splitters_are_shared() -> None:
    """Looking one up compiles nothing."""
    splitter = for_encoding("o200k_base")

    assert isinstance(splitter, Splitter)
    assert splitter is for_encoding("o200k_harmony")
