"""Exchanges that are read to their end although the client has left: how many, and for how long.

`server.on_disconnect: drain` buys the provider's own number with an upstream that works for
nobody, so both are bounded; beyond them an exchange ends as under `abort`: the upstream is stopped
and what was counted is billed.
"""

from __future__ import annotations

import asyncio
from typing import Any

from proxy.settings import Server, Settings


class Drains:
    """The exchanges of this process that drain, by their tasks."""

    def __init__(self) -> None:
        self._ends: dict[asyncio.Task[Any], asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def begin(self, server: Server, task: asyncio.Task[Any] | None) -> bool:
        """Whether the exchange in `task`, which is one that drains, may go on without its client.

        If so the task is cancelled after `max_drain_s`; asking again changes nothing.
        """
        if task is None or task.done():
            return False
        if task in self._ends:
            return True
        if len(self._ends) >= server.max_drains:
            return False
        loop = asyncio.get_running_loop()
        self._ends[task] = loop.call_later(server.max_drain_s, task.cancel)
        task.add_done_callback(self._end)
        return True

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._ends.pop(task).cancel()


def is_drained(settings: Settings, model: str) -> bool:
    """Whether answers of this model are read to their end when the client leaves."""
    found = settings.models.get(model)
    if found is None or found.drains is None:
        return settings.server.on_disconnect == "drain"
    return found.drains
