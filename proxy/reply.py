"""What an answer says, beside its usage: read from OpenAI's chat completions, which are the neutral
form that every other format is translated into.

Names only the fields it acts on. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from metering.meter import Meter
from proxy.chat import CHOICES_MAX
from proxy.redaction import NOTHING, Redaction

_TEXT_MAX = 256
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LABEL_READ_MAX = 8192
"""Of a label, before it is cut: longer than any credential that fits into a header."""


@dataclass(slots=True)
class Reply:
    """What was learnt from an answer, streamed or not, beside its usage (the meter has that)."""

    id: str | None = None
    model: str | None = None
    version: str | None = None
    service_tier: str | None = None
    finish_reason: str | None = None
    error: object = None
    """What stood under `error`; a stream that has one has failed, whatever follows."""
    is_done: bool = False
    """`[DONE]` was received, or the answer came as one whole JSON body."""
    choices: int = 1
    """How many choices were asked for; each ends with a finish reason of its own."""
    finished: set[int] = field(default_factory=set)
    redaction: Redaction = NOTHING
    """What the labels are held against."""

    @property
    def is_finished(self) -> bool:
        """Whether the upstream said that this is the end. A closed connection says no such thing:
        a stream delimited by its close looks whole wherever it is cut."""
        if self.error is not None:
            return False
        return self.is_done or len(self.finished) >= self.choices


def read_object(answer: dict[str, Any], reply: Reply, meter: Meter, part: str) -> None:
    """Meter a chat completion or one of its chunks; `part` is `message` or `delta`. Its usage is
    for the format to read, which knows what its numbers mean."""
    choices = answer.get("choices")
    if isinstance(choices, list):
        for choice in choices:
            if isinstance(choice, dict):
                _read_choice(choice, reply, meter, part)
    if reply.model is None:
        reply.id = label(answer.get("id"), reply.redaction)
        reply.model = label(answer.get("model"), reply.redaction)
        reply.version = label(answer.get("system_fingerprint"), reply.redaction)
    if reply.service_tier is None:
        reply.service_tier = label(answer.get("service_tier"), reply.redaction)
    if answer.get("error"):
        reply.error = answer["error"]


def _read_choice(choice: dict[str, Any], reply: Reply, meter: Meter, part: str) -> None:
    own = choice.get("index")
    index = own if type(own) is int else 0
    reason = choice.get("finish_reason")
    if isinstance(reason, str):
        reply.finish_reason = label(reason, reply.redaction)
        if len(reply.finished) < CHOICES_MAX:
            reply.finished.add(index)
    said = choice.get(part)
    if isinstance(said, dict):
        _read_said(said, index, meter)


def _read_said(said: dict[str, Any], index: int, meter: Meter) -> None:
    content = said.get("content")
    if content and isinstance(content, str):
        meter.text((index, "content"), content)
    # servers that send both names send the same text under each
    reasoning = said.get("reasoning_content") or said.get("reasoning")
    if reasoning and isinstance(reasoning, str):
        meter.text((index, "reasoning"), reasoning)
    refusal = said.get("refusal")
    if refusal and isinstance(refusal, str):
        meter.text((index, "refusal"), refusal)
    calls = said.get("tool_calls")
    if isinstance(calls, list):
        for position, call in enumerate(calls):
            _read_call(call, index, position, meter)
    if said.get("function_call"):
        _read_call({"function": said["function_call"]}, index, -1, meter)


def _read_call(call: object, index: int, position: int, meter: Meter) -> None:
    if not isinstance(call, dict):
        return
    own = call.get("index")
    slot = own if type(own) is int else position
    function = call.get("function") or call.get("custom")
    if not isinstance(function, dict):
        return
    for name in ("name", "arguments", "input"):
        value = function.get(name)
        if isinstance(value, str) and value:
            meter.text((index, f"tool:{slot}:{name}"), value)


def failure_word(reply: Reply) -> str | None:
    """What the upstream calls the failure under `error`, in a word: never its message, which may
    hold what was said. None where there is none, or no word for it."""
    error = reply.error if isinstance(reply.error, dict) else {}
    for name in ("code", "type"):
        if isinstance(word := error.get(name), str) and _WORD.fullmatch(word):
            return reply.redaction.text(word)
    return None


def label(value: object, redaction: Redaction) -> str | None:
    """A word of the upstream's as it may stand in an event: short, and without control signs.

    It is cut after the credential was hidden, of which a part would be left otherwise.
    """
    if not isinstance(value, str) or not value:
        return None
    text = value[:_LABEL_READ_MAX]
    if not text.isprintable():
        text = "".join(filter(str.isprintable, text))
    return redaction.text(text)[:_TEXT_MAX] or None
