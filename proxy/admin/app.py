"""The console's application: every route of the catalogue behind one door.

The door asks who it is, reads what the route wants, calls the handler, notes the change, and gives
every failure its shape. Rules: no handler is reached otherwise; a change without its note in the
audit trail is told as a failure; nothing of a failure is told but its words, the rest is logged.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any, cast

import orjson
from aiohttp import web
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from metering.settlement.ledger.faults import LedgerDamagedError
from proxy.admin import catalogue
from proxy.admin.asked import BODY_BYTES_MAX, read_body, read_path, read_query, who_asks
from proxy.admin.audit import Changed, note
from proxy.admin.errors import LedgerUnavailable, RedisUnavailable
from proxy.admin.opened import Console
from proxy.admin.routes import SAFE, Answer, Call, Route
from proxy.errors import ApiError, InternalError, MethodNotAllowed, PathNotFound
from proxy.ingress import fresh_request_id, refusal
from proxy.metrics_server import is_local_name

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

GUARDED = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "tokenweir",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""On every answer, unless its handler says otherwise."""


def create_app(console: Console, *, is_local: bool) -> web.Application:
    """The application; `is_local` when only this machine can reach it."""
    app = web.Application(
        client_max_size=BODY_BYTES_MAX, middlewares=[_named_locally] if is_local else []
    )
    for route in catalogue.routes():
        app.router.add_route(route.method, route.path, _answering(route, console))
    app.router.add_route("*", "/{path:.*}", _nothing)
    return app


def _answering(route: Route, console: Console) -> _Handler:
    """The handler of one route, behind the door."""

    async def handle(request: web.Request) -> web.StreamResponse:
        request_id = fresh_request_id()
        try:
            answer = await _answer(route, request, console, request_id)
            return await _respond(request, answer, request_id)
        except Exception as error:  # noqa: BLE001 - the top: logged, and told in our words
            return _refused(error, route, request_id, console.log)

    return handle


async def _answer(route: Route, request: web.Request, console: Console, request_id: str) -> Answer:
    who = await who_asks(request, route, console)
    path, query = read_path(request, route), read_query(request, route)
    body = None if request.method in SAFE else await read_body(request, route)
    answer = await route.handler(Call(who, path, query, body, console, request))
    if route.audit is not None:
        await note(console, Changed(who, route.audit, answer, request_id))
    return answer


async def _respond(request: web.Request, answer: Answer, request_id: str) -> web.StreamResponse:
    headers = {
        **GUARDED,
        "Content-Type": answer.content_type,
        "x-request-id": request_id,
        **answer.headers,
    }
    if answer.stream is None:
        raw = answer.raw
        if raw is None:
            raw = b"" if answer.status == 204 else orjson.dumps(answer.body, default=_written)
        return web.Response(status=answer.status, body=raw, headers=headers)
    response = web.StreamResponse(status=answer.status, headers=headers)
    stream = cast("Any", answer.stream)
    async with contextlib.aclosing(stream):
        await response.prepare(request)
        with contextlib.suppress(ConnectionResetError):  # the client has left
            async for part in stream:
                await response.write(part)
            await response.write_eof()
    return response


def _written(value: Any) -> Any:
    """Numbers of documents keep their digits."""
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f"))
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def _refused(error: Exception, route: Route, request_id: str, log: Any) -> web.Response:
    known = _known(error)
    if known is None:
        log.error("admin_request_failed", path=route.path, request_id=request_id, exc_info=error)
        known = InternalError(f"The console failed; its log has the cause under {request_id}.")
    elif known is not error:
        log.warning("admin_request_refused", path=route.path, cause=repr(error))
    known.add_headers(GUARDED)
    return refusal(known, request_id)


def _known(error: Exception) -> ApiError | None:
    """The refusal that an exception of a library amounts to; None for a bug of ours."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, LedgerDamagedError):
        return LedgerUnavailable(f"The ledger is damaged: {error.how}.")
    if isinstance(error, SQLAlchemyError):
        cause = error.orig if isinstance(error, DBAPIError) else error
        return LedgerUnavailable(f"The ledger cannot be used now: {type(cause).__name__}.")
    if isinstance(error, RedisError | TimeoutError | ConnectionError):
        return RedisUnavailable("Redis does not answer; try again when it does.")
    return None


async def _nothing(request: web.Request) -> web.StreamResponse:
    """No such path, or not by this method."""
    methods = {route.method for route in catalogue.routes() if _leads(request.path, route.path)}
    error: ApiError = PathNotFound("There is nothing at this path; see /admin/v1/.")
    if methods:
        allowed = ", ".join(sorted(methods))
        error = MethodNotAllowed(f"Here only: {allowed}.", headers={"Allow": allowed})
    error.add_headers(GUARDED)
    return refusal(error, fresh_request_id())


def _leads(path: str, pattern: str) -> bool:
    """Whether a path is one of this pattern."""
    parts, wanted = path.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(
        word.startswith("{") or word == part for part, word in zip(parts, wanted, strict=True)
    )


@web.middleware
async def _named_locally(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """On loopback a request names this machine, so that no page reads it under its own name."""
    if is_local_name(request.headers.get("Host", "localhost")):
        return await handler(request)
    said = "Ask for this port by an address of this machine or as localhost."
    return web.Response(status=421, text=f"{said}\n", headers=GUARDED)
