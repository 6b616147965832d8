"""The messages of a chat request as Gemini's `systemInstruction` and `contents`.

Gemini knows two speakers, who take turns: neighbouring messages of one become one content. System
messages lead, wherever they stood. A tool's result names its function, which is looked up by the
id of the call. `lacking` are the places that are left out (`messages[0].content[1]`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import orjson

from proxy import json_bounds
from proxy.conversation import told_apart
from proxy.errors import InvalidRequest
from proxy.wire.gemini.media import is_media, media_part
from proxy.wire.gemini.signatures import (
    UNSIGNED,
    must_sign,
    signature_in,
    signature_in_blocks,
)

VALUES_MAX = 2 * json_bounds.VALUES_MAX
"""Of JSON within strings (arguments, results) at most so many values are built per request."""

_SYSTEM_ROLES = ("system", "developer")
_TEXT_TYPES = ("text", "input_text", "output_text")

Part = dict[str, Any]


class ContentsWriter:
    """One request's messages, written one after the other."""

    def __init__(self, *, model: str, lacking: Collection[str]) -> None:
        self._must_sign = must_sign(model)
        self._lacking = lacking
        self._names: dict[str, str] = {}
        self._values_left = VALUES_MAX
        self._leading: list[str] = []
        self._later: list[str] = []
        self._contents: list[dict[str, Any]] = []

    def write(self, messages: list[Any], instruct: str | None) -> dict[str, Any]:
        """`contents`, and `systemInstruction` where there is a system message."""
        for at, message in enumerate(messages):
            if not isinstance(message, dict):
                raise InvalidRequest("A message must be an object.", param=f"messages[{at}]")
            self._message(message, f"messages[{at}]")
        system = [*self._leading, *([instruct] if instruct else []), *self._later]
        if not self._contents and system:  # Gemini answers no system message alone
            self._add("user", [{"text": system.pop()}])
        body: dict[str, Any] = {"contents": self._contents}
        if system:
            body["systemInstruction"] = {"parts": [{"text": text} for text in system]}
        return body

    def _message(self, message: dict[str, Any], at: str) -> None:
        role = message.get("role")
        if role in _SYSTEM_ROLES:
            texts = [part["text"] for part in self._content(message, at) if "text" in part]
            (self._later if self._contents else self._leading).extend(texts)
        elif role == "user":
            self._add("user", self._content(message, at))
        elif role == "assistant":
            self._add("model", self._said(message, at))
        elif role in ("tool", "function"):
            self._add("user", [self._result(message, at)])
        else:
            raise InvalidRequest("This role is not known.", param=f"{at}.role")

    def _add(self, role: str, parts: list[Part]) -> None:
        if not parts:
            return
        if self._contents and self._contents[-1]["role"] == role:
            self._contents[-1]["parts"] += parts
        else:
            self._contents.append({"role": role, "parts": parts})

    def _content(self, message: dict[str, Any], at: str) -> list[Part]:
        content = message.get("content")
        if content is None:
            return []
        if isinstance(content, str):
            return [{"text": content}] if content else []
        if not isinstance(content, list):
            raise InvalidRequest("`content` must be a string or a list.", param=f"{at}.content")
        parts = []
        for index, each in enumerate(content):
            place = f"{at}.content[{index}]"
            if not isinstance(each, dict):
                raise InvalidRequest("A part of a content must be an object.", param=place)
            if place not in self._lacking and (part := _part(each, place)) is not None:
                parts.append(part)
        return parts

    def _said(self, message: dict[str, Any], at: str) -> list[Part]:
        """What the model said before: text, then calls, with the signatures they came with."""
        parts = self._content(message, at)
        if isinstance(refusal := message.get("refusal"), str) and refusal:
            parts.append({"text": refusal})
        if parts and (signature := signature_in(message)) is not None:
            parts[-1]["thoughtSignature"] = signature
        calls = self._calls(message, at)
        if calls and "thoughtSignature" not in calls[0]:
            kept = signature_in_blocks(message.get("thinking_blocks"))
            if kept is not None or self._must_sign:
                calls[0]["thoughtSignature"] = kept or UNSIGNED
        return parts + calls

    def _calls(self, message: dict[str, Any], at: str) -> list[Part]:
        calls = message.get("tool_calls")
        if calls is not None and not isinstance(calls, list):
            raise InvalidRequest("`tool_calls` must be a list.", param=f"{at}.tool_calls")
        parts = []
        for index, call in enumerate(calls or ()):
            place = f"{at}.tool_calls[{index}]"
            if place not in self._lacking:
                parts.append(self._call(call, place))
        if message.get("function_call") is not None:
            place = f"{at}.function_call"
            parts.append(self._call({"function": message["function_call"]}, place))
        return parts

    def _call(self, call: object, at: str) -> Part:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(call, dict) or not isinstance(function, dict):
            raise InvalidRequest("A tool call must have a `function`.", param=at)
        name = function.get("name")
        if not isinstance(name, str) or not name:
            raise InvalidRequest("A tool call must name its function.", param=f"{at}.function.name")
        written: dict[str, Any] = {"name": name}
        if isinstance(own := call.get("id"), str) and own:
            self._names[own] = name
            written["id"] = own
        arguments = function.get("arguments")
        written["args"] = self._object(arguments) if arguments else {}
        if written["args"] is None:
            raise InvalidRequest(
                "The arguments of a tool call must be a JSON object.",
                param=f"{at}.function.arguments",
            )
        part: Part = {"functionCall": written}
        if (signature := signature_in(call)) is not None:
            part["thoughtSignature"] = signature
        return part

    def _result(self, message: dict[str, Any], at: str) -> Part:
        own, name = message.get("tool_call_id"), message.get("name")
        known = self._names.get(own) if isinstance(own, str) else None
        name = known or name
        if not isinstance(name, str) or not name:
            raise InvalidRequest(
                "The result of a tool must have the id of a call before it.",
                param=f"{at}.tool_call_id",
            )
        response: dict[str, Any] = {"name": name}
        if known is not None:
            response["id"] = own
        parts = self._content(message, at)
        text = "".join(part.get("text", "") for part in parts)
        has_failed = message.get("is_error") is True
        response["response"] = {"error": text} if has_failed else self._response(text)
        if media := [part for part in parts if "text" not in part]:
            response["parts"] = media
        return {"functionResponse": response}

    def _response(self, text: str) -> dict[str, Any]:
        """An object as it is; anything else, and one that Gemini would take for its own wrapping,
        under the name it has for a function's output."""
        found = self._object(text)
        if found is None:
            return {"output": text}
        return {"output": found} if found.keys() & {"output", "error"} else found

    def _object(self, text: object) -> dict[str, Any] | None:
        """The JSON object in a string; None for anything else, and for more than may be built."""
        if not isinstance(text, str) or text.lstrip()[:1] != "{":
            return None
        raw = text.encode("utf-8", "replace")
        values = raw.count(b",") + raw.count(b"[") + raw.count(b"{")
        if values > self._values_left or json_bounds.fault_in(raw) is not None:
            return None
        self._values_left -= values
        try:
            found = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return None
        return found if isinstance(found, dict) else None


def _part(part: dict[str, Any], at: str) -> Part | None:
    """One part of a content; None for an empty text."""
    kind = part.get("type")
    if kind in _TEXT_TYPES or kind == "refusal":
        name = "refusal" if kind == "refusal" else "text"
        text = part.get(name)
        if not isinstance(text, str):
            raise InvalidRequest(f"`{name}` must be a string.", param=f"{at}.{name}")
        return {"text": text} if text else None
    found = media_part(part) if is_media(part) else None
    if found is None:
        raise InvalidRequest("This part cannot be sent to Gemini.", param=at)
    return found


def lacks_in(messages: object) -> list[str]:
    """The places in messages that cannot be carried; what is malformed is not for here to say."""
    other = told_apart(messages)
    lacking = [] if other is None else [f"messages[{other}].name"]
    for at, message in enumerate(messages if isinstance(messages, list) else ()):
        if not isinstance(message, dict):
            continue
        content = message.get("content")
        for index, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, dict) and not _is_carried(part, message.get("role")):
                lacking.append(f"messages[{at}].content[{index}]")
        calls = message.get("tool_calls")
        for index, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, dict) and call.get("type", "function") != "function":
                lacking.append(f"messages[{at}].tool_calls[{index}]")
        if message.get("role") == "assistant" and message.get("audio") is not None:
            lacking.append(f"messages[{at}].audio")
    return lacking


def _is_carried(part: dict[str, Any], role: object) -> bool:
    if part.get("type") in (*_TEXT_TYPES, "refusal"):
        return True
    if role in _SYSTEM_ROLES or not is_media(part):
        return False
    return media_part(part, with_data=False) is not None
