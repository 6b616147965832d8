"""The metrics process: `/metrics`, `/healthz` and `/readyz` with details, on a port of their own.

A child of the supervisor that does nothing else and only reads, so that a proxy that is stuck
cannot hide it. No key is asked for: the port is for operators, on loopback unless set otherwise.

Rules: clients have the deadlines of the other port, and are few; on loopback a request names this
machine, so that no web page that an operator opens can read it under a name of its own.
"""

from __future__ import annotations

import asyncio
import ipaddress
import platform
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from metering.clock import monotonic_s
from proxy.client_connection import PATIENCE
from proxy.crowd import Crowd, connections_bound, raise_file_limit
from proxy.metrics_board import Board
from proxy.metrics_render import Reports, render, standing
from proxy.metrics_report import Report, read_report
from proxy.server import Runner
from proxy.sockets import BACKLOG, is_loopback
from proxy.supervisor_open import SUPERVISOR

SHUTDOWN_S = 1.0

CONNECTIONS_MAX = 64
"""Scrapers are few; it takes nothing from the proxies when they are many."""


def serve_metrics(listening: Iterable[socket.socket], boards: Mapping[str, Board]) -> int:
    """Serve until SIGTERM; `boards` are those of all processes, by their names."""
    asyncio.run(_serve(listening, boards))
    return 0


def create_app(boards: Mapping[str, Board], *, is_local: bool = False) -> web.Application:
    """The application over the boards; `is_local` when only this machine can reach it."""
    build = (_version(), platform.python_version())

    def reports() -> dict[str, Report]:
        found = {name: read_report(board) for name, board in boards.items()}
        return {name: report for name, report in found.items() if report is not None}

    async def metrics(request: web.Request) -> web.Response:
        collector = Reports(reports(), monotonic_s(), build)
        body, content_type = render(collector, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def healthz(request: web.Request) -> web.Response:
        """200 while every process reports; a stuck or missing one is named."""
        processes = standing(reports(), monotonic_s())
        missing = [name for name in boards if name not in processes or processes[name]["is_stale"]]
        body = {
            "status": "stuck" if missing else "ok",
            "not_reporting": missing,
            "processes": processes,
        }
        return _json(body, ok=not missing)

    async def readyz(request: web.Request) -> web.Response:
        """200 while some proxy serves requests and nobody has asked for the end."""
        processes = standing(reports(), monotonic_s())
        is_stopping = bool(processes.get(SUPERVISOR, {}).get("is_stopping"))
        is_ready = any(each.get("is_ready") and not each["is_stale"] for each in processes.values())
        word = "draining" if is_stopping else "ready" if is_ready else "not_ready"
        return _json({"status": word, "processes": processes}, ok=word == "ready")

    app = web.Application(middlewares=[_named_locally] if is_local else [])
    app.on_response_prepare.append(_unsigned)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app


def create_runner(app: web.Application) -> web.AppRunner:
    """The server around it, with the bounds of the port for requests."""
    return Runner(
        app,
        access_log=None,
        shutdown_timeout=SHUTDOWN_S,
        patience=PATIENCE,
        crowd=Crowd(connections_bound(CONNECTIONS_MAX)),
    )


def is_local_name(host: str) -> bool:
    """Whether a `Host` names this machine and nothing that a stranger's name server could."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost" or name.endswith(".localhost") or name == socket.gethostname().lower():
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@web.middleware
async def _named_locally(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    if not is_local_name(request.headers.get("Host", "localhost")):
        said = "Ask for this port by an address of this machine or as localhost."
        return web.Response(status=421, text=f"{said}\n")
    return await handler(request)


async def _unsigned(request: web.Request, response: web.StreamResponse) -> None:
    """The name and version of the server library are nobody's business."""
    response.headers["Server"] = "tokenweir"


def _version() -> str:
    try:
        return version("tokenweir")
    except PackageNotFoundError:  # run from a checkout that nobody installed
        return "checkout"


def _json(body: object, *, ok: bool) -> web.Response:
    return web.Response(
        status=200 if ok else 503, body=orjson.dumps(body), content_type="application/json"
    )


async def _serve(listening: Iterable[socket.socket], boards: Mapping[str, Board]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    raise_file_limit()
    sockets = list(listening)
    is_local = all(is_loopback(each.getsockname()[0]) for each in sockets)
    runner = create_runner(create_app(boards, is_local=is_local))
    await runner.setup()
    try:
        for each in sockets:
            await web.SockSite(runner, each, backlog=BACKLOG).start()
        await stop.wait()
    finally:
        await runner.cleanup()
