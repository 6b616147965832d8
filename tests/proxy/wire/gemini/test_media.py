"""Media for Gemini: what is in the request or public goes along, what our account can open not."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.wire.gemini.media import media_part


def image(url: object) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def file(**fields: object) -> dict[str, Any]:
    return {"type": "file", "file": fields}


CARRIED = {
    "inline": (image("data:image/PNG;base64,AAAA"), "inlineData", "image/png", "AAAA"),
    "inline_with_parameter": (
        image("data:text/plain;charset=utf-8;base64,AAAA"),
        "inlineData",
        "text/plain",
        "AAAA",
    ),
    "bare_url": (
        {"type": "image_url", "image_url": "data:image/png;base64,AA"},
        "inlineData",
        "image/png",
        "AA",
    ),
    "https": (
        image("https://e.test/a.webp?x"),
        "fileData",
        "image/webp",
        "https://e.test/a.webp?x",
    ),
    "https_unnamed": (image("https://e.test/a"), "fileData", None, "https://e.test/a"),
    "signed": (
        image("https://storage.googleapis.com/b/a.png?X-Goog-Signature=1"),
        "fileData",
        "image/png",
        "https://storage.googleapis.com/b/a.png?X-Goog-Signature=1",
    ),
    "video": (
        {"type": "video_url", "video_url": {"url": "https://youtu.be/x"}},
        "fileData",
        None,
        "https://youtu.be/x",
    ),
    "audio": (
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "mp3"}},
        "inlineData",
        "audio/mp3",
        "AA",
    ),
    "file": (file(file_data="AA", filename="x.PDF"), "inlineData", "application/pdf", "AA"),
    "file_url": (
        file(file_data="https://e.test/x.pdf"),
        "fileData",
        "application/pdf",
        "https://e.test/x.pdf",
    ),
}


@pytest.mark.parametrize("name", CARRIED)
def test_media_is_carried(name: str) -> None:
    """Bytes stay within the request, public addresses are Google's to fetch."""
    part, field, mime_type, held = CARRIED[name]

    found = media_part(part)

    assert found is not None
    assert found[field].get("mimeType") == mime_type
    assert held in found[field].values()
    assert media_part(part, with_data=False) is not None


REFUSED = {
    "http": image("http://e.test/a.png"),
    "bucket": image("gs://bucket/a.png"),
    "files_api": image("https://generativelanguage.googleapis.com/v1beta/files/abc"),
    "files_api_disguised": image("HTTPS://x@GenerativeLanguage.googleapis.com./v1beta/files/abc"),
    "files_api_dot": image("https://generativelanguage.googleapis.com./v1beta/files/abc"),
    "files_api_escaped": image("https://generativelanguage%2Egoogleapis.com/v1beta/files/abc"),
    "files_api_wide_dot": image("https://generativelanguage\u3002googleapis.com/v1beta/files/abc"),
    "files_api_backslash": image("https://e.test\\@generativelanguage.googleapis.com/files/abc"),
    "metadata": image("https://metadata.google.internal/x"),
    "user": image("https://user:pass@e.test/a.png"),
    "broken": image("https://[::1/a.png"),
    "no_host": image("https:///a.png"),
    "control": image("https://e.test/\n"),
    "plain_data": image("data:image/svg+xml,<svg/>"),
    "empty_data": image("data:image/png;base64,"),
    "number": image(5),
    "no_image": {"type": "image_url"},
    "unknown_audio": {"type": "input_audio", "input_audio": {"data": "AA", "format": "midi"}},
    "audio_list": {"type": "input_audio", "input_audio": {"data": "AA", "format": []}},
    "audio_text": {"type": "input_audio", "input_audio": "AA"},
    "file_id": file(file_id="file-1", file_data="data:a/b;base64,AA"),
    "unnamed_file": file(file_data="AA"),
    "bucket_file": file(file_data="gs://b/x.pdf", filename="x.pdf"),
    "no_file": {"type": "file", "file": None},
    "other": {"type": "text", "text": "x"},
    "kind_list": {"type": ["image_url"]},
}


@pytest.mark.parametrize("name", REFUSED)
def test_media_that_cannot_be_carried(name: str) -> None:
    """No address that is opened with our credential, nothing without a type, nothing malformed."""
    assert media_part(REFUSED[name]) is None
    assert media_part(REFUSED[name], with_data=False) is None
