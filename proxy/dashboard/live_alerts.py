"""The latest alerts of the outbox, for a page: what a person should look at, newest first."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import select

from metering.settlement.ledger.outbox import ALERT
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.tables import outbox
from proxy.cli_times import rfc3339

SHOWN = 20


def latest_alerts(ledger: Ledger, *, limit: int = SHOWN) -> list[dict[str, Any]]:
    """Id, kind, key, time and body of each; bodies hold ids and numbers only."""
    newest = (
        select(outbox.c.id, outbox.c.key, outbox.c.body, outbox.c.created_at)
        .where(outbox.c.topic == ALERT)
        .order_by(outbox.c.id.desc())
        .limit(limit)
    )
    with ledger.read() as connection:
        rows = connection.execute(newest).all()
    return [
        {
            "id": row.id,
            "kind": row.key.partition(":")[0],
            "key": row.key,
            "at": rfc3339(row.created_at),
            "about": {
                name: value
                for name, value in orjson.loads(row.body).items()
                if name != "kind" and isinstance(value, str | int | bool)
            },
        }
        for row in rows
    ]
