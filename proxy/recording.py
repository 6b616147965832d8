"""Recording a bill: caps and events in one script, or the spool; whoever cancels meanwhile.

The client's end waits for this, so whatever a client saw completed is recorded, whoever dies.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from metering.background import spawn
from metering.caps import CapState, CapsUnavailableError, Hold
from metering.spool import SpoolError
from proxy.billing import Bill
from proxy.door import Door
from proxy.refusals import not_recorded


class Tally:
    """A log for many bills of one request: each line is told once, with how many there were."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}

    def info(self, event: str, **fields: Any) -> None:
        """Keep a line of this level."""
        self._keep("info", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Keep a line of this level."""
        self._keep("error", event, fields)

    def tell(self, log: Any) -> None:
        """Write the lines, with what the first of each kind said."""
        for (level, event), (count, fields) in self._seen.items():
            getattr(log, level)(event, **fields, count=count)
        self._seen.clear()

    def _keep(self, level: str, event: str, fields: dict[str, Any]) -> None:
        count, first = self._seen.get((level, event), (0, fields))
        self._seen[level, event] = count + 1, first


async def record(
    door: Door, hold: Hold, made: Bill, request_id: str, *, tally: Tally | None = None
) -> tuple[CapState, ...]:
    """Commit the bill, or spool it; where the caps stand after it, when that is known.

    With a `tally` it is told there what went wrong, and not in the log.

    Raises UsageNotRecorded when neither Redis nor the disk takes it: the hold stays then, and what
    its checkpoint says is booked once it has expired. Cancelling does not stop it: what
    the first try did is unknown then, and a second one out of reach adds nothing twice.
    """
    log = door.log if tally is None else tally
    try:
        return await _record(door, hold, made, request_id, log)
    except asyncio.CancelledError:
        again = spawn(_record(door, hold, made, request_id, log), name="record-again")
        while not again.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(again)
        again.result()
        raise


async def _record(
    door: Door, hold: Hold, made: Bill, request_id: str, log: Any
) -> tuple[CapState, ...]:
    is_spooled = made.spool_seq is not None and await _spool_first(
        door, hold, made, request_id, log
    )
    try:
        committed = await door.caps.commit(hold, made.actual, made.events)
    except CapsUnavailableError as error:
        if not is_spooled:
            await _spool(door, hold, made, request_id, log, why=str(error))
        # the outage is told once, not here
        log.info("usage_spooled", request_id=request_id, cause=str(error))
        return ()
    if made.spool_seq is not None:
        door.spool.committed(made.spool_seq)
    return committed.states


async def _spool(
    door: Door, hold: Hold, made: Bill, request_id: str, log: Any, *, why: str
) -> None:
    """The disk in the place of Redis, which did not take it because of `why`."""
    try:
        await door.spool.append(hold, made.actual, made.events, seq=made.spool_seq)
    except (OSError, SpoolError) as error:
        log.error("usage_not_recorded", request_id=request_id, cause=str(error), redis=why)
        raise not_recorded() from error


async def _spool_first(door: Door, hold: Hold, made: Bill, request_id: str, log: Any) -> bool:
    """`metering.spool: always`; a disk that is full does not stop what Redis can take."""
    try:
        await door.spool.append(hold, made.actual, made.events, seq=made.spool_seq)
    except (OSError, SpoolError) as error:
        log.error("spool_failed", request_id=request_id, cause=str(error))
        return False
    return True
