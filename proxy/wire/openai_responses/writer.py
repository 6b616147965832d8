"""A response as its client gets it, written from chat completion chunks.

Rules: thinking, text and each call are items of their own, in the order in which they begin; calls
stay open to the end, as chunks may go back and forth between them; ids follow from the id of the
chunks, so that the same answer is always written the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from proxy.chat import ChatRequest
from proxy.wire.openai_responses.answers import ENDED_EARLY, begun, ended
from proxy.wire.openai_responses.drafts import Draft, Part
from proxy.wire.openai_responses.events import event
from proxy.wire.openai_responses.thinking import ASKED_BY, known, packed
from proxy.wire.openai_responses.usage import usage_of

_INCOMPLETE = {"length": ENDED_EARLY, "content_filter": "content_filter"}
_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "image_generation_call": "ig",
}
_NO_ID_SIGN = re.compile(r"[^A-Za-z0-9_-]")
_STEM_MAX = 64


class ResponseWriter:
    """Writes one response."""

    def __init__(self, request: ChatRequest) -> None:
        self._body = request.body
        self._model = request.model
        include = self._body.get("include")
        self._wants_encrypted = isinstance(include, list) and ASKED_BY in include
        self._stem = ""
        self._created_s = 0
        self._tier: str | None = None
        self._sequence = 0
        self._response: dict[str, Any] | None = None
        self._out: list[bytes] = []
        self._drafts: list[Draft] = []
        self._speech: Draft | None = None
        """The message or the thinking that goes on."""
        self._text: tuple[Part, dict[str, Any]] | None = None
        """The part of a message that goes on, and its place."""
        self._calls: dict[int, _Call] = {}
        self._call_ids: set[str] = set()
        self._blocks: list[dict[str, Any]] = []
        self._finish_reason: str | None = None

    def write(self, chunk: dict[str, Any]) -> bytes:
        """The events for this chunk."""
        if chunk.get("error"):
            return b""
        self._learn(chunk)
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and choice.get("index", 0) == 0:
                self._begin()
                self._choice(choice)
        return self._taken()

    def end(self, units: Mapping[str, int]) -> bytes:
        """The events that end every item and the response, which holds all of them."""
        response = self.finish(units)
        kind = f"response.{response['status']}"
        self._emit(kind, response=response)
        return self._taken()

    def finish(self, units: Mapping[str, int]) -> dict[str, Any]:
        """The response as it ends."""
        self._begin()
        incomplete = _INCOMPLETE.get(self._finish_reason or "")
        status = "completed" if incomplete is None else "incomplete"
        for call in self._calls.values():
            self._open_call(call)
        self._end_speech(status)
        for draft in self._drafts:
            self._close(draft, status)
        assert self._response is not None
        output = [draft.whole(status) for draft in self._drafts]
        return ended(self._response, output, usage_of(units), incomplete=incomplete)

    def _learn(self, chunk: Mapping[str, Any]) -> None:
        """The names it goes by; the first chunk of some servers has none of them."""
        if self._response is not None:
            return
        if isinstance(name := chunk.get("id"), str) and name:
            stem = name.removeprefix("chatcmpl-").removeprefix("resp_")
            self._stem = _NO_ID_SIGN.sub("", stem)[:_STEM_MAX]
        if isinstance(model := chunk.get("model"), str) and model:
            self._model = model
        if isinstance(tier := chunk.get("service_tier"), str):
            self._tier = tier
        if type(created := chunk.get("created")) is int:
            self._created_s = created

    def _begin(self) -> None:
        if self._response is not None:
            return
        self._stem = self._stem or f"{self._created_s:x}"
        self._response = begun(
            self._body,
            response_id=f"resp_{self._stem}",
            model=self._model,
            created_s=self._created_s,
        )
        self._response["service_tier"] = self._tier or self._response["service_tier"]
        self._emit("response.created", response=self._response)
        self._emit("response.in_progress", response=self._response)

    def _choice(self, choice: Mapping[str, Any]) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            thought = delta.get("reasoning_content") or delta.get("reasoning")
            if thought and isinstance(thought, str):
                self._think(thought)
            if blocks := known(delta.get("thinking_blocks")):
                self._keep(blocks)
            self._say(delta, choice.get("logprobs"))
            images = delta.get("images")
            for image in images if isinstance(images, list) else ():
                self._show(image)
            calls = delta.get("tool_calls")
            for place, call in enumerate(calls if isinstance(calls, list) else ()):
                if isinstance(call, dict):
                    self._call(call, place)
            if isinstance(old := delta.get("function_call"), dict):
                self._call({"index": -1, "function": old}, -1)
        if isinstance(reason := choice.get("finish_reason"), str):
            self._finish_reason = reason

    def _think(self, text: str) -> None:
        draft = self._speak("reasoning", summary=[])
        part = draft.parts.get(("summary", 0))
        where = {"item_id": draft.item["id"], "output_index": draft.index, "summary_index": 0}
        if part is None:
            part = draft.part("summary", 0, "summary_text")
            self._emit("response.reasoning_summary_part.added", **where, part=part.whole())
        part.add(text)
        self._emit("response.reasoning_summary_text.delta", **where, delta=text)

    def _keep(self, blocks: list[dict[str, Any]]) -> None:
        """Thinking as it was: it goes out with the item, for those who want it."""
        if self._wants_encrypted:
            self._speak("reasoning", summary=[])
            self._blocks += blocks

    def _say(self, delta: Mapping[str, Any], logprobs: Any) -> None:
        content, refusal = delta.get("content"), delta.get("refusal")
        if content and isinstance(content, str):
            part, where = self._text_part("output_text")
            part.add(content)
            told = logprobs.get("content") if isinstance(logprobs, dict) else None
            told = told if isinstance(told, list) else []
            if told:
                part.extra.setdefault("logprobs", []).extend(told)
            self._emit("response.output_text.delta", **where, delta=content, logprobs=told)
        if refusal and isinstance(refusal, str):
            part, where = self._text_part("refusal")
            part.add(refusal)
            self._emit("response.refusal.delta", **where, delta=refusal)
        notes = delta.get("annotations")
        for note in notes if isinstance(notes, list) else ():
            if (flat := _annotation(note)) is not None:
                part, where = self._text_part("output_text")
                kept = part.extra.setdefault("annotations", [])
                at = {**where, "annotation_index": len(kept)}
                kept.append(flat)
                self._emit("response.output_text.annotation.added", **at, annotation=flat)

    def _text_part(self, kind: str) -> tuple[Part, dict[str, Any]]:
        """The part of the message that text of this kind goes on with, and its place."""
        if self._text is not None and self._text[0].kind == kind:
            return self._text
        draft = self._speak("message", role="assistant", content=[])
        found = [index for (_, index), part in draft.parts.items() if part.kind == kind]
        place = found[0] if found else len(draft.parts)
        where = {"item_id": draft.item["id"], "output_index": draft.index, "content_index": place}
        part = draft.part("content", place, kind)
        if not found:
            self._emit("response.content_part.added", **where, part=part.whole())
        self._text = part, where
        return self._text

    def _show(self, image: Any) -> None:
        """An image that the model made, whole."""
        if (data := _image_data(image)) is not None:
            self._end_speech("completed")
            draft = self._open("image_generation_call", result=None)
            draft.item["result"] = data
            self._close(draft, "completed")

    def _speak(self, kind: str, **fields: Any) -> Draft:
        """The item of this kind that goes on; another one ends."""
        if self._speech is not None and self._speech.item["type"] == kind:
            return self._speech
        self._end_speech("completed")
        self._speech = self._open(kind, **fields)
        return self._speech

    def _end_speech(self, status: str) -> None:
        self._text = None
        if self._speech is None:
            return
        if self._blocks:
            self._speech.item["encrypted_content"] = packed(self._blocks)
            self._blocks = []
        self._close(self._speech, status)
        self._speech = None

    def _call(self, delta: Mapping[str, Any], place: int) -> None:
        index = delta.get("index")
        slot = index if type(index) is int else place
        call = self._calls.get(slot)
        if call is None:
            self._end_speech("completed")
            call = self._calls[slot] = _Call()
        call.learn(delta)
        if call.name:
            self._open_call(call)

    def _open_call(self, call: _Call) -> None:
        """Say what is known of a call: its item once it has a name, and what was said since."""
        if call.draft is None:
            call_id = self._unique(call.call_id)
            fields = {"call_id": call_id, "name": call.name, call.field: "", **call.extra}
            call.draft = self._open(call.kind, **fields)
            call.draft.part(call.field, 0, call.field)
        if call.waiting:
            text, call.waiting = "".join(call.waiting), []
            call.draft.part(call.field, 0, call.field).add(text)
            name = _CALL_DELTA[call.field]
            where = {"item_id": call.draft.item["id"], "output_index": call.draft.index}
            self._emit(name, **where, delta=text)

    def _unique(self, call_id: str) -> str:
        """The id as it came; one of our own where it has none, or one that another call has."""
        if not call_id or call_id in self._call_ids:
            call_id = f"call_{self._stem}_{len(self._drafts)}"
        self._call_ids.add(call_id)
        return call_id

    def _open(self, kind: str, **fields: Any) -> Draft:
        index = len(self._drafts)
        item = {
            "id": f"{_PREFIXES[kind]}_{self._stem}_{index}",
            "type": kind,
            "status": "in_progress",
            **fields,
        }
        draft = Draft(index, item)
        self._drafts.append(draft)
        self._emit("response.output_item.added", output_index=index, item=item)
        return draft

    def _close(self, draft: Draft, status: str) -> None:
        for kind, fields in draft.closing(status):
            self._emit(kind, **fields)

    def _emit(self, kind: str, **fields: Any) -> None:
        self._out.append(event(kind, self._sequence, **fields))
        self._sequence += 1

    def _taken(self) -> bytes:
        taken = b"".join(self._out)
        self._out.clear()
        return taken


_CALL_DELTA = {
    "arguments": "response.function_call_arguments.delta",
    "input": "response.custom_tool_call_input.delta",
}


class _Call:
    """A call that is being made; some servers say its name after its first arguments."""

    __slots__ = ("call_id", "draft", "extra", "field", "kind", "name", "waiting")

    def __init__(self) -> None:
        self.kind, self.field = "function_call", "arguments"
        self.call_id = self.name = ""
        self.waiting: list[str] = []
        self.extra: dict[str, Any] = {}
        """What an upstream wants back with it, where clients send items back as they got them."""
        self.draft: Draft | None = None

    def learn(self, delta: Mapping[str, Any]) -> None:
        """What this delta adds; what has been told is not told anew."""
        if self.draft is None and isinstance(delta.get("custom"), dict):
            self.kind, self.field = "custom_tool_call", "input"
        inner = delta.get("custom" if self.field == "input" else "function")
        if isinstance(call_id := delta.get("id"), str):
            self.call_id = self.call_id or call_id
        if isinstance(extra := delta.get("extra_content"), dict):
            self.extra = {"extra_content": extra}
        if not isinstance(inner, dict):
            return
        if isinstance(name := inner.get("name"), str):
            self.name = self.name or name
        if isinstance(text := inner.get(self.field), str) and text:
            self.waiting.append(text)


def _image_data(image: Any) -> str | None:
    """The base64 text of an image; one that stands elsewhere has no place in this format."""
    inner = image.get("image_url") if isinstance(image, dict) else None
    url = inner.get("url") if isinstance(inner, dict) else None
    if not isinstance(url, str) or not url.startswith("data:"):
        return None
    _, mark, data = url.partition(";base64,")
    return data if mark else None


def _annotation(note: Any) -> dict[str, Any] | None:
    """A citation, which chat has one level deeper."""
    if not isinstance(note, dict) or note.get("type") != "url_citation":
        return None
    inner = note.get("url_citation")
    return {"type": "url_citation", **inner} if isinstance(inner, dict) else None
