"""Input items as chat messages, as far as they can be said there.

Rules: what an assistant thought, said and called in one turn is one message, as chat has it; what
has no place in chat is named by its path (`input[2].content[0].file_url`) and put aside, so that it
can be refused and is counted all the same; nothing raises, whatever stands there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from proxy.wire.openai_responses.thinking import unpacked

NAMED_MAX = 16
"""As many as anybody reads in a refusal."""

_TEXTS = frozenset({"input_text", "output_text", "text"})
_SPEAKERS = frozenset({"user", "system", "developer"})
_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
_RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})


@dataclass(slots=True)
class _Turn:
    """What the assistant thought, said and called before anybody else spoke."""

    thoughts: list[str] = field(default_factory=list)
    blocks: list[dict[str, Any]] = field(default_factory=list)
    said: list[Any] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)

    def message(self) -> dict[str, Any]:
        """All of it as one message of chat."""
        more = {
            "refusal": "".join(self.refusals),
            "reasoning_content": "\n".join(self.thoughts),
            "thinking_blocks": self.blocks,
            "tool_calls": self.calls,
        }
        said = {"role": "assistant", "content": _joined(self.said)}
        return said | {name: value for name, value in more.items() if value}


class Conversation:
    """The messages so far; `unsupported` and `unsaid` are what is none of them."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.unsupported: list[str] = []
        self.unsaid: list[Any] = []
        self._turn: _Turn | None = None

    def name(self, path: str) -> None:
        """Note that this cannot be said."""
        if len(self.unsupported) < NAMED_MAX and path not in self.unsupported:
            self.unsupported.append(path)

    def leave(self, path: str, value: Any) -> None:
        """The same of something that is a part of the prompt."""
        self.name(path)
        self.unsaid.append(value)

    def add(self, items: object) -> None:
        """The `input` of a request: a text of the user, or items."""
        if isinstance(items, str):
            self.messages.append({"role": "user", "content": items})
            return
        for place, item in enumerate(items if isinstance(items, list) else ()):
            self._item(item, f"input[{place}]")
        self._end_turn()

    def _item(self, item: Any, path: str) -> None:
        if not isinstance(item, dict):
            self.leave(path, item)
            return
        kind = item.get("type")
        if kind is None:
            kind = "message" if "role" in item else "item_reference"
        if kind == "message":
            self._message(item, path)
        elif kind == "reasoning":
            self._reasoning(item, path)
        elif isinstance(kind, str) and kind in _CALLS:
            self._call(item, kind, path)
        elif isinstance(kind, str) and kind in _RESULTS:
            self._result(item, path)
        else:
            self.leave(path, item)

    def _message(self, item: dict[str, Any], path: str) -> None:
        role = item.get("role")
        if role == "assistant":
            self._said(item, path)
        elif isinstance(role, str) and role in _SPEAKERS:
            self._end_turn()
            content = self._content(item.get("content"), f"{path}.content")
            self.messages.append({"role": role, "content": content})
        else:
            self.leave(f"{path}.role", item)

    def _said(self, item: dict[str, Any], path: str) -> None:
        """What the assistant said; a second text is a message of its own."""
        refusals, content = [], item.get("content")
        if isinstance(content, list):
            refusals = [part["refusal"] for part in content if _is_refusal(part)]
            content = [part for part in content if not _is_refusal(part)]
        turn = self._assistant(is_fresh=True)
        turn.refusals += refusals
        if content or not refusals:
            turn.said.append(self._content(content, f"{path}.content"))

    def _reasoning(self, item: dict[str, Any], path: str) -> None:
        texts = _texts(item.get("content")) or _texts(item.get("summary"))
        encrypted = item.get("encrypted_content")
        blocks = unpacked(encrypted)
        if encrypted is not None and blocks is None:
            self.name(f"{path}.encrypted_content")
        if texts or blocks:
            turn = self._assistant(is_fresh=True)
            turn.thoughts += texts
            turn.blocks += blocks or ()

    def _call(self, item: dict[str, Any], kind: str, path: str) -> None:
        field = _CALLS[kind]
        for name in ("call_id", "name", field):
            if not isinstance(item.get(name), str):
                self.leave(f"{path}.{name}", item)
                return
        for name in ("namespace", "caller"):
            if not _is_plain(item.get(name)):
                self.name(f"{path}.{name}")
        inner = "function" if kind == "function_call" else "custom"
        call = {
            "id": item["call_id"],
            "type": inner,
            inner: {"name": item["name"], field: item[field]},
        }
        if isinstance(extra := item.get("extra_content"), dict):
            call["extra_content"] = extra
        self._assistant(is_fresh=False).calls.append(call)

    def _result(self, item: dict[str, Any], path: str) -> None:
        if not isinstance(item.get("call_id"), str):
            self.leave(f"{path}.call_id", item)
            return
        self._end_turn()
        content = self._content(item.get("output"), f"{path}.output")
        self.messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": content})

    def _assistant(self, *, is_fresh: bool) -> _Turn:
        """The turn that this belongs to; `is_fresh` is what cannot follow a text in one.

        Calls of one turn stay together whatever stands between them: their results come after all.
        """
        turn = self._turn
        if turn is not None and is_fresh and (turn.said or turn.refusals) and not turn.calls:
            self._end_turn()
            turn = None
        if turn is None:
            turn = self._turn = _Turn()
        return turn

    def _end_turn(self) -> None:
        if self._turn is not None:
            self.messages.append(self._turn.message())
            self._turn = None

    def _content(self, content: Any, path: str) -> Any:
        """A text, or parts where there is more than one of them or other than text."""
        if isinstance(content, str):
            return content
        if not isinstance(content, list):
            self.leave(path, content)
            return ""
        parts = []
        for place, part in enumerate(content):
            if (said := self._part(part, f"{path}[{place}]")) is not None:
                parts.append(said)
        if not parts:
            return ""
        return parts[0]["text"] if len(parts) == 1 and set(parts[0]) == {"type", "text"} else parts

    def _part(self, part: Any, path: str) -> dict[str, Any] | None:
        kind = part.get("type") if isinstance(part, dict) else None
        said = None
        if isinstance(kind, str) and kind in _TEXTS and isinstance(part.get("text"), str):
            said = {"type": "text", "text": part["text"]}
        elif kind == "input_image":
            said, path = _image(part), f"{path}.{'image_url' if _has_url(part) else 'file_id'}"
        elif kind == "input_file":
            said, path = _file(part), f"{path}.{'file_url' if 'file_url' in part else 'file_id'}"
        elif kind == "input_audio" and isinstance(part.get("input_audio"), dict):
            said = {"type": "input_audio", "input_audio": part["input_audio"]}
        if said is None:
            self.leave(path, part)
        elif part.get("prompt_cache_breakpoint"):
            said["cache_control"] = {"type": "ephemeral"}
        return said


def _joined(said: list[Any]) -> Any:
    """The contents of one turn as one: None where nothing was said."""
    if len(said) <= 1:
        return said[0] if said else None
    parts: list[Any] = []
    for content in said:
        parts += content if isinstance(content, list) else [{"type": "text", "text": content}]
    return parts


def _is_refusal(part: Any) -> bool:
    return (
        isinstance(part, dict)
        and part.get("type") == "refusal"
        and isinstance(part.get("refusal"), str)
    )


def _is_plain(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and value.get("type") == "direct")


def _texts(parts: Any) -> list[str]:
    found = parts if isinstance(parts, list) else []
    texts = [part.get("text") for part in found if isinstance(part, dict)]
    return [text for text in texts if isinstance(text, str) and text]


def _has_url(part: dict[str, Any]) -> bool:
    return part.get("image_url") is not None


def _image(part: dict[str, Any]) -> dict[str, Any] | None:
    url = part.get("image_url")
    if not isinstance(url, str):
        return None
    image = {"url": url}
    if isinstance(detail := part.get("detail"), str):
        image["detail"] = detail
    return {"type": "image_url", "image_url": image}


def _file(part: dict[str, Any]) -> dict[str, Any] | None:
    """By its content or its id; chat completions know no files by address."""
    names = ("file_data", "filename", "file_id")
    file = {name: part[name] for name in names if isinstance(part.get(name), str)}
    return {"type": "file", "file": file} if "file_data" in file or "file_id" in file else None
