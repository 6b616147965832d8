"""The pump: an upstream's answer to the client while the meter counts.

Nothing is sent to the client before the upstream's first whole event, so until then another
upstream may still be tried. What ends the answer (`[DONE]`, a whole JSON body) is not sent here:
the exchange sends it once the usage is recorded. A stream goes on only while its guard lets it,
and a halt ends it wherever it stands.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from metering.background import spawn
from metering.meter import Meter
from proxy.door import Lifecycle
from proxy.halt import Halt
from proxy.redaction import Redaction
from proxy.stream_guard import StreamGuard
from proxy.transport import Answer, Fault, TransportError
from proxy.wire import openai_chat
from proxy.wire.openai_chat import Reply, StreamReader
from routing.fallback import Outcome

BODY_BYTES_MAX = 32 * 1024 * 1024
"""A whole JSON answer is held in memory; the largest real ones (audio, logprobs) are a few MB."""

ERROR_BODY_BYTES_MAX = 256 * 1024

_STREAM_TYPES = frozenset({"text/event-stream", "text/plain", "application/octet-stream", ""})
"""What servers call a stream when they were asked for one; JSON and HTML are something else."""


def is_stream(content_type: str | None) -> bool:
    """Whether an answer of this type is a stream, when a stream was asked for."""
    return (content_type or "").partition(";")[0].strip().lower() in _STREAM_TYPES


_BOUND_OF_FAULT = {Fault.ENDLESS: "max_answer_s", Fault.TOO_LARGE: "max_answer_mb"}
"""Faults that are our own bounds, by the key of `providers.*` that sets them."""


class ClientGoneError(Exception):
    """The client's connection is closed; nothing can be sent to it any more."""


class Client(Protocol):
    """The other end of an exchange. Every method raises ClientGoneError when it has left."""

    async def start_stream(self, headers: Mapping[str, str]) -> None:
        """Send status 200, these headers and those of an event stream."""
        ...

    async def send(self, data: bytes) -> None:
        """Send bytes of the stream; waits while the client reads slower than we write."""
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


async def relay_body(
    answer: Answer, meter: Meter, redaction: Redaction, *, bytes_max: int
) -> Relayed:
    """Read and meter a whole JSON answer."""
    try:
        body = await answer.read(min(bytes_max, BODY_BYTES_MAX))
    except TransportError as error:
        return Relayed(OUTCOME_OF_FAULT[error.fault], Reply(), cause=str(error))
    if len(body) > READ_IN_THREAD_ABOVE_BYTES:
        reply = await _read_in_thread(body, meter, redaction)
    else:
        reply = openai_chat.read_reply(body, meter, redaction)
    if reply is None:
        return Relayed(Outcome.NONSENSE, Reply(), cause="the body is no chat completion")
    if (
        reply.error is not None
    ):  # it is served as a completion, and speaks of a failure all the same
        body = redaction.data(body)
    return Relayed(Outcome.SERVED, reply, body=body)


async def _read_in_thread(body: bytes, meter: Meter, redaction: Redaction) -> Reply | None:
    """Whoever cancels us: nobody may ask the meter while the thread still counts."""
    meter.is_in_thread = True
    read = asyncio.to_thread(openai_chat.read_reply, body, meter, redaction)
    reading = spawn(read, name="read-reply")
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
    the stream may not go on; how it ends then is the caller's business.
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
    ) -> None:
        self._answer = answer
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
            if self._halt is not None and self._halt.is_pulled:
                outcome, cause = self._end(Outcome.STOPPED, cut=Outcome.STOPPED), "it was stopped"
            else:
                # the server cancels the handler of a client that left, and of all when it must
                # stop; what was counted is billed either way, and nothing more is sent anywhere
                self._is_client_gone |= not self._lifecycle.is_stopping
                outcome = self._end(Outcome.TRUNCATED)
        finally:
            if self._guard is not None:
                self._guard.close()
        return Relayed(
            outcome,
            self._reader.reply,
            tail=self._reader.tail,
            is_client_gone=self._is_client_gone,
            cause=cause,
            bound=bound,
        )

    async def _pump(self, client: Client) -> Outcome:
        reader, answer, size = self._reader, self._answer, 0
        while chunk := await answer.chunk():
            size += len(chunk)
            if size > self._bytes_max:
                raise TransportError(Fault.TOO_LARGE, f"the stream is over {self._bytes_max} bytes")
            ended = await self._pass(client, reader.feed(chunk))
            while ended is None and self._guard is not None and reader.must_wait:
                if not await self._guard.has_room():
                    await self._send(client, b"")
                    return self._end(Outcome.EXHAUSTED, cut=Outcome.EXHAUSTED)
                ended = await self._pass(client, reader.feed(b""))
            if ended is not None:
                return ended
            if reader.reply.is_done:
                break
        rest = reader.flush()
        if rest:
            await self._send(client, rest)
        return self._end(Outcome.NONSENSE)

    async def _pass(self, client: Client, passed: bytes) -> Outcome | None:
        """Send what may go on; how it ends, if it ends with that."""
        if not passed:
            return None
        if self._reader.reply.error is not None and not self._has_started:
            return Outcome.SERVER_ERROR
        await self._send(client, passed)
        if self._is_client_gone and not self._reads_on():
            return self._end(Outcome.CLIENT_GONE)
        return None

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
                await client.send(data)
        except ClientGoneError:
            self._is_client_gone = True

    def _end(self, unstarted: Outcome, *, cut: Outcome = Outcome.TRUNCATED) -> Outcome:
        """How it ended; `unstarted` is what it is called when the client has not had a byte, `cut`
        when it has.

        The upstream's word goes first: many clients close right after the last chunk, and a
        connection may break after the end.
        """
        if self._reader.reply.is_finished:
            return Outcome.SERVED
        if self._is_client_gone:
            return Outcome.CLIENT_GONE
        return cut if self._has_started else unstarted
