"""What our processes have in common: how they are asked to stop, and how often they collect."""

from __future__ import annotations

import asyncio
import signal

from proxy.children import HURRY

GC_THRESHOLD = (20_000, 20, 100)
"""Requests leave next to no cycles; at Python's own 700 the collector took 5 % of the CPU.

The worker settles a fifth more with it, and with what it has loaded kept out of the collector."""


def stop_on_signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Set when we are to stop, and when we are to do so at once.

    SIGTERM may come twice without anybody being in a hurry: from a service manager that sends it to
    every process, and from the supervisor. So the second one of that is told by HURRY.
    """
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        if stop.is_set():  # Ctrl-C once more, where we run without a supervisor
            hurry.set()
        stop.set()

    def at_once() -> None:
        stop.set()
        hurry.set()

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, interrupted)
    loop.add_signal_handler(HURRY, at_once)
    return stop, hurry
