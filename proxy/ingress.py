"""Handlers: bytes in, exchange, bytes out. aiohttp's objects end here.

Order matters: the key is checked and a compressed body refused before a byte of the body is read.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any, NoReturn

import orjson
from aiohttp import hdrs, web

from metering.background import spawn
from metering.clock import now_ns
from metering.ids import is_id, uuid7
from metering.tenants import Principal
from proxy.admission import PromptCount, Route, Routes, count_prompts, plan
from proxy.attempts import Facts
from proxy.auth import Authenticator
from proxy.chat import ChatRequest
from proxy.door import Door
from proxy.errors import (
    ApiError,
    BodyTimeout,
    BodyTooLarge,
    InternalError,
    InvalidApiKey,
    InvalidRequest,
    MethodNotAllowed,
    ModelNotFound,
    PathNotFound,
    UnsupportedEncoding,
    in_band,
)
from proxy.exchange import Exchange, Finished
from proxy.relay import ClientGoneError
from proxy.wire import openai_chat

BODY_DEADLINE_S = 60.0
"""How long a request's body may take to arrive."""

WRITE_STALL_S = 30.0
"""A client that takes nothing for so long has left, whatever its connection says."""

SMALL_WRITE = 32 * 1024
"""Half of what a connection buffers before it makes us wait: such a write to an empty buffer never
does, and needs no deadline."""

THREAD_ABOVE_BYTES = 16 * 1024
"""Prompts longer than this are counted in a thread: 5 ms of encoding per 100 kB, ten times that for
odd text, would otherwise stop every other stream. tiktoken works without the interpreter's lock."""

DOOR = web.AppKey("door", Door)
AUTHENTICATOR = web.AppKey("authenticator", Authenticator)
ROUTES = web.AppKey("routes", Routes)

PARSE_IN_THREAD_ABOVE_BYTES = 1024 * 1024

_EVERY_ANSWER = {"Server": "tokenweir"}
"""In place of the server library's name and version, which are nobody's business."""

_LABELS = ("feature", "session", "run")


class WebClient:
    """The client of one exchange, over aiohttp's server."""

    def __init__(self, request: web.Request, request_id: str) -> None:
        self._request = request
        self._request_id = request_id
        self.response: web.StreamResponse | None = None

    async def start_stream(self, headers: Mapping[str, str]) -> None:
        """Send status and headers; see `relay.Client`."""
        self.response = web.StreamResponse(
            headers={
                **_EVERY_ANSWER,
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-cache",
                "X-Accel-Buffering": "no",
                "x-request-id": self._request_id,
                **headers,
            }
        )
        try:
            await self.response.prepare(self._request)
        except ConnectionError as error:
            raise ClientGoneError from error

    async def send(self, data: bytes) -> None:
        """Send bytes of the stream; see `relay.Client`."""
        assert self.response is not None
        transport = self._request.transport
        try:
            if len(data) <= SMALL_WRITE and transport and not transport.get_write_buffer_size():
                await self.response.write(data)
                return
            async with asyncio.timeout(WRITE_STALL_S):
                await self.response.write(data)
        except TimeoutError as error:
            # T-16: a client that never reads would hold room and an upstream for ever
            self._request.app[DOOR].metrics.stalled()
            raise ClientGoneError from error
        except ConnectionError as error:
            raise ClientGoneError from error

    def drop(self) -> None:
        """Close the connection at once: nobody is there, and nothing may wait for it."""
        if self._request.transport is not None:
            self._request.transport.abort()

    async def end(self, tail: bytes) -> web.StreamResponse:
        """Send the last bytes and close the stream."""
        assert self.response is not None
        try:
            async with asyncio.timeout(WRITE_STALL_S):
                await self.response.write_eof(tail)
        except (TimeoutError, ConnectionError) as error:
            raise ClientGoneError from error
        return self.response


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """`POST /v1/chat/completions`, streamed and not."""
    status = 499
    try:
        response = await _chat_completions(request)
        status = response.status
        return response
    finally:
        request.app[DOOR].metrics.answered(status)


async def _chat_completions(request: web.Request) -> web.StreamResponse:
    occurred_at = now_ns()
    exchange_id = uuid7(occurred_at // 1_000_000, os.urandom(10))
    request_id = f"req_{exchange_id.replace('-', '')}"
    door = request.app[DOOR]
    client = WebClient(request, request_id)
    try:
        principal = authenticated(request)
        chat = await _parse(await read_body(request, door))
        route = request.app[ROUTES].find(principal.tenant, chat.model)
        facts = Facts(
            exchange_id=exchange_id,
            request_id=request_id,
            principal=principal,
            proxy_id=door.proxy_id,
            occurred_at=occurred_at,
            model_requested=chat.model,
            stream=chat.stream,
            user=chat.user,
            step=_whole_number(request.headers, "x-weir-step"),
            client_retry_count=_whole_number(
                request.headers, "x-stainless-retry-count", is_ours=False
            ),
            **_labels(request.headers),
        )
        prompt = await _count(request, chat, route)
        planned = plan(route, chat, prompt)
        finished = await _serve(Exchange(door, facts, chat, planned, prompt), client)
    except ApiError as error:
        door.log.info("refused", request_id=request_id, code=error.label, status=error.status)
        door.metrics.refused(error.label)
        return await _refuse(client, error, request_id)
    except ClientGoneError:
        client.drop()
        return client.response or web.Response(status=499)
    except Exception as error:  # the top of a request's task: logged with its cause
        door.log.error("request_failed", request_id=request_id, exc_info=error)
        internal = InternalError(f"The gateway failed; its log has the cause under {request_id}.")
        door.metrics.refused(internal.label)
        return await _refuse(client, internal, request_id)
    return await _answer(client, finished, request_id)


async def list_models(request: web.Request) -> web.Response:
    """`GET /v1/models`: the models this tenant may ask for."""
    try:
        models = _visible_models(request)
    except ApiError as error:
        return refusal(error, fresh_request_id())
    return plain_json({"object": "list", "data": models})


async def get_model(request: web.Request) -> web.Response:
    """`GET /v1/models/{model}`: one of them."""
    name = request.match_info["model"]
    try:
        for model in _visible_models(request):
            if model["id"] == name:
                return plain_json(model)
        raise ModelNotFound(f"The model `{name[:100]}` does not exist here.", param="model")
    except ApiError as error:
        return refusal(error, fresh_request_id())


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
    return refusal(error, fresh_request_id())


def authenticated(request: web.Request) -> Principal:
    """Who is asking; InvalidApiKey tells nothing about why not."""
    headers = request.headers.getall("Authorization", [])
    principal = request.app[AUTHENTICATOR].authenticate(headers)
    if principal is None:
        raise InvalidApiKey(
            "Missing or unknown API key. Send `Authorization: Bearer <key>` with a key that "
            "`weir keys new` made."
        )
    return principal


async def read_body(request: web.Request, door: Door) -> bytes:
    """The request's body, bounded in size, time and encoding."""
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise UnsupportedEncoding("Send the body uncompressed: Content-Encoding is not accepted.")
    try:
        if request.content.is_eof():
            return await request.read()
        async with asyncio.timeout(BODY_DEADLINE_S):
            return await request.read()
    except TimeoutError:
        raise BodyTimeout(f"The body did not arrive within {BODY_DEADLINE_S:.0f} s.") from None
    except web.HTTPRequestEntityTooLarge:
        limit = door.settings.server.max_body_mb
        raise BodyTooLarge(f"The body is over {limit} MB (`server.max_body_mb`).") from None


def refusal(error: ApiError, request_id: str) -> web.Response:
    """The refusal as an HTTP answer; after an unread body the connection is closed."""
    response = web.Response(
        status=error.status,
        body=error.body(),
        headers={
            **_EVERY_ANSWER,
            "Content-Type": "application/json",
            "x-request-id": request_id,
            **error.headers(),
        },
    )
    if isinstance(error, BodyTooLarge | BodyTimeout | UnsupportedEncoding):
        response.force_close()
    return response


async def _parse(raw: bytes) -> ChatRequest:
    if len(raw) > PARSE_IN_THREAD_ABOVE_BYTES:
        return await asyncio.to_thread(openai_chat.parse_request, raw)
    return openai_chat.parse_request(raw)


async def _count(request: web.Request, chat: ChatRequest, route: Route) -> PromptCount:
    if (request.content_length or THREAD_ABOVE_BYTES + 1) > THREAD_ABOVE_BYTES:
        return await asyncio.to_thread(count_prompts, chat, route)
    return count_prompts(chat, route)


async def _serve(exchange: Exchange, client: WebClient) -> Finished:
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


async def _refuse(client: WebClient, error: ApiError, request_id: str) -> web.StreamResponse:
    if client.response is None:
        return refusal(error, request_id)
    try:
        return await client.end(in_band(error))
    except ClientGoneError:
        client.drop()
        return client.response


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
        headers={
            **_EVERY_ANSWER,
            "Content-Type": "application/json",
            "x-request-id": request_id,
            **finished.headers,
        },
    )


def _labels(headers: Mapping[str, str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for label in _LABELS:
        value = headers.get(f"x-weir-{label}")
        if value is None:
            continue
        if not is_id(value):
            _bad_header(f"x-weir-{label}", "1 to 64 letters, digits, dots, dashes or underscores")
        labels[label] = value
    return labels


def _whole_number(headers: Mapping[str, str], name: str, *, is_ours: bool = True) -> int | None:
    value = headers.get(name)
    if value is None:
        return None
    if value.isascii() and value.isdigit() and len(value) <= 9:
        return int(value)
    return _bad_header(name, "a whole number") if is_ours else None


def _bad_header(name: str, wanted: str) -> NoReturn:
    raise InvalidRequest(f"The header `{name}` must be {wanted}.", param=name)


def _visible_models(request: web.Request) -> list[dict[str, Any]]:
    principal = authenticated(request)
    return [
        {"id": name, "object": "model", "created": 0, "owned_by": "tokenweir"}
        for name in request.app[DOOR].settings.models
        if principal.tenant.may_use(name)
    ]


def fresh_request_id() -> str:
    """An id for an answer that belongs to no exchange."""
    return f"req_{uuid7(now_ns() // 1_000_000, os.urandom(10)).replace('-', '')}"


def plain_json(body: object, *, status: int = 200) -> web.Response:
    """An answer of our own making, with the headers of every answer."""
    return web.Response(
        status=status,
        body=orjson.dumps(body),
        headers={
            **_EVERY_ANSWER,
            "Content-Type": "application/json",
            "x-request-id": fresh_request_id(),
        },
    )
