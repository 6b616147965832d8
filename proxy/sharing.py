"""The loop of what processes tell each other through Redis, beside the path.

A Redis that is away ends no turn for good: others say that it is away, and the next turn tries
again. Until the first turn has come through, it is tried often: a fresh process should know soon.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from metering.caps import CapsUnavailableError

FIRST_EVERY_S = 0.2


async def repeat(
    turn: Callable[[], Awaitable[None]], every_s: float, *, name: str, log: Any
) -> None:
    """Take this turn every so often, forever; what goes wrong is logged as `<name>_failed`."""
    has_been, failed = False, f"{name}_failed"
    while True:
        try:
            await turn()
            has_been = True
        except CapsUnavailableError:
            pass
        except Exception as error:  # noqa: BLE001 - the top of a task; the next turn tries again
            log.error(failed, cause=repr(error))
            has_been = True
        await asyncio.sleep(every_s if has_been else min(every_s, FIRST_EVERY_S))
