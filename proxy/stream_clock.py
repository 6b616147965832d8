"""The clock of one streamed answer: when its upstream has been silent for too long, and when its
client has.

An upstream's silence is measured in events, because comments and half an event keep a connection
busy without saying anything. One timer for all of it, set anew when it fires and when another
bound begins to count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType


class StreamClock:
    """Surrounds what waits for the answer; ends it by a TimeoutError when it has stalled.

    `first_s` bounds the time to the first event, `stall_s` that between two; None for no bound.
    `on_quiet` is called when the client has been told nothing for `quiet_after_s` at first, and for
    `quiet_s` later (0 for never).
    """

    def __init__(
        self,
        *,
        first_s: float | None,
        stall_s: float | None,
        quiet_after_s: float,
        quiet_s: float,
        on_quiet: Callable[[], None],
    ) -> None:
        self._limit_s, self._stall_s = first_s, stall_s
        self._silence_s, self._quiet_s = quiet_after_s, quiet_s
        self._on_quiet = on_quiet
        self._loop = asyncio.get_running_loop()
        self._heard_s = self._told_s = self._loop.time()
        self._is_first_event = self._is_first_word = True
        self._away_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._scope = asyncio.timeout(None)
        self.stalled_s: float | None = None
        """The bound that was passed; None as long as none was."""

    def heard(self) -> None:
        """The upstream said something."""
        self._heard_s = self._loop.time()
        if self._is_first_event:
            self._is_first_event = False
            self._limit_s = self._stall_s
            self._arm()

    def told(self) -> None:
        """The client was told something."""
        self._told_s = self._loop.time()
        if self._is_first_word:
            self._is_first_word = False
            self._silence_s = self._quiet_s
            self._arm()

    def turn_away(self) -> None:
        """From now on it is us, or the client, who is waited for: the upstream owes nothing."""
        self._away_s = self._loop.time()

    def turn_back(self) -> None:
        """The upstream is listened to again."""
        if self._away_s is not None:
            self._heard_s += self._loop.time() - self._away_s
            self._away_s = None

    async def __aenter__(self) -> StreamClock:
        await self._scope.__aenter__()
        self._arm()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._disarm()
        await self._scope.__aexit__(kind, error, trace)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._disarm()
        due = []
        if self._limit_s is not None:
            since_s = self._heard_s if self._away_s is None else self._loop.time()
            due.append(since_s + self._limit_s)
        if self._quiet_s:
            due.append(self._told_s + self._silence_s)
        self._timer = self._loop.call_at(min(due), self._tick) if due else None

    def _tick(self) -> None:
        now_s = self._loop.time()
        if self._away_s is not None:  # the upstream's time stands still
            self.turn_back()
            self.turn_away()
        elif self._limit_s is not None and now_s >= self._heard_s + self._limit_s:
            self.stalled_s = self._limit_s
            self._scope.reschedule(now_s)
            return
        if self._quiet_s and now_s >= self._told_s + self._silence_s:
            self.told()
            self._on_quiet()
        self._arm()
