"""`GET /v1/realtime`: a WebSocket to the provider behind the client's, messages relayed both ways.

Rules: no message is changed; a side is not read faster than the other takes what it says; what each
response used is metered when it is told, and the hold grows by a slice or the session ends, with an
error that says why; a session is recorded whoever ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from metering.clock import now_ns
from metering.ids import uuid7
from metering.prices import PriceBook
from metering.tenants import Tenant
from metering.usage import INPUT_UNCACHED, OUTPUT_TEXT
from proxy.attempts import Attempt
from proxy.client_connection import ClientConnection
from proxy.door import Door
from proxy.errors import ApiError, InternalError, InvalidRequest, UnpricedModel
from proxy.front import front_of
from proxy.ingress import authenticated, need_room, refusal
from proxy.passthrough import check_open, facts_of, pass_through
from proxy.passthrough_exchange import Passing
from proxy.passthrough_paths import REALTIME
from proxy.passthrough_plan import (
    Job,
    check_query,
    find_model,
    holdable,
    sent_headers,
    usable,
)
from proxy.passthrough_prices import Billing, Tariff, tariff
from proxy.passthrough_rules import Passthrough
from proxy.realtime_socket import MESSAGE_BYTES_MAX, RefusedError, connected
from proxy.realtime_usage import SessionUsage
from proxy.refusals import failed
from proxy.relay import ClientGoneError
from proxy.telling import tell_failure, tell_refusal
from proxy.transport import TransportError
from routing.fallback import Outcome

CLOSE_S = 2.0
"""For the closing handshake with whoever is still there."""

PROTOCOL = "realtime"

_PARAMETERS = frozenset({"model", "intent"})
"""What may stand in the query."""

_REGULAR = frozenset({WSCloseCode.OK, WSCloseCode.GOING_AWAY})


async def realtime(request: web.Request) -> web.StreamResponse:
    """The session, from the upgrade to its end."""
    occurred_at = now_ns()
    exchange_id = uuid7(occurred_at // 1_000_000, os.urandom(10))
    request_id = f"req_{exchange_id.replace('-', '')}"
    door = front_of(request).door
    if door.settings.passthrough is None:  # it says so, as of every other path of that kind
        return await pass_through(request)
    status = 499
    try:
        response = await _session(request, exchange_id, occurred_at)
        status = response.status
    except ApiError as error:
        door.log.info("refused", request_id=request_id, code=error.label, status=error.status)
        tell_refusal(door, error.label)
        response = refusal(error, request_id)
    except ClientGoneError:
        response = web.Response(status=499)
    except Exception as error:  # the top of a request's task: logged with its cause
        door.log.error("request_failed", request_id=request_id, exc_info=error)
        internal = InternalError(f"The gateway failed; its log has the cause under {request_id}.")
        tell_refusal(door, internal.label)
        response = refusal(internal, request_id)
    finally:
        door.metrics.answered(status)
    return response


async def _session(request: web.Request, exchange_id: str, occurred_at: int) -> web.StreamResponse:
    door = front_of(request).door
    principal = authenticated(request)
    terms = check_open(door, REALTIME)
    need_room(request, stream=True)
    socket = web.WebSocketResponse(
        protocols=(PROTOCOL,), timeout=CLOSE_S, max_msg_size=MESSAGE_BYTES_MAX, compress=False
    )
    if not socket.can_prepare(request):
        raise InvalidRequest("A realtime session is a WebSocket: send `Upgrade: websocket`.")
    said = said_in(request.raw_path.partition("?")[2])
    prices = door.settings.prices.at(occurred_at)
    job, query = _job(door, terms, principal.tenant, said, prices)
    facts = facts_of(
        request,
        principal,
        REALTIME,
        model=said.get("model"),
        user=None,
        is_stream=True,
        exchange_id=exchange_id,
        occurred_at=occurred_at,
    )
    headers = sent_headers(job.provider, request.headers, has_body=False)
    passing = Passing(door, facts, job)
    session = _Session(passing, job, door.log.bind(request_id=facts.request_id))
    session.is_bounded = principal.tenant.has_money_cap

    async def work(attempt: Attempt) -> Outcome:
        try:
            async with connected(door.settings.egress, job.provider, query, headers) as provider:
                attempt.mark_sent()
                await socket.prepare(request)
                attempt.first_byte_at = now_ns()
                return await session.run(attempt, request, socket, provider)
        except RefusedError as error:
            attempt.http_status = error.status
            tell_failure(session.log, attempt, str(error))
            return error.outcome
        except TransportError as error:
            tell_failure(session.log, attempt, str(error))
            return Outcome.UNREACHABLE

    outcome = await passing.run(work)
    return await session.end(outcome, socket)


def said_in(query: str) -> dict[str, str]:
    """The parameters of a session; InvalidRequest for any that is not relayed."""
    check_query(query)
    pairs = parse_qsl(query, keep_blank_values=True)
    said = dict(pairs)
    if len(said) != len(pairs) or not said.keys() <= _PARAMETERS:
        raise InvalidRequest("A realtime session takes `model` and `intent`, each once.")
    return said


def _job(
    door: Door, terms: Passthrough, tenant: Tenant, said: dict[str, str], book: PriceBook
) -> tuple[Job, dict[str, str]]:
    """Where the session goes and on which terms, and the query for the upstream."""
    name, home = said.get("model"), terms.provider_for(tenant.id)
    if name is None and tenant.models is not None:
        raise InvalidRequest("Name the session's `model` in the query.", param="model")
    upstream = find_model(door.settings, tenant, REALTIME, name, home)
    provider = usable(door.settings, upstream.provider if upstream else home)
    prices = tariff(book, REALTIME, provider=provider.name, model=upstream)
    hold_nano = holdable(terms, tenant, REALTIME, prices)
    if tenant.has_money_cap and not _meters_tokens(prices):
        raise UnpricedModel(
            "A realtime session is metered by its tokens, and its model has no price; an operator "
            "can add one to `pricing.rules`.",
            param="model",
        )
    query = said if upstream is None else {**said, "model": upstream.model}
    return Job(provider, prices, hold_nano, name), query


def _meters_tokens(prices: Tariff) -> bool:
    price = prices.model_price
    return price is not None and {INPUT_UNCACHED, OUTPUT_TEXT} <= price.sell.rates_pico.keys()


def _nano(billing: Billing) -> int:
    units = {**billing.units, "api_call": 1}
    if billing.price is None:
        return 0
    return billing.price.at(units, region=billing.upstream.region).sell.total_nano(units)


class _Session:
    """Two sockets and what passes between them."""

    def __init__(self, passing: Passing, job: Job, log: Any) -> None:
        self._passing, self._job, self.log = passing, job, log
        self._usage = SessionUsage()
        self._has_client_closed = False
        self.is_bounded = False
        """Whether its hold has to cover what it spends."""

    async def run(
        self,
        attempt: Attempt,
        request: web.Request,
        client: web.WebSocketResponse,
        provider: aiohttp.ClientWebSocketResponse,
    ) -> Outcome:
        """Relay until one side ends it, it takes too long, or its hold cannot grow."""
        self._passing.take(self._billing())
        connection = request.protocol
        assert isinstance(connection, ClientConnection)
        try:
            async with (
                asyncio.timeout(self._job.provider.max_answer_s),
                asyncio.TaskGroup() as both,
            ):
                talking = both.create_task(self._to_provider(attempt, client, provider))
                outcome = await self._to_client(attempt, client, connection, provider)
                talking.cancel()
        except TimeoutError:
            if self._passing.is_stopped:
                raise
            tell_failure(self.log, attempt, "the session takes longer than max_answer_s")
            return Outcome.TRUNCATED
        finally:
            self._passing.take(self._billing())
        return outcome

    async def _to_provider(
        self,
        attempt: Attempt,
        client: web.WebSocketResponse,
        provider: aiohttp.ClientWebSocketResponse,
    ) -> None:
        with contextlib.suppress(ConnectionError, aiohttp.ClientError):
            async for message in client:
                await _send(provider, message)
        self._has_client_closed = True
        if client.close_code in _REGULAR:  # whoever cancels us while the provider says goodbye
            attempt.outcome = Outcome.SERVED
        await provider.close()

    async def _to_client(
        self,
        attempt: Attempt,
        client: web.WebSocketResponse,
        connection: ClientConnection,
        provider: aiohttp.ClientWebSocketResponse,
    ) -> Outcome:
        async for message in provider:
            is_told = message.type is WSMsgType.TEXT and self._usage.hear(message.data)
            if is_told:
                self._passing.take(self._billing())
            try:
                await _send(client, message)
                await connection.writable()
            except ConnectionError:
                attempt.client_disconnected = True
                return Outcome.CLIENT_GONE
            if is_told and not await self._has_room():
                return Outcome.EXHAUSTED
        if self._has_client_closed:
            is_regular = client.close_code in _REGULAR
            attempt.client_disconnected = not is_regular
            return Outcome.SERVED if is_regular else Outcome.CLIENT_GONE
        if provider.close_code in _REGULAR:
            return Outcome.SERVED
        tell_failure(self.log, attempt, f"the provider closed with {provider.close_code}")
        return Outcome.TRUNCATED

    async def _has_room(self) -> bool:
        """Whether what is held covers one more response about as large as the flat hold."""
        room, slice_nano = self._passing.room, self._job.hold_nano
        spent_nano = self._passing.spent_nano
        if self.is_bounded and self._unrated:
            room.refusal = UnpricedModel(
                f"The session used {min(self._unrated)}, which has no price for its model; an "
                "operator can add one to `pricing.rules`."
            )
            return False
        if not self.is_bounded or spent_nano + slice_nano // 2 <= room.held.nano:
            return True
        return await room.grow(self._passing.candidate(spent_nano + slice_nano)) is not None

    def _billing(self) -> Billing:
        """By what was told, where it has a price and can be believed; else by that or by the
        session, whichever is dearer: nobody pays nothing because a provider was mute."""
        usage, prices = self._usage.usage, self._job.tariff
        price, flat = prices.model_price, prices.billing(usage)
        if price is None or not _meters_tokens(prices):
            return flat
        units = {unit: count for unit, count in usage.units.items() if unit not in self._unrated}
        by_units = Billing(prices.upstream, price, units, usage.units, usage.suspect)
        is_mute = self._usage.has_answered and not usage.units
        if not (is_mute or usage.suspect or self._unrated):
            return by_units
        suspect = usage.suspect or "a session that did not tell all it used"
        dearer = by_units if _nano(by_units) >= _nano(flat) else flat
        return replace(dearer, suspect=suspect)

    @property
    def _unrated(self) -> set[str]:
        """What was told and has no price."""
        price = self._job.tariff.model_price
        if price is None:
            return set()
        return set(self._usage.units) - (price.sell.rates_pico.keys() & price.cost.rates_pico)

    async def end(self, outcome: Outcome, client: web.WebSocketResponse) -> web.StreamResponse:
        """Tell the client how it ended; raises where it has not begun."""
        error = self._passing.refusal
        if error is None and outcome is Outcome.EXHAUSTED:
            error = self._passing.room.refusal
        if not client.prepared:
            raise error or failed(outcome, upstream=self._job.provider.name)
        with contextlib.suppress(ConnectionError):
            if outcome is Outcome.TRUNCATED:
                error = failed(Outcome.NONSENSE, upstream=self._job.provider.name)
            if error is not None:
                await client.send_str(error_event(error))
            await client.close(code=_CODES.get(outcome, WSCloseCode.OK))
        return client


_CODES = {
    Outcome.EXHAUSTED: WSCloseCode.POLICY_VIOLATION,
    Outcome.STOPPED: WSCloseCode.POLICY_VIOLATION,
    Outcome.TRUNCATED: WSCloseCode.INTERNAL_ERROR,
}


def error_event(error: ApiError) -> str:
    """An error as an event of a session, in OpenAI's shape."""
    words = error.words
    return orjson.dumps(
        {
            "type": "error",
            "error": {
                "type": words.type,
                "code": words.code,
                "message": words.message,
                "param": words.param,
            },
        }
    ).decode()


async def _send(
    to: web.WebSocketResponse | aiohttp.ClientWebSocketResponse, message: aiohttp.WSMessage
) -> None:
    if message.type is WSMsgType.TEXT:
        await to.send_str(message.data)
    elif message.type is WSMsgType.BINARY:
        await to.send_bytes(message.data)
