"""Identical requests at once: one goes to an upstream, the others wait for its answer.

Within one process, whose requests see each other at no cost. Rules: nobody waits longer than it was
told to; where the first one fails, is refused or leaves, the next that waits takes its place; where
its answer is not for others, all go their own ways.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum

from metering.replies import Found


class Landed(Enum):
    """How a flight ended that brought no answer for others."""

    FAILED = "failed"
    """Nobody knows what the next one gets."""
    OWN = "own"
    """There was an answer, or a refusal, for that one request alone."""


class Flight:
    """One request under way, and who waits for it."""

    def __init__(self, flights: Flights, name: str) -> None:
        self._flights, self._name = flights, name
        self.landed: asyncio.Future[Found | Landed] = asyncio.get_running_loop().create_future()
        self.followers = 0

    def land(self, result: Found | Landed) -> None:
        """It has ended; the first word counts."""
        if not self.landed.done():
            self._flights.remove(self._name)
            self.landed.set_result(result)


class Flights:
    """The flights of a process, by the names of their replies."""

    def __init__(self) -> None:
        self._open: dict[str, Flight] = {}

    def __len__(self) -> int:
        return len(self._open)

    def remove(self, name: str) -> None:
        """The flight of that name is over."""
        del self._open[name]

    async def join(
        self, name: str, *, wait_s: float, quiet_s: float, on_quiet: Callable[[], None]
    ) -> Found | Flight | None:
        """The answer that another request brings; else a flight that the caller has to `land`; None
        where it goes its own way. `on_quiet` is called while it waits, every `quiet_s`."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + wait_s
        while (flight := self._open.get(name)) is not None:
            left_s = until_s - loop.time()
            if left_s <= 0:
                return None
            flight.followers += 1
            try:
                await asyncio.wait([flight.landed], timeout=min(left_s, quiet_s))
            finally:
                flight.followers -= 1
            if not flight.landed.done():
                on_quiet()
                continue
            result = flight.landed.result()
            if isinstance(result, Found):
                return result
            if result is Landed.OWN:
                return None
        flight = self._open[name] = Flight(self, name)
        return flight
