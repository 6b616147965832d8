"""One request whose answer may be there already, or is to be kept: before and after its exchange.

    (join one under way) -> look, claim and reserve in one round trip -> give what is there,
    or run the exchange -> keep what it brought -> end

Rules kept here: whoever is paused gets nothing, whoever has no room left gets what costs nothing;
a claim is kept or let go, whoever cancels; a store that fails harms no answer; what was billed
under a client's key is not run again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from multidict import MultiMapping

from metering.background import spawn
from metering.clock import now_ns
from metering.ids import uuid7
from metering.money import format_usd
from metering.prices import Price
from metering.replies import ClaimState, Found, Reply
from proxy.asking import Asking, asking_of, places_of
from proxy.attempts import Facts
from proxy.cache_errors import IdempotencyNotReplayable, NotCached
from proxy.chat import ChatRequest
from proxy.door import Door
from proxy.errors import ApiError, RateLimited, RequestExceedsBudget, SpendExhausted
from proxy.exchange import Exchange
from proxy.flights import Flight, Landed
from proxy.hit_billing import bill_of_hit, share_of
from proxy.keeping_client import KeepingClient
from proxy.limit_words import limit_headers
from proxy.made_replies import broken_off, facts_kept, is_billed, is_for_others, made
from proxy.planning import Plan
from proxy.recording import record
from proxy.relay import Client, ClientGoneError
from proxy.repeats import Repeat
from proxy.reply_wishes import CACHE_CONTROL, IDEMPOTENCY_KEY
from proxy.storing import found_in, store
from proxy.telling import Finished
from proxy.wire import ClientFormat

CACHE = "x-weir-cache"
REPLAYED = "x-weir-idempotent-replay"

THREAD_ABOVE_BYTES = 1024 * 1024
"""Writing such a request down takes some milliseconds, in which no stream would move."""

_OF_ROOM = (SpendExhausted, RateLimited, RequestExceedsBudget)
"""Refusals for want of room: what costs nothing needs none."""

_KEPT_HEADERS = ("x-weir-model", "x-weir-provider", "x-weir-price-version")


class Asked(Protocol):
    """A request as it came, as far as its answer goes."""

    @property
    def headers(self) -> MultiMapping[str]:
        """Its headers."""
        ...

    @property
    def content_length(self) -> int | None:
        """How long its body is, where that was said."""
        ...


class Way(NamedTuple):
    """Where a request came from, and where its answers do."""

    asked: Asked
    client: Client
    spoken: ClientFormat


async def answer(door: Door, facts: Facts, request: ChatRequest, plan: Plan, way: Way) -> Finished:
    """The answer to a request: of its exchange, or one that is there."""
    cache, (asked, client, spoken) = door.settings.cache, way
    controls = asked.headers.getall(CACHE_CONTROL, ())
    keys = asked.headers.getall(IDEMPOTENCY_KEY, ())
    asking = None
    if controls or keys or cache.is_used:
        named = {"controls": controls, "keys": keys}
        places = places_of(plan.own, door.settings.providers)
        if (asked.content_length or 2**31) > THREAD_ABOVE_BYTES:
            asking = await asyncio.to_thread(asking_of, cache, facts, request, places, **named)
        else:
            asking = asking_of(cache, facts, request, places, **named)
    if asking is None:
        return await _serve(Exchange(door, facts, request, plan), client)
    if asking.cache_status is not None:
        facts = replace(facts, cache_status=asking.cache_status)
    exchange = Exchange(door, facts, request, plan)
    answering = Answering(
        door, facts, request, exchange=exchange, asking=asking, client=client, spoken=spoken
    )
    return await answering.serve()


async def _serve(exchange: Exchange, client: Client) -> Finished:
    if exchange.drains:
        # the exchange goes on for the meter when the client's handler is cancelled
        running = spawn(exchange.run(client), name="exchange", on_error=_told_already)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if not exchange.drain(running):
                running.cancel()
            raise
    return await exchange.run(client)


def _told_already(error: BaseException) -> None:
    """How an exchange ended is in its log line and its event, whether or not somebody waits."""


class Answering:
    """One request with its exchange, which runs unless its answer is there; `serve` once."""

    def __init__(
        self,
        door: Door,
        facts: Facts,
        request: ChatRequest,
        *,
        exchange: Exchange,
        asking: Asking,
        client: Client,
        spoken: ClientFormat,
    ) -> None:
        self._door, self._facts, self._request = door, facts, request
        self._exchange, self._asking = exchange, asking
        self._client, self._spoken = client, spoken
        self._cache = door.settings.cache
        self._named = {CACHE: asking.cache_status} if asking.cache_status is not None else {}
        self._repeat = Repeat(door, asking.claim) if asking.claim is not None else None
        self._refusal: ApiError | None = None
        self._flight: Flight | None = None
        self._is_over = False
        """Whether the exchange needs no giving back: it runs, or was settled."""
        self._running: asyncio.Task[Finished] | None = None
        self._is_billed = False  # for what was kept

    async def serve(self) -> Finished:
        """The answer; it goes on for others, should its client leave, while they want it."""
        running = self._running = spawn(self._run(), name="exchange", on_error=_told_already)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if not (self._stays() or self._exchange.drain(running)):
                running.cancel()
            raise

    def _stays(self) -> bool:
        is_wanted = self._repeat is not None and self._repeat.is_ours
        is_wanted |= self._flight is not None and self._flight.followers > 0
        return is_wanted and self._door.drains.begin(self._door.settings.server, self._running)

    async def _run(self) -> Finished:
        try:
            return await self._answer()
        except ApiError as error:
            error.add_headers(self._named)
            raise
        finally:
            self._land(Landed.FAILED)
            if self._repeat is not None:
                self._repeat.give_up(is_billed=self._is_billed or is_billed(self._exchange))
            if not self._is_over and self._exchange.is_admitted:
                self._exchange.let_go()

    async def _answer(self) -> Finished:
        asking, count = self._asking, self._door.metrics.cached
        if asking.joins and self._cache.coalesce_wait_s:
            joined = await self._join()
            if isinstance(joined, Flight):
                self._flight = joined
            elif joined is not None and self._is_young(joined):
                await self._admit()
                return await self._give(joined, "coalesced")
        found = await self._ask()
        self._check_flags()
        if self._repeat is not None and self._repeat.state is not ClaimState.FREE:
            return await self._give_again(self._repeat.found_or_refuse())
        if found is not None:
            self._land(found)
            return await self._give(found, "hit")
        if asking.wishes.only_kept:
            self._land(Landed.OWN)
            raise NotCached("There is no answer to this request that was kept, or none so young.")
        if self._refusal is not None:
            self._land(Landed.OWN)
            raise self._refusal
        if asking.cache_status is not None:
            count(asking.cache_status)
        return await self._run_exchange()

    # -- what is there -------------------------------------------------------------------------

    async def _join(self) -> Found | Flight | None:
        assert self._asking.name is not None
        quiet_s = self._door.settings.server.keepalive_s
        wait_s = min(self._cache.coalesce_wait_s, self._facts.left_s(now_ns()))
        is_told = self._request.stream and quiet_s > 0

        def ping() -> None:
            if is_told:
                self._client.ping(self._named)

        quiet_s = quiet_s if is_told else wait_s
        return await self._door.flights.join(
            self._asking.name, wait_s=wait_s, quiet_s=quiet_s, on_quiet=ping
        )

    async def _ask(self) -> Found | None:
        """Look, claim and reserve; commands that are written in one turn travel together."""
        looking = spawn(self._look(), name="look")
        done = await asyncio.gather(looking, self._claim(), self._admit(), return_exceptions=True)
        for each in done:  # once all are over: nothing is admitted behind our back
            if isinstance(each, BaseException):
                raise each
        found: Found | None = looking.result()
        return found if found is not None and self._is_young(found) else None

    def _is_young(self, found: Found) -> bool:
        age_max_s = self._asking.wishes.age_max_s
        return age_max_s is None or found.age_ms <= age_max_s * 1000

    async def _look(self) -> Found | None:
        asking = self._asking
        if not asking.looks or asking.rule is None or asking.name is None:
            return None
        found = await found_in(self._door, asking.rule.shelf, asking.name)
        is_alike = found is not None and found.reply.is_stream == self._request.stream
        return found if is_alike else None

    async def _claim(self) -> None:
        if self._repeat is not None:
            await self._repeat.claim()

    async def _admit(self) -> None:
        try:
            await self._exchange.admit(self._running)
        except ApiError as refusal:
            self._refusal = refusal

    def _check_flags(self) -> None:
        """Raises what stands in the way of any answer: a flag, or caps that cannot be asked."""
        if self._refusal is not None and not isinstance(self._refusal, _OF_ROOM):
            self._land(Landed.OWN)
            raise self._refusal

    async def _give(self, found: Found, status: str) -> Finished:
        """Give what was kept, billed as the rule says; over a cap for nothing."""
        self._check_flags()
        reply, rule = found.reply, self._asking.rule
        assert rule is not None
        billed_ppm = rule.billed_ppm if self._exchange.is_admitted else 0
        units = share_of(reply.facts.get("units"), billed_ppm) if billed_ppm else {}
        sell_nano = await self._settle(reply, status, units)
        self._door.metrics.cached(status)
        named = {name: reply.headers[name] for name in _KEPT_HEADERS if name in reply.headers}
        if not reply.is_stream:
            named["x-weir-cost-usd"] = format_usd(sell_nano, places=9)
        self._named = {CACHE: "hit"}
        named |= {**self._named, "Age": str(found.age_ms // 1000)}
        if self._repeat is not None:
            await self._repeat.end(replace(reply, headers={**named, **reply.headers}))
        return await self._play(reply, named)

    async def _give_again(self, found: Found) -> Finished:
        """Give once more what this very request has got before, to the byte."""
        reply = found.reply
        if reply.is_stream is not self._request.stream and reply.status == 200:
            raise IdempotencyNotReplayable("The answer that was kept has another form.")
        await self._settle(reply, "replay", {})
        named = {name: value for name, value in reply.headers.items() if name != CACHE}
        self._named = {}
        return await self._play(reply, {**named, REPLAYED: "true"})

    async def _settle(self, reply: Reply, status: str, units: Mapping[str, int]) -> int:
        """Record that it was given, in the place of an exchange; what it costs."""
        door, facts, exchange = self._door, self._facts, self._exchange
        at, kept = now_ns(), reply.facts
        price = _price_of(door, kept, facts.occurred_at) if units else None
        bill = bill_of_hit(
            facts,
            kept,
            event_id=uuid7(at // 1_000_000, os.urandom(10)),
            status=status,
            units=units,
            price=price,
            is_admitted=exchange.is_admitted,
            now_ns=at,
            spool_seq=door.spool.take_seq() if door.settings.metering.spool == "always" else None,
        )
        self._is_over = exchange.is_ending = True
        self._is_billed = bool(units)
        try:
            await record(door, exchange.hold, bill, facts.request_id)
        finally:
            door.open.discard(exchange)
        door.log.info(
            "exchange",
            request_id=facts.request_id,
            tenant=facts.principal.tenant.id,
            exchange_id=facts.exchange_id,
            model=facts.model_requested,
            outcome=status,
            attempts=0,
            sell_usd=format_usd(bill.actual.nano, places=9),
            duration_ms=(at - facts.occurred_at) // 1_000_000,
        )
        return bill.actual.nano

    async def _play(self, reply: Reply, named: Mapping[str, str]) -> Finished:
        headers = {**limit_headers(self._exchange.states), **named}
        if not reply.is_stream:
            return Finished(reply.status, headers, reply.body)
        await self._client.start_stream(headers)
        await self._client.send(reply.body)
        return Finished(reply.status, headers)

    # -- what is made --------------------------------------------------------------------------

    async def _run_exchange(self) -> Finished:
        self._is_over = True
        keeper = KeepingClient(
            self._client, named=self._named, bytes_max=self._bytes_max, stays=self._stays
        )
        try:
            finished = await self._exchange.run(keeper)
        except ApiError as error:
            told = broken_off(
                error,
                keeper,
                facts_kept(self._exchange),
                spoken=self._spoken,
                request_id=self._facts.request_id,
            )
            await self._end_repeat(told)
            raise
        except ClientGoneError:
            await self._end_repeat(None)
            raise
        reply = made(finished, keeper, facts_kept(self._exchange))
        self._keep(finished, reply)
        await self._end_repeat(reply)
        return replace(finished, headers={**finished.headers, **self._named})

    @property
    def _bytes_max(self) -> int:
        of_repeats = self._cache.repeat_entry_bytes if self._repeat is not None else 0
        return max(of_repeats, self._cache.max_entry_bytes if self._asking.stores else 0)

    async def _end_repeat(self, reply: Reply | None) -> None:
        """Before the client has its end: it may send the request again in the same moment."""
        if self._repeat is None:
            return
        if is_billed(self._exchange):
            await self._repeat.end(reply)
        else:
            await self._repeat.drop()

    def _keep(self, finished: Finished, reply: Reply | None) -> None:
        """Keep what may be given to others, beside the path; land what others wait for."""
        door, rule, name = self._door, self._asking.rule, self._asking.name
        stores = self._asking.stores
        if stores and rule is not None and name is not None and reply is not None:
            bytes_max = self._cache.max_entry_bytes
            if is_for_others(reply, self._exchange, self._request, bytes_max=bytes_max):
                self._land(Found(reply, 0))
                spawn(store(door, rule, name, reply), name="keep-reply")
                return
        if stores and finished.status == 200:
            self._door.metrics.stored("not_kept")
        # what the upstream refuses it refuses the next one, too; there is nothing to wait for
        is_own = finished.status // 100 in (2, 4) and finished.status != 429
        self._land(Landed.OWN if is_own else Landed.FAILED)

    def _land(self, result: Found | Landed) -> None:
        if self._flight is not None:
            self._flight.land(result)


def _price_of(door: Door, kept: Mapping[str, Any], at_ns: int) -> Price | None:
    """What the upstream of a kept answer costs at this time."""
    return door.settings.prices.at(at_ns).find(
        provider=str(kept.get("provider")),
        model=str(kept.get("model_upstream")),
        public_name=str(kept.get("model_public")),
    )
