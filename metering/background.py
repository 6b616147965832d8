"""Tasks that outlive their caller: kept by reference, named, and never silently dead.

asyncio keeps only weak references to tasks, so a task nobody holds can vanish in mid-flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

_alive: set[asyncio.Task[Any]] = set()


def spawn(
    work: Coroutine[Any, Any, Any],
    *,
    name: str,
    on_error: Callable[[BaseException], None] | None = None,
) -> asyncio.Task[Any]:
    """Start `work` as a task of that name and keep it alive until it ends.

    `on_error` receives the exception of a task that failed (not of one that was cancelled);
    without it the failure stays in the task for whoever awaits it.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)
    _alive.add(task)

    def ended(done: asyncio.Task[Any]) -> None:
        _alive.discard(done)
        if on_error is not None and not done.cancelled():
            failure = done.exception()
            if failure is not None:
                on_error(failure)

    task.add_done_callback(ended)
    return task


async def ended(*names: str) -> None:
    """Wait until every task with one of these names that runs now has ended, however it does."""
    loop = asyncio.get_running_loop()
    tasks = [task for task in _alive if task.get_name() in names and task.get_loop() is loop]
    if tasks:
        await asyncio.wait(tasks)
