"""Ending an exchange from outside: somebody paused or killed a scope that it runs in, or its
deadline has passed.

The renewals find that out in a task of their own. What the exchange waits for just then (its
upstream, its client, Redis) is cancelled, as by a timeout, and it goes on to settle what it has.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from metering.caps import Denial


class Halt:
    """Surrounds what may be ended; `pull` ends it. Once is enough.

    Like `asyncio.timeout`, which does the work, it raises TimeoutError where the cancelling came
    through, unless somebody else has cancelled the task as well.
    """

    def __init__(self) -> None:
        self.denial: Denial | None = None
        """Why it was ended; None as long as it was not."""
        self._scope = asyncio.timeout(None)
        self._is_inside = False
        self._late_at: float | None = None
        self.is_clients_end = False
        """Whether its deadline is one that the client set for itself."""

    @property
    def is_late(self) -> bool:
        """Whether it was ended at its deadline. The clock does not tell: a timer may fire a moment
        before its time."""
        return self._late_at is not None and not self.is_pulled and self._scope.expired()

    def end_at(self, loop_s: float, *, is_clients: bool = False) -> None:
        """End it at this time of the loop's clock; call it before it begins."""
        self._late_at, self.is_clients_end = loop_s, is_clients

    @property
    def is_pulled(self) -> bool:
        """Whether it has been ended."""
        return self.denial is not None

    def pull(self, denial: Denial) -> None:
        """End it, now or, if it has not begun, at its beginning."""
        if self.denial is None and not self.is_late:
            self.denial = denial
            if self._is_inside:
                self._scope.reschedule(asyncio.get_running_loop().time())

    async def __aenter__(self) -> Halt:
        await self._scope.__aenter__()
        self._is_inside = True
        if self.is_pulled:
            self._scope.reschedule(asyncio.get_running_loop().time())
        elif self._late_at is not None:
            self._scope.reschedule(self._late_at)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_inside = False
        await self._scope.__aexit__(kind, error, trace)
