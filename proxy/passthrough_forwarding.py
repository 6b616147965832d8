"""From an errand to its answer: sent to its upstream, relayed as it is, and sniffed.

Rules: what it made at the provider is the tenant's before the client hears of it; of the upstream's
headers only those named here reach the client; an answer with a body of JSON is read whole, any
other is passed on as it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from metering.clock import now_ns
from proxy import json_bounds
from proxy.attempts import Attempt
from proxy.door import Door
from proxy.errors import ERROR_SOURCE
from proxy.inflate import unpacked
from proxy.outgoing import ERROR_HEADERS, redaction_of, request_id_of
from proxy.passthrough_batches import FAMILY, Batches
from proxy.passthrough_batches import shown as shown_batches
from proxy.passthrough_exchange import Passing
from proxy.passthrough_lists import PAGES_MAX, Page, Wanted, own_rows, read_page, shown
from proxy.passthrough_objects import learnt
from proxy.passthrough_paths import Lives, Spend
from proxy.passthrough_plan import Errand
from proxy.passthrough_relay import Pump, Pumped
from proxy.passthrough_usage import NOTHING_TOLD, Usage, images_in, usage_in, usage_in_event
from proxy.refusals import broken_off, failed
from proxy.relay import ERROR_BODY_BYTES_MAX, OUTCOME_OF_FAULT, Client, ClientGoneError
from proxy.reply import label
from proxy.retry_after import retry_after_s
from proxy.stream_errors import Break
from proxy.telling import Finished, tell_failure
from proxy.transport import Answer, Call, TransportError
from proxy.wire.openai_chat.errors import classify_status
from routing.fallback import Outcome

JSON_BYTES_MAX = 64 * 1024 * 1024
"""A JSON answer is held in memory: ten large images in base64 have 40 MB."""

IN_THREAD_ABOVE_BYTES = 256 * 1024

ANSWER_HEADERS = ("Content-Type", "Content-Disposition")
"""Passed on with an answer, beside those of ours."""

_RELAYED_ERRORS = frozenset({Outcome.REFUSED, Outcome.RATE_LIMITED, Outcome.SERVER_ERROR})


class Relaying:
    """Relays one errand once; `run` gives what the client still has to get."""

    def __init__(self, door: Door, passing: Passing, errand: Errand, log: Any) -> None:
        self._door, self._passing, self._errand, self._log = door, passing, errand, log
        self._redaction = redaction_of(errand.job.provider)
        self._answers: list[Answer] = []
        self._named: dict[str, str] = {}
        self._body: bytes | None = None
        self._pumped: Pumped | None = None
        self._error: tuple[int, dict[str, str], bytes] | None = None
        self._status = 200
        self._heard: dict[str, None] = {}
        self._made: object = None
        provider = errand.job.provider.name
        self._batches = Batches(door, passing.tenant, provider, log)

    async def run(self, client: Client) -> Finished:
        """Relay it; raises the ApiError that stands in its way."""
        try:
            outcome = await self._passing.run(lambda attempt: self._attempt(attempt, client))
        finally:
            self._close_answers()
        if self._made is not None and self._passing.booked:
            await self._batches.begun(self._made, self._passing.booked[0])
        return self._finish(outcome)

    def _close_answers(self) -> None:
        for answer in self._answers:
            answer.close()
        self._answers.clear()

    async def _attempt(self, attempt: Attempt, client: Client) -> Outcome:
        outcome = Outcome.CLIENT_GONE
        try:
            outcome = await self._send(attempt, client)
        finally:
            if outcome is not Outcome.SERVED:  # the upstream stops before that is recorded
                self._close_answers()
        return outcome

    async def _send(self, attempt: Attempt, client: Client) -> Outcome:
        try:
            if self._errand.wanted is not None:
                return await self._list(attempt, self._errand.wanted)
            answer = await self._ask(attempt, self._errand.call)
            if answer.status // 100 != 2:
                return await self._refused(attempt, answer)
            return await self._relay(attempt, answer, client)
        except TransportError as error:
            tell_failure(self._log, attempt, str(error))
            return OUTCOME_OF_FAULT[error.fault]

    async def _ask(self, attempt: Attempt, call: Call) -> Answer:
        answer = await self._door.transport.send(call, attempt.mark_sent)
        self._answers.append(answer)
        self._status = attempt.http_status = answer.status
        attempt.upstream_request_id = request_id_of(answer, self._redaction)
        self._named = self._passed_on(answer, ANSWER_HEADERS)
        return answer

    def _passed_on(self, answer: Answer, names: Sequence[str]) -> dict[str, str]:
        return {
            name: value
            for name in names
            if (value := label(answer.header(name), self._redaction)) is not None
        }

    async def _relay(self, attempt: Attempt, packed: Answer, client: Client) -> Outcome:
        answer = unpacked(packed)
        if answer is None:
            tell_failure(self._log, attempt, "an answer in an encoding that is not known here")
            return Outcome.NONSENSE
        kind = (answer.header("content-type") or "").partition(";")[0].strip().lower()
        row, bytes_max = self._errand.target.row, self._errand.job.provider.max_answer_bytes
        if (kind == "application/json" and not row.is_content) or answer.status != 200:
            body = await answer.read(min(bytes_max, JSON_BYTES_MAX))
            attempt.first_byte_at = now_ns()
            await self._learn(attempt, body)
            self._body = body
            return Outcome.SERVED
        pump = Pump(
            answer,
            begin=lambda: self._begin(attempt),
            hear=self._hear if kind == "text/event-stream" else None,
            bytes_max=bytes_max,
        )
        pumped = self._pumped = await pump.run(client)
        await self._note(list(self._heard))
        attempt.client_disconnected = pumped.is_client_gone
        if pumped.outcome is not Outcome.SERVED:
            tell_failure(self._log, attempt, pumped.cause or pumped.outcome)
        return pumped.outcome

    def _begin(self, attempt: Attempt) -> dict[str, str]:
        attempt.first_byte_at = now_ns()
        return {**self._named, **self._headers()}

    async def _refused(self, attempt: Attempt, answer: Answer) -> Outcome:
        body = await answer.read(ERROR_BODY_BYTES_MAX)
        outcome = classify_status(answer.status, body)
        attempt.retry_after_s = retry_after_s(answer.header, now_ns())
        tell_failure(self._log, attempt, f"status {answer.status}")
        if outcome in _RELAYED_ERRORS:
            named = self._passed_on(answer, ERROR_HEADERS)
            self._error = answer.status, named, self._redaction.data(body)
        return outcome

    # -- what answers teach -------------------------------------------------------------------

    async def _learn(self, attempt: Attempt, body: bytes) -> None:
        """What a whole answer used, and which objects it names."""
        is_long = len(body) > IN_THREAD_ABOVE_BYTES
        answer = await asyncio.to_thread(_loaded, body) if is_long else _loaded(body)
        row, owner = self._errand.target.row, self._errand.owner
        if row.spend is not Spend.NOTHING:
            usage = NOTHING_TOLD
            if row.spend is Spend.ANSWER:
                unread = Usage(suspect="the answer could not be read")
                usage = unread if answer is None else usage_in(answer)
            billing = self._errand.job.tariff.billing(usage, images=images_in(answer or {}))
            self._passing.take(billing)
            attempt.reply.model = label((answer or {}).get("model"), self._redaction)
        await self._note(learnt(row, answer or {}))
        if row.family == FAMILY and row.makes:
            self._made = (answer or {}).get("id")
        elif batches := shown_batches(row, answer or {}):
            await self._batches.look(batches)
        if owner is not None and row.removes:
            ids = self._errand.target.owned
            await self._door.owned.forget(owner, self._errand.job.provider.name, ids)

    def _hear(self, data: bytes) -> bool:
        """An event: whether it tells what was used."""
        row = self._errand.target.row
        if (row.makes or row.learns) and len(self._heard) < 100:
            self._heard.update(dict.fromkeys(learnt(row, _loaded(data) or {})))
        if row.spend is not Spend.ANSWER:
            return False
        usage = usage_in_event(data)
        if usage.is_told:
            self._passing.take(self._errand.job.tariff.billing(usage))
        self._passing.doubt(usage.suspect)
        return usage.is_told

    async def _note(self, ids: Sequence[str]) -> None:
        owner, row = self._errand.owner, self._errand.target.row
        if owner is not None and ids:
            provider, is_passing = self._errand.job.provider.name, row.lives is Lives.PASSING
            await self._door.owned.note(owner, provider, ids, is_passing=is_passing)

    # -- lists --------------------------------------------------------------------------------

    async def _list(self, attempt: Attempt, wanted: Wanted) -> Outcome:
        rows: list[dict[str, Any]] = []
        after, has_more = wanted.after, True
        for _ in range(PAGES_MAX):
            page = await self._page(attempt, wanted, after)
            if isinstance(page, Outcome):
                return page
            rows += await self._own(page)
            after = page.last_id
            has_more = after is not None
            if not has_more or len(rows) > wanted.limit:
                break
        attempt.first_byte_at = now_ns()
        self._body = shown(rows, wanted, has_more=has_more)
        self._named = {"Content-Type": "application/json"}
        return Outcome.SERVED

    async def _page(self, attempt: Attempt, wanted: Wanted, after: str | None) -> Page | Outcome:
        call = self._errand.call
        answer = await self._ask(attempt, replace(call, url=f"{call.url}?{wanted.query(after)}"))
        if answer.status != 200:
            return await self._refused(attempt, answer)
        plain = unpacked(answer)
        page = None if plain is None else read_page(await plain.read(JSON_BYTES_MAX))
        self._close_answers()
        if page is None:
            tell_failure(self._log, attempt, "the answer is no list")
            return Outcome.NONSENSE
        return page

    async def _own(self, page: Page) -> list[dict[str, Any]]:
        owner, provider = self._errand.owner, self._errand.job.provider.name
        assert owner is not None  # a list is paged through only where the account is shared
        owned, _ = await self._door.owned.owned(owner, provider, page.ids)
        found = own_rows(page, owned)
        await self._note(learnt(self._errand.target.row, {"data": found}))
        await self._batches.look(shown_batches(self._errand.target.row, {"data": found}))
        return found

    # -- the end ------------------------------------------------------------------------------

    def _finish(self, outcome: Outcome) -> Finished:
        provider, pumped = self._errand.job.provider.name, self._pumped
        if outcome is Outcome.STOPPED and (refusal := self._passing.refusal) is not None:
            raise refusal
        if outcome is Outcome.SERVED:
            tail = b"" if pumped is None else pumped.tail
            return Finished(self._status, {**self._named, **self._headers()}, self._body, tail)
        if outcome is Outcome.CLIENT_GONE:
            raise ClientGoneError
        if outcome is Outcome.TRUNCATED:
            raise broken_off(upstream=provider, by=Break(pumped.bound) if pumped else None)
        if self._error is not None:
            status, named, body = self._error
            return Finished(status, {**self._headers(), **named, ERROR_SOURCE: "upstream"}, body)
        error = failed(outcome, upstream=provider)
        error.add_headers(self._headers())
        raise error

    def _headers(self) -> dict[str, str]:
        # what somebody has uploaded must not run as a page of ours
        return {**self._passing.headers(), "X-Content-Type-Options": "nosniff"}


def _loaded(body: bytes) -> dict[str, Any] | None:
    """A JSON object; None for anything else, and for what is too much to build."""
    if json_bounds.is_too_full(body):
        return None
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return answer if isinstance(answer, dict) else None
