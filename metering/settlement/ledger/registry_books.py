"""Tenants and keys that are made while everything runs. SQL; who may do so is `admin_books`.

Rules:
- A document is stored as it was given; whoever calls has had it decoded by the configuration's own
  decoder. Keys are kept apart from their tenant, and of each its SHA-256 alone.
- Every change that proxies have to hear of takes the next number, under the lock of one row; so
  two snapshots with the same number are the same.
- A key that was revoked stays revoked, and its id and hash are never used again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from metering.registry_body import Snapshot, canonical, parse
from metering.settlement.ledger import registry_tables as tables
from metering.settlement.ledger.store import Ledger, keep_rows

_TENANT, _KEY = tables.registry_tenant.c, tables.registry_key.c


class RegistryConflictError(Exception):
    """The change does not go with what is there; the message says what, for whoever asked."""


class RegistryMissingError(Exception):
    """There is no such tenant or key in the registry."""


@dataclass(frozen=True, slots=True)
class TenantRow:
    """A tenant of the registry; `document` has no `keys`, `version` is for `expected_version`."""

    id: str
    document: Mapping[str, Any]
    version: int
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key of a tenant; `document` is its entry in `keys`, without the hash. Times are in ns."""

    tenant: str
    id: str
    sha256: str
    document: Mapping[str, Any]
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    rotated_from: str | None = None

    def is_live(self, now_ns: int) -> bool:
        """Whether it opens the door."""
        return self.revoked_at is None and (self.expires_at is None or now_ns < self.expires_at)


def knows_registry(ledger: Ledger) -> bool:
    """Whether the ledger has the tables of this module."""
    return (ledger.revision() or "") >= "0019"


# tenants


def tenants(ledger: Ledger) -> list[TenantRow]:
    """Every tenant of the registry, by id."""
    with ledger.read() as connection:
        query = select(tables.registry_tenant).order_by(_TENANT.tenant)
        return [_tenant(row) for row in connection.execute(query)]


def tenant(ledger: Ledger, tenant_id: str) -> TenantRow | None:
    """One tenant; None where the registry has none of this id."""
    with ledger.read() as connection:
        return _found_tenant(connection, tenant_id)


def put_tenant(
    ledger: Ledger,
    document: Mapping[str, Any],
    *,
    now_ns: int,
    expected_version: int | None = None,
) -> TenantRow:
    """Make the tenant of `document["id"]`, or let the document take the place of its own.

    `expected_version` is that of the row it replaces, 0 for one that has to be new; another one is
    a RegistryConflictError, and so are `keys`, which are put one by one.
    """
    if "keys" in document:
        raise RegistryConflictError("keys are made one by one, and are no part of the document")
    tenant_id, text = str(document["id"]), canonical(document)
    with ledger.write() as connection:
        number = _next_number(connection, now_ns)
        found = _found_tenant(connection, tenant_id)
        _expect(found, tenant_id, expected_version)
        values = {"document": text, "version": number, "updated_at": now_ns}
        if found is None:
            row = {"tenant": tenant_id, "created_at": now_ns, **values}
            connection.execute(insert(tables.registry_tenant).values(**row))
        else:
            these = update(tables.registry_tenant).where(_TENANT.tenant == tenant_id)
            connection.execute(these.values(**values))
        created_at = now_ns if found is None else found.created_at
    return TenantRow(tenant_id, parse(text), number, created_at, now_ns)


def remove_tenant(
    ledger: Ledger, tenant_id: str, *, now_ns: int, expected_version: int | None = None
) -> TenantRow:
    """Take it out, and revoke its keys; what it used stays in the ledger. Its last row."""
    with ledger.write() as connection:
        _next_number(connection, now_ns)
        found = _found_tenant(connection, tenant_id)
        if found is None:
            raise RegistryMissingError(f"the registry has no tenant {tenant_id!r}")
        _expect(found, tenant_id, expected_version)
        connection.execute(delete(tables.registry_tenant).where(_TENANT.tenant == tenant_id))
        live = (_KEY.tenant == tenant_id, _KEY.revoked_at.is_(None))
        connection.execute(update(tables.registry_key).where(*live).values(revoked_at=now_ns))
    return found


# keys


def keys(ledger: Ledger, tenant_id: str | None = None) -> list[KeyRow]:
    """The keys of a tenant, or of all, the newest last; those that are revoked or over as well."""
    query = select(tables.registry_key).order_by(_KEY.tenant, _KEY.created_at, _KEY.key_id)
    if tenant_id is not None:
        query = query.where(_KEY.tenant == tenant_id)
    with ledger.read() as connection:
        return [_key(row) for row in connection.execute(query)]


def put_key(
    ledger: Ledger,
    tenant_id: str,
    key_document: Mapping[str, Any],
    *,
    sha256: str,
    now_ns: int,
    expires_at: int | None = None,
    rotated_from: str | None = None,
    old_expires_at: int | None = None,
) -> KeyRow:
    """Add a key to a tenant of the registry. It has an id of its own, and so has each ever made.

    With `rotated_from` it takes the place of that one, which ends at `old_expires_at`, or when it
    would have ended anyway, if that is sooner.
    """
    row = {
        "tenant": tenant_id,
        "key_id": str(key_document["id"]),
        "sha256": sha256,
        "document": canonical(key_document),
        "created_at": now_ns,
        "expires_at": expires_at,
        "revoked_at": None,
        "rotated_from": rotated_from,
    }
    with ledger.write() as connection:
        _next_number(connection, now_ns)
        if _found_tenant(connection, tenant_id) is None:
            raise RegistryMissingError(f"the registry has no tenant {tenant_id!r}")
        same = (_KEY.sha256 == sha256) | (
            (_KEY.tenant == tenant_id) & (_KEY.key_id == row["key_id"])
        )
        if connection.execute(select(_KEY.key_id).where(same)).first() is not None:
            raise RegistryConflictError(f"tenant {tenant_id!r} had a key {row['key_id']!r} already")
        if rotated_from is not None:
            _end_old(connection, tenant_id, rotated_from, old_expires_at, now_ns)
        connection.execute(insert(tables.registry_key).values(**row))
    return _made_key(row)


def revoke_key(ledger: Ledger, tenant_id: str, key_id: str, *, now_ns: int) -> KeyRow:
    """It opens the door no more. A key that was revoked before stays as it was."""
    with ledger.write() as connection:
        _next_number(connection, now_ns)
        found = _found_key(connection, tenant_id, key_id)
        if found.revoked_at is None:
            _change_key(connection, found, revoked_at=now_ns)
        return _found_key(connection, tenant_id, key_id)


def _end_old(
    connection: Connection, tenant_id: str, key_id: str, at: int | None, now_ns: int
) -> None:
    old = _found_key(connection, tenant_id, key_id)
    if not old.is_live(now_ns):
        raise RegistryConflictError(f"key {key_id!r} is revoked or over: make a new one")
    ends = now_ns if at is None else at
    _change_key(connection, old, expires_at=min(ends, old.expires_at or ends))


def _change_key(connection: Connection, key: KeyRow, **values: Any) -> None:
    this = update(tables.registry_key).where(_KEY.tenant == key.tenant, _KEY.key_id == key.id)
    connection.execute(this.values(**values))


# what proxies are told


def number(ledger: Ledger) -> int:
    """How often the registry was changed."""
    with ledger.read() as connection:
        return _state(connection)[0]


def snapshot(ledger: Ledger) -> Snapshot:
    """Every tenant with its keys, as the configuration file would have them.

    Keys that are revoked are left out, and so are those that were over when something was changed
    last. The clock has no part in it: proxies go by `expires_at` themselves.
    """
    with ledger.read() as connection:
        counted, changed_at = _state(connection)
        rows = connection.execute(select(tables.registry_tenant).order_by(_TENANT.tenant)).all()
        live = select(tables.registry_key).where(_KEY.revoked_at.is_(None))
        found = connection.execute(live.order_by(_KEY.tenant, _KEY.created_at, _KEY.key_id)).all()
    owned: dict[str, list[dict[str, Any]]] = {}
    for key in map(_key, found):
        if key.is_live(changed_at):
            owned.setdefault(key.tenant, []).append(_entry(key))
    documents = (
        {**each.document, "keys": owned[each.id]} if each.id in owned else each.document
        for each in map(_tenant, rows)
    )
    return Snapshot(counted, tuple(documents))


def _entry(key: KeyRow) -> dict[str, Any]:
    entry = {**key.document, "sha256": key.sha256}
    if key.expires_at is not None:
        when = datetime.fromtimestamp(key.expires_at // 1_000_000_000, UTC)
        entry["expires_at"] = f"{when:%Y-%m-%dT%H:%M:%SZ}"
    return entry


# rows


def lock_registry(connection: Connection) -> int:
    """The registry's number; nobody else changes anything here until the end of the transaction."""
    keep_rows(connection, tables.registry_state, [{"id": 1, "number": 0, "changed_at": 0}])
    state = tables.registry_state.c
    found = connection.execute(select(state.number).where(state.id == 1).with_for_update())
    return int(found.scalar_one())


def _next_number(connection: Connection, now_ns: int) -> int:
    number = lock_registry(connection) + 1
    values = {"number": number, "changed_at": now_ns}
    connection.execute(update(tables.registry_state).values(**values))
    return number


def _state(connection: Connection) -> tuple[int, int]:
    """How often it was changed, and when it was last."""
    row = connection.execute(select(tables.registry_state)).first()
    return (0, 0) if row is None else (row.number, row.changed_at)


def _expect(found: TenantRow | None, tenant_id: str, expected: int | None) -> None:
    there = 0 if found is None else found.version
    if expected is not None and expected != there:
        what = f"is at version {there}" if there else "is not there"
        raise RegistryConflictError(
            f"tenant {tenant_id!r} {what}, not at {expected}: "
            "somebody else was first, read it again"
        )


def _found_tenant(connection: Connection, tenant_id: str) -> TenantRow | None:
    query = select(tables.registry_tenant).where(_TENANT.tenant == tenant_id)
    row = connection.execute(query).first()
    return None if row is None else _tenant(row)


def _found_key(connection: Connection, tenant_id: str, key_id: str) -> KeyRow:
    query = select(tables.registry_key).where(_KEY.tenant == tenant_id, _KEY.key_id == key_id)
    row = connection.execute(query).first()
    if row is None:
        raise RegistryMissingError(f"tenant {tenant_id!r} has no key {key_id!r} in the registry")
    return _key(row)


def _tenant(row: Any) -> TenantRow:
    return TenantRow(row.tenant, parse(row.document), row.version, row.created_at, row.updated_at)


def _key(row: Any) -> KeyRow:
    return _made_key(row._mapping)  # noqa: SLF001 - documented, in spite of its name


def _made_key(row: Mapping[Any, Any]) -> KeyRow:
    return KeyRow(
        row["tenant"],
        row["key_id"],
        row["sha256"],
        parse(row["document"]),
        row["created_at"],
        row["expires_at"],
        row["revoked_at"],
        row["rotated_from"],
    )
