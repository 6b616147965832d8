"""The guard of one stream: its output never runs far ahead of what is held for it.

Asked after every event, it costs a comparison. Near the end of what is held, it has the hold grown
by a slice while the stream goes on; the stream waits only when the hold is used up, and for one
answer of Redis at most. Refused, it ends there. Every slice of output it has the flags looked at:
for a fast stream the slice is the clock. What an upstream says early of its input counts, too: more
than was held for it is room that the output has no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from metering.background import spawn
from metering.caps import Candidate, Vector
from metering.meter import Meter
from proxy.allowance import SLICES_PART, Allowance

Grow = Callable[[Candidate], Awaitable[Vector | None]]
"""Has the hold grown: what is held then, or None when it stays as it is."""


class StreamGuard:
    """Watches the output of one stream. `close` it when the stream has ended."""

    def __init__(
        self,
        meter: Meter,
        allowance: Allowance,
        *,
        upstream: str,
        grow: Grow,
        look: Callable[[], None],
    ) -> None:
        self._meter, self._allowance = meter, allowance
        self._upstream, self._grow, self._look = upstream, grow, look
        self._growing: asyncio.Task[None] | None = None
        self._is_refused = False
        """Nothing more was to be had when it was asked for in advance: asked again at the end."""
        self._looks_at = allowance.slice_tokens
        self._input: Mapping[str, int] | None = None
        self._aim()

    def must_wait(self) -> bool:
        """Whether nothing is left, so that the stream has to wait for `has_room`."""
        if (read := self._meter.reported_input) is not self._input:
            self._has_read(read)
        if not self._meter.reaches(self._next, late_tokens=self._late):
            return False
        output = self._meter.output_seen
        if output >= self._looks_at:
            self._looks_at = output + self._allowance.slice_tokens
            self._look()
        if output >= self._allowance.asks_at and self._growing is None and not self._is_refused:
            self._ask(output)
        if output >= self._allowance.ends_at:
            return True
        self._aim()
        return False

    async def has_room(self) -> bool:
        """Wait until there is room for more output; False when there will be none."""
        has_asked = False
        while (output := self._meter.output_seen) >= self._allowance.ends_at:
            if has_asked and self._is_refused:
                return False
            growing = self._growing
            if growing is None:
                has_asked = True
                growing = self._ask(output)
            await asyncio.shield(growing)
        self._aim()
        return True

    def close(self) -> None:
        """The stream has ended: nothing is asked for any more."""
        if self._growing is not None:
            self._growing.cancel()

    def _has_read(self, read: Mapping[str, int] | None) -> None:
        is_news, self._input = read != self._input, read
        if read is not None and is_news:
            self._allowance.has_read(read)
            self._aim()

    def _ask(self, output: int) -> asyncio.Task[None]:
        candidate = self._allowance.more(self._upstream, output)
        self._growing = spawn(self._one_more(candidate), name="grow-hold")
        return self._growing

    async def _one_more(self, candidate: Candidate) -> None:
        held = None
        try:
            held = await self._grow(candidate)
        finally:
            self._growing = None
            self._is_refused = held is None
            if held is not None:
                self._allowance.grown(held)
                self._meter.output_max = max(
                    self._meter.output_max or 0, self._allowance.counted_tokens
                )
                self._aim()

    def _aim(self) -> None:
        """When there will be something to do: nothing before that costs more than a comparison."""
        asks_at = self._allowance.asks_at
        if self._is_refused or self._growing is not None:
            asks_at = self._allowance.ends_at
        self._next = min(self._looks_at, asks_at)
        # only the end has to be met to the token; it is further away than this from all else
        room = self._allowance.ends_at - self._next
        part = self._allowance.slice_tokens // SLICES_PART
        self._late = part if room >= part else 0
