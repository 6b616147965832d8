"""The application: paths, limits, and what belongs to its lifetime."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from proxy import client_connection
from proxy.client_connection import Patience
from proxy.crowd import Crowd, Memory, connections_bound, memory_bound, resident_bytes
from proxy.door import Door
from proxy.events_api import post_events
from proxy.front import RECEPTION, Reception, open_front
from proxy.ingress import (
    MEMORY,
    PATIENCE,
    exchanges,
    not_found,
    plain_json,
)
from proxy.meter_api import meter
from proxy.models_api import counts, get_model, list_models
from proxy.own_api import get_key, get_usage
from proxy.passthrough import pass_through
from proxy.realtime import realtime
from proxy.server import Runner
from proxy.stripe_webhook import PATH as STRIPE_PATH
from proxy.stripe_webhook import stripe_webhook
from proxy.traced_requests import traced
from proxy.wire import client_format, client_formats, counting


@dataclass(frozen=True, slots=True)
class Readiness:
    """How to ask whether spend can be checked."""

    ask: Callable[[], Awaitable[bool]]


READY = web.AppKey("ready", Readiness)


def create_app(
    door: Door,
    ready: Callable[[], Awaitable[bool]],
    *,
    patience: Patience = client_connection.PATIENCE,
) -> web.Application:
    """The proxy's application over an open door; `ready` asks whether spend can be checked."""
    server = door.settings.server
    app = web.Application(
        client_max_size=server.max_body_mb * 1024 * 1024,
        middlewares=() if door.tracer is None else (traced(door.tracer),),
    )
    app[PATIENCE] = patience
    app[MEMORY] = Memory(memory_bound(server.memory_limit_mb, server.workers), resident_bytes)
    app[RECEPTION] = Reception(open_front(door))
    app[READY] = Readiness(ready)
    for name in client_formats():
        spoken = client_format(name)
        app.router.add_post(spoken.PATH, exchanges(name))
        if (asked := counting(spoken)) is not None:
            app.router.add_post(asked.COUNT_PATH, counts(asked))
    app.router.add_post("/v1/events", post_events)
    app.router.add_post("/v1/meter", meter)
    app.router.add_post(STRIPE_PATH, stripe_webhook)
    app.router.add_get("/v1/models", list_models, allow_head=False)
    app.router.add_get("/v1/models/{model}", get_model, allow_head=False)
    app.router.add_get("/v1/key", get_key, allow_head=False)
    app.router.add_get("/v1/usage", get_usage, allow_head=False)
    app.router.add_get("/v1/realtime", realtime, allow_head=False)
    app.router.add_route("*", "/v1/{path:.*}", pass_through)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_route("*", "/{path:.*}", not_found)
    return app


def create_runner(
    app: web.Application,
    *,
    shutdown_timeout_s: float,
    handler_cancellation: bool = True,
    tls: ssl.SSLContext | None = None,
) -> Runner:
    """The server around the application, with the limits that aiohttp leaves open.

    Bodies are never unpacked (a compressed one is refused, whatever it is compressed with), a
    handler is told when its client leaves, and whatever a client may be slow with has a deadline.
    """
    door = app[RECEPTION].now.door
    server = door.settings.server
    return Runner(
        app,
        handler_cancellation=handler_cancellation,
        access_log=None,
        auto_decompress=False,
        patience=app[PATIENCE],
        on_stall=door.metrics.stalled,
        crowd=Crowd(connections_bound(server.max_connections), server.max_connections_per_ip),
        shutdown_timeout=shutdown_timeout_s,
        tls=tls,
    )


async def healthz(request: web.Request) -> web.Response:
    """Alive: this process answers. Says nothing of what it depends on."""
    return plain_json({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Ready: spend can be checked, so requests can be served."""
    if await request.app[READY].ask():
        return plain_json({"status": "ready"})
    return plain_json({"status": "not_ready"}, status=503)
