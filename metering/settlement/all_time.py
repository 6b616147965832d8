"""Sums over all time, made once: a look at a window that never slides reads what is new.

Rules: what was booked up to a place of a chain never changes, so its sums are kept with the place,
and the next look adds what came behind it. The event at that place is kept, too: where another one
stands, the ledger is another one, and everything is summed anew. Kept in the process alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from metering.caps import BALANCE, ScopeKind
from metering.settlement.counting import Series
from metering.settlement.ledger.spending import Sum, event_at, spent_by_bucket

SERIES = Series(ScopeKind.TENANT, BALANCE)

_BUCKET = 0
"""The only one: its bucket outlasts us."""

Amounts = tuple[int, int, int]


@dataclass(slots=True)
class AllTime:
    """What tenants spent ever, as far as it was summed."""

    _marks: dict[int, tuple[int, str | None]] = field(default_factory=dict)
    """By shard: the place, and the event that stands there."""
    _sums: dict[int, dict[str, Amounts]] = field(default_factory=dict)

    def spent(
        self,
        connection: Connection,
        shard: int,
        tenants: Sequence[str],
        *,
        now_ms: int,
        through_seq: int,
    ) -> Iterator[Sum]:
        """As `spent_by_bucket` of the balance, in its one bucket."""
        after, event_id = self._marks.get(shard, (0, None))
        if after > through_seq or (after and event_at(connection, shard, after) != event_id):
            self._sums.pop(shard, None)
            after = 0
        old = self._sums.get(shard, {})
        known = [tenant for tenant in tenants if tenant in old]
        fresh = [tenant for tenant in tenants if tenant not in old]
        sums = dict.fromkeys(fresh, (0, 0, 0)) | {tenant: old[tenant] for tenant in known}
        for names, since in ((known, after), (fresh, 0)):
            if not names or since == through_seq:
                continue
            for row in spent_by_bucket(
                connection,
                shard,
                SERIES,
                names,
                now_ms=now_ms,
                through_seq=through_seq,
                after_seq=since,
            ):
                if row.tenant in names:
                    nano, tokens, requests = sums[row.tenant]
                    more = row.amounts
                    sums[row.tenant] = nano + more[0], tokens + more[1], requests + more[2]
        self._sums[shard] = sums  # of the others nobody asks any more
        self._marks[shard] = through_seq, event_at(connection, shard, through_seq)
        for tenant, amounts in sums.items():
            if amounts != (0, 0, 0):
                yield Sum(tenant, "", _BUCKET, amounts)
