"""What a decision on the review queue needs and leaves behind, for `weir review` as well."""

from __future__ import annotations

from typing import Any

from metering.clock import now_ns
from metering.settlement.anomaly_watch import settle_flags
from metering.settlement.ledger.reviews import Item, find_item
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.velocities import highest_minute
from metering.settlement.velocity import Cause
from proxy.settings import Settings, redis_keys


def seen_nano(ledger: Ledger, item: Item) -> int:
    """The highest of what was seen since the alarm began, in the units of its cause."""
    if item.finding.cause is Cause.UNIT_COST:
        return item.finding.seen_nano
    highest = highest_minute(
        ledger, item.shard, item.tenant, key=item.api_key_id, since=item.since_min
    )
    return max(highest.nano, item.finding.seen_nano)


async def lift(settings: Settings, ledger: Ledger, client: Any, number: int) -> None:
    """Lift what the decision lets go, in Redis."""
    item = find_item(ledger, number)
    assert item is not None, "it was found a moment ago, and nothing deletes it"
    stage = settings.tolerances.of(item.tenant).degrade_stage
    keys = redis_keys(settings)
    async for _ in settle_flags(ledger, client, keys, item, stage=stage, now_ns=now_ns()):
        pass
