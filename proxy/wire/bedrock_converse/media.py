"""Pictures, sound and documents of a chat request as Converse has them: bytes within the request.

What is only named by an address is not fetched, and `s3://` addresses are not passed on: they would
be read with the proxy's own rights, whoever asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_IMAGES = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
}
_SOUNDS = frozenset(
    {"mp3", "opus", "wav", "aac", "flac", "mp4", "ogg", "mkv", "m4a", "mpeg", "pcm", "webm"}
)
_DOCUMENTS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
_FORMATS = frozenset(_DOCUMENTS.values())
_DATA_URL = re.compile(r"data:([A-Za-z0-9.+/-]{1,128})(?:;[A-Za-z0-9=._-]{1,64}){0,4};base64,")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9\s()\[\]-]+")
_SPACES = re.compile(r"\s+")
_NAME_MAX = 180
"""Of 200: a number may come after it."""


def image(url: object) -> dict[str, Any] | None:
    """The block of an image in a data URL; None for any other."""
    found = _data_url(url)
    if found is None or found[0] not in _IMAGES:
        return None
    return {"image": {"format": _IMAGES[found[0]], "source": {"bytes": found[1]}}}


def sound(audio: Mapping[str, Any]) -> dict[str, Any] | None:
    """The block of what an `input_audio` part holds; None for a format that Converse lacks."""
    data, kind = audio.get("data"), audio.get("format")
    if not isinstance(data, str) or not data or not isinstance(kind, str) or kind not in _SOUNDS:
        return None
    return {"audio": {"format": kind, "source": {"bytes": data}}}


def document(file: Mapping[str, Any], taken: set[str]) -> dict[str, Any] | None:
    """The block of what a `file` part holds; None where its data is not in it. `taken` are the
    names that other documents of this request have: Bedrock wants them to differ."""
    data, filename = file.get("file_data"), file.get("filename")
    title = filename if isinstance(filename, str) else ""
    stem, _, extension = title.rpartition(".")
    kind: str | None = extension.lower()
    if (found := _data_url(data)) is not None:
        kind, data = _DOCUMENTS.get(found[0], kind), found[1]
    if kind not in _FORMATS or not isinstance(data, str) or not data or ":" in data[:64]:
        return None
    name = _name(stem or title, taken)
    return {"document": {"format": kind, "name": name, "source": {"bytes": data}}}


def _name(title: str, taken: set[str]) -> str:
    """A name with no other signs than Bedrock takes."""
    plain = _SPACES.sub(" ", _NOT_IN_NAMES.sub(" ", title[:_NAME_MAX])).strip() or "document"
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain} ({number})"
    taken.add(name)
    return name


def _data_url(url: object) -> tuple[str, str] | None:
    """The type and the base64 text of a data URL."""
    if not isinstance(url, str) or (match := _DATA_URL.match(url)) is None:
        return None
    data = url[match.end() :]
    return (match[1].lower(), data) if data else None
