"""Tenants and keys in the ledger, on both databases."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from metering.settlement.ledger import registry_books as books
from metering.settlement.ledger.store import Ledger

DOCUMENT = {"id": "acme", "limits": {"tenant": {"daily_cap": Decimal("1.50")}}}
HOUR_NS = 3_600_000_000_000


def _key(ledger: Ledger, key_id: str = "k1", **more: Any) -> books.KeyRow:
    document = {"id": key_id, "project": "web"}
    sha256 = more.pop("sha256", f"hash of {key_id}")
    return books.put_key(ledger, "acme", document, sha256=sha256, now_ns=20, **more)


def test_a_tenant_with_its_keys_is_published(ledger: Ledger) -> None:
    """As the configuration file would have it; each change has a number of its own."""
    assert books.snapshot(ledger).number == 0
    made = books.put_tenant(ledger, DOCUMENT, now_ns=10)
    _key(ledger, expires_at=1_790_000_000 * 1_000_000_000)

    found = books.snapshot(ledger)
    assert (made.version, found.number, books.number(ledger)) == (1, 2, 2)
    key = {"id": "k1", "project": "web", "sha256": "hash of k1"}
    assert found.tenants == ({**DOCUMENT, "keys": [{**key, "expires_at": "2026-09-21T14:13:20Z"}]},)
    assert books.tenants(ledger) == [made]
    assert books.tenant(ledger, "other") is None


def test_whoever_read_an_old_version_is_told(ledger: Ledger) -> None:
    """Nobody overwrites what somebody else has changed meanwhile."""
    made = books.put_tenant(ledger, DOCUMENT, now_ns=10, expected_version=0)
    changed = books.put_tenant(ledger, {"id": "acme"}, now_ns=20, expected_version=made.version)

    assert (changed.created_at, changed.updated_at) == (10, 20)
    for expected in (0, made.version):
        with pytest.raises(books.RegistryConflictError, match="read it again"):
            books.put_tenant(ledger, DOCUMENT, now_ns=30, expected_version=expected)
    with pytest.raises(books.RegistryConflictError, match="one by one"):
        books.put_tenant(ledger, {**DOCUMENT, "keys": []}, now_ns=30)
    assert books.number(ledger) == 2


def test_a_rotated_key_ends_after_a_while(ledger: Ledger) -> None:
    """Both open the door until then; the sooner end of the old one holds."""
    books.put_tenant(ledger, DOCUMENT, now_ns=10)
    _key(ledger)
    _key(ledger, "k2", rotated_from="k1", old_expires_at=HOUR_NS)
    _key(ledger, "k3", rotated_from="k2")

    first, second, third = books.keys(ledger, "acme")
    assert [each.is_live(HOUR_NS - 1) for each in (first, second, third)] == [True, False, True]
    assert (first.expires_at, third.rotated_from) == (HOUR_NS, "k2")
    with pytest.raises(books.RegistryConflictError, match="make a new one"):
        _key(ledger, "k4", rotated_from="k2")


def test_a_revoked_key_is_gone_for_ever(ledger: Ledger) -> None:
    """It is published no more, and neither its id nor its hash comes back."""
    books.put_tenant(ledger, DOCUMENT, now_ns=10)
    _key(ledger)
    revoked = books.revoke_key(ledger, "acme", "k1", now_ns=30)

    assert books.revoke_key(ledger, "acme", "k1", now_ns=40) == revoked
    assert books.snapshot(ledger).tenants == (DOCUMENT,)
    for key_id, sha256 in (("k1", "another"), ("another", "hash of k1")):
        with pytest.raises(books.RegistryConflictError, match="already"):
            _key(ledger, key_id, sha256=sha256)
    with pytest.raises(books.RegistryMissingError, match="no key 'k9'"):
        books.revoke_key(ledger, "acme", "k9", now_ns=40)


def test_a_removed_tenant_leaves_no_open_door(ledger: Ledger) -> None:
    """Its keys are revoked with it, also for one that is made anew under its id."""
    books.put_tenant(ledger, DOCUMENT, now_ns=10)
    _key(ledger)
    books.remove_tenant(ledger, "acme", now_ns=30)

    assert books.snapshot(ledger).tenants == ()
    with pytest.raises(books.RegistryMissingError):
        _key(ledger, "k2")
    with pytest.raises(books.RegistryMissingError):
        books.remove_tenant(ledger, "acme", now_ns=30)
    books.put_tenant(ledger, DOCUMENT, now_ns=40)
    assert books.snapshot(ledger).tenants == (DOCUMENT,)
