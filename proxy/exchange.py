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
from dataclasses import replace
from typing import Any

from metering.caps import Candidate, CapState, Denial, Elastic, Hold, Reservation
from metering.clock import monotonic_s, now_ns
from metering.ids import uuid7
from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from proxy.allowance import covered, is_bounded, part_of
from proxy.attempts import Attempt, Facts, promise_of
from proxy.billing import Bill, bill, checkpoint, progress
from proxy.chat import ChatRequest
from proxy.continuing import Continuing
from proxy.course import Course
from proxy.degraded import only_cached, passed_over, steps_taken
from proxy.door import Door
from proxy.drains import is_drained
from proxy.errors import ERROR_SOURCE, ApiError
from proxy.forwarding import Forwarding
from proxy.halt import Halt
from proxy.hold_facts import detour_facts, hold_facts, upstream_facts
from proxy.native_objects import noting_stored
from proxy.planning import Plan
from proxy.readings import learn_prompt, observe
from proxy.recording import record
from proxy.refusals import broken_off, denied, failed, too_late
from proxy.relay import (
    Client,
    ClientGoneError,
    Relayed,
)
from proxy.reply import failure_word
from proxy.room import Room
from proxy.telling import Finished, Told, headers, tell
from proxy.transport import Answer
from proxy.watched import watched
from routing.fallback import DETOURS, Outcome, Try
from routing.policy import Option
from routing.upstreams import Upstream

_LATE = frozenset({Outcome.TIMEOUT, Outcome.TRUNCATED, Outcome.CLIENT_GONE})
"""How an attempt ends that is cut at the deadline."""


class Exchange:
    """One client request with its answer; `run` once."""

    def __init__(self, door: Door, facts: Facts, request: ChatRequest, plan: Plan) -> None:
        self._door, self._facts = door, facts
        self._request, self._plan = request, plan
        self._attempts: list[Attempt] = []
        self._answers: list[Answer] = []
        self._forwarding: Forwarding | None = None
        self._way: Course | None = None
        self._told = Told()
        self._halt = Halt()
        self._going = None if plan.continuable is None else Continuing(plan.continuable)
        self._elastic: Elastic | None = None
        self._held_for: Upstream | None = None  # with our name for it, which its price may go by
        self._reservation: Reservation | None = None
        self.bill: Bill | None = None
        """What it came to, once that is known."""
        self.is_ending = self._is_abandoned = False
        tenant = facts.principal.tenant.id
        self.hold = Hold(tenant, facts.exchange_id, facts.caps, facts.stops)
        noted = hold_facts(facts, upstream_facts(plan, door.settings))
        self._room = Room(door, self.hold, noted, on_stop=self.stop, request_id=facts.request_id)

    async def run(self, client: Client) -> Finished:
        """Serve the request; raises the ApiError that stands in its way."""
        reservation = await self.admit()
        course = self._way = self._course(reservation.index, client)
        outcome = Outcome.CLIENT_GONE
        try:
            async with self._halt:
                while isinstance(step := await course.next(), Try):
                    if self._is_abandoned and self._attempts:  # nobody is there for another answer
                        outcome = Outcome.CLIENT_GONE
                        break
                    if not await self._fits(step.option):
                        course.pass_over()
                        continue
                    outcome = await self._attempt(step, client)
                    self._note_cut()
                    await course.record(self._attempts[-1])
                    if outcome is not Outcome.SERVED:  # nor while the next one is waited for
                        self._close_answers()
        except TimeoutError:
            if not (self._halt.is_pulled or self._halt.is_late):
                raise
            outcome = Outcome.STOPPED if self._halt.is_pulled else self._late_outcome()
        finally:
            course.end()
            if outcome is not Outcome.SERVED:
                self._close_answers()
            try:
                await self._settle()
            finally:
                self._close_answers()
        return self._finish(outcome)

    def _course(self, index: int, client: Client) -> Course:
        """The way through the upstreams in the order of the plan, those last that have begun to
        fail since; and the end that it must have come to."""
        facts, until_s = self._facts, None
        if facts.deadline_s is not None:
            left_s = facts.left_s(now_ns())
            until_s = monotonic_s() + left_s
            at_s = asyncio.get_running_loop().time() + left_s
            self._halt.end_at(at_s, is_clients=facts.is_deadline_own)
        return Course(
            self._door,
            facts,
            self._plan,
            self._door.health.order(
                self._plan.order(index), lambda each: each.upstream.label, monotonic_s()
            ),
            until_s=until_s,
            ping=(lambda: client.ping(self.headers())) if facts.stream else None,
            going=self._going,
        )

    def _note_cut(self) -> None:
        """Whether another upstream may go on with what the last one began."""
        if self._going is None or self._forwarding is None:
            return
        is_over = self._halt.is_pulled or self._halt.is_late or self._door.lifecycle.is_stopping
        self._going.after(self._attempts[-1], self._forwarding.relayed, is_over=is_over)

    def _late_outcome(self) -> Outcome:
        """How it ended at its deadline: as its last attempt did, if that had ended."""
        return (self._attempts[-1].outcome if self._attempts else None) or Outcome.TIMEOUT

    def _close_answers(self) -> None:
        """An answer that was served is closed after the commit: by then the last bytes of its
        framing have come, and its connection can be used again."""
        for answer in self._answers:
            answer.close()
        self._answers.clear()

    # -- admission ----------------------------------------------------------------------------

    async def admit(self, task: asyncio.Task[Any] | None = None) -> Reservation:
        """Hold room for it, once; `run` does so where nobody has before. `task` is to be cancelled
        when the exchange has to end, by default this one."""
        if self._reservation is None:
            self._reservation = await self._reserve(task)
        return self._reservation

    async def _reserve(self, task: asyncio.Task[Any] | None) -> Reservation:
        admission = self._plan.admission
        reservation = await self._room.reserve(
            admission.candidates, self._plan.stairs, self._refusal
        )
        self._elastic = admission.candidates[reservation.index].elastic
        self._held_for = admission.options[reservation.index].upstream
        self._told.steps = steps_taken(self._plan, reservation)
        self._door.open.add(self, task)
        return reservation

    def _refusal(self, denial: Denial) -> ApiError:
        tenant = self.hold.tenant
        error = only_cached(self._plan, denial, tenant) or denied(denial, tenant)
        error.add_headers(passed_over(self._plan, denial))
        return error

    async def _fits(self, option: Option) -> bool:
        """Move the hold to a dearer upstream before it is called; a cheaper one fits as it is."""
        wanted, held = option.hold, self._room.held
        if any(each.outcome in DETOURS for each in self._attempts):
            known = detour_facts(option, self._plan, self._door.settings)
            self._room.know(hold_facts(self._facts, known))
        if wanted.nano <= held.nano and wanted.tokens <= held.tokens:
            return True
        if self._held_for == option.upstream:  # held, as far as there was room
            return True
        part = self._elastic and replace(part_of(option), tokens_min=self._elastic.tokens_min)
        if not await self._room.move(Candidate(option.upstream.label, wanted, elastic=part)):
            return False
        self._held_for = option.upstream
        return True

    # -- forwarding ---------------------------------------------------------------------------

    async def _attempt(self, step: Try, client: Client) -> Outcome:
        attempt = self._new_attempt(step)
        self._attempts.append(attempt)
        going = self._going
        forwarding = self._forwarding = Forwarding(
            self._door,
            self._facts,
            self._request if going is None else going.request_for(step.option),
            attempt,
            room=self._room,
            halt=self._halt,
            told=self._told,
            keep=self._answers.append,
            begin=lambda: self._begin(attempt),
            headers=self.headers,
            drains=lambda: self.drain(asyncio.current_task()),
            look=lambda: self._door.open.look(self),
            going=going,
            is_watched=self._is_watched,
        )
        return await watched(
            self._door,
            attempt,
            lambda: forwarding.run(client),
            halt=self._halt,
            stream=self._request.stream,
        )

    @property
    def _is_watched(self) -> bool:
        """Whether another model is to be asked if a filter leaves nothing of the answer."""
        if self._plan.detours is None or (self._going is not None and self._going.is_on):
            return False
        return self._plan.detours.has_left(Outcome.CONTENT_POLICY, self._attempts)

    def _new_attempt(self, step: Try) -> Attempt:
        upstream, started_at = step.option.upstream, now_ns()
        settings = self._door.settings
        vendor = settings.providers[upstream.provider].type
        is_rest = self._going is not None and self._going.is_on  # the client has its first byte
        return Attempt(
            number=len(self._attempts) + 1,
            event_id=uuid7(started_at // 1_000_000, os.urandom(10)),
            option=step.option,
            vendor=vendor,
            meter=Meter(
                tokenizer_for(upstream.model),
                step.option.prompt_tokens,
                output_max=covered(step.option, self._room.held),
                limit=self._request.output_limit,
                candidates=self._request.candidates,
                tools=step.option.certain,
            ),
            started_at=started_at,
            fallback_reason=step.reason,
            retry_count=step.retries,
            degrade_step=taken.text if (taken := self._told.steps.taken) else None,
            degrade_shadow=self._told.steps.would,
            admitted_by=self._room.admitted_by,
            promise=None if is_rest else promise_of(self._facts, settings.sla_credit_ppm),
        )

    def _begin(self, attempt: Attempt) -> dict[str, str]:
        attempt.first_byte_at = now_ns()
        return self.headers()

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
            self.bill = made
            self._told.sell_nano = made.actual.nano
            overrun_nano = made.actual.nano - self._room.held.nano
            if overrun_nano > 0 and is_bounded(self.hold.caps):
                self._told.overrun_nano = overrun_nano
            tell(door, self._facts, self._attempts, made.charges, self._told)
            observe(door, self._attempts, made.charges, monotonic_s())
            if self._going is None or not self._going.is_on:
                learn_prompt(door, self._attempts[-1], made.charges[-1], self._plan.uncalibrated)
            noting = noting_stored(door, self.hold.tenant, self._request, self._attempts[-1])
            known = await record(door, self.hold, made, self._facts.request_id)
            if noting is not None:
                await asyncio.wait([noting])
            self._room.states = known or self._room.states
        finally:
            door.open.discard(self)

    # -- the end ------------------------------------------------------------------------------

    def _finish(self, outcome: Outcome) -> Finished:
        if outcome is Outcome.STOPPED and self._halt.denial is not None:
            raise denied(self._halt.denial, self.hold.tenant)
        if self._halt.is_late and outcome in _LATE:
            raise self._too_late()
        if self._going is not None and (broken := self._going.ended(outcome)) is not None:
            raise broken
        assert self._forwarding is not None  # a plan has an option at least
        last, upstream = self._forwarding.relayed, self._attempts[-1].option.upstream
        if outcome is Outcome.SERVED and last is not None:
            return Finished(200, self.headers(), last.body, last.tail)
        if outcome is Outcome.CLIENT_GONE:
            raise ClientGoneError
        if outcome is Outcome.EXHAUSTED and last is not None:
            return self._ended_at_cap(last)
        if outcome is Outcome.TRUNCATED:
            raise broken_off(upstream=upstream.provider, by=last.broken_by if last else None)
        if self._forwarding.error_answer is not None:
            status, named, body = self._forwarding.error_answer
            return Finished(status, {**self.headers(), **named, ERROR_SOURCE: "upstream"}, body)
        word = None if last is None else failure_word(last.reply)
        error = failed(outcome, upstream=upstream.provider, word=word)
        error.add_headers(self.headers())
        raise error

    def _too_late(self) -> ApiError:
        self._door.metrics.late(self._facts)
        error = too_late(deadline_s=self._facts.deadline_s or 0.0, attempts=len(self._attempts))
        if self._attempts:
            error.add_headers(self.headers())
        return error

    def _ended_at_cap(self, last: Relayed) -> Finished:
        if self._door.settings.on_exhausted == "soft":
            return Finished(200, self.headers(), tail=last.tail)
        assert self._room.refusal is not None
        raise self._room.refusal

    def headers(self) -> dict[str, str]:
        """The `x-weir-*` headers as far as they are known now."""
        return headers(self._facts, self._attempts[-1], self._room.states, self._told)

    def let_go(self) -> None:
        """It was admitted and will not run: what is held is given back."""
        self.is_ending = True
        self._door.open.give_back(self.hold)
        self._door.open.discard(self)

    @property
    def is_admitted(self) -> bool:
        """Whether room is held for it, or was."""
        return self._reservation is not None

    @property
    def attempts(self) -> Sequence[Attempt]:
        """What was sent so far."""
        return self._attempts

    @property
    def is_changed(self) -> bool:
        """Whether a cap had another request sent than was asked: a step was taken, or it was cut to
        its means."""
        return self._told.steps.taken is not None or self._told.clamped_tokens is not None

    @property
    def states(self) -> tuple[CapState, ...]:
        """Where its caps stood when they answered last."""
        return self._room.states

    @property
    def drains(self) -> bool:
        """Whether the upstream is to be read to its end when the client leaves."""
        return is_drained(self._door.settings, self._facts.model_requested)

    def drain(self, task: asyncio.Task[Any] | None) -> bool:
        """The client has left; whether this exchange, run by `task`, goes on for the meter."""
        self._is_abandoned = True
        if self._way is not None and self._way.is_waiting:
            return False  # there is nothing to read to its end
        return self.drains and self._door.drains.begin(self._door.settings.server, task)

    @property
    def held(self) -> Candidate | None:
        """What is held, to be placed again if it lapses while the exchange goes on."""
        if not self._attempts:
            return None
        label = self._attempts[-1].option.upstream.label
        return Candidate(label, self._room.held, facts=self._room.news)

    async def place(self, candidates: Sequence[Candidate]) -> Reservation | Denial:
        """Hold the first of these anew, for a hold that was lost."""
        return await self._room.place(candidates, runs=True)

    def stop(self, denial: Denial) -> None:
        """Somebody paused or killed a scope it runs in: it ends now."""
        self._halt.pull(denial)

    @property
    def progress(self) -> tuple[int, ...]:
        """Changes when a checkpoint would say more."""
        return progress(self._attempts)

    def checkpoint(self) -> bytes:
        """What to record should the process end here."""
        return checkpoint(self._facts, self._attempts, now_ns=now_ns())
