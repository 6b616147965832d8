"""A rated event as a row of `usage_event`, its link in the chain included. Pure."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import orjson

from metering.events import UsageEvent
from metering.settlement.batches import Booking
from metering.settlement.counting import user_scope
from metering.settlement.ledger.chain import link
from metering.settlement.ledger.tables import quantity_column
from metering.settlement.rating import RatedEvent
from metering.usage import TOKEN_CLASSES

_QUANTITIES = tuple((unit, quantity_column(unit)) for unit in TOKEN_CLASSES)
COPIED = (
    "event_id",
    "kind",
    "corrects",
    "exchange_id",
    "attempt",
    "request_id",
    "tenant",
    "project",
    "api_key_id",
    "feature",
    "session",
    "run",
    "occurred_at",
    "completed_at",
    "provider",
    "model_requested",
    "model_upstream",
    "model_version",
    "usage_source",
    "cost_version",
    "sell_version",
    "admission_nano",
    "status",
    "cache_status",
    "latency_ms",
    "billable",
    "reason_code",
)
"""The columns that are fields of the event, unchanged; `verify` compares them with the payload."""

copied = attrgetter(*COPIED)
"""Their values, of an event or of a row."""


def event_row(
    booking: Booking, *, txn_id: int, seq: int, prev_hash: str, received_at: int
) -> dict[str, Any]:
    """The row of an event that is booked by transaction `txn_id` as number `seq` of its shard."""
    event, rated, entry = booking.rated.event, booking.rated, booking.arrival.entry
    amounts = encode_amounts(rated)
    row: dict[str, Any] = dict(zip(COPIED, copied(event), strict=True))
    row.update({column: event.units.get(unit) for unit, column in _QUANTITIES})
    row.update(
        shard=entry.shard,
        seq=seq,
        prev_hash=prev_hash,
        hash=link(
            prev_hash,
            shard=entry.shard,
            seq=seq,
            event_id=event.event_id,
            payload_hash=entry.digest,
            txn_id=txn_id,
            amounts=amounts,
        ),
        txn_id=txn_id,
        schema_version=event.schema,
        user_scope=user_scope(event),
        ttft_ms=event.ttft_ms,
        received_at=received_at,
        stream_id=entry.stream_id,
        stream_ms=entry.position[0],
        q_other=_other_units(event),
        sell_nano=rated.sell_nano,
        cost_nano=rated.cost_nano,
        event_cost_nano=event.cost_nano,
        amounts=amounts,
        unpriced=bool(rated.unpriced),
        payload=booking.arrival.body,
        payload_hash=entry.digest,
    )
    return row


def encode_amounts(rated: RatedEvent) -> str:
    """The column `amounts`: JSON {unit: [quantity, sell_rate_pico | null, sell_nano, cost_nano]}.

    At another than the list price its words follow. Units are in sorted order, so that the same
    rating is the same text.
    """
    amounts: dict[str, tuple[int | str | None, ...]] = {}
    for unit, one in rated.amounts.items():
        amounts[unit] = (one.quantity, one.sell_rate_pico, one.sell_nano, one.cost_nano)
        if one.variant is not None:
            amounts[unit] += (one.variant,)
    return orjson.dumps(amounts, option=orjson.OPT_SORT_KEYS).decode()


def decode_amounts(text: str) -> dict[str, tuple[Any, ...]]:
    """What `encode_amounts` wrote: the fields of `UnitAmount` in their order."""
    return dict(orjson.loads(text))


def _other_units(event: UsageEvent) -> str | None:
    other = {unit: n for unit, n in event.units.items() if unit not in TOKEN_CLASSES}
    return orjson.dumps(other, option=orjson.OPT_SORT_KEYS).decode() if other else None
