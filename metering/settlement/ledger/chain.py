"""The hash chain: each event of a shard names the one before it, so a changed past shows.

Pure. A link binds what was received (the payload's hash) to what was booked from it (amounts and
transaction). The worker's clock and derived columns stay outside, so a link can be recomputed
from the row alone.
"""

from __future__ import annotations

import hashlib

GENESIS = "0" * 64
"""The hash before the first event of a shard."""


def link(
    prev_hash: str,
    *,
    shard: int,
    seq: int,
    event_id: str,
    payload_hash: str,
    txn_id: int,
    amounts: str,
) -> str:
    """The hash of an event's place in its shard's chain, hex."""
    text = f"{prev_hash}|{shard}|{seq}|{event_id}|{payload_hash}|{txn_id}|{amounts}"
    return hashlib.sha256(text.encode()).hexdigest()
