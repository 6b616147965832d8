"""`Watch`: the task that asks who the masters are, for Cluster and Sentinel alike.

Rules:
- One round at a time, however many ask for it; rounds are AGAIN_S apart at least.
- While something is amiss it asks again and again, later and later if nobody answers; when all is
  well every `slow_s`, and at once when it is woken.
- A link that is not needed any more closes after its calls have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from metering.background import spawn
from metering.redis_link import RedisLink

AGAIN_S = 0.05
"""How soon a round follows another while something is amiss: a failover is noticed this late."""
AGAIN_MAX_S = 1.0
"""And how late, while nobody answers."""


class Watch:
    """Runs `ask`, which says whether anybody answered; `is_up` says whether all is well."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[bool]],
        is_up: Callable[[], bool],
        *,
        slow_s: float,
        name: str,
        on_error: Callable[[Exception], None] | None,
    ) -> None:
        self._ask = ask
        self._is_up = is_up
        self._slow_s = slow_s
        self._name = name
        self._on_error = on_error
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._retired: list[tuple[float, RedisLink]] = []
        self.up = asyncio.Event()

    def open(self) -> None:
        """Start asking; the first round begins in the next turn."""
        if self._task is None:
            self._task = spawn(self._run(), name=self._name)

    async def close(self) -> None:
        """Stop asking, and close what was retired."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        await self._close_retired(float("inf"))

    def wake(self) -> None:
        """Something has changed: ask now."""
        if not self._is_up():
            self.up.clear()
        self._woken.set()

    def retire(self, link: RedisLink, *, after_s: float) -> None:
        """Close a link, though not before its calls have ended."""
        self._retired.append((asyncio.get_running_loop().time() + after_s, link))

    async def _run(self) -> None:
        pause_s = AGAIN_S
        while True:
            self._woken.clear()
            heard = False
            try:
                heard = await self._ask()
            except Exception as error:  # noqa: BLE001 - the top of a task, which must go on asking
                if self._on_error is not None:
                    self._on_error(error)
            await self._close_retired(asyncio.get_running_loop().time())
            pause_s = AGAIN_S if heard else min(pause_s * 2, AGAIN_MAX_S)
            await asyncio.sleep(pause_s)
            if self._is_up():
                self.up.set()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._slow_s):
                        await self._woken.wait()

    async def _close_retired(self, now_s: float) -> None:
        due = [link for due_s, link in self._retired if due_s <= now_s]
        self._retired = [each for each in self._retired if each[0] > now_s]
        for link in due:
            await link.close()
