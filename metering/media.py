"""What a sound, a film or a document in a prompt costs in tokens, told from its first bytes.

Nothing is fetched and nothing decoded but base64. Lengths are read where a container tells them,
else estimated by what its format usually needs per second or per page; rates are the makers'
published ones. All of it is an estimate, and rather too much than too little: it is for a hold.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import NamedTuple

from metering.images import ImageRule
from metering.money import divide_up

UNSEEN_TOKENS = 10_000
"""A document or film that is only an address or an id: what TensorZero reserves for one."""

PAGES_MAX = 2000
SECONDS_MAX = 24 * 3600
_PAGE_PIXELS = (1024, 1325)
"""A page of letter or A4, as the makers render it."""

_PAGE_TEXT_TOKENS = 1000
"""Of a full page of prose, about: Anthropic names 1,500 to 3,000 for a page with its picture."""

_PAGE_BYTES = 30_000
"""Of a page, where the pages cannot be counted: less than most have, so that it is more pages."""

_PAGE = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_PAGE_COUNT = re.compile(rb"/Count\s+(\d{1,6})(?!\d)")


class Media(NamedTuple):
    """Bytes that stand in a request, and their type as it says."""

    kind: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class _Rates:
    """Tokens per second of sound and of film, and per page; 0 where a page is its picture and its
    text."""

    sound: int = 25
    film: int = 300
    page: int = 0


# By what stands in the model's name, first match: OpenAI's sound as it was measured, Google's as
# documented (one frame a second, with its sound), Mistral's and Qwen's from their reports.
_RATES = (
    (re.compile(r"gemini-(?:[3-9]|\d\d)"), _Rates(sound=32, film=70 + 32, page=560)),
    (re.compile(r"gemini|gemma"), _Rates(sound=32, film=263 + 32, page=258)),
    (re.compile(r"gpt|^o\d|whisper"), _Rates(sound=10)),
    (re.compile(r"voxtral|mistral"), _Rates(sound=13)),
)
_OTHERS = _Rates()

_SOUND_BYTES_PER_S = {"wav": 32_000, "flac": 50_000, "opus": 4_000, "ogg": 8_000, "pcm16": 48_000}
"""Of a format whose length is not told: 16 kHz for wav, 24 kHz for raw samples."""

_MP3_BYTES_PER_S = 16_000
"""128 kbit/s, which aac and m4a seldom pass either."""

_MP3_KBIT = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
"""MPEG-1 layer III, by the four bits of a frame's head."""

_FILM_BYTES_PER_S = 125_000
"""1 Mbit/s: little for a film, so that it is long."""


def inline(data: str, kind: str = "") -> Media | None:
    """What stands in a `data:` URL or in bare base64; None for an address, or for noise."""
    if data[:5].lower() == "data:":
        head, _, data = data[5:].partition(",")
        if not head.lower().endswith(";base64"):
            return None
        kind = head.partition(";")[0]
    if not data or "://" in data[:64]:
        return None
    try:
        raw = base64.b64decode(data)
    except (binascii.Error, ValueError):
        return None
    return Media(kind.lower() or _kind_of(raw), raw) if raw else None


def media_tokens(model: str, media: Media, rule: ImageRule) -> int | None:
    """Tokens of a sound, film or PDF; None for what is neither, whose text may count."""
    if media.kind == "application/pdf" or media.raw[:5] == b"%PDF-":
        return page_count(media.raw) * _page_tokens(model, rule)
    if media.kind.startswith("audio/"):
        return sound_tokens(model, media.raw, media.kind.partition("/")[2])
    if media.kind.startswith("video/"):
        return divide_up(_film_ms(media.raw) * _rates(model).film, 1000)
    return None


def sound_tokens(model: str, raw: bytes, form: str) -> int:
    """Tokens of a recording in this format (`wav`, `mp3`, ...)."""
    return divide_up(_sound_ms(raw, form.lower().removeprefix("x-")) * _rates(model).sound, 1000)


def page_count(raw: bytes) -> int:
    """Pages of a PDF: those that are named in it, or told in its page tree; where both are packed
    away, by its size. Never less than one."""
    named = len(_PAGE.findall(raw))
    told = max((int(number) for number in _PAGE_COUNT.findall(raw)), default=0)
    # an outline has counts, too; a document of small pages does not have more than its bytes allow
    seen = max(named, min(told, len(raw) // 500))
    return min(PAGES_MAX, max(1, seen or divide_up(len(raw), _PAGE_BYTES)))


def _page_tokens(model: str, rule: ImageRule) -> int:
    page = _rates(model).page
    return page or _PAGE_TEXT_TOKENS + rule(model, *_PAGE_PIXELS, "high")


def _rates(model: str) -> _Rates:
    bare = model.lower().rpartition("/")[2]
    return next((rates for name, rates in _RATES if name.search(bare)), _OTHERS)


def _sound_ms(raw: bytes, form: str) -> int:
    per_s = _wav_bytes_per_s(raw) or _mp3_bytes_per_s(raw)
    per_s = per_s or _SOUND_BYTES_PER_S.get(form, _MP3_BYTES_PER_S)
    return min(SECONDS_MAX * 1000, divide_up(len(raw) * 1000, per_s))


def _wav_bytes_per_s(raw: bytes) -> int:
    """The byte rate of a wav's `fmt ` chunk; 0 where it has none that can be."""
    if raw[:4] != b"RIFF" or raw[8:12] != b"WAVE":
        return 0
    at = raw.find(b"fmt ", 12, 4096)
    if at < 0:
        return 0
    rate = int.from_bytes(raw[at + 16 : at + 20], "little")
    return rate if 1000 <= rate <= 10_000_000 else 0


def _mp3_bytes_per_s(raw: bytes) -> int:
    """The bit rate of the first frame of an MPEG-1 layer III stream; 0 where there is none."""
    at = 0
    if raw[:3] == b"ID3" and len(raw) >= 10:  # a tag, its size in four times seven bits
        sizes = zip(raw[6:10], (21, 14, 7, 0), strict=True)
        at = 10 + sum((byte & 0x7F) << shift for byte, shift in sizes)
    head = raw[at : at + 3]
    if len(head) < 3 or head[0] != 0xFF or head[1] & 0xFE != 0xFA:
        return 0
    return _MP3_KBIT[head[2] >> 4] * 125


def _film_ms(raw: bytes) -> int:
    """The length in an MP4's movie header, else by size."""
    at = raw.find(b"mvhd")
    if 0 <= at <= len(raw) - 36:
        wide = raw[at + 4] == 1
        scale_at = at + (24 if wide else 16)
        scale = int.from_bytes(raw[scale_at : scale_at + 4])
        length = int.from_bytes(raw[scale_at + 4 : scale_at + (12 if wide else 8)])
        # a length that needs less than a byte a second is made up
        if scale and 0 < length // scale <= min(SECONDS_MAX, len(raw)):
            return length * 1000 // scale
    return min(SECONDS_MAX * 1000, divide_up(len(raw) * 1000, _FILM_BYTES_PER_S))


_KINDS = ((b"%PDF-", "application/pdf"), (b"ID3", "audio/mpeg"), (b"OggS", "audio/ogg"))


def _kind_of(raw: bytes) -> str:
    if raw[:4] == b"RIFF" and raw[8:12] == b"WAVE":
        return "audio/wav"
    if raw[4:8] == b"ftyp":
        return "video/mp4"
    return next((kind for start, kind in _KINDS if raw.startswith(start)), "")
