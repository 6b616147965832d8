"""Handlers: bytes in, exchange, bytes out. aiohttp's objects end here.

Order matters: the key is checked and a compressed body refused before a byte of the body is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from aiohttp import hdrs, web

from metering.clock import monotonic_s, now_ns
from metering.ids import uuid7
from metering.tenant_caps import Labels
from metering.tenants import Principal
from proxy.admission import PromptCount, Route, count_prompts
from proxy.answering import Way, answer
from proxy.around import around_of
from proxy.attempts import Facts
from proxy.auth import ANTHROPIC_KEY, OTHER_CREDENTIALS, bare_key
from proxy.backlog import why_refused
from proxy.chat import ChatRequest
from proxy.choosing import Around
from proxy.client_connection import Patience
from proxy.crowd import Memory
from proxy.deadlines import DEADLINE, deadline_s, is_clients
from proxy.detours import longer_route
from proxy.errors import (
    ApiError,
    ContextTooLong,
    InternalError,
    InvalidApiKey,
    InvalidRequest,
    MethodNotAllowed,
    Overloaded,
    PathNotFound,
)
from proxy.explained import explained
from proxy.front import front_of
from proxy.intake import read_body
from proxy.native_objects import may_refer, reachable
from proxy.paced import asked_of, credit_target_ms, paced, target_ms
from proxy.planning import Plan, plan
from proxy.relay import ClientGoneError
from proxy.standing import check_context, labels_of, refuse_contradictions
from proxy.telling import Finished, tell_refusal
from proxy.web_client import EVERY_ANSWER, WebClient
from proxy.wire import ClientFormat, client_format
from proxy.wire.openai_chat.errors import read_error
from proxy.wishes import Wishes, wishes_of

THREAD_ABOVE_BYTES = 16 * 1024
"""Prompts longer than this are counted in a thread: 5 ms of encoding per 100 kB, ten times that for
odd text, would otherwise stop every other stream. tiktoken works without the interpreter's lock."""

ANTHROPIC_VERSION = "anthropic-version"
"""A header that Anthropic's clients send, and nobody else."""

PATIENCE = web.AppKey("patience", Patience)
MEMORY = web.AppKey("memory", Memory)

PARSE_IN_THREAD_ABOVE_BYTES = 1024 * 1024


def exchanges(name: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The handler for requests in the wire format of that name, streamed and not."""
    spoken = client_format(name)

    async def handle(request: web.Request) -> web.StreamResponse:
        status = 499
        try:
            response = await _exchange(request, spoken)
            status = response.status
            return response
        finally:
            front_of(request).door.metrics.answered(status)

    return handle


async def _exchange(request: web.Request, spoken: ClientFormat) -> web.StreamResponse:
    occurred_at = now_ns()
    exchange_id = uuid7(occurred_at // 1_000_000, os.urandom(10))
    request_id = f"req_{exchange_id.replace('-', '')}"
    front = front_of(request)
    door, client = front.door, WebClient(request, request_id, spoken.REQUEST_ID)
    try:
        principal = authenticated(request)
        if door.lifecycle.is_backlogged:
            raise why_refused(door)
        wishes = wishes_of(request.headers, principal.tenant)
        need_room(request, stream=False)
        chat = await _read(request, spoken)
        need_room(request, stream=chat.stream)
        route = front.routes.find(principal.tenant, chat.model, principal.key.project, occurred_at)
        if chat.may_refer:
            route = await reachable(door, principal.tenant, chat, route)
        refuse_contradictions(lambda name: request.headers.getall(name, ()))
        labels = labels_of(principal.key, request.headers, chat.user)
        standing = front.standings.find(principal.tenant, principal.key, labels)
        standing = door.balances.stand(principal.tenant, standing)
        facts = Facts(
            exchange_id=exchange_id,
            request_id=request_id,
            principal=principal,
            proxy_id=door.proxy_id,
            occurred_at=occurred_at,
            model_requested=chat.model,
            stream=chat.stream,
            step=whole_number(request.headers, "x-weir-step"),
            client_retry_count=_client_retries(request),
            feature=labels.feature,
            user=labels.user,
            session=labels.session,
            run=labels.run,
            caps=standing.caps,
            stops=standing.stops,
            target_latency_ms=target_ms(door.settings, chat.model, wishes),
            credit_target_ms=credit_target_ms(door.settings, principal.tenant, chat.model, wishes),
            **_deadline(request, chat.model),
        )
        prompt = await count_prompt(request, chat, route)
        check_context(principal.tenant, labels.feature, prompt.tokens(route.own[0].upstream))
        facts, made = await _planned(
            request, facts, chat, route, prompt=prompt, wishes=wishes, labels=labels
        )
        finished = await answer(door, facts, chat, made, Way(request, client, spoken))
    except ApiError as error:
        door.log.info("refused", request_id=request_id, code=error.label, status=error.status)
        tell_refusal(door, error.label)
        return await _refuse(client, error, request_id, spoken)
    except ClientGoneError:
        client.drop()
        return client.response or web.Response(status=499)
    except Exception as error:  # the top of a request's task: logged with its cause
        door.log.error("request_failed", request_id=request_id, exc_info=error)
        internal = InternalError(f"The gateway failed; its log has the cause under {request_id}.")
        tell_refusal(door, internal.label)
        return await _refuse(client, internal, request_id, spoken)
    return await _answer(client, finished, request_id, spoken)


async def _planned(
    request: web.Request,
    facts: Facts,
    chat: ChatRequest,
    route: Route,
    *,
    prompt: PromptCount,
    wishes: Wishes,
    labels: Labels,
) -> tuple[Facts, Plan]:
    """Where the request may go and what it holds there; the facts with what that adds to them."""
    front = front_of(request)
    door, pace = front.door, front.pace
    around = around_of(
        door,
        route,
        chat,
        wishes,
        who=facts.principal,
        labels=labels,
        exchange_id=facts.exchange_id,
        target_ms=facts.target_latency_ms,
    )
    count = partial(count_prompt, request, chat)
    made = await planned(route, chat, prompt, wishes, around, count=count)
    judged = pace.judge(made, asked_of(facts, wishes), monotonic_s())
    facts = paced(door, pace, facts, judged)
    if door.tracer is not None:
        door.tracer.stage("estimate")
    if wishes.explain:
        failing = door.health.passed_over(monotonic_s())
        facts = replace(facts, explained=explained(door.settings.server, judged.plan, failing))
    return facts, judged.plan


async def not_found(request: web.Request) -> web.Response:
    """Every path that is not in the table; the upstream's path is never the client's."""
    path = request.path[:200]
    error: ApiError = PathNotFound(f"There is no {request.method} {path} here.")
    for resource in request.app.router.resources():
        _, allowed = await resource.resolve(request)
        if allowed and request.method not in allowed and hdrs.METH_ANY not in allowed:
            error = MethodNotAllowed(
                f"{request.method} is not allowed on {path}.",
                headers={"Allow": ", ".join(sorted(allowed))},
            )
    return refusal(error, fresh_request_id(), _anthropics(request))


def _anthropics(request: web.Request) -> ClientFormat | None:
    """Anthropic's format, for a request that only a client of its could have meant."""
    spoken = client_format("anthropic_messages")
    is_below = request.path == spoken.PATH or request.path.startswith(f"{spoken.PATH}/")
    return spoken if is_below or ANTHROPIC_VERSION in request.headers else None


def authenticated(request: web.Request) -> Principal:
    """Who is asking; InvalidApiKey tells nothing about why not.

    A request with two credentials is refused before either is looked at, also where the second
    stands in a header that is not ours: whoever is in front of us may have believed that one.
    """
    headers = request.headers.getall("Authorization", [])
    others = [value for name in OTHER_CREDENTIALS for value in request.headers.getall(name, [])]
    if not headers and (keys := request.headers.getall(ANTHROPIC_KEY, [])):
        headers = [f"Bearer {key}" for key in keys]
    if len({*map(bare_key, headers), *others}) > 1:
        raise InvalidRequest(
            "The request carries two credentials that differ; send one `Authorization` header.",
            param="Authorization",
        )
    principal = (front := front_of(request)).authenticator.authenticate(headers)
    if principal is None:
        raise InvalidApiKey(
            "Missing or unknown API key. Send `Authorization: Bearer <key>` with a key that "
            "`weir keys new` made."
        )
    if front.door.tracer is not None:
        front.door.tracer.stage("authenticate")
    return principal


def refusal(error: ApiError, request_id: str, spoken: ClientFormat | None = None) -> web.Response:
    """The refusal as an HTTP answer, in OpenAI's shape or that of a format; what comes after some
    of them cannot be trusted."""
    words = error.words
    response = web.Response(
        status=error.status,
        body=spoken.error_body(words, request_id) if spoken else words.openai_body(),
        headers={
            **EVERY_ANSWER,
            "Content-Type": "application/json",
            **_ids(request_id, spoken),
            **error.headers(),
        },
    )
    if error.closes:
        response.force_close()
    return response


def need_room(request: web.Request, *, stream: bool) -> None:
    """Raises Overloaded where this process is short of memory."""
    if not request.app[MEMORY].has_room(stream=stream):
        what = "streams" if stream else "requests"
        raise Overloaded(f"This process is short of memory and takes no new {what} now.")


async def count_prompt(request: web.Request, chat: ChatRequest, route: Route) -> PromptCount:
    """The prompt for each upstream of the route; a long one is counted in a thread."""
    calibration = front_of(request).door.calibration
    if (request.content_length or THREAD_ABOVE_BYTES + 1) > THREAD_ABOVE_BYTES:
        return await asyncio.to_thread(count_prompts, chat, route, calibration)
    return count_prompts(chat, route, calibration)


def _client_retries(request: web.Request) -> int | None:
    return whole_number(request.headers, "x-stainless-retry-count", is_ours=False)


def _deadline(request: web.Request, model: str) -> dict[str, Any]:
    """By when it has to be over, and whether that is its client's own word."""
    asked_ms = whole_number(request.headers, DEADLINE)
    which = (front_of(request).door.settings, model, asked_ms)
    return {"deadline_s": deadline_s(*which), "is_deadline_own": is_clients(*which)}


async def planned(
    route: Route,
    chat: ChatRequest,
    prompt: PromptCount,
    wishes: Wishes,
    around: Around,
    *,
    count: Callable[[Route], Awaitable[PromptCount]],
) -> Plan:
    """The plan; for a prompt that is too long for the model asked for, that of its
    `context_fallbacks`, for which it has to be counted anew."""
    try:
        return plan(route, chat, prompt, wishes, around)
    except ContextTooLong:
        if (longer := longer_route(route)) is None:
            raise
        with contextlib.suppress(ApiError):  # none of them can serve it: that is what is told
            return plan(longer, chat, await count(longer), wishes, around)
        raise


async def _read(request: web.Request, spoken: ClientFormat) -> ChatRequest:
    """The request, parsed; its bytes are not kept any longer."""
    app = request.app
    limit_mb = (door := front_of(request).door).settings.server.max_body_mb
    with app[MEMORY].body() as share:
        raw = await read_body(request, limit_mb=limit_mb, patience=app[PATIENCE], share=share)
        if len(raw) > PARSE_IN_THREAD_ABOVE_BYTES:
            chat = await asyncio.to_thread(spoken.parse_request, raw)
        else:
            chat = spoken.parse_request(raw)
        refers = may_refer(raw)
    if door.tracer is not None:
        door.tracer.stage("read")
    passing = {name: _passing(name, request) for name in spoken.PASSES if name in request.headers}
    if passing or refers:
        chat = replace(chat, headers=passing, may_refer=refers)
    return chat


def _passing(name: str, request: web.Request) -> str:
    """A header that goes on: a list of plain words, and not a long one."""
    value = ",".join(request.headers.getall(name))
    if _PLAIN_LIST.fullmatch(value) is None:
        raise InvalidRequest(f"The header `{name}` must be a list of plain words.", param=name)
    return value


_PLAIN_LIST = re.compile(r"[A-Za-z0-9._, -]{1,1024}")


async def _refuse(
    client: WebClient, error: ApiError, request_id: str, spoken: ClientFormat
) -> web.StreamResponse:
    if client.response is None:
        return refusal(error, request_id, spoken)
    try:
        told = b"" if error.is_told else spoken.error_event(error.words, request_id)
        return await client.end(told)
    except ClientGoneError:
        client.drop()
        return client.response


async def _answer(
    client: WebClient, finished: Finished, request_id: str, spoken: ClientFormat
) -> web.StreamResponse:
    if client.response is not None:
        tail = finished.tail
        if finished.body is not None and not tail:  # a ping had begun the stream
            words = read_error(finished.status, finished.body)
            tail = spoken.error_event(words, request_id)
        try:
            return await client.end(tail)
        except ClientGoneError:
            client.drop()
            return client.response
    return web.Response(
        status=finished.status,
        body=finished.body,
        headers={
            **EVERY_ANSWER,
            "Content-Type": "application/json",
            **_ids(request_id, spoken),
            **finished.headers,
        },
    )


def _ids(request_id: str, spoken: ClientFormat | None) -> dict[str, str]:
    """The id under every name that somebody looks for."""
    ids = {"x-request-id": request_id}
    return ids if spoken is None else {**ids, spoken.REQUEST_ID: request_id}


def whole_number(headers: Mapping[str, str], name: str, *, is_ours: bool = True) -> int | None:
    """The number in a header; None without one, and for another's that is none."""
    value = headers.get(name)
    if value is None:
        return None
    if value.isascii() and value.isdigit() and len(value) <= 9:
        return int(value)
    if is_ours:
        raise InvalidRequest(f"The header `{name}` must be a whole number.", param=name)
    return None


def fresh_request_id() -> str:
    """An id for an answer that belongs to no exchange."""
    return f"req_{uuid7(now_ns() // 1_000_000, os.urandom(10)).replace('-', '')}"


def plain_json(body: object, *, status: int = 200, request_id: str | None = None) -> web.Response:
    """An answer of our own making, with the headers of every answer."""
    return web.Response(
        status=status,
        body=orjson.dumps(body),
        headers={
            **EVERY_ANSWER,
            "Content-Type": "application/json",
            "x-request-id": request_id or fresh_request_id(),
        },
    )
