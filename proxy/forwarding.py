"""One attempt: a request to one upstream, and its answer to the client.

What came of it stands in the attempt, for the bill, and in `relayed` or `error_answer`, for the end
of the exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from metering.clock import now_ns
from proxy.allowance import allowance, clamp
from proxy.attempts import Attempt, Facts
from proxy.chat import ChatRequest
from proxy.continuing import Continuing
from proxy.door import Door
from proxy.error_words import ErrorWords
from proxy.halt import Halt
from proxy.inflate import unpacked
from proxy.outgoing import (
    call_to,
    error_answer,
    passage_to,
    prepared,
    redaction_for,
    redaction_of,
    request_id_of,
)
from proxy.passage import Passage, Whole
from proxy.redaction import Redaction
from proxy.relay import (
    ERROR_BODY_BYTES_MAX,
    OUTCOME_OF_FAULT,
    Client,
    ClientGoneError,
    Relayed,
    StreamRelay,
    is_stream,
    relay_body,
)
from proxy.retry_after import reset_s, retry_after_s, told_delay_s, used_up_s
from proxy.room import Room
from proxy.stream_clock import StreamClock
from proxy.stream_errors import outcome_of, reason_of, words_of
from proxy.stream_guard import StreamGuard
from proxy.telling import Told, tell_failure
from proxy.transport import Answer, Call, TransportError
from proxy.wire import StreamWriter
from routing.fallback import REFUSALS, Outcome

_FILTERED = "a filter has left nothing of the answer"

_FILTERED_WORDS = ErrorWords(
    400,
    "The upstream has filtered the answer, and no other model may be asked or could answer.",
    type="invalid_request_error",
    code="content_policy_violation",
)

_RELAYED_ERRORS = REFUSALS | {Outcome.RATE_LIMITED, Outcome.SERVER_ERROR}


class Forwarding:
    """Forwards one request once; `run` once.

    `keep` is given the answer, to be closed when the exchange has ended; `headers` gives those that
    are known, `begin` does at the first byte for the client; `drains` says whether to read on when
    it has left, `look` wants the flags of its scopes looked at. `going` is the stream, where
    another upstream may go on with it. It `is_watched` where another model is to be asked if a
    filter leaves nothing of the answer.
    """

    def __init__(
        self,
        door: Door,
        facts: Facts,
        request: ChatRequest,
        attempt: Attempt,
        *,
        room: Room,
        halt: Halt,
        told: Told,
        keep: Callable[[Answer], None],
        begin: Callable[[], Mapping[str, str]],
        headers: Callable[[], Mapping[str, str]],
        drains: Callable[[], bool],
        look: Callable[[], None],
        going: Continuing | None = None,
        is_watched: bool = False,
    ) -> None:
        self._door, self._facts = door, facts
        self._request, self._attempt = request, attempt
        self._room, self._halt, self._told = room, halt, told
        self._keep, self._begin, self._headers = keep, begin, headers
        self._drains, self._look, self._going = drains, look, going
        self._is_watched = is_watched
        self._provider = door.settings.providers[attempt.option.upstream.provider]
        way = passage_to(self._provider, request.format)
        assert way is not None  # a plan has no option without one
        self._way: Passage = way
        self._redaction: Redaction = redaction_of(self._provider)
        self._clock: StreamClock | None = None
        self._relay: StreamRelay | None = None
        self.relayed: Relayed | None = None
        self.error_answer: tuple[int, dict[str, str], bytes] | None = None

    async def run(self, client: Client) -> Outcome:
        """Send the request, relay the answer; how it ended."""
        attempt, option = self._attempt, self._attempt.option
        is_whole = self._door.history.is_whole(option.upstream.label)
        clamped = clamp(option, self._room.held, self._request, is_whole=is_whole)
        self._told.clamped_tokens = clamped
        attempt.max_tokens = option.changes.max_tokens if clamped is None else clamped
        call = call_to(
            self._provider,
            self._way,
            self._request,
            model=option.upstream.model,
            output_max=self._output_max(),
            instruct=option.changes.instruct,
        )
        if not self._request.stream:
            return await self._send(call, client)
        clock = self._clock = self._new_clock(client)
        try:
            async with clock:
                return await self._send(call, client)
        except TimeoutError:
            if clock.stalled_s is None:
                raise
            tell_failure(self._log, attempt, f"nothing came for {clock.stalled_s:g} s")
            return Outcome.TIMEOUT

    def _output_max(self) -> int | None:
        """What a choice may say at most, where the client's own limit does not say it."""
        limit, attempt = self._request.output_limit, self._attempt
        if attempt.max_tokens is None and limit is None and self._way.upstream.LIMIT_REQUIRED:
            attempt.max_tokens = self._door.settings.default_output_tokens
        return attempt.max_tokens

    async def _send(self, call: Call, client: Client) -> Outcome:
        transport = self._door.transport
        try:
            call = await prepared(self._provider, call, transport)
            self._redaction = redaction_for(self._provider, call)
            if self._door.tracer is not None:
                call = self._door.tracer.carried(call, self._attempt)
            answer = await transport.send(call, self._attempt.mark_sent)
        except TransportError as error:
            return self._failed(error)
        self._keep(answer)
        return await self._receive(answer, client)

    async def _receive(self, packed: Answer, client: Client) -> Outcome:
        attempt = self._attempt
        attempt.http_status = packed.status
        attempt.upstream_request_id = request_id_of(packed, self._redaction)
        if (answer := unpacked(packed)) is None:
            tell_failure(self._log, attempt, "an encoded answer to a request for a plain one")
            return Outcome.NONSENSE
        if answer.status != 200:
            return await self._refused(answer)
        attempt.used_up_s = used_up_s(answer.header, now_ns())
        comes_whole = not (self._request.stream and is_stream(answer.header("content-type")))
        if self._request.stream:
            label = attempt.option.upstream.label
            self._door.history.streamed(label, is_whole=comes_whole)
        if comes_whole:
            relayed = await self._whole(answer, client)
        else:
            relayed = await self._stream(answer, client)
        self.relayed = relayed
        attempt.reply = relayed.reply
        attempt.client_disconnected = relayed.is_client_gone
        if relayed.outcome is Outcome.SERVER_ERROR:
            self._take_error(relayed)
        if relayed.outcome is Outcome.CONTENT_POLICY:
            relayed.cause = _FILTERED
            self._tell(_FILTERED_WORDS)
        if relayed.outcome is not Outcome.SERVED:
            tell_failure(self._log, attempt, relayed.cause or relayed.outcome)
        return relayed.outcome

    async def _whole(self, answer: Answer, client: Client) -> Relayed:
        """Relay a JSON answer; to a client that asked for a stream, as one."""
        meter, bytes_max = self._attempt.meter, self._provider.max_answer_bytes
        relayed = await relay_body(answer, self._read, meter, bytes_max=bytes_max)
        is_served = relayed.outcome is Outcome.SERVED
        if self._is_watched and is_served and relayed.reply.is_filtered and meter.is_silent:
            relayed.outcome, relayed.cause = Outcome.CONTENT_POLICY, _FILTERED
            return relayed
        if relayed.body is None or not (self._request.stream and relayed.tail):
            self._attempt.first_byte_at = now_ns()
            return relayed
        events, relayed.body = relayed.body, None
        try:
            await client.start_stream(self._begin())
            await client.send(events)
        except ClientGoneError:
            relayed.is_client_gone = True
        return relayed

    def _new_clock(self, client: Client) -> StreamClock:
        provider, server = self._provider, self._door.settings.server
        return StreamClock(
            first_s=provider.first_event_timeout_s,
            stall_s=provider.stall_timeout_s,
            quiet_after_s=server.keepalive_after_s,
            quiet_s=server.keepalive_s,
            on_quiet=lambda: self._ping(client),
        )

    def _ping(self, client: Client) -> None:
        if self._relay is None or self._relay.is_between_events:
            client.ping(self._headers())

    def _read(self, body: bytes) -> Whole | None:
        return self._way.read_reply(
            body,
            self._request,
            self._attempt.meter,
            created_s=self._created_s,
            redaction=self._redaction,
            writer=self._continued(),
        )

    def _continued(self) -> StreamWriter | None:
        """What writes the rest of a stream that has begun at another upstream."""
        going = self._going
        return going.writer(self._way) if going is not None and going.is_on else None

    async def _stream(self, answer: Answer, client: Client) -> Relayed:
        attempt, settings, caps = self._attempt, self._door.settings, self._facts.caps
        size = settings.stream_slice_tokens
        guard = StreamGuard(
            attempt.meter,
            allowance(attempt.option, self._room.held, self._request, size=size, caps=caps),
            upstream=attempt.option.upstream.label,
            grow=self._room.grow,
            look=self._look,
        )
        going = self._going
        reader = self._way.reader(
            self._request,
            attempt.meter,
            created_s=self._created_s,
            redaction=self._redaction,
            must_wait=guard.must_wait,
            said=None if going is None else going.listen(),
            writer=None if going is None else going.writer(self._way),
        )
        relay = self._relay = StreamRelay(
            answer,
            reader,
            bytes_max=self._provider.max_answer_bytes,
            drains=self._drains,
            begin=self._begin,
            lifecycle=self._door.lifecycle,
            guard=guard,
            halt=self._halt,
            clock=self._clock,
            is_watched=self._is_watched,
        )
        relayed = await relay.run(client)
        if relayed.outcome is Outcome.EXHAUSTED and settings.on_exhausted == "soft":
            relayed.tail = reader.end_softly()
        return relayed

    def _take_error(self, relayed: Relayed) -> None:
        """A stream that failed before it began: told like a status, if nobody else answers."""
        error = relayed.reply.error
        relayed.outcome = outcome_of(error)
        reason = reason_of(error, self._redaction)
        relayed.cause = relayed.cause or f"an error before the first event: {reason}"
        if (words := words_of(error, self._redaction)) is not None:
            self._tell(words)

    def _tell(self, words: ErrorWords) -> None:
        told = self._way.client.error_body(self._way.own_words(words), self._facts.request_id)
        self.error_answer = words.status, {"Content-Type": "application/json"}, told

    async def _refused(self, answer: Answer) -> Outcome:
        attempt = self._attempt
        try:
            body = await answer.read(ERROR_BODY_BYTES_MAX)
        except TransportError as error:
            return self._failed(error)
        outcome = self._way.upstream.classify_error(answer.status, body)
        attempt.retry_after_s = retry_after_s(answer.header, now_ns())
        if attempt.retry_after_s is None:
            words = self._way.upstream.read_error(answer.status, body)
            attempt.retry_after_s = told_delay_s(words)
        if attempt.retry_after_s is None and outcome is Outcome.RATE_LIMITED:
            attempt.retry_after_s = reset_s(answer.header, now_ns())
        cause = f"status {answer.status}"
        if outcome is Outcome.NONSENSE and answer.status in (404, 405):
            cause += f": no error of its API, is providers.{self._provider.name}.base_url right?"
        tell_failure(self._log, attempt, cause)
        if outcome in _RELAYED_ERRORS:
            request_id = self._facts.request_id
            self.error_answer = error_answer(
                answer, body, self._way, redaction=self._redaction, request_id=request_id
            )
        return outcome

    def _failed(self, error: TransportError) -> Outcome:
        tell_failure(self._log, self._attempt, str(error))
        return OUTCOME_OF_FAULT[error.fault]

    @property
    def _created_s(self) -> int:
        return self._facts.occurred_at // 1_000_000_000

    @property
    def _log(self) -> Any:
        return self._door.log.bind(request_id=self._facts.request_id)
