"""Images, sounds and files of a chat request as parts of a Gemini content.

What is in the request goes along (`inlineData`); what is at a public `https://` address is fetched
by Google (`fileData`). Rule: no address that Google would open with our credential. Files of its
Files API and objects in `gs://` belong to the account that all tenants share, so whoever guesses
a name would read what is another's; they are refused.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

_DATA_URL = re.compile(r"data:([\w.+-]{1,64}/[\w.+-]{1,128})(?:;[\w.+=-]{1,64})*;base64,", re.ASCII)
_DATA_URL_HEAD_MAX = 512
_HOST = re.compile(r"[a-z0-9][a-z0-9.-]*", re.ASCII)
"""No escapes, and no signs that a browser reads as a dot: a host is to be what it looks like."""

_OWN_HOSTS = ("googleapis.com", "google.internal")
_OPEN_HOSTS = frozenset({"storage.googleapis.com"})
"""Objects there are public or signed, and read without a credential of ours."""

_MIME_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "bmp": "image/bmp",
    "heic": "image/heic",
    "heif": "image/heif",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "html": "text/html",
    "csv": "text/csv",
    "xml": "text/xml",
    "json": "application/json",
    "mp3": "audio/mp3",
    "wav": "audio/wav",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "aiff": "audio/aiff",
    "m4a": "audio/m4a",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
    "mpeg": "video/mpeg",
}
_AUDIO_FORMATS = frozenset({"mp3", "wav", "aac", "flac", "ogg", "aiff", "m4a"})
_URL_TYPES = ("image_url", "video_url")
_MEDIA_TYPES = (*_URL_TYPES, "input_audio", "file")


def media_part(part: dict[str, Any], *, with_data: bool = True) -> dict[str, Any] | None:
    """The part for an image, sound, video or file; None for what cannot be carried.

    Whoever asks only whether it can be needs no data, which may be megabytes to copy.
    """
    kind = part.get("type")
    if kind in _URL_TYPES:
        held = part.get(kind)
        return _from_url(held.get("url") if isinstance(held, dict) else held, with_data)
    if kind == "input_audio":
        return _audio(part.get("input_audio"))
    if kind == "file":
        return _file(part.get("file"), with_data)
    return None


def is_media(part: dict[str, Any]) -> bool:
    """Whether `media_part` is to be asked about this part."""
    return part.get("type") in _MEDIA_TYPES


def _audio(audio: object) -> dict[str, Any] | None:
    if not isinstance(audio, dict):
        return None
    data, sound = audio.get("data"), audio.get("format")
    if not isinstance(data, str) or not data or not isinstance(sound, str):
        return None
    if sound not in _AUDIO_FORMATS:
        return None
    return _inline(_MIME_TYPES[sound], data)


def _file(file: object, with_data: bool) -> dict[str, Any] | None:
    """A file by its bytes or address; `file_id` names one at another provider."""
    if not isinstance(file, dict) or file.get("file_id"):
        return None
    data, name = file.get("file_data"), file.get("filename")
    if not isinstance(data, str):
        return None
    if (part := _from_url(data, with_data)) is not None or ":" in data[:16]:
        return part
    mime_type = _mime_type(name) if isinstance(name, str) else None
    return _inline(mime_type, data) if mime_type and data else None


def _from_url(url: object, with_data: bool) -> dict[str, Any] | None:
    if not isinstance(url, str):
        return None
    if url.startswith("data:"):
        found = _DATA_URL.match(url[:_DATA_URL_HEAD_MAX])
        if found is None or found.end() == len(url):
            return None
        return _inline(found[1].lower(), url[found.end() :] if with_data else "")
    return _from_address(url) if url[:8].lower() == "https://" else None


def _from_address(url: str) -> dict[str, Any] | None:
    try:
        split = urlsplit(url)
        host = (split.hostname or "").rstrip(".")
    except ValueError:
        return None
    if not _HOST.fullmatch(host) or split.username is not None or not url.isprintable():
        return None
    is_own = any(host == own or host.endswith(f".{own}") for own in _OWN_HOSTS)
    if is_own and not _is_open(host):
        return None
    mime_type = _mime_type(split.path)
    return {"fileData": ({"mimeType": mime_type} if mime_type else {}) | {"fileUri": url}}


def _is_open(host: str) -> bool:
    return any(host == each or host.endswith(f".{each}") for each in _OPEN_HOSTS)


def _mime_type(path: str) -> str | None:
    return _MIME_TYPES.get(path.rpartition("/")[2].rpartition(".")[2].lower())


def _inline(mime_type: str, data: str) -> dict[str, Any]:
    return {"inlineData": {"mimeType": mime_type, "data": data}}
