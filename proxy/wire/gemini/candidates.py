"""Gemini's candidates as choices of a chat completion: what their parts say, and why they ended.

A candidate comes in parts: text, thoughts (text with `thought`), function calls, which come whole,
and images. What the neutral form has no place for is left out: code that Google ran and its output,
citations, grounding and safety ratings. None of them is asked for, so they are seldom there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from proxy.chat import CHOICES_MAX
from proxy.wire.gemini.signatures import extra_content, thinking_block

CONTENT_FILTER = "content_filter"

_REASONS = {
    "STOP": "stop",
    "FINISH_REASON_UNSPECIFIED": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
}
"""All others withhold something of the answer, so they are a filter to the client, which is told
Gemini's own word, too. But for those of `_FAILURES`."""

_FAILURES = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE",
    }
)
"""The model failed to make an answer: one that ends so is none."""

_TEXT_MAX = 1024
_LEAST_LOGPROB = -9999.0
"""What OpenAI writes for a token that could not be."""


@dataclass(slots=True)
class Candidate:
    """One choice as far as it has come."""

    id_seed: str
    calls: int = 0
    has_said: bool = False
    """Whether anything was told of it."""
    has_text: bool = False
    thinking: list[str] = field(default_factory=list)
    """Its thoughts, until there is text or a call."""

    def deltas(self, parts: object) -> Iterator[dict[str, Any]]:
        """What each part says, as deltas of a chat completion."""
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict) and (delta := self._delta(part)):
                yield delta

    def _delta(self, part: dict[str, Any]) -> dict[str, Any]:
        signature = part.get("thoughtSignature")
        signature = clean(signature) if isinstance(signature, str) and signature else None
        call = part.get("functionCall")
        if isinstance(call, dict):
            return self._call(call, signature)
        text, delta = part.get("text"), {}
        if isinstance(text, str):
            delta = self._text(clean(text), is_thought=part.get("thought") is True)
            if signature:
                delta["extra_content"] = extra_content(signature)
        elif (image := _image(part.get("inlineData"))) is not None:
            delta = {"images": [image]}
        return delta

    def _text(self, text: str, *, is_thought: bool) -> dict[str, Any]:
        if not text:
            return {}
        if is_thought:
            self.thinking.append(text)
            return {"reasoning_content": text}
        self.has_text = True
        self.thinking.clear()
        return {"content": text}

    def _call(self, call: dict[str, Any], signature: str | None) -> dict[str, Any]:
        name = call.get("name")
        if not isinstance(name, str) or not name:
            return {}
        own = call.get("id")
        written: dict[str, Any] = {
            "index": self.calls,
            "id": clean(own) if isinstance(own, str) and own else f"{self.id_seed}_{self.calls}",
            "type": "function",
            "function": {"name": clean(name), "arguments": _arguments(call.get("args"))},
        }
        delta: dict[str, Any] = {"tool_calls": [written]}
        if signature:
            written["extra_content"] = extra_content(signature)
            if self.thinking and not self.has_text:
                # clients that keep thinking want it before all else, and not of nothing
                delta["thinking_blocks"] = [thinking_block("".join(self.thinking), signature)]
        self.thinking.clear()
        self.calls += 1
        return delta

    def finish_reason(self, reason: str) -> str:
        """OpenAI's word for why it ended."""
        mapped = _REASONS.get(reason, CONTENT_FILTER)
        return "tool_calls" if mapped == "stop" and self.calls else mapped


def listed(answer: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The candidates of an answer or event, by index."""
    candidates = answer.get("candidates")
    for at, each in enumerate(candidates[:CHOICES_MAX] if isinstance(candidates, list) else ()):
        if isinstance(each, dict):
            own = each.get("index")  # left out when it is zero
            yield own if type(own) is int and 0 <= own < CHOICES_MAX else at, each


def parts_of(candidate: dict[str, Any]) -> object:
    """The parts of its content."""
    content = candidate.get("content")
    return content.get("parts") if isinstance(content, dict) else None


def reason_of(candidate: dict[str, Any]) -> str | None:
    """Why it ended, in Gemini's words; None while it has not."""
    reason = candidate.get("finishReason")
    return clean(reason[:_TEXT_MAX]) if isinstance(reason, str) and reason else None


def failure_of(candidate: dict[str, Any]) -> dict[str, Any] | None:
    """The error to tell of a candidate that is no answer."""
    reason = reason_of(candidate)
    if reason not in _FAILURES:
        return None
    told = candidate.get("finishMessage")
    more = f": {clean(told[:_TEXT_MAX])}" if isinstance(told, str) and told else "."
    return {
        "message": f"The model failed to make an answer ({reason}){more}",
        "type": "api_error",
        "code": reason.lower(),
    }


def block_reason(answer: dict[str, Any]) -> str | None:
    """Why the prompt was blocked, where it was: then there are no candidates."""
    feedback = answer.get("promptFeedback")
    reason = feedback.get("blockReason") if isinstance(feedback, dict) else None
    if not isinstance(reason, str) or not reason or answer.get("candidates"):
        return None
    return clean(reason[:_TEXT_MAX])


def logprobs_of(candidate: dict[str, Any]) -> dict[str, Any] | None:
    """`logprobs` of a choice."""
    result = candidate.get("logprobsResult")
    chosen = result.get("chosenCandidates") if isinstance(result, dict) else None
    if not isinstance(result, dict) or not isinstance(chosen, list):
        return None
    top = result.get("topCandidates")
    tops = top if isinstance(top, list) else []
    content = []
    for at, each in enumerate(chosen):
        found = (
            tops[at].get("candidates") if at < len(tops) and isinstance(tops[at], dict) else None
        )
        others = [_logprob(other) for other in found] if isinstance(found, list) else []
        content.append(
            {**_logprob(each), "top_logprobs": [other for other in others if other["token"]]}
        )
    return {"content": content, "refusal": None}


def _logprob(told: object) -> dict[str, Any]:
    fields = told if isinstance(told, dict) else {}
    token, value = fields.get("token"), fields.get("logProbability", 0)
    token = clean(token) if isinstance(token, str) else ""
    is_number = type(value) in (int, float) and math.isfinite(value)
    return {
        "token": token,
        "logprob": float(value) if is_number else _LEAST_LOGPROB,
        "bytes": list(token.encode()),
    }


def _arguments(args: object) -> str:
    """The arguments of a call, as the JSON text that OpenAI has."""
    if not isinstance(args, dict):
        return "{}"
    try:
        return orjson.dumps(args).decode()
    except TypeError:  # half a surrogate pair, too wide a number, too deep: the reader was liberal
        try:
            return json.dumps(args)
        except RecursionError:
            return "{}"


def _image(blob: object) -> dict[str, Any] | None:
    fields = blob if isinstance(blob, dict) else {}
    mime_type, data = fields.get("mimeType"), fields.get("data")
    if not isinstance(mime_type, str) or not isinstance(data, str) or "image/" not in mime_type:
        return None
    url = f"data:{clean(mime_type)};base64,{clean(data)}"
    return {"type": "image_url", "image_url": {"url": url}}


def clean(text: str) -> str:
    """The text without halves of surrogate pairs, which cannot be written."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
