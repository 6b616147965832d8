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
from proxy.unread import size_of

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
    needs_reason: bool = False
    """Whether `is_done` is the end only where some choice has a finish reason: a client of another
    format would be told one that nobody gave."""
    is_lost: bool = False
    """Something in it was more than we can translate: the fault is ours."""
    said: int = 0
    """Characters of text and thinking that were metered."""
    thought: int = 0
    """Those of thinking."""
    repeated: int = 0
    """Those of thinking in forms that repeat it."""

    @property
    def is_filtered(self) -> bool:
        """Whether a filter has ended it, in the words of whatever format."""
        return self.finish_reason == "content_filter"

    @property
    def is_finished(self) -> bool:
        """Whether the upstream said that this is the end. A closed connection says no such thing:
        a stream delimited by its close looks whole wherever it is cut."""
        if self.error is not None:
            return False
        if len(self.finished) >= self.choices:
            return True
        return self.is_done and (bool(self.finished) or not self.needs_reason)


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
    if reply.service_tier is None or reply.service_tier == "auto":  # an echo of what was asked
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
        _read_said(said, index, reply, meter)
    if not _CHOICE_FIELDS.isdisjoint(choice) and part == "delta":
        # some repeat in each chunk what was said so far
        whole = size_of([choice.get(name) for name in _CHOICE_FIELDS])
        if (more := whole - reply.said) > 0:
            meter.unread(more)
            reply.said += more


_CHOICE_FIELDS = frozenset({"message", "text"})
"""What has no place in a chunk, and is read by some clients all the same."""

_READ = frozenset(
    {"role", "content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call"}
)
_REPEATING = frozenset({"thinking_blocks", "reasoning_details"})
"""The thinking once more, in the forms in which an upstream wants it back."""

_SILENT = frozenset({"annotations", "extra_content", "name", "id", "tool_call_id"})
"""Labels, and what is no word of the model's."""


def _read_said(said: dict[str, Any], index: int, reply: Reply, meter: Meter) -> None:
    content = said.get("content")
    if content:
        if isinstance(content, str):
            meter.text((index, "content"), content)
            reply.said += len(content)
        else:
            _read_parts(content, index, reply, meter)
    reasoning = said.get("reasoning_content")
    if isinstance(reasoning, str) and reasoning:
        _think(reasoning, "reasoning", index, reply, meter)
    # servers that send both names send the same text under each
    other = said.get("reasoning")
    if isinstance(other, str) and other and other != reasoning:
        _think(other, "reasoning:other" if reasoning else "reasoning", index, reply, meter)
    refusal = said.get("refusal")
    if refusal and isinstance(refusal, str):
        meter.text((index, "refusal"), refusal)
    calls = said.get("tool_calls")
    if isinstance(calls, list):
        for position, call in enumerate(calls):
            _read_call(call, index, position, meter)
    if said.get("function_call"):
        _read_call({"function": said["function_call"]}, index, -1, meter)
    if not _READ.issuperset(said):
        _read_rest(said, reply, meter)


def _think(text: str, channel: str, index: int, reply: Reply, meter: Meter) -> None:
    meter.text((index, channel), text)
    reply.said += len(text)
    reply.thought += len(text)


def _read_parts(content: object, index: int, reply: Reply, meter: Meter) -> None:
    """Content in parts, as Mistral's models have it that think."""
    for part in content if isinstance(content, list) else [content]:
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get("text") if isinstance(part, dict) else part
        if kind in ("text", None) and isinstance(text, str) and text:
            meter.text((index, "content"), text)
            reply.said += len(text)
        elif isinstance(part, dict) and kind == "thinking" and (thought := thought_of(part)):
            _think(thought, "reasoning", index, reply, meter)
        elif size := size_of(part):
            meter.unread(size)


def thought_of(part: dict[str, Any]) -> str:
    """The text of a part that is thinking, which has parts of its own."""
    told = part.get("thinking")
    if not isinstance(told, list):
        return told if isinstance(told, str) else ""
    texts = [each.get("text") for each in told if isinstance(each, dict)]
    return "".join([text for text in texts if isinstance(text, str)])


def _read_rest(said: dict[str, Any], reply: Reply, meter: Meter) -> None:
    """What stands beside all that is known: some client reads it, so it is not for nothing."""
    for name, value in said.items():
        if not value or name in _READ or name in _SILENT:
            continue
        if name not in _REPEATING:
            meter.unread(size_of(value))
            continue
        reply.repeated += _thinking_size(value)
        if (more := reply.repeated - reply.thought) > 0:
            meter.unread(more)
            reply.thought += more


def _thinking_size(value: object) -> int:
    """The thinking in these blocks; a signature, and what is sealed, nobody can read."""
    blocks = value if isinstance(value, list) else [value]
    return sum(
        [
            size_of([each.get(name) for name in ("thinking", "text", "summary")])
            if isinstance(each, dict)
            else size_of(each)
            for each in blocks
        ]
    )


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
