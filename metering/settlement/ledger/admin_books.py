"""Who may change what through the admin API, and who has changed what. SQL.

Rules: of a key its SHA-256 alone is here; what was revoked stays so, and no id comes back. Audit
records are appended only, each with the hash of the one before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, inspect, select, update

from metering.registry_body import canonical, parse
from metering.settlement.ledger import registry_tables as tables
from metering.settlement.ledger.chain import GENESIS
from metering.settlement.ledger.registry_books import (
    RegistryConflictError,
    RegistryMissingError,
    lock_registry,
)
from metering.settlement.ledger.store import Ledger

_ADMIN, _AUDIT = tables.admin_key.c, tables.admin_audit.c

AUDITS_MAX = 1000
"""So many records are read at once."""


@dataclass(frozen=True, slots=True)
class AdminKeyRow:
    """A key of the admin API."""

    id: str
    sha256: str
    role: str
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """Who did what to what, and what it was before and after: documents without secrets."""

    at: int
    who: str
    role: str
    action: str
    target: str
    before: Any = None
    after: Any = None
    request_id: str = ""
    id: int = 0
    """Given when it is written."""


# administrators


def admin_keys(ledger: Ledger) -> list[AdminKeyRow]:
    """Every key of the admin API that was ever made, by id."""
    with ledger.read() as connection:
        rows = connection.execute(select(tables.admin_key).order_by(_ADMIN.id)).all()
    return [AdminKeyRow(**row._mapping) for row in rows]  # noqa: SLF001 - documented, in spite of its name


def put_admin_key(
    ledger: Ledger,
    key_id: str,
    *,
    sha256: str,
    role: str,
    now_ns: int,
    expires_at: int | None = None,
) -> AdminKeyRow:
    """Add a key of the admin API; its id and hash were never used before."""
    row = AdminKeyRow(key_id, sha256, role, now_ns, expires_at)
    with ledger.write() as connection:
        lock_registry(connection)
        same = (_ADMIN.id == key_id) | (_ADMIN.sha256 == sha256)
        if connection.execute(select(_ADMIN.id).where(same)).first() is not None:
            raise RegistryConflictError(f"there was an admin key {key_id!r} already")
        values = {name: getattr(row, name) for name in row.__slots__}
        connection.execute(insert(tables.admin_key).values(**values))
    return row


def revoke_admin_key(ledger: Ledger, key_id: str, *, now_ns: int) -> None:
    """It opens nothing any more; RegistryMissingError where there is none."""
    with ledger.write() as connection:
        lock_registry(connection)
        if connection.execute(select(_ADMIN.id).where(_ADMIN.id == key_id)).first() is None:
            raise RegistryMissingError(f"there is no admin key {key_id!r}")
        this = update(tables.admin_key).where(_ADMIN.id == key_id, _ADMIN.revoked_at.is_(None))
        connection.execute(this.values(revoked_at=now_ns))


# who changed what


def audit(ledger: Ledger, record: Audit) -> int:
    """Append a record; its id."""
    texts = {
        "before": None if record.before is None else canonical(record.before),
        "after": None if record.after is None else canonical(record.after),
    }
    with ledger.write() as connection:
        lock_registry(connection)
        last = connection.execute(select(_AUDIT.hash).order_by(_AUDIT.id.desc()).limit(1)).scalar()
        row = {
            **{name: getattr(record, name) for name in _AS_THEY_ARE},
            **texts,
            "prev_hash": last or GENESIS,
        }
        made = connection.execute(
            insert(tables.admin_audit).values(**row, hash=_link(row)).returning(_AUDIT.id)
        )
        return int(made.scalar_one())


def audits(
    ledger: Ledger,
    *,
    limit: int = 100,
    before_id: int | None = None,
    target: str | None = None,
    who: str | None = None,
    action: str | None = None,
) -> list[Audit]:
    """The newest records first, those before `before_id`; `target` takes in what lies under it."""
    query = select(tables.admin_audit).order_by(_AUDIT.id.desc()).limit(min(limit, AUDITS_MAX))
    if before_id is not None:
        query = query.where(_AUDIT.id < before_id)
    if target is not None:
        under = _AUDIT.target.startswith(f"{target}/", autoescape=True)
        query = query.where((_AUDIT.target == target) | under)
    if who is not None:
        query = query.where(_AUDIT.who == who)
    if action is not None:
        query = query.where(_AUDIT.action == action)
    with ledger.read() as connection:
        return [_audit(row) for row in connection.execute(query)]


def audit_faults(ledger: Ledger) -> list[str]:
    """Where the chain of audit records does not hold; nothing where nobody has touched it."""
    with ledger.read() as connection:
        return list(verify_audits(connection))


def verify_audits(connection: Connection) -> Iterator[str]:
    """The same for whoever looks at the whole ledger; nothing in one that has no such table."""
    if not inspect(connection).has_table(tables.admin_audit.name):
        return
    last = GENESIS
    for row in connection.execute(select(tables.admin_audit).order_by(_AUDIT.id)).mappings():
        if row["prev_hash"] != last:
            yield f"audit record {row['id']} does not follow the one before it"
        if _link(row) != row["hash"]:
            yield f"audit record {row['id']} is not what was written"
        last = row["hash"]


_AS_THEY_ARE = ("at", "who", "role", "action", "target", "request_id")
_LINKED = ("prev_hash", *_AS_THEY_ARE, "before", "after")


def _link(row: Any) -> str:
    return hashlib.sha256(canonical([row[name] for name in _LINKED]).encode()).hexdigest()


def _audit(row: Any) -> Audit:
    before, after = (None if text is None else parse(text) for text in (row.before, row.after))
    facts = (row.at, row.who, row.role, row.action, row.target)
    return Audit(*facts, before=before, after=after, request_id=row.request_id, id=row.id)
