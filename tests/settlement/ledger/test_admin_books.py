"""Administrators and what they did, on both databases."""

from __future__ import annotations

import pytest
from fixtures_ledger import allow_changes
from sqlalchemy import delete, update
from sqlalchemy.exc import DBAPIError

from metering.settlement.ledger import admin_books as books
from metering.settlement.ledger.registry_books import RegistryConflictError, RegistryMissingError
from metering.settlement.ledger.registry_tables import admin_audit
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import examine


def _record(action: str, target: str = "tenant/acme") -> books.Audit:
    return books.Audit(5, "ann", "admin", action, target, before=None, after={"id": "acme"})


def test_records_are_read_newest_first(ledger: Ledger) -> None:
    """By target, which takes in what lies under it, and page by page."""
    for action, target in (("a", "tenant/acme"), ("b", "tenant/acme/key/k"), ("c", "tenant/acme2")):
        books.audit(ledger, _record(action, target))

    assert [each.action for each in books.audits(ledger)] == ["c", "b", "a"]
    assert [each.action for each in books.audits(ledger, target="tenant/acme")] == ["b", "a"]
    newest, *_ = books.audits(ledger, limit=1)
    assert [each.action for each in books.audits(ledger, before_id=newest.id)] == ["b", "a"]
    assert newest.after == {"id": "acme"}


def test_a_record_stays_as_it_was_written(ledger: Ledger) -> None:
    """The database refuses to change it, and one who changes the database is found out."""
    for action in ("a", "b", "c"):
        books.audit(ledger, _record(action))
    assert books.audit_faults(ledger) == []
    for change in (update(admin_audit).values(who="bob"), delete(admin_audit)):
        with pytest.raises(DBAPIError), ledger.write() as connection:
            connection.execute(change)

    with ledger.write() as connection:
        allow_changes(connection, "admin_audit")
        connection.execute(update(admin_audit).where(admin_audit.c.id == 2).values(who="bob"))
        connection.execute(delete(admin_audit).where(admin_audit.c.id == 1))
    faults = [
        "audit record 2 does not follow the one before it",
        "audit record 2 is not what was written",
    ]
    assert books.audit_faults(ledger) == faults
    assert [each for each in examine(ledger).findings if "audit" in each] == faults


def test_an_administrators_key_is_used_once(ledger: Ledger) -> None:
    """Revoked it stays known, and neither its id nor its hash comes back."""
    made = books.put_admin_key(ledger, "ann", sha256="h", role="admin", now_ns=5, expires_at=9)
    assert books.admin_keys(ledger) == [made]
    books.revoke_admin_key(ledger, "ann", now_ns=7)

    assert books.admin_keys(ledger)[0].revoked_at == 7
    for key_id, sha256 in (("ann", "other"), ("bob", "h")):
        with pytest.raises(RegistryConflictError):
            books.put_admin_key(ledger, key_id, sha256=sha256, role="viewer", now_ns=8)
    with pytest.raises(RegistryMissingError):
        books.revoke_admin_key(ledger, "bob", now_ns=8)
