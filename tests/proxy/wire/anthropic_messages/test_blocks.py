"""Parts of messages as blocks."""

from __future__ import annotations

import pytest

from proxy.errors import InvalidRequest
from proxy.wire.anthropic_messages.blocks import content_blocks, text_blocks, tool_id, tool_use


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("HTTPS://x.test/a", {"type": "url", "url": "HTTPS://x.test/a"}),
        (
            "data:IMAGE/PNG;base64,AA",
            {"type": "base64", "media_type": "image/png", "data": "AA"},
        ),
        (
            "data:image/webp;name=a.webp;base64,AA==",
            {"type": "base64", "media_type": "image/webp", "data": "AA=="},
        ),
    ],
)
def test_images(url: str, source: dict[str, str]) -> None:
    """By address and in the request."""
    [block] = content_blocks([{"type": "image_url", "image_url": {"url": url}}], "c")

    assert block == {"type": "image", "source": source}


@pytest.mark.parametrize("url", ["ftp://x", "data:image/png,AA", "data:", "", None, 5])
def test_what_is_no_image(url: object) -> None:
    """Other addresses are refused: nobody would fetch them."""
    with pytest.raises(InvalidRequest):
        content_blocks([{"type": "image_url", "image_url": {"url": url}}], "c")


def test_a_refusal_is_what_the_model_said() -> None:
    """It is text to the model."""
    assert content_blocks([{"type": "refusal", "refusal": "No."}], "c") == [
        {"type": "text", "text": "No."}
    ]


def test_a_system_message_has_text_only() -> None:
    """An image in it is refused."""
    with pytest.raises(InvalidRequest):
        text_blocks([{"type": "image_url", "image_url": {"url": "https://x"}}], "c")


def test_ids_have_signs_that_the_api_takes() -> None:
    """Ids of other vendors' calls are bent, in the same way at the call and its result."""
    assert tool_id("functions.f:0", "i") == "functions_f_0"
    assert tool_use({"id": "a.b", "function": {"name": "f"}}, "c")["id"] == "a_b"
