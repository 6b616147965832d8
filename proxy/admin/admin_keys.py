"""Keys of the admin API that are made while everything runs; those of the file are only shown.

Rules: nobody makes a key that may more than its own; nobody revokes the key it calls with; an id
is never used again; a raw key is answered once, and only its hash is kept.
"""

from __future__ import annotations

from typing import Any

from metering.clock import now_ns
from metering.ids import is_id
from metering.settlement.ledger import admin_books as books
from metering.settlement.ledger.store import Ledger
from proxy.admin.errors import Conflict, FieldRefused, NotFound, ReadOnly, RoleTooLow
from proxy.admin.pages import PAGE, TIME, listed, page, time_ns
from proxy.admin.registry_writing import in_books
from proxy.admin.routes import BASE, Answer, Call, Role, Route
from proxy.api_keys import key_sha256, new_admin_key
from proxy.cli_times import rfc3339
from proxy.settings import AdminKey

_ROLES = [Role.VIEWER.value, Role.BILLING.value, Role.ADMIN.value]


async def list_keys(call: Call) -> Answer:
    """Those of the file first."""
    written = [_written_row(each) for each in call.console.settings.admin_keys]
    made = await call.console.ask(books.admin_keys)
    rows = [*written, *(_row(each) for each in made)]
    return Answer(page(rows, lambda row: row["id"], call.query))


async def create_key(call: Call) -> Answer:
    """A new one; its raw key is in this answer and nowhere else."""
    key_id, role = call.body["id"], Role(call.body["role"])
    if not is_id(key_id):
        raise FieldRefused("id must be 1 to 64 letters, digits, dots, dashes.", param="id")
    if not call.who.role.covers(role):
        raise RoleTooLow(f"A key of the role {call.who.role} cannot make one of the role {role}.")
    if key_id in {each.id for each in call.console.settings.admin_keys}:
        raise Conflict(f"The configuration file has an admin key {key_id!r}.")
    expires = call.body.get("expires_at")
    expires_at = None if expires is None else time_ns(expires, "expires_at")
    if expires_at is not None and expires_at <= now_ns():
        raise FieldRefused("expires_at is over.", param="expires_at")
    raw = new_admin_key()

    def make(ledger: Ledger) -> books.AdminKeyRow:
        return books.put_admin_key(
            ledger,
            key_id,
            sha256=key_sha256(raw),
            role=role.value,
            now_ns=now_ns(),
            expires_at=expires_at,
        )

    row = _row(await in_books(call.console, make))
    return Answer({**row, "key": raw}, status=201, target=f"admin-keys/{key_id}", after=row)


async def revoke_key(call: Call) -> Answer:
    """It opens nothing from the next request on."""
    key_id = call.path["key"]
    if key_id in {each.id for each in call.console.settings.admin_keys}:
        raise ReadOnly(f"The admin key {key_id!r} is in the configuration file: take it out there.")
    if key_id == call.who.id:
        raise Conflict("A key cannot revoke itself: use another one.")

    def revoke(ledger: Ledger) -> books.AdminKeyRow | None:
        books.revoke_admin_key(ledger, key_id, now_ns=now_ns())
        return next((each for each in books.admin_keys(ledger) if each.id == key_id), None)

    found = await in_books(call.console, revoke)
    if found is None:
        raise NotFound(f"There is no admin key {key_id!r}.")
    row = _row(found)
    return Answer(row, target=f"admin-keys/{key_id}", after=row)


def _written_row(key: AdminKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "role": key.role,
        "source": "file",
        "created_at": None,
        "expires_at": None,
        "revoked_at": None,
        "state": "live",
    }


def _row(key: books.AdminKeyRow) -> dict[str, Any]:
    is_over = key.expires_at is not None and key.expires_at <= now_ns()
    return {
        "id": key.id,
        "role": key.role,
        "source": "registry",
        "created_at": rfc3339(key.created_at),
        "expires_at": None if key.expires_at is None else rfc3339(key.expires_at),
        "revoked_at": None if key.revoked_at is None else rfc3339(key.revoked_at),
        "state": "revoked" if key.revoked_at is not None else "expired" if is_over else "live",
    }


ROUTES = (
    Route(
        "GET",
        f"{BASE}/admin-keys",
        Role.ADMIN,
        list_keys,
        summary="Keys of this API, without themselves",
        tag="admin keys",
        query=PAGE,
        answer=listed(),
    ),
    Route(
        "POST",
        f"{BASE}/admin-keys",
        Role.ADMIN,
        create_key,
        summary="Make a key of this API; it is shown in this answer alone",
        tag="admin keys",
        body={
            "type": "object",
            "additionalProperties": False,
            "required": ["id", "role"],
            "properties": {
                "id": {"type": "string", "maxLength": 64},
                "role": {"enum": _ROLES},
                "expires_at": TIME,
            },
        },
        audit="admin_key.create",
    ),
    Route(
        "DELETE",
        f"{BASE}/admin-keys/{{key}}",
        Role.ADMIN,
        revoke_key,
        summary="Revoke a key of this API",
        tag="admin keys",
        audit="admin_key.revoke",
    ),
)
