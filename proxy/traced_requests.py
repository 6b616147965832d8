"""The span around every request under `/v1`, and the trace's id in the log. Only where it is on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from aiohttp import web
from aiohttp.typedefs import Middleware
from structlog.contextvars import bind_contextvars, reset_contextvars

from proxy.spans import Value
from proxy.traceparent import TRACEPARENT
from proxy.tracing import Tracer

CLIENT_GONE = 499

_CACHE = "x-weir-cache"

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


def traced(tracer: Tracer) -> Middleware:
    """The middleware; probes of health are no requests."""

    @web.middleware
    async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith("/v1/"):
            return await handler(request)
        trace, token = tracer.begin(request.headers.getall(TRACEPARENT, ()), request.path)
        bound = bind_contextvars(trace_id=trace.trace_id)
        response: web.StreamResponse | None = None
        try:
            response = await handler(request)
            return response
        finally:
            reset_contextvars(**bound)
            name, told = _told(request, response)
            tracer.end(trace, token, name, told)

    return around


def _told(
    request: web.Request, response: web.StreamResponse | None
) -> tuple[str, dict[str, Value]]:
    """The span's name and what HTTP says of it: the path as our table has it, never as written."""
    resource = request.match_info.route.resource
    route = "/v1" if resource is None else resource.canonical
    status = CLIENT_GONE if response is None else response.status
    told: dict[str, Value] = {
        "http.request.method": request.method,
        "http.route": route,
        "http.response.status_code": status,
    }
    if response is not None and (cache := response.headers.get(_CACHE)) is not None:
        told["weir.cache"] = cache
    return f"{request.method} {route}", told
