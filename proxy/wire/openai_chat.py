"""OpenAI chat completions: requests, JSON replies and streams, both directions.

Totals are inclusive in this format: `prompt_tokens` holds cached, audio and image tokens,
`completion_tokens` holds reasoning and rejected predictions (OpenAI API description,
`CompletionUsage`). Some compatible servers leave reasoning out of `completion_tokens` and show it
in `total_tokens` only; the three numbers tell the two apart. Usage may come on any chunk, and a
later one replaces an earlier one: these are snapshots, never deltas.
Names only the fields it acts on; everything else in a body is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from metering.meter import Meter
from metering.usage import (
    INPUT_AUDIO,
    INPUT_CACHE_READ,
    INPUT_CACHE_WRITE_5M,
    INPUT_IMAGE,
    INPUT_UNCACHED,
    OUTPUT_AUDIO,
    OUTPUT_REASONING,
    OUTPUT_TEXT,
    ReportedUsage,
    is_count,
)
from proxy import json_bounds
from proxy.chat import CHOICES_MAX, OUTPUT_TOKENS_MAX, ChatRequest
from proxy.errors import InvalidRequest
from proxy.sse import DONE, Decoder, Event
from routing.fallback import Outcome

_LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")
_TEXT_MAX = 256


# -- requests ---------------------------------------------------------------------------------


def parse_request(raw: bytes) -> ChatRequest:
    """The request behind a body; InvalidRequest names the field that is wrong."""
    if (fault := json_bounds.fault_in(raw)) is not None:
        raise InvalidRequest(fault)
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("`model` must be a non-empty string.", param="model")
    if not isinstance(body.get("messages"), list):
        raise InvalidRequest("`messages` must be a list.", param="messages")
    stream = body.get("stream")
    if stream is not None and type(stream) is not bool:
        raise InvalidRequest("`stream` must be true or false.", param="stream")
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise InvalidRequest("`stream_options` must be an object.", param="stream_options")
    user = body.get("user")
    return ChatRequest(
        model=model,
        body=body,
        stream=bool(stream),
        wants_usage=bool(options and options.get("include_usage")),
        output_limit=_output_limit(body),
        choices=_choices(body, "n"),
        candidates=max(_choices(body, "n"), _choices(body, "best_of")),
        user=user[:_TEXT_MAX] if isinstance(user, str) and user else None,
    )


def upstream_body(request: ChatRequest, *, model: str, inject_usage: bool) -> bytes:
    """The body for an upstream: the object that was priced, with the upstream's model name.

    A stream asks for usage whatever the client said, so that `include_usage: false` cannot evade
    metering. The bounds of `proxy.json_bounds` hold, so that it can be written.
    """
    body = {**request.body, "model": model}
    if request.stream and inject_usage:
        options = request.body.get("stream_options") or {}
        body["stream_options"] = {**options, "include_usage": True}
    return orjson.dumps(body)


def _output_limit(body: Mapping[str, Any]) -> int | None:
    limits = []
    for name in _LIMIT_FIELDS:
        value = body.get(name)
        if value is None:
            continue
        if type(value) is not int or not 1 <= value <= OUTPUT_TOKENS_MAX:
            raise InvalidRequest(
                f"`{name}` must be a whole number from 1 to {OUTPUT_TOKENS_MAX}.", param=name
            )
        limits.append(value)
    return max(limits, default=None)


def _choices(body: Mapping[str, Any], name: str) -> int:
    value = body.get(name)
    if value is None:
        return 1
    if type(value) is not int or not 1 <= value <= CHOICES_MAX:
        raise InvalidRequest(
            f"`{name}` must be a whole number from 1 to {CHOICES_MAX}.", param=name
        )
    return value


# -- usage ------------------------------------------------------------------------------------


def read_usage(usage: Mapping[str, Any]) -> ReportedUsage:
    """Disjoint token classes from a `usage` object; a side whose numbers cannot be is None."""
    suspect: list[str] = []
    prompt = _count(usage, "prompt_tokens", suspect)
    completion = _count(usage, "completion_tokens", suspect)
    total = usage.get("total_tokens")
    return ReportedUsage(
        input=None if prompt is None else _split_prompt(prompt, usage, suspect),
        output=None if completion is None else _split_completion(completion, prompt, total, usage),
        suspect="; ".join(suspect) or None,
    )


def _count(usage: Mapping[str, Any], name: str, suspect: list[str]) -> int | None:
    value = usage.get(name)
    if value is None:
        return None
    if not is_count(value):
        suspect.append(f"{name} is not a believable count")
        return None
    return int(value)


def _detail(usage: Mapping[str, Any], group: str, name: str) -> int:
    details = usage.get(group)
    value = details.get(name) if isinstance(details, Mapping) else None
    return int(value) if is_count(value) else 0  # type: ignore[arg-type]  # is_count proved it


def _split_prompt(prompt: int, usage: Mapping[str, Any], suspect: list[str]) -> dict[str, int]:
    group = "prompt_tokens_details"
    split: dict[str, int] = {}
    left = prompt
    for unit, name in (
        (INPUT_CACHE_READ, "cached_tokens"),
        (INPUT_CACHE_WRITE_5M, "cache_write_tokens"),
        (INPUT_AUDIO, "audio_tokens"),
        (INPUT_IMAGE, "image_tokens"),
    ):
        part = _detail(usage, group, name)
        if part > left:
            suspect.append(f"{name} is more than prompt_tokens holds")
            part = left
        split[unit] = part
        left -= part
    split[INPUT_UNCACHED] = left
    return split


def _split_completion(
    completion: int, prompt: int | None, total: object, usage: Mapping[str, Any]
) -> dict[str, int]:
    group = "completion_tokens_details"
    reasoning = _detail(usage, group, "reasoning_tokens")
    audio = _detail(usage, group, "audio_tokens")
    is_exclusive = reasoning > 0 and total == (prompt or 0) + completion + reasoning
    if not is_exclusive:
        reasoning = min(reasoning, completion)
    audio = min(audio, completion if is_exclusive else completion - reasoning)
    text = completion - audio - (0 if is_exclusive else reasoning)
    return {OUTPUT_TEXT: text, OUTPUT_REASONING: reasoning, OUTPUT_AUDIO: audio}


# -- errors -----------------------------------------------------------------------------------

_QUOTA_CODES = frozenset(
    {"insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached"}
)


def classify_error(status: int, body: bytes) -> Outcome:
    """What an answer other than 200 means for the next step; the body tells quota from rate."""
    if status in {401, 403}:
        return Outcome.AUTH
    if status == 402:
        return Outcome.QUOTA
    if status == 429:
        return Outcome.QUOTA if _error_code(body) in _QUOTA_CODES else Outcome.RATE_LIMITED
    if status >= 500 or status == 408:
        return Outcome.SERVER_ERROR
    return Outcome.REFUSED if 400 <= status < 500 else Outcome.NONSENSE


def _error_code(body: bytes) -> str | None:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    error = answer.get("error") if isinstance(answer, dict) else None
    code = error.get("code") or error.get("type") if isinstance(error, dict) else None
    return code if isinstance(code, str) else None


# -- replies ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Reply:
    """What was learnt from an answer, streamed or not, beside its usage (the meter has that)."""

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

    @property
    def is_finished(self) -> bool:
        """Whether the upstream said that this is the end. A closed connection says no such thing:
        a stream delimited by its close looks whole wherever it is cut."""
        if self.error is not None:
            return False
        return self.is_done or len(self.finished) >= self.choices


def read_reply(raw: bytes, meter: Meter) -> Reply | None:
    """Meter a whole JSON answer; None when it is not a chat completion at all."""
    try:
        answer = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(answer, dict) or not isinstance(answer.get("choices"), list):
        return None
    reply = Reply(is_done=True)
    _read_object(answer, reply, meter, "message")
    return reply


class StreamReader:
    """Reads one streamed answer: meters it, and says which bytes may go on to the client.

    `feed` returns the bytes to relay now, untouched. Withheld are the end (`[DONE]`), which the
    client gets only when its usage is recorded, and the usage chunk if `strip_usage`.
    """

    __slots__ = ("_decoder", "_meter", "_strip_usage", "reply", "tail")

    def __init__(self, meter: Meter, *, strip_usage: bool, choices: int = 1) -> None:
        self._decoder = Decoder()
        self._meter = meter
        self._strip_usage = strip_usage
        self.reply = Reply(choices=choices)
        self.tail = b""
        """What is withheld until the commit: the end of the stream as the upstream wrote it."""

    def feed(self, chunk: bytes) -> bytes:
        """Meter the events these bytes complete; returns what to relay."""
        passed = [event.raw for event in self._decoder.feed(chunk) if self._passes(event)]
        return passed[0] if len(passed) == 1 else b"".join(passed)

    def flush(self) -> bytes:
        """The upstream closed: what is left to relay."""
        event = self._decoder.flush()
        return event.raw if event is not None and self._passes(event) else b""

    def _passes(self, event: Event) -> bool:
        """Read an event; whether it may go on now. What follows the end goes out with the end."""
        data = event.data
        is_end = data is not None and data.strip() == DONE
        if is_end or self.tail:
            self.tail += event.raw
        if is_end:
            self.reply.is_done = True
            return False
        chunk = _object(data)
        if chunk is None:
            return not self.tail
        _read_object(chunk, self.reply, self._meter, "delta")
        is_usage_only = isinstance(chunk.get("usage"), dict) and not chunk.get("choices")
        return not (self.tail or (is_usage_only and self._strip_usage))


def _object(data: bytes | None) -> dict[str, Any] | None:
    """The JSON object in an event's data; None for comments and for what is no object."""
    if data is None:
        return None
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return chunk if isinstance(chunk, dict) else None


def _read_object(answer: dict[str, Any], reply: Reply, meter: Meter, part: str) -> None:
    choices = answer.get("choices")
    if isinstance(choices, list):
        for choice in choices:
            if isinstance(choice, dict):
                _read_choice(choice, reply, meter, part)
    usage = answer.get("usage")
    if isinstance(usage, dict):
        meter.report(read_usage(usage))
    if reply.model is None:
        reply.model = label(answer.get("model"))
        reply.version = label(answer.get("system_fingerprint"))
    if reply.service_tier is None:
        reply.service_tier = label(answer.get("service_tier"))
    if answer.get("error"):
        reply.error = answer["error"]


def _read_choice(choice: dict[str, Any], reply: Reply, meter: Meter, part: str) -> None:
    own = choice.get("index")
    index = own if type(own) is int else 0
    reason = choice.get("finish_reason")
    if isinstance(reason, str):
        reply.finish_reason = label(reason)
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


def label(value: object) -> str | None:
    """A word of the upstream's as it may stand in an event: short, and without control signs."""
    if not isinstance(value, str) or not value:
        return None
    cut = value[:_TEXT_MAX]
    return cut if cut.isprintable() else "".join(filter(str.isprintable, cut)) or None
