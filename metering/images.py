"""What an image in a prompt costs in tokens: its size from its first bytes, then the maker's rule.

Nothing is fetched and nothing decoded. The rules are published ones, and where published and
billed numbers differ, the billed ones; they change with every model, so a count is an estimate.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from metering.tokenizer import is_claude_since_4_7

# (model, width, height, detail) -> tokens; width and height are positive pixels.
ImageRule = Callable[[str, int, int, str], int]

ASSUMED_SIZE = (1024, 1024)  # pixels, of an image that is only an address: 765 tokens on gpt-4o

_HEAD_MAX = 65_536  # base64 characters looked at; cameras put up to 40 kB before a JPEG's size
_SIDE_MAX = 100_000  # pixels; a header that claims more is made up


@dataclass(frozen=True, slots=True)
class _Tiles:
    """OpenAI's older rule: a base, and a price per tile of 512 x 512 pixels."""

    base: int
    tile: int


# By the start of the model's name, longest first. OpenAI's tables as of 2026.
_TILES = (
    ("gpt-4o-mini", _Tiles(2833, 5667)),
    ("computer-use", _Tiles(65, 129)),
    ("gpt-5", _Tiles(70, 140)),
    ("o1", _Tiles(75, 150)),
    ("o3", _Tiles(75, 150)),
    ("", _Tiles(85, 170)),
)


@dataclass(frozen=True, slots=True)
class _Patches:
    """OpenAI's newer rule: so many percent of a token per patch of 32 x 32 pixels, whatever the
    detail; an image is scaled down until `most` patches cover it."""

    percent: int
    most: int = 1536


# gpt-5-mini, -nano and everything since gpt-5.2 as billed; documented are 162 and 246.
_PATCHES = (
    ("gpt-4.1-mini", _Patches(162)),
    ("gpt-4.1-nano", _Patches(246)),
    ("o4-mini", _Patches(172)),
    ("codex-mini", _Patches(172)),
    ("gpt-5-mini", _Patches(120)),
    ("gpt-5-nano", _Patches(150)),
    ("gpt-5.2", _Patches(120)),
    ("gpt-5.3", _Patches(120)),
)
_SINCE_5_4 = re.compile(r"gpt-(?:5\.(?:[4-9]|\d\d)|[6-9]|\d\d)")
_LARGER = _Patches(120, 2500)
_ORIGINAL = _Patches(120, 10_000)
"""What `detail: original` asks for, since gpt-5.4."""

_GEMINI_SINCE_3 = re.compile(r"gemini-(?:[3-9]|\d\d)")
_GEMINI_3_TOKENS = {"low": 280, "medium": 560, "high": 1120, "ultra_high": 2240}
_QWEN_SINCE_3 = re.compile(r"qwen[-_]?(?:[3-9]|\d\d)")
_QWEN_TOKENS_MAX = 16_384
_MISTRAL = re.compile(r"mistral|ministral|magistral|pixtral-large")


def image_tokens(model: str, width: int, height: int, detail: str) -> int:
    """Tokens of one image of that many pixels; `detail` is OpenAI's: "low", "high" or "auto"."""
    bare = model.lower().rpartition("/")[2]
    if "claude" in bare:
        return _claude(width, height, is_large=is_claude_since_4_7(model))
    if _GEMINI_SINCE_3.search(bare):
        return _GEMINI_3_TOKENS.get(detail, _GEMINI_3_TOKENS["high"])
    if "gemini" in bare or "gemma" in bare:
        return _gemini(width, height)
    if "qwen" in bare or "qvq" in bare:
        return _qwen(width, height, side=32 if _QWEN_SINCE_3.search(bare) else 28)
    if "pixtral-12b" in bare:
        return _rows(width, height, side=16, edge_max=1024)
    if _MISTRAL.search(bare):
        return _rows(width, height, side=28, edge_max=1540)
    if patches := _patches_of(bare, detail):
        return -(-_patch_count(width, height, patches.most) * patches.percent // 100)
    tiles = next(tiles for start, tiles in _TILES if bare.startswith(start))
    if detail == "low":
        return tiles.base
    return tiles.base + tiles.tile * _tile_count(width, height)


def _patches_of(bare: str, detail: str) -> _Patches | None:
    if _SINCE_5_4.match(bare):
        return _ORIGINAL if detail == "original" else _LARGER
    return next((patches for start, patches in _PATCHES if bare.startswith(start)), None)


def image_size(data: str) -> tuple[int, int] | None:
    """Width and height in pixels of a base64 image, bare or as a data: URL; None if not found.

    Knows PNG, GIF, JPEG and WebP. Reads the first 48 kB at most and never raises.
    """
    if data[:5].lower() == "data:":
        head, _, data = data[: _HEAD_MAX * 2].partition(",")
        if not head.lower().endswith(";base64"):
            return None
    text = "".join(data[:_HEAD_MAX].split())  # some encoders break the lines
    try:
        raw = base64.b64decode(text[: len(text) & ~3])
    except (binascii.Error, ValueError):
        return None
    size = _png(raw) or _gif(raw) or _webp(raw) or _jpeg(raw)
    return size if size and all(0 < side <= _SIDE_MAX for side in size) else None


def _tile_count(width: int, height: int) -> int:
    """Tiles after fitting into 2048 x 2048, then the short side into 768; never enlarged."""
    for limit, side in ((2048, max), (768, min)):
        if side(width, height) > limit:
            shrink = limit / side(width, height)
            width, height = max(1, round(width * shrink)), max(1, round(height * shrink))
    return math.ceil(width / 512) * math.ceil(height / 512)


def _patch_count(width: int, height: int, most: int) -> int:
    """Patches of 32 x 32 pixels, after scaling down until so many of them cover the image."""
    count = math.ceil(width / 32) * math.ceil(height / 32)
    if count <= most:
        return count
    shrink = math.sqrt(most * 32 * 32 / (width * height))
    across, down = width * shrink / 32, height * shrink / 32
    fit = min(math.floor(across) / across, math.floor(down) / down)
    if not fit:  # a sliver less than a patch wide has no whole patch to scale to
        return most
    return min(most, math.ceil(round(across * fit, 6)) * math.ceil(round(down * fit, 6)))


def _claude(width: int, height: int, *, is_large: bool) -> int:
    """Patches of 28 x 28 pixels; the long edge and the tokens are limited, since 4.7 less so."""
    edge_max, tokens_max = (2576, 4784) if is_large else (1568, 1568)
    shrink = min(1.0, edge_max / max(width, height))
    return min(tokens_max, math.ceil(width * shrink / 28) * math.ceil(height * shrink / 28))


def _gemini(width: int, height: int) -> int:
    """258 per image of up to 384 x 384 pixels, and per tile of 768 x 768 of a larger one."""
    if max(width, height) <= 384:
        return 258
    return 258 * math.ceil(width / 768) * math.ceil(height / 768)


def _qwen(width: int, height: int, *, side: int) -> int:
    """A token per square of that side and two around them; 16,384 at most, where the server does
    not bound images further."""
    count = max(4, math.ceil(width / side) * math.ceil(height / side))
    return min(count, _QWEN_TOKENS_MAX) + 2


def _rows(width: int, height: int, *, side: int, edge_max: int) -> int:
    """Mistral's: a token per square, and one at the end of each row; larger images are fitted."""
    shrink = min(1.0, edge_max / max(width, height))
    across, down = math.ceil(width * shrink / side), math.ceil(height * shrink / side)
    return down * (across + 1)


def _png(raw: bytes) -> tuple[int, int] | None:
    if raw[:8] != b"\x89PNG\r\n\x1a\n" or len(raw) < 24:
        return None
    return int.from_bytes(raw[16:20]), int.from_bytes(raw[20:24])


def _gif(raw: bytes) -> tuple[int, int] | None:
    if raw[:6] not in (b"GIF87a", b"GIF89a") or len(raw) < 10:
        return None
    return int.from_bytes(raw[6:8], "little"), int.from_bytes(raw[8:10], "little")


def _webp(raw: bytes) -> tuple[int, int] | None:
    """Three kinds of WebP: lossy "VP8 ", lossless "VP8L", and extended "VP8X"."""
    if raw[:4] != b"RIFF" or raw[8:12] != b"WEBP" or len(raw) < 30:
        return None
    kind = raw[12:16]
    if kind == b"VP8X":
        return _uint(raw, 24, 3) + 1, _uint(raw, 27, 3) + 1
    if kind == b"VP8L":
        bits = _uint(raw, 21, 4)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return _uint(raw, 26, 2) & 0x3FFF, _uint(raw, 28, 2) & 0x3FFF
    return None


def _uint(raw: bytes, at: int, size: int) -> int:
    return int.from_bytes(raw[at : at + size], "little")


def _jpeg(raw: bytes) -> tuple[int, int] | None:
    """Walk the segments to the frame header; the size in a thumbnail before it is skipped."""
    at = 2 if raw[:2] == b"\xff\xd8" else len(raw)
    while at + 9 <= len(raw) and raw[at] == 0xFF:
        marker = raw[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(raw[at + 7 : at + 9]), int.from_bytes(raw[at + 5 : at + 7])
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # stands alone, without a length
            at += 2
        else:
            at += 2 + int.from_bytes(raw[at + 2 : at + 4])
    return None
