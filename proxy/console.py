"""The console: the process of the admin API and the dashboard, on a port of their own.

A child of the supervisor, so that no question of a person shares an event loop with requests. It
takes new settings from its line like the others. `proxy.console_alone` runs it without one.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from aiohttp import web

from metering.background import spawn
from proxy import telemetry
from proxy.client_connection import PATIENCE
from proxy.crowd import Crowd, connections_bound, raise_file_limit
from proxy.server import Runner
from proxy.settings_line import Answer, ChildLine
from proxy.sockets import BACKLOG, is_loopback

if TYPE_CHECKING:
    from proxy.admin.opened import Console
    from proxy.family import ConsoleProcess

SHUTDOWN_S = 1.0

CONNECTIONS_MAX = 256
"""People and their scripts; a dashboard holds one connection open, and a few come and go."""


def run_console(process: ConsoleProcess) -> int:
    """Serve until SIGTERM."""
    telemetry.configure()
    line = process.line

    def begin(console: Console) -> None:
        if line is not None:
            spawn(_follow(line, console), name="settings")

    asyncio.run(serve(process, begin))
    return 0


def create_runner(app: web.Application) -> Runner:
    """The server around the application, with the bounds of the port for requests."""
    return Runner(
        app,
        access_log=None,
        auto_decompress=False,
        shutdown_timeout=SHUTDOWN_S,
        patience=PATIENCE,
        crowd=Crowd(connections_bound(CONNECTIONS_MAX)),
    )


async def serve(
    process: ConsoleProcess,
    begin: Callable[[Console], None],
    *,
    signals: Iterable[signal.Signals] = (signal.SIGTERM,),
) -> None:
    """Serve until one of the signals; `begin` starts what keeps the settings the newest."""
    stop = asyncio.Event()
    for number in signals:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    from proxy.admin.app import create_app  # noqa: PLC0415 - only the console loads the ledger
    from proxy.admin.opened import Console  # noqa: PLC0415

    raise_file_limit()
    console = Console(process.settings, telemetry.logger("console"))
    is_local = all(is_loopback(each.getsockname()[0]) for each in process.sockets)
    runner = create_runner(create_app(console, is_local=is_local))
    await runner.setup()
    try:
        for each in process.sockets:
            await web.SockSite(runner, each, backlog=BACKLOG).start()
        begin(console)
        await stop.wait()
    finally:
        await runner.cleanup()
        await console.close()


async def _follow(line: ChildLine, console: Console) -> None:
    """Take up the settings that come on the line. Runs until it is cancelled."""
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(line.fileno(), readable.set)
    try:
        while True:
            await readable.wait()
            readable.clear()
            while (change := line.receive()) is not None:
                console.settings = change.settings
                line.say(Answer(change.generation))
    finally:
        loop.remove_reader(line.fileno())
