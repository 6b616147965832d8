"""The messages of a chat request as Converse wants them: what is said to the model apart from what
is said, and the two sides by turns.

Messages of one side that follow each other become one, so the results of parallel calls stand
together. What Converse has no place for is left out and named in `lacks` by its path; what is
malformed raises InvalidRequest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from proxy.conversation import check_arguments, told_apart
from proxy.errors import InvalidRequest
from proxy.wire import is_signed_here
from proxy.wire.bedrock_converse import media

Block = dict[str, Any]

_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_SYSTEM = frozenset({"system", "developer"})
_KNOWN = {
    "system": frozenset({"role", "content", "cache_control", "name"}),
    "user": frozenset({"role", "content", "cache_control", "name"}),
    "assistant": frozenset(
        {"role", "content", "cache_control", "name", "refusal", "tool_calls", "thinking_blocks"}
        # said of an answer, not to the model: clients send back what they got as it was
        | {"annotations", "reasoning", "reasoning_content", "reasoning_details", "id"}
        | {"extra_content", "provider_specific_fields"}
    ),
    "tool": frozenset({"role", "content", "cache_control", "tool_call_id", "name", "is_error"}),
}
_KNOWN["developer"] = _KNOWN["system"]
_EMPTY: tuple[object, ...] = (None, False, "", [], {})


def conversation(messages: Any, lacks: list[str]) -> tuple[list[Block], list[Block]]:
    """The system blocks and the turns."""
    if not isinstance(messages, list):
        raise InvalidRequest("`messages` must be a list.", param="messages")
    check_arguments(messages)
    if (other := told_apart(messages)) is not None:
        lacks.append(f"messages[{other}].name")
    writer = _Writer(lacks)
    for place, message in enumerate(messages):
        writer.add(message, f"messages[{place}]")
    return writer.system, writer.turns


def has_tools(turns: Iterable[Block]) -> bool:
    """Whether a tool was called in these turns, or answered."""
    return any("toolUse" in block or "toolResult" in block for turn in turns for block in _of(turn))


def without_status(turns: Iterable[Block]) -> None:
    """Take out whether tools failed, which only some models may be told so."""
    for turn in turns:
        for block in _of(turn):
            block.get("toolResult", {}).pop("status", None)


def cache_point(holder: Mapping[str, Any]) -> list[Block]:
    """The block that ends what is to be cached, where this says `cache_control`."""
    control = holder.get("cache_control")
    if not isinstance(control, dict):
        return []
    # five minutes is what every model has; only some know that there is a choice
    long = {"ttl": "1h"} if control.get("ttl") == "1h" else {}
    return [{"cachePoint": {"type": "default", **long}}]


def _of(turn: Block) -> list[Block]:
    content = turn["content"]
    return content if isinstance(content, list) else []


class _Writer:
    """One conversation in the making."""

    def __init__(self, lacks: list[str]) -> None:
        self.system: list[Block] = []
        self.turns: list[Block] = []
        self._lacks = lacks
        self._names: set[str] = set()

    def add(self, message: Any, path: str) -> None:
        """Write one message."""
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str):
            raise InvalidRequest(f"`{path}` must be an object with a role.", param=path)
        if (known := _KNOWN.get(role)) is None:
            self._lacks.append(f"{path}.role")
            return
        self._lacks += [
            f"{path}.{name}"
            for name, value in message.items()
            if name not in known and value not in _EMPTY
        ]
        if role in _SYSTEM:
            self.system += [*self._content(message, path, role), *cache_point(message)]
        elif role == "tool":
            self._turn("user", [self._result(message, path), *cache_point(message)])
        elif role == "user":
            self._turn("user", [*self._content(message, path, role), *cache_point(message)])
        else:
            self._turn("assistant", [*self._answer(message, path), *cache_point(message)])

    def _turn(self, role: str, blocks: list[Block]) -> None:
        if not blocks:
            return
        if self.turns and self.turns[-1]["role"] == role:
            self.turns[-1]["content"] += blocks
        else:
            self.turns.append({"role": role, "content": blocks})

    def _content(self, message: Mapping[str, Any], path: str, role: str) -> list[Block]:
        content, path = message.get("content"), f"{path}.content"
        if isinstance(content, str):
            return _text(content)
        if content is None and role == "assistant":
            return []
        if not isinstance(content, list):
            raise InvalidRequest(f"`{path}` must be a string or a list of parts.", param=path)
        blocks: list[Block] = []
        for place, part in enumerate(content):
            if written := self._part(part, f"{path}[{place}]", role):
                blocks += [*written, *cache_point(part)]
        return blocks

    def _part(self, part: Any, path: str, role: str) -> list[Block]:
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str):
            raise InvalidRequest(f"`{path}` must be an object with a type.", param=path)
        if kind == "text" or (kind == "refusal" and role == "assistant"):
            if not isinstance(said := part.get(kind), str):
                raise InvalidRequest(f"`{path}.{kind}` must be a string.", param=f"{path}.{kind}")
            return _text(said)
        found = part.get(kind)
        if kind == "image_url" and isinstance(found, str):
            found = {"url": found}
        block = None
        if isinstance(found, dict):
            if kind == "image_url" and role in {"user", "tool"}:
                block = media.image(found.get("url"))
            elif kind == "file" and role in {"user", "tool"}:
                block = media.document(found, self._names)
            elif kind == "input_audio" and role == "user":
                block = media.sound(found)
        if block is None:
            self._lacks.append(f"{path}.{kind}" if kind in part else path)
            return []
        return [block]

    def _result(self, message: Mapping[str, Any], path: str) -> Block:
        call = message.get("tool_call_id")
        if not isinstance(call, str) or not call:
            path = f"{path}.tool_call_id"
            raise InvalidRequest(f"`{path}` must be a non-empty string.", param=path)
        blocks = self._content(message, path, "tool")
        # cache points stand beside a result, not in it
        inner = [block for block in blocks if "cachePoint" not in block]
        # nothing at all is refused, and so is an empty text
        result = {"toolUseId": _id(call), "content": inner or [{"json": {}}]}
        if message.get("is_error") is True:
            result["status"] = "error"
        return {"toolResult": result}

    def _answer(self, message: Mapping[str, Any], path: str) -> list[Block]:
        blocks = self._thoughts(message.get("thinking_blocks"), f"{path}.thinking_blocks")
        blocks += self._content(message, path, "assistant")
        if isinstance(refusal := message.get("refusal"), str):
            blocks += _text(refusal)
        calls, path = message.get("tool_calls"), f"{path}.tool_calls"
        if calls is None:
            return blocks
        if not isinstance(calls, list):
            raise InvalidRequest(f"`{path}` must be a list.", param=path)
        for place, call in enumerate(calls):
            blocks += self._call(call, f"{path}[{place}]")
        return blocks

    def _thoughts(self, thoughts: Any, path: str) -> list[Block]:
        if thoughts is None:
            return []
        if not isinstance(thoughts, list):
            raise InvalidRequest(f"`{path}` must be a list.", param=path)
        blocks: list[Block] = []
        for place, block in enumerate(thoughts):
            kind = block.get("type") if isinstance(block, dict) else None
            if kind == "thinking" and isinstance(text := block.get("thinking"), str):
                signature = block.get("signature")
                if is_signed_here(signature):
                    said = {"text": text, "signature": signature}
                    blocks.append({"reasoningContent": {"reasoningText": said}})
            elif kind == "redacted_thinking" and isinstance(data := block.get("data"), str):
                blocks.append({"reasoningContent": {"redactedContent": data}})
            else:
                self._lacks.append(f"{path}[{place}]")
        return blocks

    def _call(self, call: Any, path: str) -> list[Block]:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(call, dict) and call.get("type", "function") != "function":
            self._lacks.append(path)
            return []
        if not isinstance(function, dict) or not isinstance(call.get("id"), str):
            raise InvalidRequest(f"`{path}` must have an id and a function.", param=path)
        name, written = function.get("name"), function.get("arguments")
        if not isinstance(name, str) or not name:
            path = f"{path}.function.name"
            raise InvalidRequest(f"`{path}` must be a non-empty string.", param=path)
        given = _arguments(written, f"{path}.function.arguments")
        return [{"toolUse": {"toolUseId": _id(call["id"]), "name": name, "input": given}}]


def _text(text: str) -> list[Block]:
    """A block of text; none of what is blank, which Bedrock refuses."""
    return [{"text": text}] if text.strip() else []


def _arguments(written: object, path: str) -> dict[str, Any]:
    if written is None or (isinstance(written, str) and not written.strip()):
        return {}
    try:
        given = orjson.loads(written) if isinstance(written, str) else None
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict):
        raise InvalidRequest(f"`{path}` must be a JSON object in a string.", param=path)
    return given


def _id(call: str) -> str:
    """The id of a call as Bedrock takes it: itself, or one made from it."""
    if _ID.fullmatch(call):
        return call
    return f"call_{hashlib.sha256(call.encode('utf-8', 'replace')).hexdigest()[:32]}"
