"""A dead letter sent once more through the path that every event takes into the ledger.

Rules: nothing is booked twice, because the event's id decides, as it always does. It is booked at
the place in the stream where it was, so the day it counts for is the day it was spent. Mended bytes
must still be the same event of the same shard: a replay repairs what was recorded, it does not
invent usage. Whoever replays is named in the books.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from metering.clock import now_ns
from metering.events import payload_hash
from metering.redis_keys import RedisKeys
from metering.settlement.batches import Batch, Booking
from metering.settlement.entries import WRONG_HASH, Arrival, Entry, Malformed, read_entry
from metering.settlement.ledger.dead_letters import DeadLetter, is_data_failure, resolve
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.writer import write_batch
from metering.settlement.price_shelf import PriceShelf


class ReplayRefusedError(Exception):
    """Nothing was booked; the message says why, and what would help."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Whoever replays (`by`), with which bytes, and whether doubts about them are overruled."""

    by: str
    mended: bytes | None = None
    force: bool = False


async def replay(
    ledger: Ledger, redis: Redis, keys: RedisKeys, letter: DeadLetter, request: Replay
) -> str:
    """Book a dead letter and note it: booked, known (it was there) or conflict (see the ledger).

    One that was resolved before is left as it is. ReplayRefusedError when it still cannot be
    booked, or must not be without `force`.
    """
    if letter.outcome is not None:
        return letter.outcome
    arrival = _arrival(letter, keys, request)
    shelf = PriceShelf(ledger, redis, keys)
    try:
        missing = await shelf.fetch(arrival.event)
    except (RedisError, OSError) as error:
        raise ReplayRefusedError(
            f"the ledger does not have its prices, and Redis cannot be asked: {error}"
        ) from error
    if missing:
        raise ReplayRefusedError(
            f"nobody has published the price version {', '.join(sorted(missing))}: start a proxy "
            "with the configuration of that time"
        )
    try:
        booking = Booking(arrival, shelf.cards.rate(arrival.event))
        batch = Batch([booking], [])
        report = write_batch(ledger, batch, prices=shelf.unsaved(), now_ns=now_ns())
    except (ValueError, OverflowError) as error:
        raise ReplayRefusedError(f"it cannot be rated: {error}") from error
    except DBAPIError as error:
        if not is_data_failure(error):
            raise
        raise ReplayRefusedError(f"the ledger's database refuses it: {error.orig}") from error
    return resolve(ledger, letter, report, batch, by=request.by, now_ns=now_ns())


def _arrival(letter: DeadLetter, keys: RedisKeys, request: Replay) -> Arrival:
    """The event in the bytes, at the place where it was; refuses what is not that event."""
    body = letter.raw if request.mended is None else request.mended
    if not body and request.mended is not None:
        raise ReplayRefusedError("the file is empty")
    if not body:
        raise ReplayRefusedError(
            "its bytes are gone: give them with --file, from the proxy's spool or a backup"
        )
    if letter.reason == WRONG_HASH and request.mended is None and not request.force:
        raise ReplayRefusedError(
            "its bytes are not those the proxy wrote: look at them, then give mended ones with "
            "--file, or book these as they are with --force"
        )
    found = read_entry(Entry(letter.shard, letter.stream_id, body, payload_hash(body)))
    if isinstance(found, Malformed):
        raise ReplayRefusedError(found.reason)
    event = found.event
    if keys.shard(event.tenant) != letter.shard:
        raise ReplayRefusedError(
            f"tenant {event.tenant!r} is in shard {keys.shard(event.tenant)}, and this entry came "
            f"from shard {letter.shard}: it is another tenant's"
        )
    original = _event_id(letter.raw)
    if request.mended is not None and event.event_id != original and not request.force:
        raise ReplayRefusedError(
            f"the file holds event {event.event_id}, the dead letter {original or 'none'}: booking "
            "it could bill something twice; --force says that it is the same usage"
        )
    return found


def _event_id(raw: bytes) -> str | None:
    """The id that the original bytes name, as far as they can be read."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    found = body.get("event_id") if isinstance(body, dict) else None
    return found if isinstance(found, str) else None
