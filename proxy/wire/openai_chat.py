"""OpenAI chat completions: requests, JSON replies and streams, both directions.

Names only the fields it acts on; everything else in a body is left as it is.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from metering.meter import Meter
from proxy import json_bounds
from proxy.chat import CHOICES_MAX, OUTPUT_TOKENS_MAX, ChatRequest
from proxy.errors import InvalidRequest
from proxy.redaction import NOTHING, Redaction
from proxy.sse import DONE, Decoder, Event
from proxy.wire.openai_endings import FINISH_REASON, shared_fields, soft_end
from proxy.wire.openai_usage import read_usage

_LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")
_TEXT_MAX = 256
_LABEL_READ_MAX = 8192
"""Of a label, before it is cut: longer than any credential that fits into a header."""


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
    if user is not None and not isinstance(user, str):
        raise InvalidRequest("`user` must be a string.", param="user")
    return ChatRequest(
        model=model,
        body=body,
        stream=bool(stream),
        wants_usage=bool(options and options.get("include_usage")),
        output_limit=_output_limit(body),
        choices=_choices(body, "n"),
        candidates=max(_choices(body, "n"), _choices(body, "best_of")),
        user=user[:_TEXT_MAX] if user else None,
    )


def upstream_body(
    request: ChatRequest,
    *,
    model: str,
    inject_usage: bool,
    output_max: int | None = None,
    limit_field: str = "max_tokens",
) -> bytes:
    """The body for an upstream: the object that was priced, with the upstream's model name.

    `output_max` cuts the limits that the client has set for one choice; where it has set none it
    becomes `limit_field`.

    A stream asks for usage whatever the client said, so that `include_usage: false` cannot evade
    metering. The bounds of `proxy.json_bounds` hold, so that it can be written.
    """
    body = {**request.body, "model": model}
    if request.stream and inject_usage:
        options = request.body.get("stream_options") or {}
        body["stream_options"] = {**options, "include_usage": True}
    if output_max is not None:
        set_by_client = [name for name in _LIMIT_FIELDS if body.get(name) is not None]
        for name in set_by_client or [limit_field]:
            body[name] = min(body.get(name) or output_max, output_max)
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
    redaction: Redaction = NOTHING
    """What the labels are held against."""

    @property
    def is_finished(self) -> bool:
        """Whether the upstream said that this is the end. A closed connection says no such thing:
        a stream delimited by its close looks whole wherever it is cut."""
        if self.error is not None:
            return False
        return self.is_done or len(self.finished) >= self.choices


def read_reply(raw: bytes, meter: Meter, redaction: Redaction = NOTHING) -> Reply | None:
    """Meter a whole JSON answer; None when it is not a chat completion at all.

    One with more values than are built in memory is billed as it reports, else by its size.
    """
    if json_bounds.is_too_full(raw):
        return _read_too_full(raw, meter)
    try:
        answer = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(answer, dict) or not isinstance(answer.get("choices"), list):
        return None
    reply = Reply(is_done=True, redaction=redaction)
    _read_object(answer, reply, meter, "message")
    return reply


_USAGE = re.compile(rb'"usage"\s*:\s*(\{(?:[^{}]|\{[^{}]*+\})*+\})')
_USAGE_BYTES_MAX = 4096


def _read_too_full(raw: bytes, meter: Meter) -> Reply | None:
    """Meter what is not parsed: its last `usage`, whose quotes cannot stand within a string."""
    if not raw.lstrip().startswith(b"{") or b'"choices"' not in raw:
        return None
    meter.unread(len(raw))
    at = raw.rfind(b'"usage"')
    if at > 0 and (found := _USAGE.match(raw[at : at + _USAGE_BYTES_MAX])):
        with contextlib.suppress(orjson.JSONDecodeError):
            meter.report(read_usage(orjson.loads(found[1])))
    return Reply(is_done=True)


class StreamReader:
    """Reads one streamed answer: meters it, and says which bytes may go on to the client.

    `feed` returns the bytes to relay now, untouched but for what `redaction` hides in events that
    are no part of a completion: errors, and what is none of this format's. Withheld are the end
    (`[DONE]`), which the client gets only when its usage is recorded, and the usage chunk if
    `strip_usage`. After an event at which `must_wait` says so the rest is kept for the next call.
    """

    __slots__ = (
        "_decoder",
        "_meter",
        "_must_wait",
        "_shared",
        "_strip_usage",
        "_tail",
        "_waiting",
        "reply",
    )

    def __init__(
        self,
        meter: Meter,
        *,
        strip_usage: bool,
        choices: int = 1,
        redaction: Redaction = NOTHING,
        must_wait: Callable[[], bool] | None = None,
    ) -> None:
        self._decoder = Decoder()
        self._meter = meter
        self._must_wait = must_wait
        self._waiting: deque[Event] = deque()
        self._strip_usage = strip_usage
        self._shared: dict[str, Any] = {}
        self.reply = Reply(choices=choices, redaction=redaction)
        self._tail: list[bytes] = []

    @property
    def tail(self) -> bytes:
        """What is withheld until the commit: the end of the stream as the upstream wrote it."""
        return b"".join(self._tail)

    @property
    def must_wait(self) -> bool:
        """Whether the answer may not go on yet; one that has ended has nothing to wait for."""
        return self._must_wait is not None and not self.reply.is_finished and self._must_wait()

    def feed(self, chunk: bytes) -> bytes:
        """Meter the events these bytes complete; returns what to relay."""
        if len(events := self._decoder.feed(chunk)) == 1 and not self._waiting:  # as nearly always
            return self._read(events[0])
        self._waiting += events
        passed = []
        while self._waiting:
            if passing := self._read(self._waiting.popleft()):
                passed.append(passing)
            if self._waiting and self.must_wait:
                break
        return passed[0] if len(passed) == 1 else b"".join(passed)

    def end_softly(self) -> bytes:
        """End the answer here, as if its model had run out of tokens; gives the bytes for that.

        What is still withheld is forgotten, and the usage that is told is what is billed.
        """
        self._waiting.clear()
        self._tail.clear()
        open_choices = sorted(set(range(self.reply.choices)) - self.reply.finished)
        units = None if self._strip_usage else self._meter.final().units
        self.reply.finish_reason = FINISH_REASON
        return soft_end(self._shared, choices=open_choices, units=units)

    def flush(self) -> bytes:
        """The upstream closed: what is left to relay."""
        return b"" if (event := self._decoder.flush()) is None else self._read(event)

    def _read(self, event: Event) -> bytes:
        """Read an event; what of it may go on now. What follows the end goes out with the end."""
        data, raw = event.data, event.raw
        is_end = data is not None and data.strip() == DONE
        chunk = None if is_end else self._object(event)
        if not event.is_opaque and (chunk is None or _is_odd(chunk)):
            raw = self.reply.redaction.data(raw)
        if chunk is not None:
            _read_object(chunk, self.reply, self._meter, "delta")
            self._shared = self._shared or shared_fields(chunk)
        if is_end or self._tail:
            self._tail.append(raw)
        if is_end:
            self.reply.is_done = True
        if self._tail:
            return b""
        is_usage_only = (
            chunk is not None and isinstance(chunk.get("usage"), dict) and not chunk.get("choices")
        )
        return b"" if is_usage_only and self._strip_usage else raw

    def _object(self, event: Event) -> dict[str, Any] | None:
        """The JSON object in an event's data; None for comments and for what is no object.

        What a client may understand better than we do is noted as unread: it is not for nothing.
        """
        if event.is_opaque:
            self._meter.unread(len(event.raw))
        if not event.data:
            return None
        try:
            chunk = _loads(event.data)
        except ValueError:
            if event.data.strip():
                self._meter.unread(len(event.data))
            return None
        return chunk if isinstance(chunk, dict) else None


_EVENT_VALUES_MAX = 50_000
"""Values in one event; these take 10 ms to build, in which no other stream moves."""


def _loads(data: bytes) -> Any:
    """What stands in an event, as liberally as clients read it: half a surrogate pair, NaN."""
    if len(data) > _EVENT_VALUES_MAX and json_bounds.is_too_full(data, _EVENT_VALUES_MAX):
        raise ValueError("too many values")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(data)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def _is_odd(chunk: dict[str, Any]) -> bool:
    """Whether it is no part of a completion, or speaks of an error beside it."""
    return bool(chunk.get("error")) or not isinstance(chunk.get("choices"), list)


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
