"""A batch into the ledger, whatever single event in it the database refuses.

Rules: a batch that fails because of its data is halved until the one that cannot be written stands
alone; that one becomes a dead letter and the others are booked. Each part is a transaction of its
own: the caller acknowledges only after all of them, and a kill in between repeats what is absorbed.
Trouble of any other kind is thrown on and condemns nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.exc import DBAPIError

from metering.settlement.batches import Batch, BatchReport
from metering.settlement.entries import Malformed
from metering.settlement.ledger.dead_letters import is_data_failure
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.writer import write_batch


def write_parts(
    ledger: Ledger, batch: Batch, *, prices: Mapping[str, bytes], now_ns: int
) -> list[tuple[Batch, BatchReport]]:
    """Settle a batch in as many parts as it takes, with what became of each."""
    try:
        return [(batch, write_batch(ledger, batch, prices=prices, now_ns=now_ns))]
    except (DBAPIError, OverflowError, UnicodeError) as error:
        if not batch.bookings or not is_data_failure(error):
            raise
        parts = _halves(batch) or [_condemned(batch, error)]
    return [
        each for part in parts for each in write_parts(ledger, part, prices=prices, now_ns=now_ns)
    ]


def _halves(batch: Batch) -> list[Batch]:
    """Two smaller batches; none when only one event is left to blame."""
    bookings = batch.bookings
    if batch.malformed:
        return [Batch([], batch.malformed), Batch(bookings, [])]
    if len(bookings) == 1:
        return []
    middle = len(bookings) // 2
    return [Batch(bookings[:middle], []), Batch(bookings[middle:], [])]


def _condemned(batch: Batch, error: BaseException) -> Batch:
    """The event that the database refuses by itself. Its values stay out of the reason."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    reason = f"the ledger's database refuses it: {str(cause).splitlines()[0]}"
    return Batch([], [Malformed(batch.bookings[0].arrival.entry, reason)])
