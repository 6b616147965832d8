"""A streamed response as an upstream sends it, read for the meter.

What comes is relayed, so the chunks made of it say only what is counted. Texts come in deltas and
then once more as a whole, with the part, the item and the response they belong to: what has been
counted is known by its length, and only what is more of it counts. Usage comes with the last event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from metering.schema_text import leaves
from metering.usage import ReportedUsage, input_total, output_total
from proxy.chat import ChatRequest
from proxy.wire import Reading
from proxy.wire.openai_responses.answers import ENDED_EARLY, begun, ended
from proxy.wire.openai_responses.drafts import Draft
from proxy.wire.openai_responses.events import event
from proxy.wire.openai_responses.usage import ToolCalls, read_response_usage, usage_of

_NOTHING = Reading()
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_BEGINS = frozenset({"response.created", "response.queued", "response.in_progress"})
_PARTS = frozenset(
    f"response.{part}.{when}"
    for part in ("content_part", "reasoning_summary_part")
    for when in ("added", "done")
)
_ITEMS = frozenset({"response.output_item.added", "response.output_item.done"})
_SOUND = "response.audio.delta"
"""Its delta is no text; what is said in it comes as a transcript beside it."""

_KEPT_MAX = 4096
"""Items and parts of which a draft is kept: no answer has a tenth of that."""


class _Text(NamedTuple):
    """Where a delta belongs, and as what it counts."""

    place: str
    number: str | None
    """The field that says which of them."""
    kind: str
    field: str | None
    """Of a delta of chat; None is the arguments of a call."""


_DELTAS: Mapping[str, _Text] = {
    "response.output_text": _Text("content", "content_index", "output_text", "content"),
    "response.refusal": _Text("content", "content_index", "refusal", "refusal"),
    "response.reasoning_text": _Text(
        "content", "content_index", "reasoning_text", "reasoning_content"
    ),
    "response.reasoning_summary_text": _Text(
        "summary", "summary_index", "summary_text", "reasoning_content"
    ),
    "response.audio.transcript": _Text("transcript", None, "transcript", "content"),
    "response.function_call_arguments": _Text("arguments", None, "arguments", None),
    "response.mcp_call_arguments": _Text("arguments", None, "arguments", None),
    "response.custom_tool_call_input": _Text("input", None, "input", None),
    "response.code_interpreter_call_code": _Text("code", None, "code", None),
    "response.shell_call_command": _Text("commands", "command_index", "command", None),
}
_BY_DELTA = {f"{name}.delta": text for name, text in _DELTAS.items()}
_BY_DONE = {f"{name}.done": text for name, text in _DELTAS.items()}
_WHOLE_FIELDS = ("text", "refusal", "arguments", "input", "code", "command")
_PART_KINDS = {
    "output_text": ("text", "content"),
    "refusal": ("refusal", "refusal"),
    "reasoning_text": ("text", "reasoning_content"),
    "summary_text": ("text", "reasoning_content"),
}
_WRITTEN = ("name", "arguments", "input", "code")
"""Of a call, what the model wrote as text."""

_WITHIN = ("action", "operation")
"""And what it wrote as an object."""


class ResponseSource:
    """Reads one stream."""

    __slots__ = (
        "_calls",
        "_created_s",
        "_drafts",
        "_is_ended",
        "_request",
        "_response",
        "_sequence",
    )

    def __init__(self, request: ChatRequest, *, created_s: int) -> None:
        self._request = request
        self._created_s = created_s
        self._response: dict[str, Any] | None = None
        self._drafts: dict[int, Draft] = {}
        self._sequence = 0
        self._is_ended = False
        self._calls = ToolCalls()

    def read(self, data: dict[str, Any]) -> Reading:
        """What this event says."""
        kind = data.get("type")
        if not isinstance(kind, str):
            return _failure(data) if data.get("error") else Reading(is_odd=True)
        if self._is_ended:
            return Reading(is_odd=True)
        number = data.get("sequence_number")
        self._sequence = number + 1 if type(number) is int else self._sequence + 1
        if (text := _BY_DELTA.get(kind)) is not None:
            return self._delta(data, text, data.get("delta"))
        if (text := _BY_DONE.get(kind)) is not None:
            return self._done(data, text)
        if kind in _ENDS:
            return self._end(kind, data)
        if kind in _BEGINS:
            return self._begun(data)
        if kind in _PARTS:
            return self._part(data, is_done=kind.endswith("done"))
        if kind in _ITEMS:
            return self._item(data, is_done=kind.endswith("done"))
        if kind == "error":
            return _failure(data)
        if kind.endswith(".delta") and kind != _SOUND:  # a tool that we do not know yet
            return _said(_delta_of(None, data.get("delta"), _slot(data)))
        return _NOTHING

    def end_softly(self, choices: Sequence[int], units: Mapping[str, int]) -> bytes:
        """The events that end every open item, and `response.incomplete`."""
        if self._is_ended:
            return b""
        self._is_ended = True
        happenings: list[tuple[str, dict[str, Any]]] = []
        response = begun(
            self._request.body,
            response_id=f"resp_{self._created_s:x}",
            model=self._request.model,
            created_s=self._created_s,
        )
        if self._response is None:
            happenings.append(("response.created", {"response": response}))
        else:
            response |= self._response
        drafts = [self._drafts[index] for index in sorted(self._drafts)]
        for draft in drafts:
            happenings += draft.closing("incomplete")
        output = [draft.whole("incomplete") for draft in drafts]
        last = ended(response, output, usage_of(units), incomplete=ENDED_EARLY)
        happenings.append(("response.incomplete", {"response": last}))
        return b"".join(
            event(kind, self._sequence + place, **fields)
            for place, (kind, fields) in enumerate(happenings)
        )

    def _begun(self, data: Mapping[str, Any]) -> Reading:
        response = data.get("response")
        if not isinstance(response, dict):
            return _NOTHING
        self._response = response
        # zeros before the first word would be taken for what a stream used that breaks off there
        usage = _interim(read_response_usage(response))
        named = {name: response.get(name) for name in ("id", "model")}
        return Reading(({**named, "choices": []},), usage)

    def _delta(self, data: Mapping[str, Any], text: _Text, delta: Any) -> Reading:
        if not isinstance(delta, str) or not delta:
            return _NOTHING
        draft = self._draft(data)
        if draft is not None:
            index = data.get(text.number) if text.number is not None else 0
            draft.part(text.place, index if type(index) is int else 0, text.kind).add(delta)
        if text.field is None:
            return _said(_delta_of(None, delta, _slot(data)))
        return Reading(({"choices": [{"index": 0, "delta": {text.field: delta}}]},))

    def _done(self, data: Mapping[str, Any], text: _Text) -> Reading:
        """A text once more as a whole: what of it has not come in deltas counts."""
        whole = next((data[name] for name in _WHOLE_FIELDS if name in data), None)
        draft = self._draft(data)
        if draft is None or not isinstance(whole, str):
            return _NOTHING
        index = data.get(text.number) if text.number is not None else 0
        part = draft.part(text.place, index if type(index) is int else 0, text.kind)
        part.is_said = True
        return _said(_delta_of(text.field, part.rest(whole), draft.index))

    def _part(self, data: Mapping[str, Any], *, is_done: bool) -> Reading:
        place = "summary" if type(data.get("summary_index")) is int else "content"
        index, part = data.get(f"{place}_index"), data.get("part")
        draft = self._draft(data)
        if draft is None or type(index) is not int or not isinstance(part, dict):
            return _NOTHING
        said = self._whole_part(draft, place, index, part)
        if (kept := draft.parts.get((place, index))) is not None:
            kept.is_said = kept.is_done = is_done
        return _said(said)

    def _whole_part(
        self, draft: Draft, place: str, index: int, part: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        kind = part.get("type")
        found = _PART_KINDS.get(kind) if isinstance(kind, str) else None
        if found is None or not isinstance(kind, str):
            return []
        kept = draft.part(place, index, kind)
        for extra in ("annotations", "logprobs"):
            if isinstance(part.get(extra), list):
                kept.extra[extra] = part[extra]
        text = part.get(found[0])
        return _delta_of(found[1], kept.rest(text) if isinstance(text, str) else "", draft.index)

    def _item(self, data: Mapping[str, Any], *, is_done: bool) -> Reading:
        item = data.get("item")
        draft = self._draft(data)
        if draft is None or not isinstance(item, dict):
            return _NOTHING
        said = self._whole_item(draft, item)
        if not is_done:
            draft.item = item
        elif draft.final is None:
            draft.final = item
            inner = [leaf for name in _WITHIN for _, leaf in leaves(item.get(name))]
            said += _delta_of(None, "\n".join(inner), draft.index)
            if self._calls.add(item):  # told at once: the end, which tells it too, may never come
                return Reading(_said(said).chunks, ReportedUsage(tools=self._calls.uses()))
        return _said(said)

    def _whole_item(self, draft: Draft, item: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What of an item has not been counted."""
        said: list[dict[str, Any]] = []
        for place in ("summary", "content"):
            parts = item.get(place)
            for index, part in enumerate(parts if isinstance(parts, list) else ()):
                if isinstance(part, dict) and index < _KEPT_MAX:
                    said += self._whole_part(draft, place, index, part)
        for place in _WRITTEN:
            if isinstance(text := item.get(place), str):
                part = draft.part(place, 0, place)
                field = "name" if place == "name" else None
                said += _delta_of(field, part.rest(text), draft.index)
        return said

    def _end(self, kind: str, data: Mapping[str, Any]) -> Reading:
        self._is_ended = True
        response = data.get("response")
        if not isinstance(response, dict):
            response = {}
        usage = read_response_usage(response)
        # a server that has said nothing yet says all at once
        chunks = [] if self._drafts else self._all_at_once(response)
        last = {name: response.get(name) for name in ("id", "model", "service_tier")}
        if kind == "response.failed" or response.get("error"):
            chunks += [last, *_failure(response).chunks]
            # not withheld as an end is: what follows it says no more of why it failed
            return Reading(chunks, usage, is_odd=True)
        reason = finish_reason(response, kind)
        choice = {"index": 0, "delta": {}, "finish_reason": reason}
        return Reading([*chunks, {**last, "choices": [choice]}], usage, is_end=True)

    def _all_at_once(self, response: Mapping[str, Any]) -> list[dict[str, Any]]:
        output = response.get("output")
        said: list[dict[str, Any]] = []
        for index, item in enumerate(output if isinstance(output, list) else ()):
            said += self._item({"output_index": index, "item": item}, is_done=True).chunks
        return said

    def _draft(self, data: Mapping[str, Any]) -> Draft | None:
        index = _slot(data)
        found = self._drafts.get(index)
        if found is None and len(self._drafts) < _KEPT_MAX:
            item = {"id": data.get("item_id"), "type": "message", "role": "assistant"}
            found = self._drafts[index] = Draft(index, item)
        return found


def _slot(data: Mapping[str, Any]) -> int:
    index = data.get("output_index")
    return index if type(index) is int else 0


def _delta_of(field: str | None, text: Any, slot: int) -> list[dict[str, Any]]:
    """The text as a delta of chat: of a call where there is no field for it."""
    if not isinstance(text, str) or not text:
        return []
    if field is None or field == "name":
        call = {"index": slot, "function": {field or "arguments": text}}
        return [{"tool_calls": [call]}]
    return [{field: text}]


def _said(deltas: list[dict[str, Any]]) -> Reading:
    return Reading([{"choices": [{"index": 0, "delta": delta}]} for delta in deltas])


def finish_reason(response: Mapping[str, Any], kind: str | None = None) -> str:
    """Why a response ended, in chat's words."""
    details = response.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    if reason == "content_filter":
        return "content_filter"
    if kind == "response.incomplete" or response.get("status") == "incomplete":
        return "stop" if reason == "steered" else "length"
    output = response.get("output")
    items = output if isinstance(output, list) else []
    kinds = [item.get("type") for item in items if isinstance(item, dict)]
    is_calling = "function_call" in kinds or "custom_tool_call" in kinds
    return "tool_calls" if is_calling else "stop"


def _failure(data: Mapping[str, Any]) -> Reading:
    """An error, whose fields some servers put beside its type and others under `error`."""
    inner = data.get("error")
    told = inner if isinstance(inner, dict) else {}
    error = {
        "message": told.get("message") or data.get("message") or "The upstream gave no reason.",
        "type": told.get("type") or "api_error",
        "code": told.get("code") or data.get("code"),
    }
    return Reading(({"error": error, "choices": []},), is_odd=True)


def _interim(usage: ReportedUsage | None) -> ReportedUsage | None:
    if usage is None or usage.suspect is not None:
        return usage
    tokens = input_total(usage.input or {}) + output_total(usage.output or {})
    return usage if tokens else None
