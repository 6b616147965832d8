"""Gemini's answers as chat completions: whole ones, and event by event.

A stream has no last event: it is whole when every candidate that came has its `finishReason`, and
ends when the upstream closes. The usage comes with each event and may come after that one, so no
event is taken for the end.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from metering.usage import (
    INPUT_CACHE_READ,
    INPUT_CLASSES,
    OUTPUT_CLASSES,
    OUTPUT_REASONING,
    ReportedUsage,
    is_count,
)
from proxy.chat import ChatRequest
from proxy.wire import Reading
from proxy.wire.gemini.candidates import (
    CONTENT_FILTER,
    Candidate,
    block_reason,
    clean,
    failure_of,
    listed,
    logprobs_of,
    parts_of,
    reason_of,
)
from proxy.wire.gemini.usage import OUTPUT_COUNTS, read_usage

_LABEL_MAX = 256
_ID_CHARACTERS = 24
_NOT_OF_IDS = re.compile(r"[^A-Za-z0-9_-]")


class AnswerSource:
    """One streamed answer: events are `GenerateContentResponse` objects."""

    def __init__(self, request: ChatRequest, created_s: int) -> None:
        self._request = request
        self._created_s = created_s
        self._shared: dict[str, Any] = {}
        self._candidates: dict[int, Candidate] = {}
        self._ended: set[int] = set()
        self._has_usage = False

    def read(self, data: dict[str, Any]) -> Reading:
        """The chunks of an event, one for each part, and the usage as it stands."""
        if data.get("error"):
            return Reading(({"choices": [], "error": _error(data["error"])},), is_odd=True)
        if not self._shared:
            self._shared = _shared(data, self._request, self._created_s, "chat.completion.chunk")
        chunks: list[dict[str, Any]] = []
        blocked = block_reason(data)
        if blocked is not None:
            refused = [_refused(index, blocked) for index in range(self._request.choices)]
            chunks.append(self._chunk(*[{**choice, "delta": {}} for choice in refused]))
        for index, told in listed(data):
            chunks += self._told(index, told)
        usage = data.get("usageMetadata")
        reported = self._usage(usage) if isinstance(usage, dict) else None
        self._has_usage |= reported is not None
        is_answer = blocked is not None or isinstance(data.get("candidates"), list)
        return Reading(chunks, reported, is_odd=reported is None and not is_answer)

    def closed(self) -> Sequence[dict[str, Any]]:
        """The candidates that were asked for and never came, as a whole answer has them: Gemini
        leaves out what it filters. Each that came has to have ended, and the usage to be told;
        else the answer was cut off."""
        if not self._ended or self._ended != self._candidates.keys() or not self._has_usage:
            return ()
        missing = set(range(self._request.choices)) - self._ended
        ends = [
            {"index": index, "delta": {"role": "assistant"}, "finish_reason": CONTENT_FILTER}
            for index in sorted(missing)
        ]
        return [self._chunk(each) for each in ends]

    def end_softly(self, choices: Sequence[int], units: Mapping[str, int]) -> bytes:
        """One event that ends the open candidates at their limit, with the usage."""
        ended = [{"index": index, "finishReason": "MAX_TOKENS"} for index in choices]
        event = {"candidates": ended, "usageMetadata": usage_metadata(units)}
        return b"data: " + orjson.dumps(event) + b"\r\n\r\n"

    def _told(self, index: int, told: dict[str, Any]) -> list[dict[str, Any]]:
        candidate = self._candidates.get(index)
        if candidate is None:
            candidate = Candidate(call_id_seed(self._shared["id"], index))
            self._candidates[index] = candidate
        choices: list[dict[str, Any]] = []
        for delta in candidate.deltas(parts_of(told)):
            role = {} if candidate.has_said else {"role": "assistant"}
            candidate.has_said = True
            choices.append({"index": index, "delta": role | delta, "finish_reason": None})
        logprobs, reason = logprobs_of(told), reason_of(told)
        if (failure := failure_of(told)) is not None:
            chunks = [self._chunk(choice) for choice in choices]
            return [*chunks, {**self._chunk(), "error": failure}]
        if not choices and (logprobs or reason):
            choices.append({"index": index, "delta": {}, "finish_reason": None})
        if logprobs:
            choices[-1]["logprobs"] = logprobs
        if reason:
            self._ended.add(index)
            choices[-1]["finish_reason"] = candidate.finish_reason(reason)
            choices[-1]["native_finish_reason"] = reason
        return [self._chunk(choice) for choice in choices]

    def _usage(self, usage: dict[str, Any]) -> ReportedUsage:
        """Output that is not told yet is not none: the first events of some models have the prompt
        alone."""
        reported = read_usage(usage)
        is_told = any(usage.get(name) is not None for name in OUTPUT_COUNTS)
        if not is_told and any(each.has_said for each in self._candidates.values()):
            return replace(reported, output=None)
        return reported

    def _chunk(self, *choices: dict[str, Any]) -> dict[str, Any]:
        return {**self._shared, "choices": list(choices)}


def read_answer(
    answer: dict[str, Any], request: ChatRequest, created_s: int
) -> dict[str, Any] | None:
    """A whole answer as a chat completion; None for what is none. Where the model failed it has
    `error` and no choices."""
    shared = _shared(answer, request, created_s, "chat.completion")
    if (blocked := block_reason(answer)) is not None:
        empty = {"role": "assistant", "content": None}
        refused = [_refused(index, blocked) for index in range(request.choices)]
        return {**shared, "choices": [{**choice, "message": empty} for choice in refused]}
    if not isinstance(answer.get("candidates"), list) or not answer["candidates"]:
        return None
    choices = []
    for index, told in listed(answer):
        if (failure := failure_of(told)) is not None:
            return {**shared, "choices": [], "error": failure}
        candidate = Candidate(call_id_seed(shared["id"], index))
        message = _message(list(candidate.deltas(parts_of(told))))
        choice = {"index": index, "message": message, "logprobs": logprobs_of(told)}
        choice["finish_reason"] = None
        if (reason := reason_of(told)) is not None:
            choice["finish_reason"] = candidate.finish_reason(reason)
            choice["native_finish_reason"] = reason
        choices.append(choice)
    if not choices:
        return None
    choices += _withheld(request, {index for index, _ in listed(answer)})
    return {**shared, "choices": sorted(choices, key=lambda choice: choice["index"])}


def _withheld(request: ChatRequest, told: Container[int]) -> list[dict[str, Any]]:
    """The choices that were asked for and did not come. Gemini leaves out what it filters; a client
    that asked for so many looks each of them up."""
    empty = {"role": "assistant", "content": None}
    return [
        {"index": index, "message": empty, "logprobs": None, "finish_reason": CONTENT_FILTER}
        for index in range(request.choices)
        if index not in told
    ]


def _message(deltas: list[dict[str, Any]]) -> dict[str, Any]:
    """All deltas of a choice as the message that they make up."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    for name in ("content", "reasoning_content"):
        if said := [delta[name] for delta in deltas if name in delta]:
            message[name] = "".join(said)
    for name in ("tool_calls", "thinking_blocks", "images"):
        if held := [each for delta in deltas for each in delta.get(name, ())]:
            message[name] = held
    for call in message.get("tool_calls", ()):
        del call["index"]
    for delta in deltas:
        if "extra_content" in delta:
            message["extra_content"] = delta["extra_content"]
    return message


def _refused(index: int, blocked: str) -> dict[str, Any]:
    return {"index": index, "finish_reason": CONTENT_FILTER, "native_finish_reason": blocked}


def _shared(
    answer: dict[str, Any], request: ChatRequest, created_s: int, kind: str
) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{_label(answer.get('responseId')) or created_s}",
        "object": kind,
        "created": created_s,
        "model": _label(answer.get("modelVersion")) or request.model,
    }


def call_id_seed(answer_id: str, index: int) -> str:
    """What the ids of calls begin with to which Gemini gave none. OpenAI has at most 40 characters,
    and other vendors only these."""
    own = _NOT_OF_IDS.sub("", answer_id.removeprefix("chatcmpl-"))[:_ID_CHARACTERS]
    return f"call_{own}_{index}"


def usage_metadata(units: Mapping[str, int]) -> dict[str, int]:
    """Token classes as Gemini tells them."""
    prompt = sum(units.get(name, 0) for name in INPUT_CLASSES)
    made = sum(units.get(name, 0) for name in OUTPUT_CLASSES)
    thoughts = units.get(OUTPUT_REASONING, 0)
    return {
        "promptTokenCount": prompt,
        "cachedContentTokenCount": units.get(INPUT_CACHE_READ, 0),
        "candidatesTokenCount": made - thoughts,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": prompt + made,
    }


def _error(error: object) -> dict[str, Any]:
    """A failure in mid-stream, in OpenAI's words."""
    fields = error if isinstance(error, dict) else {"message": error}
    message, status, code = (fields.get(name) for name in ("message", "status", "code"))
    return {
        "message": _text(message) or "The upstream gave no reason.",
        "type": "rate_limit_error" if is_count(code) and code == 429 else "api_error",
        "code": (_text(status) or "").lower() or None,
    }


def _text(value: object) -> str | None:
    return clean(value[:4096]) if isinstance(value, str) else None


def _label(value: object) -> str | None:
    return clean(value[:_LABEL_MAX]) if isinstance(value, str) and value else None
