"""The size of an image from its first bytes, and what it costs."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.images import image_size, image_tokens

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "data/token_vectors.json").read_text()
)

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes.fromhex("00000500000002d0") + b"\x08\x06\0\0\0"
GIF = b"GIF89a" + bytes.fromhex("0005d002") + b"\xf7\0\0"
FRAME = b"\xff\xc2\0\x11\x08" + bytes.fromhex("02d00500") + b"\x03" + bytes(9)
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(9) + FRAME
THUMBNAIL = b"\xff\xd8\xff\xc0\0\x11\x08\0\x10\0\x10" + bytes(10)
CAMERA = (
    b"\xff\xd8\xff\xe1\x90\0" + (b"Exif\0\0" + THUMBNAIL).ljust(0x8FFE, b"\0") + b"\xff" + FRAME
)
WEBP = b"RIFF\x24\0\0\0WEBP"
LOSSY = WEBP + b"VP8 \x18\0\0\0\x30\x01\0\x9d\x01\x2a" + bytes.fromhex("0005d002")
LOSSLESS = WEBP + b"VP8L\x18\0\0\0\x2f" + (1279 | 719 << 14).to_bytes(4, "little") + bytes(8)
EXTENDED = WEBP + b"VP8X\x0a\0\0\0\0\0\0\0" + bytes.fromhex("ff0400cf0200")


def data_url(raw: bytes) -> str:
    return "data:image/any;base64," + base64.b64encode(raw).decode()


@pytest.mark.parametrize(
    "raw",
    [PNG, GIF, JPEG, CAMERA, LOSSY, LOSSLESS, EXTENDED],
    ids=["png", "gif", "jpeg", "camera", "lossy webp", "lossless webp", "extended webp"],
)
def test_the_size_is_in_the_first_bytes(raw: bytes) -> None:
    """Every format that models take is measured, with and without an image behind its header."""
    assert image_size(data_url(raw)) == (1280, 720)
    assert image_size(data_url(raw + bytes(100_000))) == (1280, 720)
    assert image_size(base64.encodebytes(raw).decode()) == (1280, 720)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "https://example.com/a.png",
        "data:image/svg+xml,<svg/>",
        "data:image/png;base64,",
        "data:image/png;base64,????",
        data_url(PNG[:20]),
        data_url(PNG[:16] + bytes(8)),
        data_url(JPEG[:12]),
        data_url(b"\xff\xd8" + b"\xff" * 5000),
        data_url(b"\xff\xd8\xff\xe0\0\0" * 3),
        "漢字",
    ],
)
def test_what_is_no_image_has_no_size(data: str) -> None:
    """Addresses, cut headers, empty images and noise are told from images without an error."""
    assert image_size(data) is None


@given(
    st.sampled_from([PNG, GIF, JPEG, LOSSY, LOSSLESS, EXTENDED]), st.binary(max_size=40), st.data()
)
def test_damaged_headers_never_raise(raw: bytes, noise: bytes, data: st.DataObject) -> None:
    """Bytes overwritten anywhere give a size, a wrong one, or none."""
    at = data.draw(st.integers(0, len(raw)))

    size = image_size(data_url(raw[:at] + noise + raw[at + len(noise) :]))

    assert size is None or min(size) > 0


@pytest.mark.parametrize("case", VECTORS["images"], ids=lambda case: case["source"])
def test_documented_and_billed_images(case: dict[str, Any]) -> None:
    """OpenAI's own examples, and two that were billed, come out to the token."""
    tokens = image_tokens(case["model"], case["width"], case["height"], case["detail"])

    assert tokens == case["tokens"]


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        ("gpt-4o-mini", (512, 512), 8500),
        ("openai/gpt-5.1", (1024, 1024), 630),
        ("o3", (512, 512), 225),
        ("gpt-5-mini", (1024, 1024), 1229),
        ("gpt-4.1-mini", (1024, 1024), 1659),
        ("gpt-4.1-mini", (4096, 4096), 2465),
        ("gpt-4.1-mini", (100_000, 1), 2489),
        ("gpt-4o", (100_000, 1), 765),
        ("claude-opus-4-1", (1000, 1000), 1296),
        ("claude-opus-4-1", (3000, 3000), 1568),
        ("claude-opus-4-7", (3000, 3000), 4784),
        ("gpt-5.2", (4096, 4096), 1826),
        ("gpt-5.4", (1600, 1600), 3000),
        ("gpt-5.4-mini-2026-03-17", (1600, 1600), 3000),
        ("openai/gpt-6", (4096, 4096), 3000),
        ("codex-mini-latest", (1024, 1024), 1762),
        ("google/gemini-3-pro-preview", (64, 64), 1120),
        ("gemini-3.5-flash", (4000, 4000), 1120),
        ("qwen2.5-vl-72b", (1024, 1024), 1371),
        ("qwen3-vl-plus", (1024, 1024), 1026),
        ("qwen3-vl-plus", (9000, 9000), 16_386),
        ("pixtral-12b-2409", (1024, 1024), 4160),
        ("pixtral-12b-2409", (2048, 1024), 2080),
        ("mistral-medium-latest", (1540, 1540), 3080),
        ("gemini-2.5-pro", (384, 384), 258),
        ("gemini-2.5-pro", (1024, 1024), 1032),
    ],
)
def test_each_maker_has_a_rule(model: str, size: tuple[int, int], tokens: int) -> None:
    """Tiles, patches and flat prices, by the model's name."""
    assert image_tokens(model, *size, "auto") == tokens


@pytest.mark.parametrize(
    ("model", "detail", "tokens"),
    [
        ("gpt-4o", "low", 85),
        ("gpt-5-mini", "low", 1826),
        ("gpt-5.4", "low", 3000),
        ("gpt-5.4", "original", 12_000),
        ("gemini-3-pro", "low", 280),
        ("gemini-3-pro", "medium", 560),
    ],
)
def test_detail_counts_where_it_is_heeded(model: str, detail: str, tokens: int) -> None:
    """Models that cut an image into patches bill it whatever the detail, as it was measured."""
    assert image_tokens(model, 4096, 4096, detail) == tokens


@given(
    st.sampled_from(
        [
            *("gpt-4o", "gpt-4.1-nano", "gpt-5.4", "claude-3", "gemini", "gemini-3", "qwen3"),
            *("mistral", "pixtral-12b", "o1", ""),
        ]
    ),
    st.integers(1, 100_000),
    st.integers(1, 100_000),
)
def test_any_size_costs_something_bounded(model: str, width: int, height: int) -> None:
    """No size makes an image free, negative or an error."""
    assert 0 < image_tokens(model, width, height, "high") < 10_000_000
