"""The end of a proxy process: the door closes, exchanges go on for a while, the rest is cut.

Rules: what was counted is committed or spooled before the process ends; nobody waits for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from aiohttp import web

from metering.background import ended
from metering.clock import monotonic_s
from proxy.renewals import Renewals

if TYPE_CHECKING:
    from proxy.services import Services

SETTLE_S = 3.0
"""How long exchanges that were cut at a stop may take to commit or spool what they have counted."""

QUIET_S = 1.0
"""How long requests that are no exchange yet, or no more, may hold up a stop: a body that still
comes, an end that is still being read. aiohttp gives them as much again, twice."""

STOP_POLL_S = 0.02


async def drain(
    runner: web.AppRunner, services: Services, *, drain_s: float, hurry: asyncio.Event
) -> None:
    """Close the door, let exchanges go on for `drain_s`, cut the rest, and see all of it settled.

    The server's own shutdown cancels handlers and waits for none of them, so it comes last.
    """
    log, open_now = services.door.log, services.renewals
    for site in list(runner.sites):
        await site.stop()
    await asyncio.sleep(0)  # requests that have come already are in their handlers after this
    if runner.server is not None:
        runner.server.pre_shutdown()  # idle connections close, the others after their answer
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(drain_s):
            await _quiet(runner, open_now, hurry)
    services.door.lifecycle.is_stopping = True
    await _cut(open_now, log)
    await runner.cleanup()
    await _cut(open_now, log)  # what became an exchange while the others were settled


async def _quiet(runner: web.AppRunner, open_now: Renewals, hurry: asyncio.Event) -> None:
    """Return once no exchange is open and no connection is, or nobody wants to wait for it."""
    busy_s = monotonic_s()
    while not hurry.is_set():
        if len(open_now):
            busy_s = monotonic_s()
        elif not connections(runner) or monotonic_s() - busy_s > QUIET_S:
            return
        await asyncio.sleep(STOP_POLL_S)


def connections(runner: web.AppRunner) -> int:
    """The connections of clients, idle ones too."""
    return len(runner.server.connections) if runner.server is not None else 0


async def _cut(open_now: Renewals, log: Any) -> None:
    """End the exchanges that are still open: each bills what it has counted until now."""
    if not (cut := open_now.cut()):
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_S):
            while len(open_now):  # noqa: ASYNC110 - it is a list of others' doings, with no event
                await asyncio.sleep(STOP_POLL_S)
            # what a client's key has run is noted after it is settled, by a task of its own: a
            # claim that stays would let the same request run, and be billed, once more
            await ended("exchange")
            await ended("end-claim")
    log.warning("exchanges_cut", exchanges=cut, unsettled=len(open_now))
