"""Handler of every path of OpenAI's API that is relayed as it is; `proxy.passthrough_paths` has the
table. As `proxy.ingress`, with which it shares whatever comes before the body is understood.
"""

from __future__ import annotations

import asyncio
import os

from aiohttp import web

from metering.background import spawn
from metering.clock import now_ns
from metering.ids import uuid7
from metering.tenants import Principal
from proxy.attempts import Facts
from proxy.backlog import why_refused
from proxy.crowd import BodyShare
from proxy.door import Door
from proxy.errors import ApiError, InternalError, InvalidRequest, MethodNotAllowed, PathNotFound
from proxy.front import front_of
from proxy.ingress import (
    MEMORY,
    PARSE_IN_THREAD_ABOVE_BYTES,
    PATIENCE,
    authenticated,
    need_room,
    not_found,
    refusal,
    whole_number,
)
from proxy.intake import read_body
from proxy.passthrough_batches import FAMILY
from proxy.passthrough_bodies import NOTHING_SENT, Sent, read_sent
from proxy.passthrough_errors import PathNotAllowed
from proxy.passthrough_exchange import Passing
from proxy.passthrough_forwarding import Relaying
from proxy.passthrough_paths import REALTIME, Row, Target, find
from proxy.passthrough_plan import Asked, Planned, plan_errand
from proxy.passthrough_rules import Passthrough
from proxy.relay import ClientGoneError
from proxy.standing import labels_of, refuse_contradictions
from proxy.telling import Finished, tell_refusal
from proxy.web_client import EVERY_ANSWER, WebClient

_PREFIX = "/v1/"


async def pass_through(request: web.Request) -> web.StreamResponse:
    """Any method on any path below `/v1/` that no other handler has."""
    raw_path, _, query = request.raw_path.partition("?")
    path = raw_path.removeprefix(_PREFIX) if raw_path.startswith(_PREFIX) else ""
    found = find(request.method, path)
    is_ours = found or path == REALTIME.template
    if is_ours and front_of(request).door.settings.passthrough is None:
        return await _not_configured(request)
    if found is None:
        return await not_found(request)
    status = 499
    try:
        response = await _pass_through(request, found, query)
        status = response.status
        return response
    finally:
        front_of(request).door.metrics.answered(status)


async def _not_configured(request: web.Request) -> web.Response:
    answer = await not_found(request)
    if answer.status == MethodNotAllowed.status:  # the path is one of ours, asked another way
        return answer
    return refusal(
        PathNotFound(
            f"{request.method} {request.path[:200]} is not relayed here: its operator can add the "
            "section `passthrough` to the configuration."
        ),
        answer.headers["x-request-id"],
    )


async def _pass_through(
    request: web.Request, found: Target | frozenset[str], query: str
) -> web.StreamResponse:
    occurred_at = now_ns()
    exchange_id = uuid7(occurred_at // 1_000_000, os.urandom(10))
    request_id = f"req_{exchange_id.replace('-', '')}"
    door = front_of(request).door
    client = WebClient(request, request_id, "x-request-id")
    try:
        finished = await _finished(
            request, found, query, client, exchange_id=exchange_id, occurred_at=occurred_at
        )
    except ApiError as error:
        door.log.info("refused", request_id=request_id, code=error.label, status=error.status)
        tell_refusal(door, error.label)
        return await _refuse(client, error, request_id)
    except ClientGoneError:
        client.drop()
        return client.response or web.Response(status=499)
    except Exception as error:  # the top of a request's task: logged with its cause
        door.log.error("request_failed", request_id=request_id, exc_info=error)
        internal = InternalError(f"The gateway failed; its log has the cause under {request_id}.")
        tell_refusal(door, internal.label)
        return await _refuse(client, internal, request_id)
    return await _answer(client, finished, request_id)


async def _finished(
    request: web.Request,
    found: Target | frozenset[str],
    query: str,
    client: WebClient,
    *,
    exchange_id: str,
    occurred_at: int,
) -> Finished:
    """The exchange, from the key to its commit; raises the refusal."""
    app, door = request.app, front_of(request).door
    principal = authenticated(request)
    if isinstance(found, frozenset):
        raise MethodNotAllowed(
            f"{request.method} is not allowed on {request.path[:200]}.",
            headers={"Allow": ", ".join(sorted(found))},
        )
    check_open(door, found.row)
    need_room(request, stream=False)
    with app[MEMORY].body() as share:
        sent = await _read(request, found.row, share)
        need_room(request, stream=sent.is_stream)
        prices = door.settings.prices.at(occurred_at)
        asked = Asked(found, sent, query, request.headers)
        planned = plan_errand(door.settings, principal, asked, prices)
        facts = facts_of(
            request,
            principal,
            found.row,
            model=sent.model,
            user=sent.user,
            is_stream=sent.is_stream,
            exchange_id=exchange_id,
            occurred_at=occurred_at,
        )
        owner, provider = planned.errand.owner, planned.errand.job.provider.name
        if owner is not None:
            await door.owned.check(owner, provider, planned.ids, makes_max=planned.makes_max)
        return await _serve(door, facts, planned, client)


def check_open(door: Door, row: Row) -> Passthrough:
    """Raises the refusal of a family that is relayed for nobody, and of everything while usage
    cannot be recorded."""
    terms = door.settings.passthrough
    assert terms is not None
    if row.family not in terms.allowed:
        raise PathNotAllowed(
            f"{row.method} {row.template} is not relayed here: `passthrough.allow` does not have "
            f"`{row.family}`."
        )
    if door.lifecycle.is_backlogged:
        raise why_refused(door)
    return terms


def facts_of(
    request: web.Request,
    principal: Principal,
    row: Row,
    *,
    model: str | None,
    user: str | None,
    is_stream: bool,
    exchange_id: str,
    occurred_at: int,
) -> Facts:
    """What is known of the exchange before anything is sent; raises for labels that may not be."""
    refuse_contradictions(lambda name: request.headers.getall(name, ()))
    labels = labels_of(principal.key, request.headers, user)
    front = front_of(request)
    standing = front.standings.find(principal.tenant, principal.key, labels)
    standing = front.door.balances.stand(principal.tenant, standing)
    return Facts(
        exchange_id=exchange_id,
        request_id=f"req_{exchange_id.replace('-', '')}",
        principal=principal,
        proxy_id=front.door.proxy_id,
        occurred_at=occurred_at,
        model_requested=model or row.name,
        stream=is_stream,
        step=whole_number(request.headers, "x-weir-step"),
        client_retry_count=whole_number(request.headers, "x-stainless-retry-count", is_ours=False),
        feature=labels.feature,
        user=labels.user,
        session=labels.session,
        run=labels.run,
        caps=standing.caps,
        stops=standing.stops,
    )


async def _read(request: web.Request, row: Row, share: BodyShare) -> Sent:
    """The body, of methods that have one."""
    app = request.app
    if row.method != "POST":
        if request.can_read_body:
            raise InvalidRequest(f"{row.method} takes no body.")
        return NOTHING_SENT
    limit_mb = front_of(request).door.settings.server.max_body_mb
    raw = await read_body(request, limit_mb=limit_mb, patience=app[PATIENCE], share=share)
    content_type = request.headers.get("Content-Type", "")
    if len(raw) > PARSE_IN_THREAD_ABOVE_BYTES:
        return await asyncio.to_thread(read_sent, raw, content_type)
    return read_sent(raw, content_type)


async def _serve(door: Door, facts: Facts, planned: Planned, client: WebClient) -> Finished:
    errand = planned.errand
    passing = Passing(door, facts, errand.job)
    relaying = Relaying(door, passing, errand, door.log.bind(request_id=facts.request_id))
    row = errand.target.row
    if not row.makes or (errand.owner is None and row.family != FAMILY):
        return await relaying.run(client)
    # it goes on when its client leaves: else the object would be there, and nobody's
    running = spawn(relaying.run(client), name="passthrough", on_error=_told_already)
    return await asyncio.shield(running)


def _told_already(error: BaseException) -> None:
    """How it ended is in its log line and its event, whether or not somebody waits."""


async def _refuse(client: WebClient, error: ApiError, request_id: str) -> web.StreamResponse:
    response = client.response
    if response is None:
        return refusal(error, request_id)
    if response.content_type != "text/event-stream":
        client.drop()  # a file that just ended here would look whole
        return response
    try:
        return await client.end(b"event: error\ndata: " + error.body() + b"\n\n")
    except ClientGoneError:
        client.drop()
        return response


async def _answer(client: WebClient, finished: Finished, request_id: str) -> web.StreamResponse:
    if client.response is not None:
        try:
            return await client.end(finished.tail)
        except ClientGoneError:
            client.drop()
            return client.response
    return web.Response(
        status=finished.status,
        body=finished.body,
        headers={**EVERY_ANSWER, "x-request-id": request_id, **finished.headers},
    )
