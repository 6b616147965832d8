"""From a client's wire format to an upstream's and back: relayed where they are one, else written
anew by way of chat completions. Pure.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from metering.meter import Meter
from metering.usage import ReportedUsage
from proxy import json_bounds
from proxy.chat import OPENAI_CHAT, UNSUPPORTED, ChatRequest
from proxy.error_words import ErrorWords
from proxy.errors import InvalidRequest
from proxy.redaction import NOTHING, Redaction
from proxy.reply import Reply, read_object
from proxy.said import Said
from proxy.stream_reader import StreamReader
from proxy.wire import (
    ClientFormat,
    Sending,
    StreamWriter,
    UpstreamFormat,
    client_format,
    upstream_format,
    whole_usage,
)
from routing.fallback import Outcome


class Whole(NamedTuple):
    """A whole answer: what was read in it, and what the client gets. For a client that asked for a
    stream, `tail` are the events that end it; of one that was not served it gets nothing."""

    reply: Reply
    body: bytes
    tail: bytes = b""
    outcome: Outcome = Outcome.SERVED


@dataclass(frozen=True, slots=True)
class Passage:
    """Two formats, and what lies between them; `is_same` where nothing does."""

    client: ClientFormat
    upstream: UpstreamFormat
    format: str
    """The upstream's."""
    is_same: bool

    def body(self, request: ChatRequest, sending: Sending) -> bytes:
        """The body for the upstream. The bounds of `proxy.json_bounds` hold, so it can be written;
        InvalidRequest where what came cannot be said in its format."""
        if self.is_same:
            return orjson.dumps(self.upstream.same_format(request, sending))
        try:
            return orjson.dumps(self.upstream.from_chat(request, sending))
        except InvalidRequest as error:
            raise self._in_own_words(error) from error

    def lacks(self, request: ChatRequest) -> Sequence[str]:
        """The fields of this request that cannot be carried."""
        if self.is_same:
            return ()
        # of our own making only: a chat that comes as one may have anything in that field
        named = () if request.as_chat is None else request.as_chat.get(UNSUPPORTED, ())
        return [*named, *map(self._own_name, self.upstream.cannot_carry(request.chat))]

    def _own_name(self, field: str) -> str:
        """What the client calls a field of the chat completion that was made of its request."""
        names = self.client.FIELD_NAMES
        head, dot, rest = field.partition(".")
        if head.startswith("messages[") and "messages" in names:
            # where it stood there is not known: one message may have become several
            return f"{names['messages']}{dot}{names.get(rest, rest)}"
        return names.get(field, field)

    def _in_own_words(self, error: InvalidRequest) -> InvalidRequest:
        """The refusal with the name that the client knows its field by."""
        if error.param is None or (own := self._own_name(error.param)) == error.param:
            return error
        told = error.again()
        told.message, told.param = error.message.replace(f"`{error.param}", f"`{own}"), own
        return told

    def reader(
        self,
        request: ChatRequest,
        meter: Meter,
        *,
        created_s: int,
        redaction: Redaction = NOTHING,
        must_wait: Callable[[], bool] | None = None,
        said: Said | None = None,
        writer: StreamWriter | None = None,
    ) -> StreamReader:
        """What reads the streamed answer to this request; a `writer` that is given writes it."""
        asked = self._read_as(request, writer)
        if writer is None and not self.is_same:
            writer = self.client.writer(request)
        return StreamReader(
            self.upstream.source(asked, created_s=created_s),
            self.upstream.decoder(),
            meter,
            writer=writer,
            choices=request.choices,
            redaction=redaction,
            must_wait=must_wait,
            said=said,
        )

    def _read_as(self, request: ChatRequest, writer: StreamWriter | None) -> ChatRequest:
        """The request as answers to it are read: what is written anew has no use for what only its
        own format knows."""
        if writer is None or not self.is_same or request.as_chat is None:
            return request
        return replace(request, format=OPENAI_CHAT, body=request.as_chat, as_chat=None)

    def read_reply(
        self,
        raw: bytes,
        request: ChatRequest,
        meter: Meter,
        *,
        created_s: int,
        redaction: Redaction = NOTHING,
        writer: StreamWriter | None = None,
    ) -> Whole | None:
        """Meter a whole JSON answer, and what the client gets of it; None when it is not one.

        One with more values than are built in memory is billed as it reports, else by its size. A
        client that asked for a stream gets one.
        """
        is_relayed = self.is_same and not request.stream
        load = json_bounds.load_event if self.is_same else json_bounds.load_writable
        try:
            answer = load(raw, json_bounds.VALUES_MAX)
        except json_bounds.TooMuchError:
            return self._read_too_full(raw, request, meter, is_relayed=is_relayed)
        except ValueError:
            return None
        if not isinstance(answer, dict):
            return None
        completion = self._read_whole(answer, self._read_as(request, writer), created_s)
        if completion is None:
            return None if is_relayed else _failure(answer)
        choices = completion.get("choices", ())
        if not (is_relayed or any(isinstance(each, dict) for each in choices)):
            return _failure(completion)
        reply = Reply(is_done=True, redaction=redaction)
        read_object(completion, reply, meter, "message")
        if (usage := whole_usage(self.upstream, answer)) is not None:
            meter.report(usage)
        if reply.error is not None and not (is_relayed and choices):
            return Whole(reply, b"", outcome=Outcome.SERVER_ERROR)
        if request.stream:
            return self._streamed(completion, reply, meter, writer or self.client.writer(request))
        if self.is_same:
            # it is served as an answer, and may speak of a failure all the same
            return Whole(reply, raw if reply.error is None else redaction.data(raw))
        told = self._told_whole(completion, meter.final().units, request)
        if told is None:
            reply.is_lost = True
            return Whole(reply, b"", outcome=Outcome.UNTRANSLATED)
        return Whole(reply, told)

    def _read_whole(
        self, answer: dict[str, Any], request: ChatRequest, created_s: int
    ) -> dict[str, Any] | None:
        """The answer as a chat completion; None where it is none, or breaks whoever reads it."""
        try:
            return self.upstream.read_whole(answer, request, created_s=created_s)
        except Exception:  # noqa: BLE001 - whatever it is, the upstream's answer did it
            return None

    def _told_whole(
        self, completion: dict[str, Any], units: Mapping[str, int], request: ChatRequest
    ) -> bytes | None:
        """The answer in the client's format; None where it has what nobody can write."""
        try:
            return orjson.dumps(self.client.write_whole(completion, units, request))
        except Exception:  # noqa: BLE001 - whatever it is, the upstream's answer did it
            return None

    def _streamed(
        self, completion: dict[str, Any], reply: Reply, meter: Meter, writer: StreamWriter
    ) -> Whole:
        """The answer as a stream of one chunk, for an upstream that knows no streams."""
        chunk = {name: completion[name] for name in _SHARED if name in completion}
        chunk |= {"object": "chat.completion.chunk", "choices": []}
        for choice in completion["choices"]:
            if isinstance(choice, dict):
                own = {name: value for name, value in choice.items() if name != "message"}
                chunk["choices"].append({**own, "delta": _delta(choice.get("message"))})
        try:
            return Whole(reply, writer.write(chunk), writer.end(meter.final().units))
        except Exception:  # noqa: BLE001 - whatever it is, the upstream's answer did it
            reply.is_lost = True
            return Whole(reply, b"", outcome=Outcome.UNTRANSLATED)

    def error_body(self, status: int, body: bytes, request_id: str) -> bytes:
        """An upstream's error as the client's format has it; as it came where they are one."""
        if self.is_same:
            return body
        words = self.upstream.read_error(status, body)
        return self.client.error_body(self.own_words(words), request_id)

    def own_words(self, words: ErrorWords) -> ErrorWords:
        """An upstream's error with the name that the client knows its field by: it names the field
        of the request that was made of the client's."""
        if self.is_same or words.param is None:
            return words
        return words._replace(param=self._own_name(words.param))

    def _read_too_full(
        self, raw: bytes, request: ChatRequest, meter: Meter, *, is_relayed: bool
    ) -> Whole | None:
        """Meter what is not parsed: its last usage. The quotes of that name cannot stand within a
        string, but in a client's own `metadata`, which is told after it.

        One that cannot be relayed as it is was made and is paid for all the same, and asking once
        more would give another like it.
        """
        answer_field = b'"%s"' % self.upstream.ANSWER_FIELD.encode()
        if not raw.lstrip().startswith(b"{") or answer_field not in raw:
            return None
        if request.output_limit != 0:  # vectors, and an echo with its logprobs, are no output
            meter.unread(len(raw))
        if (reported := self._last_usage(raw)) is not None:
            meter.report(reported)
        if is_relayed:
            return Whole(Reply(is_done=True), raw)
        return Whole(Reply(is_done=True, is_lost=True), b"", outcome=Outcome.UNTRANSLATED)

    def _last_usage(self, raw: bytes) -> ReportedUsage | None:
        """The last one that can be believed; else the last one."""
        named, at, last = b'"%s"' % self.upstream.USAGE_FIELD.encode(), len(raw), None
        for _ in range(_USAGES_MAX):
            if (at := raw.rfind(named, 0, at)) < 0:
                break
            if (found := _USAGE.match(raw[at : at + _USAGE_BYTES_MAX])) is None:
                continue
            with contextlib.suppress(orjson.JSONDecodeError):
                reported = self.upstream.read_usage(orjson.loads(found[1]))
                if _says_something(reported) and reported.suspect is None:
                    return reported
                last = last or reported
        return last


def _failure(answer: dict[str, Any]) -> Whole | None:
    """What is no answer: one that speaks of an error, or nothing of its format."""
    if not answer.get("error"):
        return None
    return Whole(Reply(error=answer["error"]), b"", outcome=Outcome.SERVER_ERROR)


def _says_something(reported: ReportedUsage) -> bool:
    return reported.input is not None or reported.output is not None


def _delta(message: object) -> dict[str, Any]:
    """A whole message as the delta of a chunk, in which every tool call has its index."""
    if not isinstance(message, dict):
        return {}
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    indexed = [
        {"index": i, **call} if isinstance(call, dict) else call for i, call in enumerate(calls)
    ]
    return {**message, "tool_calls": indexed}


_SHARED = ("id", "created", "model", "system_fingerprint", "service_tier")

_USAGE = re.compile(rb'"\w+"\s*:\s*(\{(?:[^{}]|\{[^{}]*+\})*+\})')
_USAGE_BYTES_MAX = 4096
_USAGES_MAX = 4
"""Fields of that name that are looked at, from the end. A client can put in few: no object has two
of one name."""


@lru_cache(maxsize=256)
def passage(client: str, upstreams: tuple[str, ...]) -> Passage | None:
    """The way from a client's format to one of an upstream's, which are in order of preference;
    None when there is none: embeddings cannot be said in a format of conversations."""
    spoken = client_format(client)
    if client in upstreams:
        return Passage(spoken, upstream_format(client), client, is_same=True)
    for name in upstreams:
        found = upstream_format(name)
        if found.TRANSLATES and spoken.TRANSLATES:
            return Passage(spoken, found, name, is_same=False)
    return None
