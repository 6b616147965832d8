"""The metrics process: `/metrics`, `/healthz` and `/readyz` with details, on a port of their own.

A child of the supervisor that does nothing else and only reads, so that a proxy that is stuck
cannot hide it. No key is asked for: the port is for operators, on loopback unless set otherwise.
"""

from __future__ import annotations

import asyncio
import platform
import signal
import socket
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version

import orjson
from aiohttp import web

from metering.clock import monotonic_s
from proxy.metrics_board import Board
from proxy.metrics_render import Reports, render, standing
from proxy.metrics_report import Report, read_report
from proxy.supervisor_open import SUPERVISOR

SHUTDOWN_S = 1.0
KEEPALIVE_S = 75.0


def serve_metrics(listening: Iterable[socket.socket], boards: Mapping[str, Board]) -> int:
    """Serve until SIGTERM; `boards` are those of all processes, by their names."""
    asyncio.run(_serve(listening, boards))
    return 0


def create_app(boards: Mapping[str, Board]) -> web.Application:
    """The application over the boards."""
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

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app


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
    runner = web.AppRunner(
        create_app(boards),
        access_log=None,
        shutdown_timeout=SHUTDOWN_S,
        keepalive_timeout=KEEPALIVE_S,
    )
    await runner.setup()
    try:
        for each in listening:
            await web.SockSite(runner, each).start()
        await stop.wait()
    finally:
        await runner.cleanup()
