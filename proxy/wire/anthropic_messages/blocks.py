"""Content parts of a chat message as blocks of the Messages API, and tools with them.

InvalidRequest names the message or tool that is malformed. Texts of nothing but blanks are left
out: the API refuses them.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

import orjson

from proxy.errors import InvalidRequest
from proxy.wire.anthropic_messages.carrying import is_part_uncarried

Block = dict[str, Any]

_DATA_URL = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),", re.IGNORECASE)
_HEAD_MAX = 256
_BAD_ID_SIGN = re.compile(r"[^a-zA-Z0-9_-]")


def content_blocks(content: object, at: str) -> list[Block]:
    """The blocks of a message's content; `at` names it in errors."""
    if content is None:
        return []
    if isinstance(content, str):
        return _text(content)
    if not isinstance(content, list):
        raise InvalidRequest(f"`{at}` must be a string or a list of parts.", param=at)
    blocks = []
    for number, part in enumerate(content):
        if not is_part_uncarried(part):
            blocks += with_cache(_part(part, f"{at}[{number}]"), part)
    return blocks


def text_blocks(content: object, at: str) -> list[Block]:
    """The same of a system message, which has text only."""
    blocks = content_blocks(content, at)
    if any(block["type"] != "text" for block in blocks):
        raise InvalidRequest(f"`{at}` of a system message must be text.", param=at)
    return blocks


def with_cache(blocks: list[Block], source: Mapping[str, Any]) -> list[Block]:
    """The blocks, the last of them marked as `source` is as the end of what is cached."""
    mark = source.get("cache_control")
    if not blocks or not isinstance(mark, dict):
        return blocks
    return [*blocks[:-1], {**blocks[-1], "cache_control": mark}]


def tool_use(call: object, at: str) -> Block:
    """A tool call of the model as it is told to it again."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping):
        raise InvalidRequest(f"`{at}.function` must be an object.", param=at)
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"`{at}.function.name` must be a non-empty string.", param=at)
    return {
        "type": "tool_use",
        "id": tool_id(call.get("id"), f"{at}.id"),
        "name": name,
        "input": _arguments(function.get("arguments"), f"{at}.function.arguments"),
    }


def tool_id(value: object, at: str) -> str:
    """The id of a call, of the signs that the API takes: ids of other vendors may have more."""
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"`{at}` must be a non-empty string.", param=at)
    return _BAD_ID_SIGN.sub("_", value)


def _arguments(value: object, at: str) -> dict[str, Any]:
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        try:
            found = orjson.loads(value)
        except orjson.JSONDecodeError:
            found = None
        if isinstance(found, dict):
            return found
    raise InvalidRequest(f"`{at}` must be a JSON object as a string.", param=at)


def _text(text: str) -> list[Block]:
    return [{"type": "text", "text": text}] if text.strip() else []


def _part(part: object, at: str) -> list[Block]:
    if not isinstance(part, Mapping):
        raise InvalidRequest(f"`{at}` must be an object.", param=at)
    kind = part.get("type")
    if kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, Mapping) else image
        return [{"type": "image", "source": _source(url, f"{at}.image_url.url")}]
    if kind == "file":
        return [_document(part.get("file"), f"{at}.file")]
    text = part.get("refusal" if kind == "refusal" else "text")
    if not isinstance(text, str):
        raise InvalidRequest(f"`{at}.{kind}` must be a string.", param=at)
    return _text(text)


def _document(file: object, at: str) -> Block:
    if not isinstance(file, Mapping):
        raise InvalidRequest(f"`{at}` must be an object.", param=at)
    source = _source(file.get("file_data") or file.get("file_url"), f"{at}.file_data")
    if source.get("media_type", "").startswith("text/"):
        source = _plain_text(source, f"{at}.file_data")
    block: Block = {"type": "document", "source": source}
    if (title := file.get("filename")) and isinstance(title, str):
        block["title"] = title
    return block


def _source(url: object, at: str) -> dict[str, str]:
    """Where an image or a document is: at an address, or in the request."""
    if not isinstance(url, str):
        raise InvalidRequest(f"`{at}` must be a string.", param=at)
    if url[:8].lower().startswith(("http://", "https://")):
        return {"type": "url", "url": url}
    head = _DATA_URL.match(url[:_HEAD_MAX])
    if head is None or ";base64" not in head[2].lower():
        raise InvalidRequest(f"`{at}` must be an http(s) URL or a base64 data URL.", param=at)
    return {"type": "base64", "media_type": head[1].lower(), "data": url[head.end() :]}


def _plain_text(source: Mapping[str, str], at: str) -> dict[str, str]:
    """A text file as the API takes it: as text. Others than PDF it does not take as base64."""
    try:
        text = base64.b64decode(source["data"], validate=True).decode()
    except (binascii.Error, ValueError):  # UnicodeDecodeError is a ValueError
        raise InvalidRequest(f"`{at}` must be UTF-8 text in base64.", param=at) from None
    return {"type": "text", "media_type": "text/plain", "data": text}
