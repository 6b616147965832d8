"""Messages and their content blocks as the messages of a chat completion.

What chat completions have no name for stays in the content as the block that it was, with its own
`type`, and `has_native_part` finds it: a server tool's result, a file by its id. Rules: results of
tools stand in messages of their own, before the rest of the turn they came in, as chat completions
want them; thinking without a signature is passed on as text only, since no maker's server would
take it back as a block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from proxy.wire.anthropic_messages.client_values import (
    mapping,
    mappings,
    text,
    text_or_none,
    wrong,
)

Part = dict[str, Any]

_FILE_NAME = "document.pdf"
_PLAIN = frozenset({"text", "image_url", "file"})


def system_message(system: object) -> dict[str, Any]:
    """The system prompt, a string or text blocks, as the first message."""
    return {"role": "system", "content": _simple(_content(system, "system"))}


def chat_messages(message: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """One message as those of a chat completion: more than one where it has results of tools."""
    role, content = message.get("role"), message.get("content")
    if role not in ("user", "assistant", "system"):
        raise wrong(f"{where}.role", "`user`, `assistant` or `system`")
    where = f"{where}.content"
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    blocks = mappings(content, where)
    if role == "assistant":
        return [_assistant(blocks, where)]
    results = []
    others: list[Part] = []
    for at, block in enumerate(blocks):
        if block.get("type") == "tool_result":
            results.append(_tool_message(block, f"{where}.{at}"))
        else:
            others += _parts(block, f"{where}.{at}")
    if others or not results:
        results.append({"role": role, "content": _simple(others)})
    return results


def wants_citations(message: Mapping[str, Any]) -> bool:
    """Whether the answer is to cite a document of this message of Anthropic's."""
    blocks = message.get("content")
    for block in blocks if isinstance(blocks, list) else ():
        if not isinstance(block, dict):
            continue
        citations = block.get("citations")
        if isinstance(citations, dict) and citations.get("enabled"):
            return True
        if block.get("type") == "tool_result" and wants_citations(block):
            return True
    return False


def has_native_part(message: Mapping[str, Any]) -> bool:
    """Whether something in this message has no place in a chat completion."""
    content = message["content"]
    return isinstance(content, list) and any(part["type"] not in _PLAIN for part in content)


def with_cache_control(messages: list[dict[str, Any]], control: object) -> list[dict[str, Any]]:
    """The messages with the request's own cache mark, which means the last block that can be."""
    if not isinstance(control, dict) or not messages:
        return messages
    return [*messages[:-1], {**messages[-1], "cache_control": control}]


def marked(part: Part, block: Mapping[str, Any]) -> Part:
    """The part with the cache mark of the block that it was made of."""
    control = block.get("cache_control")
    return {**part, "cache_control": control} if isinstance(control, dict) else part


def _assistant(blocks: list[dict[str, Any]], where: str) -> dict[str, Any]:
    parts: list[Part] = []
    calls, thoughts, kept = [], [], []
    message: dict[str, Any] = {"role": "assistant"}
    for at, block in enumerate(blocks):
        here = f"{where}.{at}"
        match block.get("type"):
            case "tool_use":
                calls.append(_call(block, here))
                message = marked(message, block)
            case "thinking":
                thought = text(block, "thinking", here)
                thoughts.append(thought)
                if signature := text_or_none(block, "signature", here):
                    kept.append({"type": "thinking", "thinking": thought, "signature": signature})
            case "redacted_thinking":
                data = text(block, "data", here)
                kept.append({"type": "redacted_thinking", "data": data})
            case _:
                parts += _parts(block, here)
    message["content"] = _simple(parts) if parts or not calls else None
    if any(thoughts):
        message["reasoning_content"] = "\n".join(thoughts)
    if kept:
        message["thinking_blocks"] = kept
    if calls:
        message["tool_calls"] = calls
    return message


def _call(block: Mapping[str, Any], where: str) -> dict[str, Any]:
    given = mapping(block.get("input"), f"{where}.input")
    return {
        "id": text(block, "id", where),
        "type": "function",
        "function": {
            "name": text(block, "name", where),
            "arguments": orjson.dumps(given).decode(),
        },
    }


def _tool_message(block: Mapping[str, Any], where: str) -> dict[str, Any]:
    content = block.get("content")
    parts = [] if content is None else _content(content, f"{where}.content")
    message: dict[str, Any] = {
        "role": "tool",
        "tool_call_id": text(block, "tool_use_id", where),
        "content": _simple(parts) if parts else "",
    }
    failed = block.get("is_error")
    if failed is not None and type(failed) is not bool:
        raise wrong(f"{where}.is_error", "true or false")
    if failed:
        message["is_error"] = True
    return marked(message, block)


def _content(content: object, where: str) -> list[Part]:
    """The parts of what is a string or a list of blocks."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    parts: list[Part] = []
    for at, block in enumerate(mappings(content, where)):
        parts += _parts(block, f"{where}.{at}")
    return parts


def _simple(parts: list[Part]) -> str | list[Part]:
    """Plain text as a string, which every server takes; anything else as it is."""
    if len(parts) == 1 and parts[0].keys() == {"type", "text"} and parts[0]["type"] == "text":
        plain: str = parts[0]["text"]
        return plain
    return parts


def _parts(block: dict[str, Any], where: str) -> list[Part]:
    kind = text(block, "type", where)
    if kind in _PLAIN and kind != "text":
        raise wrong(f"{where}.type", "a type of Anthropic's")
    make = _MAKERS.get(kind)
    return [block] if make is None else make(block, where)


def _text_part(block: dict[str, Any], where: str) -> list[Part]:
    return [marked({"type": "text", "text": text(block, "text", where)}, block)]


def _image(block: dict[str, Any], where: str) -> list[Part]:
    source = mapping(block.get("source"), f"{where}.source")
    address = _address(source, f"{where}.source")
    if address is None:
        return [block]
    return [marked({"type": "image_url", "image_url": {"url": address}}, block)]


def _address(source: Mapping[str, Any], where: str) -> str | None:
    """A URL, or the data as one; None for what only Anthropic has."""
    match source.get("type"):
        case "base64":
            media_type, data = text(source, "media_type", where), text(source, "data", where)
            return f"data:{media_type};base64,{data}"
        case "url":
            return text(source, "url", where)
        case _:
            return None


def _document(block: dict[str, Any], where: str) -> list[Part]:
    source = mapping(block.get("source"), f"{where}.source")
    heads = [text_or_none(block, name, where) for name in ("title", "context")]
    match source.get("type"):
        case "base64":
            data = _address(source, f"{where}.source")
            file = {"filename": heads[0] or _FILE_NAME, "file_data": data}
            context = [{"type": "text", "text": heads[1]}] if heads[1] else []
            return [*context, marked({"type": "file", "file": file}, block)]
        case "text":
            said = text(source, "data", f"{where}.source")
            parts: list[Part] = [{"type": "text", "text": said}]
        case "content":
            parts = _content(source.get("content"), f"{where}.source.content")
        case _:
            return [block]
    parts = [{"type": "text", "text": head} for head in heads if head] + parts
    return [*parts[:-1], marked(parts[-1], block)] if parts else []


_MAKERS: Mapping[str, Callable[[dict[str, Any], str], list[Part]]] = {
    "text": _text_part,
    "image": _image,
    "document": _document,
}
