"""The application: paths, limits, and what belongs to its lifetime."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from proxy.admission import Routes
from proxy.auth import Authenticator
from proxy.door import Door
from proxy.ingress import (
    AUTHENTICATOR,
    DOOR,
    ROUTES,
    chat_completions,
    get_model,
    list_models,
    not_found,
)


@dataclass(frozen=True, slots=True)
class Readiness:
    """How to ask whether spend can be checked."""

    ask: Callable[[], Awaitable[bool]]


READY = web.AppKey("ready", Readiness)


def create_app(door: Door, ready: Callable[[], Awaitable[bool]]) -> web.Application:
    """The proxy's application over an open door; `ready` asks whether spend can be checked."""
    settings = door.settings
    app = web.Application(client_max_size=settings.server.max_body_mb * 1024 * 1024)
    app[DOOR] = door
    app[AUTHENTICATOR] = Authenticator(settings.tenants.values())
    app[ROUTES] = Routes(settings)
    app[READY] = Readiness(ready)
    app.router.add_post("/v1/chat/completions", chat_completions)
    app.router.add_get("/v1/models", list_models, allow_head=False)
    app.router.add_get("/v1/models/{model}", get_model, allow_head=False)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_route("*", "/{path:.*}", not_found)
    return app


async def healthz(request: web.Request) -> web.Response:
    """Alive: this process answers. Says nothing of what it depends on."""
    return web.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Ready: spend can be checked, so requests can be served."""
    if await request.app[READY].ask():
        return web.json_response({"status": "ready"})
    return web.json_response({"status": "not_ready"}, status=503)
