"""How long a recording is, how many pages a document has, and what that costs."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.images import image_tokens
from metering.media import (
    PAGES_MAX,
    SECONDS_MAX,
    Media,
    inline,
    media_tokens,
    page_count,
    sound_tokens,
)

WAV_HEAD = (
    b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0"
    + (24_000).to_bytes(4, "little")
    + (48_000).to_bytes(4, "little")
    + b"\x02\0\x10\0data\0\0\0\0"
)
MP3_192 = b"\xff\xfb\xb0\x00"
TAG = b"ID3\x04\0\0\0\0\x02\x00" + bytes(256)


def mp4(seconds: int, *, is_wide: bool = False) -> bytes:
    """The head of a film: its movie header says how long it is."""
    size = 8 if is_wide else 4
    stamps, length = bytes(2 * size), (seconds * 600).to_bytes(size)
    header = b"mvhd" + bytes([is_wide]) + bytes(3) + stamps + (600).to_bytes(4) + length
    return b"\0\0\0\x18ftypisom" + bytes(16) + header + bytes(80) + bytes(10_000)


@pytest.mark.parametrize(
    ("model", "raw", "form", "tokens"),
    [
        ("gpt-4o-audio-preview", WAV_HEAD + bytes(480_000 - len(WAV_HEAD)), "wav", 100),
        ("gpt-4o-audio-preview", MP3_192 + bytes(24_000 * 10 - 4), "mp3", 100),
        ("gpt-4o-audio-preview", TAG + MP3_192 + bytes(24_000 * 10 - 270), "mp3", 100),
        ("gpt-4o-audio-preview", bytes(160_000), "mp3", 100),
        ("gpt-4o-audio-preview", bytes(160_000), "m4a", 100),
        ("gpt-realtime", bytes(480_000), "pcm16", 100),
        ("gemini-2.5-pro", bytes(160_000), "mp3", 320),
        ("mistralai/voxtral-small", bytes(160_000), "mp3", 130),
        ("unheard-of", bytes(160_000), "mp3", 250),
        ("gpt-4o", bytes(40_000), "x-opus", 100),
        ("gpt-4o", b"", "mp3", 0),
        ("gpt-4o", b"RIFF\0\0\0\0WAVE" + bytes(160_000 - 12), "mp3", 100),
    ],
)
def test_sound_costs_by_the_second(model: str, raw: bytes, form: str, tokens: int) -> None:
    """The byte rate is the one in the head of a wav or an mp3, else that of the format."""
    assert sound_tokens(model, raw, form) == tokens


@pytest.mark.parametrize(
    ("raw", "pages"),
    [
        (b"%PDF-1.4 /Type /Page /Type/Page\n/Type /Pages /Count 2", 2),
        (b"%PDF-1.4 /Type /Pages /Count 12" + bytes(6000), 12),
        (b"%PDF-1.4 /Count 999999" + bytes(5000), 10),
        (b"%PDF-1.7" + bytes(90_000), 4),
        (b"%PDF-1.7", 1),
        (b"%PDF-1.7 /Type /PageLabel", 1),
        (b"/Type /Page " * 5000, PAGES_MAX),
    ],
    ids=["named", "told", "lying", "packed", "empty", "labels", "endless"],
)
def test_pages_are_counted_where_they_can_be(raw: bytes, pages: int) -> None:
    """By name or by the page tree, within reason; a packed document by its size."""
    assert page_count(raw) == pages


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("gpt-4o", 1000 + 85 + 4 * 170),
        ("claude-sonnet-4", 1000 + 1568),
        ("gemini-2.5-flash", 258),
        ("google/gemini-3-pro", 560),
    ],
)
def test_a_page_is_its_text_and_its_picture(model: str, tokens: int) -> None:
    """But for Google's, which bill a page as such."""
    page = Media("application/pdf", b"%PDF-1.7 /Type /Page ")

    assert media_tokens(model, page, image_tokens) == tokens


@pytest.mark.parametrize("is_wide", [False, True])
def test_a_films_length_is_in_its_header(is_wide: bool) -> None:
    """In either width; a length that its bytes cannot have is not believed."""
    film = Media("video/mp4", mp4(60, is_wide=is_wide))
    liar = Media("video/mp4", mp4(SECONDS_MAX // 2, is_wide=is_wide))

    assert media_tokens("gemini-2.5-pro", film, image_tokens) == 60 * 295
    assert media_tokens("gemini-3-pro", film, image_tokens) == 60 * 102
    assert (media_tokens("gemini-3-pro", liar, image_tokens) or 0) < 60


def test_what_stands_in_a_request() -> None:
    """Data URLs and bare base64 are read, addresses are not, and a type may be guessed."""
    packed = base64.b64encode(b"%PDF-1.7").decode()

    assert inline(f"data:application/pdf;base64,{packed}") == Media("application/pdf", b"%PDF-1.7")
    assert inline(packed) == Media("application/pdf", b"%PDF-1.7")
    assert inline(packed, "text/plain") == Media("text/plain", b"%PDF-1.7")
    assert inline(base64.b64encode(WAV_HEAD).decode()) == Media("audio/wav", WAV_HEAD)
    assert inline(base64.b64encode(mp4(1)).decode()).kind == "video/mp4"  # type: ignore[union-attr]  # it is one
    for nothing in ("", "https://x.test/a", "data:text/plain,hello", "data:;base64,A", "漢字"):
        assert inline(nothing) is None


@given(
    st.sampled_from([WAV_HEAD, MP3_192, TAG + MP3_192, mp4(5), mp4(5, is_wide=True), b"%PDF-1.7"]),
    st.binary(max_size=40),
    st.integers(0, 200),
    st.sampled_from(["audio/wav", "audio/mpeg", "video/mp4", "application/pdf", "text/plain", ""]),
)
def test_damaged_media_never_raise(raw: bytes, noise: bytes, at: int, kind: str) -> None:
    """Bytes overwritten anywhere give a number within bounds, or none."""
    damaged = Media(kind, raw[:at] + noise + raw[at + len(noise) :])

    tokens = media_tokens("gpt-4o", damaged, image_tokens)

    assert tokens is None or 0 <= tokens <= max(PAGES_MAX * 3000, SECONDS_MAX * 300)
