"""Wire formats: how clients speak to us, and how we speak to upstreams.

A format is a module of this package, or a folder with the modules `client` and `upstream`; the name
is its key. Rules: a format translates to and from OpenAI's chat completions, never to another
format; where client and upstream speak the same one, bytes are relayed and only the meter reads
them; what a format cannot carry is named, and never left out in silence. All of it is pure.

Beyond OpenAI's fields the neutral form has these, which formats pass on where they have a place for
them: `reasoning_content` of a message or delta (the text of its thinking) and `thinking_blocks`
(`{"type": "thinking", "thinking", "signature"}` and `{"type": "redacted_thinking", "data"}`, which
an upstream wants back as they were; a signature that is not Claude's begins with the name of its
format and a colon); `extra_content` of a tool call, message or delta (Google wants it back);
`images` of a message or delta; `native_finish_reason` of a choice; `cache_control` of a content
part, message or tool; `is_error` of a message with a tool's result; `stop_sequence` of a choice
(which of the stops was met); `top_k` and `thinking` of a request, and `x_unsupported` of one: the
fields of the client's own format that have no place here, which no upstream is sent
(`["previous_response_id", "tools[1].type"]`).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

from metering.tokenizer import Tokenizer
from metering.usage import ReportedUsage
from proxy.chat import ChatRequest
from proxy.error_words import ErrorWords
from proxy.sse import Event
from routing.fallback import Outcome


@dataclass(frozen=True, slots=True)
class Sending:
    """What is changed in a request on its way to an upstream.

    `output_max` is what a choice may say at most, where that is less than was asked for, and
    `limit_field` where a limit is written that the client has not set; `instruct` is a system
    message that is added; `inject_usage` asks for the usage of a stream whatever the client said;
    `drop_unsupported` leaves out what the format cannot carry.
    """

    model: str
    output_max: int | None = None
    limit_field: str = "max_tokens"
    instruct: str | None = None
    inject_usage: bool = True
    drop_unsupported: bool = False


class Reading(NamedTuple):
    """What one event of a streamed answer says.

    `chunks` are chat completion chunks without usage, `usage` is all that is known of it by now.
    `is_end` is the event after which nothing comes (the client gets it once the usage is recorded),
    `is_withheld` one that the client has not asked for, `is_odd` one that is no part of an answer
    (an error, or nothing of this format): a credential of ours may stand in it. A chunk with
    `error` (`{"message", "type", "code"}`) says that the answer has failed. `unread` is the size
    (`proxy.unread`) of what the client gets and no chunk has.
    """

    chunks: Sequence[dict[str, Any]] = ()
    usage: ReportedUsage | None = None
    is_end: bool = False
    is_withheld: bool = False
    is_odd: bool = False
    unread: int = 0


class Source(Protocol):
    """One streamed answer of an upstream, read event by event."""

    def read(self, data: dict[str, Any]) -> Reading:
        """What this event says; `data` is the JSON object in it. Nothing in it can be trusted: what
        has the wrong type is passed over."""
        ...

    def end_softly(self, choices: Sequence[int], units: Mapping[str, int]) -> bytes:
        """The events that end what was relayed so far as if the model had run out of tokens:
        `choices` are those still open, `units` what is billed. For same-format relaying only."""
        ...


@runtime_checkable
class ClosingSource(Source, Protocol):
    """One whose stream has no last event: that the upstream closes says something, too."""

    def closed(self) -> Sequence[dict[str, Any]]:
        """What is still to be told of an answer that is whole; nothing of one that was cut off."""
        ...


class Decoder(Protocol):
    """Cuts the bytes of a streamed answer into events, however they come."""

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that these bytes complete, in order; the data of each is one JSON object."""
        ...

    def flush(self) -> Event | None:
        """What is left when the stream has ended."""
        ...


class StreamWriter(Protocol):
    """One streamed answer as a client gets it, written from chat completion chunks."""

    def write(self, chunk: dict[str, Any]) -> bytes:
        """The events for this chunk; none for one with `error`, whose end is written elsewhere."""
        ...

    def end(self, units: Mapping[str, int]) -> bytes:
        """The events that end the stream; `units` is the usage to tell, in token classes."""
        ...


class ClientFormat(Protocol):
    """A format that clients speak."""

    PATH: str
    """Where it is served: `/v1/messages`."""
    TRANSLATES: bool
    """Whether its requests can be written as chat completions."""
    REQUEST_ID: str
    """The header in which its clients look for the id of a request."""
    FIELD_NAMES: Mapping[str, str]
    """What clients call a field that a chat completion calls otherwise, by its name there."""
    PASSES: tuple[str, ...]
    """Headers of a client that go on to an upstream of the same format, in lower case."""
    KEEPS_MODEL: bool
    """Whether an answer of another model than was asked for is none: vectors of two models cannot
    be compared, so no fallback and no step leads away."""

    def parse_request(self, raw: bytes) -> ChatRequest:
        """The request behind a body; InvalidRequest names the field that is wrong."""
        ...

    def prompt_tokens(self, request: ChatRequest, tokenizer: Tokenizer, model: str) -> int:
        """The prompt as this model counts it, estimated; long ones are counted in a thread."""
        ...

    def writer(self, request: ChatRequest) -> StreamWriter:
        """What writes the stream that answers this request."""
        ...

    def write_whole(
        self, completion: dict[str, Any], units: Mapping[str, int], request: ChatRequest
    ) -> dict[str, Any]:
        """A whole answer from a chat completion and the usage to tell."""
        ...

    def error_body(self, words: ErrorWords, request_id: str) -> bytes:
        """The body of an answer that is a refusal or a failure."""
        ...

    def error_event(self, words: ErrorWords, request_id: str) -> bytes:
        """What a stream ends with that has failed after it began."""
        ...


class CountingFormat(ClientFormat, Protocol):
    """A client format that can be asked how long a prompt is."""

    COUNT_PATH: str

    def parse_count(self, raw: bytes) -> ChatRequest:
        """The request whose prompt is to be counted; InvalidRequest names what is wrong."""
        ...

    def count_answer(self, request: ChatRequest, tokens: int) -> dict[str, Any]:
        """The answer, for a prompt of so many tokens."""
        ...


class Begun(Protocol):
    """The frame of a stream that was relayed until it broke off, as far as formats have one."""

    message_id: str
    """Empty as long as no message has begun."""
    block_index: int
    """Of the last block."""
    block: str
    """The kind of the block that is open; none is if it is empty."""


class ContinuingFormat(ClientFormat, Protocol):
    """A client format in which a stream that was relayed can be gone on with."""

    def resumed(self, request: ChatRequest, begun: Begun) -> StreamWriter:
        """What writes the rest of the stream that answers this request."""
        ...


class UpstreamFormat(Protocol):
    """A format that upstreams speak."""

    TRANSLATES: bool
    """Whether chat completions can be written in it."""
    ANSWER_FIELD: str
    """What every whole answer has."""
    USAGE_FIELD: str
    """Where a whole answer has its usage."""

    LIMIT_REQUIRED: bool
    """Whether a request must say how much output it wants at most."""
    LIMIT_MIN: int
    """The least that it may say so: no answer is cut to less."""
    INSTRUCTS: bool
    """Whether a request of this format has a place for a system message of ours."""

    def cannot_carry(self, chat: Mapping[str, Any]) -> Sequence[str]:
        """The fields of a chat request (`param`, as OpenAI names them) that cannot be written in
        this format: every one that is set to something that matters."""
        ...

    def from_chat(self, request: ChatRequest, sending: Sending) -> dict[str, Any]:
        """The body for an upstream, from `request.chat`; InvalidRequest for what is malformed."""
        ...

    def same_format(self, request: ChatRequest, sending: Sending) -> dict[str, Any]:
        """The body for an upstream from that of a client which speaks this format, changed only
        where it must be; what it was made from stays as it was."""
        ...

    def decoder(self) -> Decoder:
        """What cuts its streams into events."""
        ...

    def source(self, request: ChatRequest, *, created_s: int) -> Source:
        """What reads one streamed answer; `created_s` is the UNIX time to tell."""
        ...

    def read_whole(
        self, answer: dict[str, Any], request: ChatRequest, *, created_s: int
    ) -> dict[str, Any] | None:
        """A whole answer as a chat completion, without usage; None when it is nothing of the kind,
        and one with `error` (`{"message", "type", "code"}`) where the model failed to make one.
        For same-format relaying only what is metered has to be right."""
        ...

    def read_usage(self, usage: Mapping[str, Any]) -> ReportedUsage:
        """Disjoint token classes from what stands under `USAGE_FIELD` of a whole answer."""
        ...

    def classify_error(self, status: int, body: bytes) -> Outcome:
        """What an answer other than 200 means for the next step."""
        ...

    def read_error(self, status: int, body: bytes) -> ErrorWords:
        """What such an answer says, in OpenAI's words."""
        ...


def whole_usage(found: UpstreamFormat, answer: Mapping[str, Any]) -> ReportedUsage | None:
    """The usage of a whole answer, with what some formats tell of it elsewhere in the answer."""
    if hasattr(found, "read_response_usage"):
        return cast("ReportedUsage | None", found.read_response_usage(answer))
    usage = answer.get(found.USAGE_FIELD)
    return found.read_usage(usage) if isinstance(usage, dict) else None


@cache
def client_format(name: str) -> ClientFormat:
    """The format of that name as clients speak it; KeyError when there is none."""
    return cast("ClientFormat", _side(name, "client", "parse_request"))


def is_signed_here(signature: object) -> bool:
    """Whether this may be a signature of Claude's, as a thinking block needs one: there is one, and
    it is not marked as that of another format."""
    if not isinstance(signature, str) or not signature:
        return False
    mark, colon, _ = signature.partition(":")
    return not colon or mark not in _names()


def counting(found: ClientFormat) -> CountingFormat | None:
    """The format, if it can be asked how long a prompt is."""
    return cast("CountingFormat", found) if hasattr(found, "COUNT_PATH") else None


def continuing(found: ClientFormat) -> ContinuingFormat | None:
    """The format, if another upstream can go on with its streams."""
    return cast("ContinuingFormat", found) if hasattr(found, "resumed") else None


@cache
def upstream_format(name: str) -> UpstreamFormat:
    """The format of that name as upstreams speak it; KeyError when there is none."""
    return cast("UpstreamFormat", _side(name, "upstream", "read_whole"))


@cache
def client_formats() -> tuple[str, ...]:
    """Every format that clients may speak."""
    return tuple(name for name in _names() if _find(name, "client", "parse_request") is not None)


@cache
def _names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def _side(name: str, side: str, mark: str) -> ModuleType:
    found = _find(name, side, mark) if name in _names() else None
    if found is None:
        raise KeyError(name)
    return found


def _find(name: str, side: str, mark: str) -> ModuleType | None:
    module = importlib.import_module(f"{__name__}.{name}")
    if hasattr(module, "__path__"):
        if side not in {each.name for each in pkgutil.iter_modules(module.__path__)}:
            return None
        module = importlib.import_module(f"{__name__}.{name}.{side}")
    return module if hasattr(module, mark) else None
