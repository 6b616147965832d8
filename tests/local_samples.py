"""Exchanges as the local journal has them."""

from __future__ import annotations

from caps_samples import NOW_MS, cap, hold
from fixtures_ledger import make_event

from metering.caps import AdmittedBy, Vector
from metering.events import RECOVERED, encode
from metering.ids import derived_id
from metering.local_codec import LocalRecord
from metering.recovery import LostHold, encode_checkpoint, encode_facts

FACTS = encode_facts(
    {
        "request_id": "r-1",
        "project": "p",
        "api_key_id": "k",
        "occurred_at": NOW_MS * 1_000_000,
    },
    [
        ("openai", "one", "public", "dear", "o200k_base", "v1", "v2", 31, 310),
        ("openai", "one", "public", "cheap", "o200k_base", "v1", "v2", 31, 90),
    ],
)


def record() -> LocalRecord:
    """One that was admitted from the slice, and has said nothing since."""
    lost = LostHold(hold(cap(1_000)), "p-0", "one/cheap", NOW_MS, FACTS)
    return LocalRecord(lost, AdmittedBy.LOCAL)


def checkpoint_of(of: LocalRecord, *, nano: int) -> bytes:
    """What it would come to now."""
    exchange_id = of.lost.hold.exchange_id
    event = make_event(
        event_id=derived_id(exchange_id, RECOVERED),
        exchange_id=exchange_id,
        admission_nano=nano,
        admitted_by=of.admitted_by,
    )
    return encode_checkpoint(Vector(nano=nano, requests=1), [encode(event)])
