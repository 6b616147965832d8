"""Alerts: what a person should look at, the newest first, from the ledger's outbox."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import select

from metering.settlement.ledger.outbox import ALERT
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.tables import outbox
from proxy.admin.pages import PAGE, before_of, limit_of, listed, with_usd
from proxy.admin.routes import BASE, Answer, Call, Param, Role, Route
from proxy.cli_times import rfc3339

_OUTBOX = outbox.c


async def list_alerts(call: Call) -> Answer:
    """Each once, whichever sinks it went to."""
    limit, before_id, kind = limit_of(call.query), before_of(call.query), call.query.get("kind")

    def ask(ledger: Ledger) -> list[dict[str, Any]]:
        query = select(outbox).where(_OUTBOX.topic == ALERT).order_by(_OUTBOX.id.desc())
        if before_id is not None:
            query = query.where(_OUTBOX.id < before_id)
        if kind is not None:
            query = query.where(_OUTBOX.key.startswith(f"{kind}:", autoescape=True))
        with ledger.read() as connection:
            return [_row(each) for each in connection.execute(query.limit(limit + 1)).mappings()]

    rows = await call.console.ask(ask)
    more = str(rows[limit - 1]["id"]) if len(rows) > limit else None
    return Answer({"data": rows[:limit], "next_cursor": more})


def _row(row: Any) -> dict[str, Any]:
    return {
        "id": row["id"],
        "at": rfc3339(row["created_at"]),
        "key": row["key"],
        "kind": str(row["key"]).partition(":")[0],
        "state": row["state"],
        "body": with_usd(orjson.loads(row["body"])),
    }


ROUTES = (
    Route(
        "GET",
        f"{BASE}/alerts",
        Role.VIEWER,
        list_alerts,
        summary="What a person should look at, the newest first",
        tag="alerts",
        query=(*PAGE, Param("kind", "Only of this kind, as in docs/alerts.md")),
        answer=listed(),
    ),
)
