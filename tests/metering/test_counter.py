"""The running count equals tiktoken's count of the whole text, after every chunk."""

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.counter import TAIL_MAX, IncrementalCounter
from metering.tokenizer import load_encoding

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "data/token_vectors.json").read_text()
)
ENCODINGS = ("o200k_base", "cl100k_base", "p50k_base")

_ENGLISH = "hello world'll We'VE I'm don't 'S x = 1 12345 3.14 f(a,b): return getHTTPResponse"
_OTHERS = "naïve 漢字 かな カナ 한국어 สวัสดี हिन्दी 😀 👩\u200d👩\u200d👧 e\u0301 \u017f"
_CODE = "<|endoftext|> https://a.b/c?d=e x+=1; //--"
_words = st.sampled_from(f"{_ENGLISH} {_OTHERS} {_CODE}".split()) | st.just("\x1c\x85\u3000")
_gaps = st.sampled_from(
    ["", " ", "  ", "\n", "\n\n", "\t", " \n ", "\r\n", "/", "'", ".", "//\n", "。"]
)
_letters = st.text(alphabet="aAeEsSlLvV'\u20191 \n\t\r/.-漢ǅʰ\u0301😀\u00a0", max_size=12)
_any_character = st.characters() | st.sampled_from("\ud83d\ud800\ude00\udfff\ufeff")
texts = st.lists(st.one_of(_words, _gaps, _letters), max_size=30).map("".join)


def chunks_of(text: str, cuts: list[int]) -> list[str]:
    bounds = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in pairwise(bounds)]


def recorded_chunks(case: dict[str, Any]) -> list[str]:
    """The chunks of a recorded stream; the long ones are stored as unit and lengths."""
    chunks = case["chunks"]
    if isinstance(chunks, dict):
        return [chunks["unit"] * length for length in chunks["lengths"]]
    return list(chunks)


@pytest.mark.parametrize("name", ENCODINGS)
@settings(max_examples=150, deadline=None)
@given(text=texts, cuts=st.lists(st.integers(0, 400), max_size=40))
def test_the_count_is_tiktokens_at_every_chunk(name: str, text: str, cuts: list[int]) -> None:
    """However a text is cut, the count after each chunk is that of the text so far."""
    encoding = load_encoding(name)
    counter, seen = IncrementalCounter(encoding), ""

    for chunk in chunks_of(text, cuts):
        counter.feed(chunk)
        seen += chunk
        assert counter.count == len(encoding.encode_ordinary(seen))
    assert counter.forced == 0


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(_any_character, max_size=8), max_size=12))
def test_any_characters_count_halves_of_surrogate_pairs_too(chunks: list[str]) -> None:
    """Arbitrary code points, lone and split surrogates too, count as tiktoken counts them."""
    encoding = load_encoding("o200k_base")
    counter, seen = IncrementalCounter(encoding), ""

    for chunk in chunks:
        counter.feed(chunk)
        seen += chunk
        assert counter.count == len(encoding.encode_ordinary(seen))


def test_recorded_streams_replay() -> None:
    """All 1,954 recorded running counts come out, whether read after each chunk or at the end."""
    steps = 0
    for case in VECTORS["splits"]:
        encoding = load_encoding(case["encoding"])
        eager, lazy = IncrementalCounter(encoding), IncrementalCounter(encoding)
        for chunk, running in zip(recorded_chunks(case), case["running"], strict=True):
            eager.feed(chunk)
            lazy.feed(chunk)
            steps += 1
            assert eager.count == running, (case["id"], steps)
        assert lazy.count == case["running"][-1]

    assert steps == 1954


@pytest.mark.parametrize("name", ENCODINGS)
def test_long_texts_without_safe_cuts_are_cut_at_settled_pieces(name: str) -> None:
    """Emoji, marks and case changes without blanks between are counted exactly, never by force."""
    encoding = load_encoding(name)
    dice = random.Random(7)
    for pool in ("a😀", "漢a\u0301😀", "สวัด\u0e35é😀", "'\u2019ñ!"):
        text = "".join(dice.choice(pool) for _ in range(1500))
        counter = IncrementalCounter(encoding)
        for start in range(0, len(text), 7):
            counter.feed(text[start : start + 7])
        assert (counter.count, counter.forced) == (len(encoding.encode_ordinary(text)), 0), pool


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize(
    "unit", ["a", " ", "\n", "7", "漢", "!", "ACGT", "é", "e\u0301", "\n    ", "😀", "aB", "="]
)
def test_endless_runs_are_bounded_and_right(name: str, unit: str) -> None:
    """20,000 characters without a pause count right, and leave no more than a tail in memory."""
    encoding = load_encoding(name)
    text = unit * (20_000 // len(unit))
    counter = IncrementalCounter(encoding)

    for start in range(0, len(text), 50):
        counter.feed(text[start : start + 50])
        assert len(counter._tail) <= TAIL_MAX
    assert counter.count == len(encoding.encode_ordinary(text))


def test_a_pair_of_halves_is_one_character() -> None:
    """An emoji in two escapes counts as itself; its first half alone as a replacement character."""
    encoding = load_encoding("o200k_base")
    counter = IncrementalCounter(encoding)

    counter.feed("\ud83d")
    first = counter.count
    counter.feed("\ude00")

    assert first == len(encoding.encode_ordinary("\ufffd"))
    assert counter.count == len(encoding.encode_ordinary("😀"))


def test_closed_never_falls_and_never_passes_count() -> None:
    """`closed` can feed a counter metric while the stream runs."""
    counter = IncrementalCounter(load_encoding("o200k_base"))
    closed = 0
    for chunk in VECTORS["splits"][0]["chunks"]:
        counter.feed(chunk)
        assert closed <= counter.closed <= counter.count
        closed = counter.closed


def test_a_fed_megabyte_is_taken_in_slices() -> None:
    """One delta of any size is as good as many: blanks by the million do not reach tiktoken."""
    counter = IncrementalCounter(load_encoding("cl100k_base"))

    counter.feed("x" + " " * 1_000_000 + "x y")

    assert counter.count > 7000
    assert len(counter._tail) <= TAIL_MAX
