"""The keys of tenants: made, rotated with an overlap, revoked. Those of the file are only shown.

Rules: a raw key is answered once, and only its hash is kept; nothing a key may do is written here
that its tenant may not: its document is checked as a part of the tenant's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from metering.clock import now_ns
from metering.settlement.ledger import registry_books as books
from metering.settlement.ledger.store import Ledger
from metering.tenants import ApiKey
from proxy.admin import tenants
from proxy.admin.errors import FieldRefused
from proxy.admin.pages import PAGE, TIME, listed, page, time_ns
from proxy.admin.registry_writing import (
    check_of,
    in_books,
    need_registered,
    publish,
)
from proxy.admin.routes import BASE, Answer, Call, Role, Route
from proxy.cli_times import rfc3339
from proxy.registry_changes import MadeKey, make_key, rotate_key

OVERLAP_HOURS, OVERLAP_HOURS_MAX = 24, 24 * 90
_HOUR_NS = 3_600 * 10**9


async def list_keys(call: Call) -> Answer:
    """Those that were revoked or are over as well, the newest last."""
    tenant_id = call.path["tenant"]
    written = call.console.settings.tenants.get(tenant_id)
    if written is not None and not written.is_registered:
        rows = [_written_row(each) for each in written.keys]
    else:
        await tenants.find(call, tenant_id)
        found = await call.console.ask(lambda ledger: books.keys(ledger, tenant_id))
        rows = [_row(each) for each in found]
    return Answer(page(rows, lambda row: row["id"], call.query))


async def create_key(call: Call) -> Answer:
    """A new one; its raw key is in this answer and nowhere else."""
    settings, tenant_id = call.console.settings, call.path["tenant"]
    need_registered(settings, tenant_id)
    wish = {name: value for name, value in call.body.items() if name != "expires_at"}
    expires_at = _expiry(call.body.get("expires_at"))

    def make(ledger: Ledger) -> MadeKey:
        check = check_of(settings)
        return make_key(ledger, check, tenant_id, wish, now_ns=now_ns(), expires_at=expires_at)

    return await _told(call, make)


async def rotate(call: Call) -> Answer:
    """A new one in the place of another, which goes on working for a while."""
    tenant_id, key_id = call.path["tenant"], call.path["key"]
    need_registered(call.console.settings, tenant_id)
    overlap_ns = int(call.body.get("overlap_hours", OVERLAP_HOURS)) * _HOUR_NS
    expires_at = _expiry(call.body.get("expires_at"))

    def make(ledger: Ledger) -> MadeKey:
        at = {"now_ns": now_ns(), "overlap_ns": overlap_ns}
        return rotate_key(ledger, tenant_id, key_id, **at, expires_at=expires_at)

    return await _told(call, make)


async def revoke_key(call: Call) -> Answer:
    """It opens the door no more, within a second or two, on every machine."""
    need_registered(call.console.settings, call.path["tenant"])
    tenant_id, key_id = call.path["tenant"], call.path["key"]
    made = await in_books(
        call.console, lambda ledger: books.revoke_key(ledger, tenant_id, key_id, now_ns=now_ns())
    )
    row = _row(made)
    body = {**row, "published": await publish(call.console)}
    return Answer(body, target=f"tenants/{tenant_id}/keys/{key_id}", after=row)


async def _told(call: Call, make: Callable[[Ledger], MadeKey]) -> Answer:
    made = await in_books(call.console, make)
    row = _row(made.row)
    body = {**row, "key": made.key, "published": await publish(call.console)}
    target = f"tenants/{call.path['tenant']}/keys/{row['id']}"
    return Answer(body, status=201, target=target, after=row)


def _expiry(text: str | None) -> int | None:
    if text is None:
        return None
    found = time_ns(text, "expires_at")
    if found <= now_ns():
        raise FieldRefused("expires_at is over.", param="expires_at")
    return found


def _written_row(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "source": "file",
        "state": "live",
        "project": key.project,
        "pin": {kind.value: each for kind, each in key.pins.items()},
        "act_for": sorted(key.act_for),
        "created_at": None,
        "expires_at": None,
        "revoked_at": None,
        "rotated_from": None,
    }


def _row(key: books.KeyRow) -> dict[str, Any]:
    is_live = key.is_live(now_ns())
    return {
        "id": key.id,
        "source": "registry",
        "state": "live" if is_live else "expired" if key.revoked_at is None else "revoked",
        "project": key.document.get("project", "default"),
        "pin": dict(key.document.get("pin", {})),
        "act_for": list(key.document.get("act_for", ())),
        "created_at": rfc3339(key.created_at),
        "expires_at": None if key.expires_at is None else rfc3339(key.expires_at),
        "revoked_at": None if key.revoked_at is None else rfc3339(key.revoked_at),
        "rotated_from": key.rotated_from,
    }


_ALL = f"{BASE}/tenants/{{tenant}}/keys"
_ONE = f"{_ALL}/{{key}}"
_ID = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}

ROUTES = (
    Route(
        "GET",
        _ALL,
        Role.VIEWER,
        list_keys,
        summary="The keys of a tenant, without themselves",
        tag="keys",
        query=PAGE,
        answer=listed(),
    ),
    Route(
        "POST",
        _ALL,
        Role.ADMIN,
        create_key,
        summary="Make a key; it is shown in this answer alone",
        tag="keys",
        body={
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "id": _ID,
                "project": _ID,
                "pin": {"$ref": "#/$defs/PinShape"},
                "act_for": {"type": "array", "maxItems": 1000, "items": _ID},
                "expires_at": TIME,
            },
        },
        audit="key.create",
    ),
    Route(
        "POST",
        f"{_ONE}/rotate",
        Role.ADMIN,
        rotate,
        summary="Make a key in the place of another, which ends after an overlap",
        tag="keys",
        body={
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "overlap_hours": {"type": "integer", "minimum": 0, "maximum": OVERLAP_HOURS_MAX},
                "expires_at": TIME,
            },
        },
        audit="key.rotate",
    ),
    Route(
        "DELETE",
        _ONE,
        Role.ADMIN,
        revoke_key,
        summary="Revoke a key",
        tag="keys",
        audit="key.revoke",
    ),
)
