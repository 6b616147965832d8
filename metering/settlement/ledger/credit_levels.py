"""Low balances in the ledger: which levels are crossed, told once through the outbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select, update

from metering.settlement.credit_levels import Level
from metering.settlement.ledger.credit_books import lock_credits, tenant_grants
from metering.settlement.ledger.credit_tables import credit_level
from metering.settlement.ledger.outbox import put_alerts
from metering.settlement.ledger.store import Ledger, keep_rows

_TABLE = credit_level.c


def tell_levels(ledger: Ledger, levels: Mapping[str, tuple[int, ...]], *, now_ns: int) -> int:
    """Put an alert into the outbox for each level crossed downwards since; how many these were.

    Only tenants that were ever granted anything are looked at.
    """
    if not levels:
        return 0
    with ledger.read() as connection:
        if not _changed(connection, levels, now_ns):
            return 0
    with ledger.write() as connection:
        lock_credits(connection)
        changed = _changed(connection, levels, now_ns)
        alerts: list[tuple[str, dict[str, Any]]] = []
        for (tenant, level_nano), (level, left_nano) in changed.items():
            values = {"is_below": level.is_below, "crossings": level.crossings}
            place = (_TABLE.tenant == tenant, _TABLE.level_nano == level_nano)
            row = {"tenant": tenant, "level_nano": level_nano, **values}
            keep_rows(connection, credit_level, [row])
            connection.execute(update(credit_level).where(*place).values(values))
            if level.is_below:
                key = f"low_balance:{tenant}:{level_nano}:{level.crossings}"
                body = {"tenant": tenant, "level_nano": level_nano, "left_nano": left_nano}
                alerts.append((key, body))
        put_alerts(connection, alerts, now_ns)
    return len(alerts)


def _changed(
    connection: Connection, levels: Mapping[str, tuple[int, ...]], now_ns: int
) -> dict[tuple[str, int], tuple[Level, int]]:
    """The levels that stand otherwise than was noted, and what is left."""
    kept = {
        (row.tenant, row.level_nano): Level(
            row.tenant, int(row.level_nano), bool(row.is_below), row.crossings
        )
        for row in connection.execute(select(credit_level))
    }
    left: dict[str, int] = {}
    for standing in tenant_grants(connection, list(levels)):
        tenant, holds = standing.grant.tenant, standing.grant.holds_at(now_ns)
        left[tenant] = left.get(tenant, 0) + (standing.left_nano if holds else 0)
    changed = {}
    for tenant, left_nano in left.items():
        for level_nano in levels[tenant]:
            known = kept.get((tenant, level_nano), Level(tenant, level_nano))
            now = known.after(left_nano)
            if now != known:
                changed[tenant, level_nano] = (now, left_nano)
    return changed
