"""`POST /v1/events`: usage from outside, recorded like that of exchanges.

Rules: every item that is sound is recorded, whatever is wrong with others; an item is answered as
accepted only when Redis or the disk has it; a repeat counts once, and another event under the same
id not at all. Nothing is refused because of a cap: it has been used already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from aiohttp import web

from metering.caps import CapsUnavailableError, Hold
from metering.claims import Claim, Claimed
from metering.clock import now_ns
from metering.events import encode
from metering.tenant_caps import caps_under, scopes_of
from metering.tenants import Principal
from proxy.backlog import why_refused
from proxy.billing import Bill
from proxy.door import Door
from proxy.errors import (
    ApiError,
    BodyTooLarge,
    EventsNotRecorded,
    EventsRefused,
    InternalError,
    InvalidRequest,
    UsageNotRecorded,
)
from proxy.event_booking import Booked, book
from proxy.event_items import TEXT_MAX, Fault, Item, ItemError, read_items
from proxy.front import front_of
from proxy.ingress import (
    MEMORY,
    PATIENCE,
    THREAD_ABOVE_BYTES,
    authenticated,
    fresh_request_id,
    need_room,
    plain_json,
    refusal,
)
from proxy.intake import read_body
from proxy.recording import Tally, record
from proxy.telling import tell_refusal

BODY_MB_MAX = 1
IN_FLIGHT = 64
"""Commits at once: they leave in one write, and requests of others wait for so many at most."""

_HOUR_MS = 3_600_000

_Said = tuple[str, str]
"""The exchange that an item's id names, and the digest of what it says."""


@dataclass(slots=True)
class Report:
    """What became of the items of one request, each by its index."""

    accepted: list[int] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)
    unpriced: list[int] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    not_recorded: list[int] = field(default_factory=list)

    def body(self) -> dict[str, object]:
        """The answer: how many were taken, and what is wrong with each of the others."""
        errors = sorted(self.faults, key=lambda fault: fault.index)
        return {
            "accepted": len(self.accepted),
            "duplicates": len(self.duplicates),
            "unpriced": sorted(self.unpriced),
            "errors": [fault.body() for fault in errors],
        }


async def post_events(request: web.Request) -> web.Response:
    """`POST /v1/events`."""
    request_id = fresh_request_id()
    door = front_of(request).door
    response: web.Response | None = None
    try:
        principal = authenticated(request)
        if door.lifecycle.is_backlogged:
            raise why_refused(door)
        need_room(request, stream=False)
        items = await _read(request)
        report = await _Recording(request, principal, request_id).run(items)
        response = plain_json(_answer(report), request_id=request_id)
    except ApiError as error:
        door.log.info("refused", request_id=request_id, code=error.label, status=error.status)
        tell_refusal(door, error.label)
        response = refusal(error, request_id)
    except Exception as error:  # the top of a request's task: logged with its cause
        door.log.error("request_failed", request_id=request_id, exc_info=error)
        internal = InternalError(f"The gateway failed; its log has the cause under {request_id}.")
        tell_refusal(door, internal.label)
        response = refusal(internal, request_id)
    finally:
        door.metrics.answered(499 if response is None else response.status)
    return response


def _answer(report: Report) -> dict[str, object]:
    body = report.body()
    if report.not_recorded:
        raise EventsNotRecorded(
            f"{len(report.not_recorded)} events were taken by neither Redis nor the disk. "
            "Send the same request again: what was taken counts once.",
            metadata={**body, "not_recorded": sorted(report.not_recorded)},
        )
    if report.faults and not (report.accepted or report.duplicates):
        first = min(report.faults, key=lambda fault: fault.index)
        raise EventsRefused(
            f"None of the events can be taken; the first, at {first.index}: {first.message}",
            param=first.param,
            metadata=body,
        )
    return body


async def _read(request: web.Request) -> list[Item | Fault]:
    settings = front_of(request).door.settings
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= TEXT_MAX // 2 and key.isprintable()):
        raise InvalidRequest(
            f"The header `Idempotency-Key` must be 1 to {TEXT_MAX // 2} printable characters.",
            param="Idempotency-Key",
        )
    try:
        with request.app[MEMORY].body() as share:
            limit_mb = min(BODY_MB_MAX, settings.server.max_body_mb)
            patience = request.app[PATIENCE]
            raw = await read_body(request, limit_mb=limit_mb, patience=patience, share=share)
    except BodyTooLarge as error:
        raise BodyTooLarge(f"The body is over {BODY_MB_MAX} MB: send it in parts.") from error
    found = read_items(
        raw,
        content_type=request.content_type,
        idempotency_key=key,
        now_ns=now_ns(),
        age_max_ns=settings.metering.event_age_max_hours * _HOUR_MS * 1_000_000,
    )
    if len(raw) > THREAD_ABOVE_BYTES:
        return await asyncio.to_thread(list, found)
    return list(found)


class _Recording:
    """One request's items on their way into Redis or the spool."""

    def __init__(self, request: web.Request, principal: Principal, request_id: str) -> None:
        self._door: Door = front_of(request).door
        self._standings = front_of(request).standings
        self._principal = principal
        self._request_id = request_id
        self._report, self._tally = Report(), Tally()
        self._twins: dict[int, list[int]] = {}
        """Items that say the very same as one before them, by the index of that one."""

    async def run(self, items: Sequence[Item | Fault]) -> Report:
        """Record what is sound; what became of each."""
        by_tenant: dict[str, dict[_Said, Booked]] = {}
        for item in items:
            if isinstance(item, Fault):
                self._report.faults.append(item)
                continue
            try:
                self._sort_in(item, by_tenant)
            except ItemError as error:
                self._report.faults.append(error.at(item.index))
            if item.index % IN_FLIGHT == 0:
                await asyncio.sleep(0)  # others have their turn in the course of a long batch
        try:
            for tenant, booked in by_tenant.items():
                await self._record_of(tenant, booked)
        finally:
            self._tally.tell(self._door.log)
        report = self._report
        self._door.log.info(
            "events",
            request_id=self._request_id,
            tenant=self._principal.tenant.id,
            accepted=len(report.accepted),
            duplicates=len(report.duplicates),
            refused=len(report.faults),
            not_recorded=len(report.not_recorded),
        )
        return report

    def _sort_in(self, item: Item, by_tenant: dict[str, dict[_Said, Booked]]) -> None:
        """Book the item, unless this request has said the very same before."""
        door = self._door
        made = book(
            item,
            self._principal,
            door.settings.tenants,
            door.settings.prices,
            now_ns=now_ns(),
            proxy_id=door.proxy_id,
        )
        said = made.exchange_id, item.digest
        first = by_tenant.setdefault(made.tenant.id, {}).setdefault(said, made)
        if first is not made:
            self._twins.setdefault(first.item.index, []).append(item.index)

    async def _record_of(self, tenant: str, booked: Mapping[_Said, Booked]) -> None:
        report, free = self._report, list[Booked]()
        claimed = await self._claim(tenant, [Claim(*said) for said in booked])
        for each, state in zip(booked.values(), claimed, strict=True):
            index = each.item.index
            twins = self._twins.get(index, [])
            if state is Claimed.OTHER:
                report.faults += [_conflict().at(twin) for twin in (index, *twins)]
            elif state is Claimed.RECORDED:
                report.duplicates += [index, *twins]
            else:
                free.append(each)
        recorded = [each for each in await self._commit(free) if each is not None]
        for each in recorded:
            index = each.item.index
            report.accepted.append(index)
            report.duplicates += self._twins.get(index, [])
            if each.is_unpriced:
                report.unpriced.append(index)
        await self._keep(tenant, recorded)

    async def _claim(self, tenant: str, claims: Sequence[Claim]) -> list[Claimed]:
        try:
            return await self._door.claims.claim(tenant, claims)
        except CapsUnavailableError as error:
            # recorded all the same: a repeat has the same exchange, which counts once
            self._tell_unclaimed(error)
        first = {claim.exchange_id: claim for claim in reversed(claims)}
        return [
            Claimed.FREE if first[claim.exchange_id] is claim else Claimed.OTHER for claim in claims
        ]

    def _tell_unclaimed(self, error: CapsUnavailableError) -> None:
        self._door.log.info("claims_unavailable", request_id=self._request_id, cause=str(error))

    async def _commit(self, booked: Sequence[Booked]) -> list[Booked | None]:
        """Record these, so many at once; None in the place of what nobody took."""
        found: list[Booked | None] = []
        for start in range(0, len(booked), IN_FLIGHT):
            some = booked[start : start + IN_FLIGHT]
            found += await asyncio.gather(*(self._commit_one(each) for each in some))
        return found

    async def _commit_one(self, made: Booked) -> Booked | None:
        door = self._door
        seq = door.spool.take_seq() if door.settings.metering.spool == "always" else None
        spooled = None if seq is None else 1
        event = encode(replace(made.event, spool_seq=seq, spool_events=spooled))
        bill = Bill(actual=made.actual, events=[event], charges=[], spool_seq=seq)
        try:
            await record(door, self._hold(made), bill, self._request_id, tally=self._tally)
        except UsageNotRecorded:
            index = made.item.index
            self._report.not_recorded += [index, *self._twins.get(index, [])]
            return None
        return made

    def _hold(self, made: Booked) -> Hold:
        key = self._principal.key
        if made.tenant is self._principal.tenant:
            standing = self._standings.find(made.tenant, key, made.labels)
            return Hold(made.tenant.id, made.exchange_id, standing.caps, standing.stops)
        stops = scopes_of(made.project, key.id, made.labels)
        return Hold(made.tenant.id, made.exchange_id, caps_under(made.tenant, stops), stops)

    async def _keep(self, tenant: str, recorded: Sequence[Booked]) -> None:
        door = self._door
        keep_ms = door.settings.metering.idempotency_window_hours * _HOUR_MS
        claims = [Claim(each.exchange_id, each.item.digest) for each in recorded]
        try:
            await door.claims.keep(tenant, claims, keep_ms=keep_ms)
        except (
            CapsUnavailableError
        ) as error:  # they stay open, and the marker of the commit answers
            door.log.info("claims_unavailable", request_id=self._request_id, cause=str(error))


def _conflict() -> ItemError:
    return ItemError(
        "conflict",
        "Another event was reported under this id; what was recorded first stands. "
        "Give this one an id of its own.",
        "id",
    )
