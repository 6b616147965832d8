"""How much was said in a place that nobody here reads, told from its JSON. Pure."""

from __future__ import annotations

from typing import Any

_MEDIA_FROM = 1024
_LOOKED_AT = 256
_MEDIA_RATE = 256
"""A token of a picture or of sound is about a thousand characters of base64 (a picture of 1290
tokens has 1.5 MB, a second of MP3 with 20 tokens 21 kB); the meter takes four bytes for a token."""


def size_of(value: Any) -> int:
    """The characters of all texts in this value, as the meter's `unread` wants them; the names of
    fields, numbers and what is media weigh next to nothing."""
    size, waiting = 0, [value]
    while waiting:
        match waiting.pop():
            case str() as text:
                size += _weight(text)
            case dict() as fields:
                waiting += fields.values()
            case list() as items:
                waiting += items
    return size


def _weight(text: str) -> int:
    is_media = len(text) > _MEDIA_FROM and not any(map(str.isspace, text[:_LOOKED_AT]))
    return len(text) // _MEDIA_RATE if is_media and text.isascii() else len(text)
