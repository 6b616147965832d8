"""One request, top to bottom. Read this file first.

    authenticate (ingress) -> estimate -> rank -> reserve -> forward -> count -> commit -> end

Rules kept here: one Redis round trip before the first upstream byte and one after the last; every
hold is committed or left to lapse, whoever cancels; the client gets its end only after the commit
or the spool has taken the usage; no fallback once the client has seen a byte.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metering.caps import (
    AdmittedBy,
    Candidate,
    CapsNotAskedError,
    CapState,
    CapsUnavailableError,
    Denial,
    Hold,
    HoldEndedError,
    Reservation,
    Stairs,
    Vector,
)
from metering.clock import monotonic_s, now_ns
from metering.ids import uuid7
from metering.meter import Meter
from metering.money import format_usd
from metering.tokenizer import tokenizer_for
from proxy.admission import Plan, PromptCount, upstream_facts
from proxy.attempts import Attempt, Charge, Facts, bill, checkpoint, hold_facts, progress
from proxy.chat import ChatRequest
from proxy.door import Door
from proxy.errors import ERROR_SOURCE
from proxy.limit_words import limit_headers
from proxy.outgoing import call_to, error_answer, redaction_of
from proxy.recording import record
from proxy.redaction import Redaction
from proxy.refusals import backend_unavailable, broken_off, denied, failed
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
from proxy.retry_after import retry_after_s
from proxy.settings import Provider
from proxy.transport import Answer, TransportError
from proxy.wire import openai_chat
from proxy.wire.openai_chat import StreamReader
from routing.fallback import FallbackPlan, Outcome, Try
from routing.policy import Option


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an exchange that was served: what the client still has to get.

    `body` and `headers` are those of a whole answer; for a stream `tail` is its withheld end.
    """

    status: int
    headers: dict[str, str]
    body: bytes | None = None
    tail: bytes = b""


class Exchange:
    """One client request with its answer; `run` once."""

    def __init__(
        self, door: Door, facts: Facts, request: ChatRequest, plan: Plan, prompt: PromptCount
    ) -> None:
        self._door, self._facts = door, facts
        self._request, self._plan, self._prompt = request, plan, prompt
        self._attempts: list[Attempt] = []
        self._answers: list[Answer] = []
        self._held = Vector()
        self._states: tuple[CapState, ...] = ()
        self._error_answer: tuple[int, dict[str, str], bytes] | None = None
        self._last: Relayed | None = None
        self._sell_nano, self._noted = 0, b""
        self._degraded: str | None = None
        self._admitted_by = AdmittedBy.CAPS
        self.is_ending = False
        self.hold = Hold(facts.principal.tenant.id, facts.exchange_id, facts.caps, facts.stops)

    async def run(self, client: Client) -> Finished:
        """Serve the request; raises the ApiError that stands in its way."""
        reservation = await self._reserve()
        steps = FallbackPlan(self._order(reservation.index))
        outcome = Outcome.CLIENT_GONE
        try:
            while isinstance(step := steps.next(), Try):
                if not await self._fits(step.option):
                    continue
                self._close_answers()
                outcome = await self._attempt(step, client)
                steps.record(outcome)
        finally:
            if outcome is not Outcome.SERVED:
                self._close_answers()
            try:
                await self._settle()
            finally:
                self._close_answers()
        return self._finish(outcome)

    def _close_answers(self) -> None:
        """An answer that was served is closed after the commit: by then the last bytes of its
        framing have come, and its connection can be used again."""
        for answer in self._answers:
            answer.close()
        self._answers.clear()

    # -- admission ----------------------------------------------------------------------------

    async def _reserve(self) -> Reservation:
        door, admission = self._door, self._plan.admission
        self._noted = hold_facts(
            self._facts, upstream_facts(self._plan, self._prompt, door.settings)
        )
        try:
            answer = await self.place(admission.candidates, self._plan.stairs)
        except CapsNotAskedError as error:
            raise backend_unavailable() from error
        except asyncio.CancelledError:
            door.open.give_back(self.hold)  # it may have been applied
            raise
        except (CapsUnavailableError, HoldEndedError) as error:
            door.open.give_back(self.hold)
            self._log.info("caps_unavailable", step="reserve", cause=str(error))
            raise backend_unavailable() from error
        door.metrics.admission(self.hold.caps, answer)
        if isinstance(answer, Denial):
            raise denied(answer, self.hold.tenant)
        self._held = admission.candidates[answer.index].vector
        self._states, self._admitted_by = answer.states, answer.admitted_by
        if admission.steps[answer.index]:
            self._degraded = "burst_threshold" if answer.stage else "cap"
        door.open.add(self)
        return answer

    async def place(
        self, candidates: Sequence[Candidate], stairs: Stairs | None = None
    ) -> Reservation | Denial:
        """Hold the first of these that fits, and note the facts beside it."""
        door, facts = self._door, self._noted
        owner, ttl_ms = door.proxy_id, door.open.ttl_ms
        return await door.caps.reserve(
            self.hold, candidates, owner=owner, ttl_ms=ttl_ms, facts=facts, stairs=stairs
        )

    def _order(self, index: int) -> list[Option]:
        """The admitted option, the rest of its model's, then those of the fallback models; within
        this order, upstreams that are known to fail go last."""
        options, steps = self._plan.admission.options, self._plan.admission.steps
        same = [
            option
            for option, is_step in zip(options[index:], steps[index:], strict=True)
            if is_step == steps[index]
        ]
        found = list({each.upstream: each for each in (*same, *self._plan.spare)}.values())
        return self._door.health.order(found, lambda each: each.upstream.label, monotonic_s())

    async def _fits(self, option: Option) -> bool:
        """Move the hold to a dearer upstream before it is called; a cheaper one fits as it is."""
        wanted = option.hold
        if wanted.nano <= self._held.nano and wanted.tokens <= self._held.tokens:
            return True
        try:
            answer = await self._door.caps.swap(self.hold, Candidate(option.upstream.label, wanted))
        except (CapsUnavailableError, HoldEndedError):
            return False
        if isinstance(answer, Denial):
            self._log.info("swap_denied", upstream=option.upstream.label)
            return False
        self._held, self._states = wanted, answer.states
        return True

    # -- forwarding ---------------------------------------------------------------------------

    async def _attempt(self, step: Try, client: Client) -> Outcome:
        upstream = step.option.upstream
        provider = self._door.settings.providers[upstream.provider]
        started_at = now_ns()
        attempt = Attempt(
            number=len(self._attempts) + 1,
            event_id=uuid7(started_at // 1_000_000, os.urandom(10)),
            option=step.option,
            vendor=provider.type,
            meter=Meter(
                tokenizer_for(upstream.model),
                self._prompt.tokens(upstream),
                output_max=self._request.output_bound(self._door.settings.default_output_tokens),
            ),
            started_at=started_at,
            fallback_reason=step.reason,
            degrade_step=upstream.public_name if self._degraded else None,
            admitted_by=self._admitted_by,
        )
        self._attempts.append(attempt)
        self._error_answer = None
        health = self._door.health
        health.begin(upstream.label, monotonic_s())
        try:
            attempt.outcome = await self._send(attempt, provider, client)
        except asyncio.CancelledError:
            attempt.outcome = Outcome.CLIENT_GONE
            attempt.client_disconnected = not self._door.lifecycle.is_stopping
            raise
        except Exception:
            # a bug of ours: what the client has seen is billed, and the caller tells it
            attempt.outcome = Outcome.TRUNCATED if attempt.first_byte_at else None
            raise
        finally:
            attempt.ended_at = now_ns()
            now_s, after_s = monotonic_s(), attempt.retry_after_s
            health.record(upstream.label, attempt.outcome, now_s, retry_after_s=after_s)
        return attempt.outcome

    async def _send(self, attempt: Attempt, provider: Provider, client: Client) -> Outcome:
        call = call_to(provider, self._request, model=attempt.option.upstream.model)
        try:
            answer = await self._door.transport.send(call, attempt.mark_sent)
        except TransportError as error:
            self._tell_failure(attempt, str(error))
            return OUTCOME_OF_FAULT[error.fault]
        self._answers.append(answer)
        return await self._receive(attempt, answer, client, provider)

    async def _receive(
        self, attempt: Attempt, answer: Answer, client: Client, provider: Provider
    ) -> Outcome:
        redaction, bytes_max = redaction_of(provider), provider.max_answer_bytes
        attempt.http_status = answer.status
        attempt.upstream_request_id = openai_chat.label(answer.header("x-request-id"), redaction)
        if (answer.header("content-encoding") or "identity").lower() != "identity":
            self._tell_failure(attempt, "an encoded answer to a request for a plain one")
            return Outcome.NONSENSE
        if answer.status != 200:
            return await self._refused(attempt, answer, redaction)
        if self._request.stream and is_stream(answer.header("content-type")):
            relay = StreamRelay(
                answer,
                StreamReader(
                    attempt.meter,
                    strip_usage=not self._request.wants_usage,
                    choices=self._request.choices,
                    redaction=redaction,
                ),
                bytes_max=bytes_max,
                drains=lambda: self.drain(asyncio.current_task()),
                begin=lambda: self._begin(attempt),
                lifecycle=self._door.lifecycle,
            )
            relayed = await relay.run(client)
        else:
            relayed = await relay_body(answer, attempt.meter, redaction, bytes_max=bytes_max)
            attempt.first_byte_at = now_ns()
        self._last = relayed
        attempt.reply = relayed.reply
        attempt.client_disconnected = relayed.is_client_gone
        if relayed.outcome is not Outcome.SERVED:
            self._tell_failure(attempt, relayed.cause or relayed.outcome)
        return relayed.outcome

    def _begin(self, attempt: Attempt) -> dict[str, str]:
        attempt.first_byte_at = now_ns()
        return self.headers()

    async def _refused(self, attempt: Attempt, answer: Answer, redaction: Redaction) -> Outcome:
        try:
            body = await answer.read(ERROR_BODY_BYTES_MAX)
        except TransportError as error:
            self._tell_failure(attempt, str(error))
            return OUTCOME_OF_FAULT[error.fault]
        outcome = openai_chat.classify_error(answer.status, body)
        attempt.retry_after_s = retry_after_s(answer.header, now_ns())
        self._tell_failure(attempt, f"status {answer.status}")
        if outcome in _RELAYED_ERRORS:
            self._error_answer = error_answer(answer, body, redaction)
        return outcome

    @property
    def _log(self) -> Any:
        return self._door.log.bind(request_id=self._facts.request_id)

    def _tell_failure(self, attempt: Attempt, cause: str) -> None:
        upstream = attempt.option.upstream.label
        self._log.warning("attempt_failed", attempt=attempt.number, upstream=upstream, cause=cause)

    # -- settling -----------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Record the usage, whoever cancels us meanwhile; the client's end waits for this."""
        door, self.is_ending = self._door, True
        try:
            if not self._attempts:
                door.open.give_back(self.hold)
                return
            spools = door.settings.metering.spool == "always"
            seq = door.spool.take_seq() if spools else None
            made = bill(self._facts, self._attempts, emitted_at=now_ns(), spool_seq=seq)
            self._sell_nano = made.actual.nano
            self._tell(made.charges)
            known = await record(door, self.hold, made, self._facts.request_id)
            self._states = known or self._states
        finally:
            door.open.discard(self)

    def _tell(self, charges: list[Charge]) -> None:
        attempt, charged = self._attempts[-1], charges[-1]
        self._door.metrics.exchange(self._facts, self._attempts, charges, degraded=self._degraded)
        self._door.log.info(
            "exchange",
            request_id=self._facts.request_id,
            tenant=self.hold.tenant,
            exchange_id=self.hold.exchange_id,
            model=self._request.model,
            upstream=attempt.option.upstream.label,
            outcome=attempt.outcome,
            attempts=len(self._attempts),
            units=charged.units,
            usage_source=charged.usage.source,
            drift_tokens=charged.usage.drift_tokens,
            sell_usd=format_usd(self._sell_nano, places=9),
            duration_ms=((attempt.ended_at or 0) - self._facts.occurred_at) // 1_000_000,
        )

    # -- the end ------------------------------------------------------------------------------

    def _finish(self, outcome: Outcome) -> Finished:
        last, upstream = self._last, self._attempts[-1].option.upstream
        if outcome is Outcome.SERVED and last is not None:
            return Finished(200, self.headers(with_cost=True), last.body, last.tail)
        if outcome is Outcome.CLIENT_GONE:
            raise ClientGoneError
        if outcome is Outcome.TRUNCATED:
            raise broken_off(upstream=upstream.provider, bound=last.bound if last else None)
        if self._error_answer is not None:
            status, headers, body = self._error_answer
            return Finished(status, {**self.headers(), **headers, ERROR_SOURCE: "upstream"}, body)
        error = failed(outcome, upstream=upstream.provider)
        error.add_headers(self.headers())
        raise error

    def headers(self, *, with_cost: bool = False) -> dict[str, str]:
        """The `x-weir-*` headers as far as they are known now."""
        attempt = self._attempts[-1]
        upstream, price = attempt.option.upstream, attempt.option.price
        headers = {"x-weir-model": upstream.public_name, "x-weir-provider": upstream.provider}
        if self._degraded:
            headers["x-weir-degraded"] = (
                f"from={self._request.model}; to={upstream.public_name}; reason={self._degraded}"
            )
        if price is not None:
            headers["x-weir-price-version"] = price.sell.version
        if with_cost and price is not None:
            headers["x-weir-cost-usd"] = format_usd(self._sell_nano, places=9)
        return headers | limit_headers(self._states)

    @property
    def drains(self) -> bool:
        """Whether the upstream is to be read to its end when the client leaves."""
        return self._door.settings.server.on_disconnect == "drain"

    def drain(self, task: asyncio.Task[Any] | None) -> bool:
        """The client has left; whether this exchange, run by `task`, goes on for the meter."""
        return self._door.drains.begin(self._door.settings.server, task)

    @property
    def held(self) -> Candidate | None:
        """What is held, to be placed again if it lapses while the exchange goes on."""
        if not self._attempts:
            return None
        return Candidate(self._attempts[-1].option.upstream.label, self._held)

    @property
    def progress(self) -> tuple[int, ...]:
        """Changes when a checkpoint would say more."""
        return progress(self._attempts)

    def checkpoint(self) -> bytes:
        """What to record should the process end here."""
        return checkpoint(self._facts, self._attempts, now_ns=now_ns())


_RELAYED_ERRORS = frozenset({Outcome.REFUSED, Outcome.RATE_LIMITED, Outcome.SERVER_ERROR})
