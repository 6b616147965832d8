"""The pump: an upstream's answer to the client while the meter counts.

Nothing is sent to the client before the upstream's first whole event, so until then another
upstream may still be tried. What ends the answer (`[DONE]`, a whole JSON body) is not sent here:
the exchange sends it once the usage is recorded. A stream goes on only while its guard lets it,
and a halt ends it wherever it stands.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from metering.background import spawn
from metering.meter import Meter
from proxy.door import Lifecycle
from proxy.halt import Halt
from proxy.passage import Whole
from proxy.reply import Reply, failure_word
from proxy.stream_clock import StreamClock
from proxy.stream_errors import Break, said_later
from proxy.stream_guard import StreamGuard
from proxy.stream_reader import StreamReader
from proxy.transport import Answer, Fault, TransportError
from routing.fallback import Outcome

T = TypeVar("T")

BODY_BYTES_MAX = 32 * 1024 * 1024
"""A whole JSON answer is held in memory; the largest real ones (audio, logprobs) are a few MB."""

ERROR_BODY_BYTES_MAX = 256 * 1024

_STREAM_TYPES = frozenset(
    {
        "text/event-stream",
        "application/vnd.amazon.eventstream",
        "text/plain",
        "application/octet-stream",
        "",
    }
)
"""What servers call a stream when they were asked for one; JSON and HTML are something else."""


def is_stream(content_type: str | None) -> bool:
    """Whether an answer of this type is a stream, when a stream was asked for."""
    return (content_type or "").partition(";")[0].strip().lower() in _STREAM_TYPES


_COMMENTS_BYTES_MAX = 4096
"""Of comments before the first event; beyond that they are left out."""

_WORDLESS_BYTES_MAX = 64 * 1024
"""Of events before the first word of a stream that is watched."""

_BOUND_OF_FAULT = {
    Fault.ENDLESS: "max_answer_s",
    Fault.TOO_LARGE: "max_answer_mb",
    Fault.TIMEOUT: "timeout_s",
}
"""Faults that are our own bounds, by the key of `providers.*` that sets them."""


class ClientGoneError(Exception):
    """The client's connection is closed; nothing can be sent to it any more."""


class Client(Protocol):
    """The other end of an exchange. Every method raises ClientGoneError when it has left."""

    async def start_stream(self, headers: Mapping[str, str]) -> None:
        """Send status 200, these headers and those of an event stream, unless a ping has done so
        already."""
        ...

    async def send(self, data: bytes) -> None:
        """Send bytes of the stream; waits while the client reads slower than we write."""
        ...

    def ping(self, headers: Mapping[str, str]) -> None:
        """Tell that the stream goes on, starting it where it has not; returns at once. Nothing is
        told to a client that has yet to read what was sent."""
        ...


@dataclass(slots=True)
class Relayed:
    """How the relaying of one answer ended.

    `tail` is the withheld end of a stream, `body` a whole JSON answer, `cause` what went wrong, for
    the log; `bound` names the setting of ours that ended it, when one did.
    """

    outcome: Outcome
    reply: Reply
    tail: bytes = b""
    body: bytes | None = None
    is_client_gone: bool = False
    cause: str = ""
    bound: str | None = None
    is_told: bool = False
    """Whether the client has read of the failure, in the upstream's own event."""

    @property
    def broken_by(self) -> Break:
        """Why it broke off, as far as the client is to know."""
        said = said_later(self.reply.error, self.reply.redaction)
        return Break(self.bound, said, self.is_told)


OUTCOME_OF_FAULT = {
    Fault.UNREACHABLE: Outcome.UNREACHABLE,
    Fault.TIMEOUT: Outcome.TIMEOUT,
    Fault.BROKEN: Outcome.NONSENSE,
    Fault.NONSENSE: Outcome.NONSENSE,
    Fault.TOO_LARGE: Outcome.NONSENSE,
    Fault.ENDLESS: Outcome.TIMEOUT,
}

READ_IN_THREAD_ABOVE_BYTES = 256 * 1024
"""Counting such a body takes 10 ms and more, in which no other stream would move."""


ReadWhole = Callable[[bytes], Whole | None]
"""Meters a whole JSON answer; gives what the client gets of it, or None when it is not one."""


async def relay_body(
    answer: Answer, read_whole: ReadWhole, meter: Meter, *, bytes_max: int
) -> Relayed:
    """Read and meter a whole JSON answer."""
    try:
        body = await answer.read(min(bytes_max, BODY_BYTES_MAX))
    except TransportError as error:
        return Relayed(OUTCOME_OF_FAULT[error.fault], Reply(), cause=str(error))
    if len(body) > READ_IN_THREAD_ABOVE_BYTES:
        read = await _read_in_thread(body, read_whole, meter)
    else:
        read = read_whole(body)
    if read is None:
        return Relayed(Outcome.NONSENSE, Reply(), cause="the body is no answer of its format")
    if read.outcome is not Outcome.SERVED:
        word = failure_word(read.reply)
        cause = f"the answer has failed ({word})" if word else _CAUSES[read.outcome]
        return Relayed(read.outcome, read.reply, cause=cause)
    return Relayed(Outcome.SERVED, read.reply, tail=read.tail, body=read.body)


_CAUSES = {
    Outcome.SERVER_ERROR: "the body tells an error",
    Outcome.UNTRANSLATED: "the body is too large to be translated",
}


async def _read_in_thread(body: bytes, read_whole: ReadWhole, meter: Meter) -> Whole | None:
    """Whoever cancels us: nobody may ask the meter while the thread still counts."""
    meter.is_in_thread = True
    reading = spawn(asyncio.to_thread(read_whole, body), name="read-reply")
    try:
        return await asyncio.shield(reading)
    except asyncio.CancelledError:
        while not reading.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(reading)
        raise
    finally:
        meter.is_in_thread = False


class StreamRelay:
    """Relays one event stream of at most `bytes_max`.

    `drains` is asked once when the client has left: whether to read on for the meter. `begin` is
    called at the first byte for the client and gives the headers to start with. `guard` says when
    the stream may not go on; how it ends then is the caller's business. Where it `is_watched`, one
    that is filtered before it says anything does not reach the client: somebody else is asked.
    """

    def __init__(
        self,
        answer: Answer,
        reader: StreamReader,
        *,
        bytes_max: int,
        drains: Callable[[], bool],
        begin: Callable[[], Mapping[str, str]],
        lifecycle: Lifecycle,
        guard: StreamGuard | None = None,
        halt: Halt | None = None,
        clock: StreamClock | None = None,
        is_watched: bool = False,
    ) -> None:
        self._answer = answer
        self._clock = clock
        self._events = 0
        self._is_watched = is_watched
        self._ending = self._held = b""
        self._guard, self._halt = guard, halt
        self._reader = reader
        self._bytes_max = bytes_max
        self._drains = drains
        self._is_draining: bool | None = None
        self._begin = begin
        self._lifecycle = lifecycle
        self._has_started = False
        self._is_client_gone = False

    async def run(self, client: Client) -> Relayed:
        """Pump until the stream ends, breaks, or the client leaves and nobody drains."""
        cause, bound = "", None
        try:
            outcome = await self._pump(client)
        except TransportError as error:
            outcome, cause = self._end(OUTCOME_OF_FAULT[error.fault]), str(error)
            bound = _BOUND_OF_FAULT.get(error.fault)
        except asyncio.CancelledError:
            if self._clock is not None and (bound_s := self._clock.stalled_s) is not None:
                outcome, cause = self._end(Outcome.TIMEOUT), f"no event came for {bound_s:g} s"
                bound = "stall_timeout_s" if self._reader.events else "first_event_timeout_s"
            elif self._halt is not None and self._halt.is_pulled:
                outcome, cause = self._end(Outcome.STOPPED, cut=Outcome.STOPPED), "it was stopped"
            elif self._halt is not None and self._halt.is_late:
                outcome, cause = self._end(Outcome.TIMEOUT), "its deadline has passed"
            else:
                # the server cancels the handler of a client that left, and of all when it must
                # stop; what was counted is billed either way, and nothing more is sent anywhere
                self._is_client_gone |= not self._lifecycle.is_stopping
                outcome = self._end(Outcome.TRUNCATED)
        finally:
            if self._guard is not None:
                self._guard.close()
        if outcome is Outcome.SERVED and self._held and self._reader.events:
            held, self._held = self._held, b""
            await self._send(client, held)
        return Relayed(
            outcome,
            self._reader.reply,
            tail=self._reader.tail,
            is_client_gone=self._is_client_gone,
            cause=cause,
            bound=bound,
            is_told=self._reader.has_told_failure,
        )

    async def _pump(self, client: Client) -> Outcome:
        reader, answer, guard, size = self._reader, self._answer, self._guard, 0
        while chunk := await answer.chunk():
            size += len(chunk)
            if size > self._bytes_max:
                raise TransportError(Fault.TOO_LARGE, f"the stream is over {self._bytes_max} bytes")
            passed = reader.feed(chunk)
            if self._clock is not None and reader.events != self._events:
                self._events = reader.events
                self._clock.heard()
            while True:
                reply = reader.reply
                if reply.error is not None and not (self._has_started or reply.is_lost):
                    return Outcome.SERVER_ERROR
                if passed and (passed := self._due(passed)):
                    await self._send(client, passed)
                    if self._is_client_gone and not self._reads_on():
                        return self._end(Outcome.CLIENT_GONE)
                if guard is None or not reader.must_wait:
                    break
                if not await self._aside(guard.has_room()):
                    await self._send(client, b"")
                    return self._end(Outcome.EXHAUSTED, cut=Outcome.EXHAUSTED)
                passed = reader.feed(b"")
            if reader.reply.is_done or reader.has_failed:
                break
        rest = reader.flush()
        if rest:
            await self._send(client, rest)
        return self._end(Outcome.NONSENSE)

    def _due(self, passed: bytes) -> bytes:
        """What is sent of it now. Comments before the first event wait for it: they are no answer,
        and another upstream may still give one. So do, of one that is watched, events without a
        word."""
        is_event = bool(self._reader.events)
        if self._has_started or (is_event and not self._may_be_filtered):
            held, self._held = self._held, b""
            return held + passed if held else passed
        if is_event or len(self._held) + len(passed) <= _COMMENTS_BYTES_MAX:
            self._held += passed
        return b""

    @property
    def _may_be_filtered(self) -> bool:
        if not self._is_watched or self._has_started or len(self._held) > _WORDLESS_BYTES_MAX:
            return False
        return self._reader.is_silent

    @property
    def is_between_events(self) -> bool:
        """Whether a comment may be put in here: an event too long to be kept goes out in pieces."""
        return not self._ending or self._ending.endswith((b"\n\n", b"\r\r", b"\n\r\n"))

    async def _aside(self, waiting: Awaitable[T]) -> T:
        """Wait for somebody else: what passes meanwhile is no silence of the upstream's."""
        if self._clock is None:
            return await waiting
        self._clock.turn_away()
        try:
            return await waiting
        finally:
            self._clock.turn_back()

    def _reads_on(self) -> bool:
        if self._is_draining is None:
            self._is_draining = self._drains()
        return self._is_draining

    async def _send(self, client: Client, data: bytes) -> None:
        if self._is_client_gone:
            return
        try:
            if not self._has_started:
                headers = self._begin()
                self._has_started = True
                await client.start_stream(headers)
            if data:
                self._ending = data[-3:]
                await self._aside(client.send(data))
                if self._clock is not None:
                    self._clock.told()
        except ClientGoneError:
            self._is_client_gone = True

    def _end(self, unstarted: Outcome, *, cut: Outcome = Outcome.TRUNCATED) -> Outcome:
        """How it ended; `unstarted` is what it is called when the client has not had a byte, `cut`
        when it has.

        The upstream's word goes first: many clients close right after the last chunk, and a
        connection may break after the end.
        """
        if self._reader.reply.is_finished:
            is_filtered = self._reader.reply.is_filtered and self._may_be_filtered
            return Outcome.CONTENT_POLICY if is_filtered else Outcome.SERVED
        if self._is_client_gone:
            return Outcome.CLIENT_GONE
        if self._reader.reply.is_lost:
            return Outcome.UNTRANSLATED
        return cut if self._has_started else unstarted
