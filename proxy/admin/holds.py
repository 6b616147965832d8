"""Open holds: which exchange holds what, and an end to one that should not go on."""

from __future__ import annotations

from typing import Any

import orjson

from metering.caps import Scope, ScopeKind
from metering.clock import now_ms
from metering.flags import Flag, FlagKind, put_up
from metering.ids import is_id
from proxy.admin.errors import Conflict, FieldRefused, NotFound
from proxy.admin.pages import PAGE, REASON, TENANT, listed, page
from proxy.admin.routes import BASE, Answer, Call, Param, Role, Route
from proxy.cli_limits import read_holds

_ENDED_BY = (ScopeKind.RUN, ScopeKind.SESSION)
"""What an exchange may be the only one of; wider scopes are stopped by their own name."""


async def list_holds(call: Call) -> Answer:
    """The oldest first."""
    rows, unreadable = await _read(call, call.query.get("tenant"))
    rows.sort(key=lambda row: (row["created_at"], row["exchange_id"]))
    found = page(rows, lambda row: row["exchange_id"], call.query)
    return Answer({**found, "unreadable": unreadable})


async def end_hold(call: Call) -> Answer:
    """End an exchange with its run or session: what `weir stop` does. Its usage is settled."""
    exchange_id, tenant = call.path["exchange"], call.body["tenant"]
    rows, _ = await _read(call, tenant)
    row = next((each for each in rows if each["exchange_id"] == exchange_id), None)
    if row is None:
        raise NotFound(f"Tenant {tenant!r} has no open exchange {exchange_id!r}.")
    scope = await _narrowest(call, tenant, exchange_id)
    if scope is None:
        raise Conflict(
            "This exchange belongs to no run and no session, so nothing narrower than its key can "
            f"be stopped: POST {BASE}/tenants/{tenant}/flags with the scope to stop."
        )
    flag = Flag(FlagKind.KILLED, scope, call.who.id, call.body["reason"], now_ms())
    console = call.console
    await put_up(console.redis.execute_command, console.keys, tenant, flag)
    stopped = f"{flag.scope.kind}:{flag.scope.id}"
    return Answer(
        {"exchange_id": exchange_id, "tenant": tenant, "stopped": stopped},
        target=f"tenants/{tenant}/holds/{exchange_id}",
        before={"usd": row["usd"], "upstream": row["upstream"]},
        after={"stopped": stopped, "reason": flag.why},
    )


async def _narrowest(call: Call, tenant: str, exchange_id: str) -> Scope | None:
    """The run, else the session of an exchange, by the facts beside its hold."""
    console = call.console
    raw = await console.redis.hget(console.keys.holds(tenant), f"{exchange_id}:facts")
    try:
        labels = orjson.loads(raw or b"{}").get("labels", {})
    except ValueError:
        labels = {}
    for kind in _ENDED_BY:
        if isinstance(name := labels.get(kind.value), str) and is_id(name):
            return Scope(kind, name)
    return None


async def _read(call: Call, tenant: str | None) -> tuple[list[dict[str, Any]], int]:
    if tenant is not None and not is_id(tenant):
        raise FieldRefused("tenant cannot be the id of one.", param="tenant")
    return await read_holds(call.console.settings, tenant)


ROUTES = (
    Route(
        "GET",
        f"{BASE}/holds",
        Role.VIEWER,
        list_holds,
        summary="Open exchanges and what they hold, the oldest first",
        tag="caps",
        query=(*PAGE, Param(TENANT.name, TENANT.about, TENANT.schema)),
        answer=listed(),
    ),
    Route(
        "POST",
        f"{BASE}/holds/{{exchange}}/end",
        Role.ADMIN,
        end_hold,
        summary="End an open exchange by stopping its run or session",
        tag="caps",
        body={
            "type": "object",
            "additionalProperties": False,
            "required": ["tenant", "reason"],
            "properties": {"tenant": {"type": "string", "maxLength": 64}, "reason": REASON},
        },
        audit="hold.end",
    ),
)
