"""Changes of tenants and keys as people ask for them: checked by the configuration's own decoder,
then written. For the command line and the admin API, which say who it was and publish.

Rules:
- What is written is what proxies would serve: a document that they would leave out is refused with
  their reason. Tenants that stand in the file are changed there.
- A key is made here, returned once, and kept nowhere. One that takes the place of another has its
  project, pins and caps, so that rotating widens nothing.
- Revoking asks nobody: it works while the file has faults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from metering.registry_body import Snapshot
from metering.settlement.ledger import registry_books as books
from metering.settlement.ledger.registry_books import KeyRow, RegistryMissingError, TenantRow
from metering.settlement.ledger.store import Ledger
from proxy.api_keys import key_sha256, new_key, public_id
from proxy.config_now import load_now
from proxy.config_registry import Registered

Check = Callable[[Snapshot], Registered]
"""What would become of a registry; ConfigFaults where the file itself is faulty."""

KEY_FIELDS = ("id", "project", "pin", "act_for")
"""What may be said of a key that is made here; the rest follows."""

OVERLAP_NS = 24 * 3_600_000_000_000
"""So long a rotated key opens the door beside its successor, unless somebody says otherwise."""


class ChangeRefusedError(ValueError):
    """It cannot be served; the message says what is wrong, and where."""


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key and its row. The key is to be shown once."""

    row: KeyRow
    key: str = field(repr=False)


def checker(source: Path, env: Mapping[str, str], data_dir: Path) -> Check:
    """Checks against the file at `source`."""

    def check(snapshot: Snapshot) -> Registered:
        return load_now(source, env, data_dir=data_dir, registry=lambda _: snapshot).registry

    return check


def put_tenant(
    ledger: Ledger,
    check: Check,
    document: Mapping[str, Any],
    *,
    now_ns: int,
    expected_version: int | None = None,
) -> TenantRow:
    """Make a tenant, or let `document` take the place of its own."""
    exact = _exact(document)
    tenant_id = exact.get("id")
    if not isinstance(tenant_id, str):
        raise ChangeRefusedError("id: is missing")
    if "keys" in exact:
        raise ChangeRefusedError("keys: are made one by one, and revoked one by one")
    entries = _served_keys(books.snapshot(ledger), tenant_id)
    _require_served(ledger, check, {**exact, "keys": entries})
    return books.put_tenant(ledger, exact, now_ns=now_ns, expected_version=expected_version)


def make_key(
    ledger: Ledger,
    check: Check,
    tenant_id: str,
    wish: Mapping[str, Any],
    *,
    now_ns: int,
    expires_at: int | None = None,
) -> MadeKey:
    """A new key for a tenant of the registry; its id is made up where `wish` has none."""
    unknown = sorted(set(wish) - set(KEY_FIELDS))
    if unknown:
        raise ChangeRefusedError(f"{unknown[0]}: is not for a key; known: {', '.join(KEY_FIELDS)}")
    if expires_at is not None and expires_at <= now_ns:
        raise ChangeRefusedError("expires_at: is over already")
    key = new_key()
    document = _exact({"id": public_id(key), **_said(wish)})
    found = _tenant(ledger, tenant_id)
    sha256 = key_sha256(key)
    entries = [*_served_keys(books.snapshot(ledger), tenant_id), {**document, "sha256": sha256}]
    try:
        _require_served(ledger, check, {**found.document, "keys": entries})
    except ChangeRefusedError as error:  # who asks for a key has not written the others
        place = f"keys[{len(entries) - 1}]."
        raise ChangeRefusedError(str(error).removeprefix(place)) from None
    row = books.put_key(
        ledger, tenant_id, document, sha256=sha256, now_ns=now_ns, expires_at=expires_at
    )
    return MadeKey(row, key)


def rotate_key(
    ledger: Ledger,
    tenant_id: str,
    key_id: str,
    *,
    now_ns: int,
    overlap_ns: int = OVERLAP_NS,
    expires_at: int | None = None,
) -> MadeKey:
    """A key in the place of another, which ends after `overlap_ns`."""
    old = next((each for each in books.keys(ledger, tenant_id) if each.id == key_id), None)
    if old is None:
        raise RegistryMissingError(f"tenant {tenant_id!r} has no key {key_id!r} in the registry")
    key = new_key()
    document = {**old.document, "id": public_id(key)}
    _cap_alike(ledger, tenant_id, key_id, str(document["id"]), now_ns=now_ns)
    row = books.put_key(
        ledger,
        tenant_id,
        document,
        sha256=key_sha256(key),
        now_ns=now_ns,
        expires_at=expires_at,
        rotated_from=key_id,
        old_expires_at=now_ns + overlap_ns,
    )
    return MadeKey(row, key)


def _cap_alike(ledger: Ledger, tenant_id: str, old: str, new: str, *, now_ns: int) -> None:
    """What caps the old key caps the new one, before there is one."""
    found = _tenant(ledger, tenant_id)
    limits = found.document.get("limits", {})
    caps = limits.get("caps", [])
    more = [
        {**each, "id": new} for each in caps if each.get("scope") == "key" and each.get("id") == old
    ]
    if more:
        document = {**found.document, "limits": {**limits, "caps": [*caps, *more]}}
        books.put_tenant(ledger, document, now_ns=now_ns, expected_version=found.version)


def _require_served(ledger: Ledger, check: Check, tenant: Mapping[str, Any]) -> None:
    """Ask the decoder about this tenant, and of the others only for their names."""
    tenant_id = tenant["id"]
    others = ({"id": each.id} for each in books.tenants(ledger) if each.id != tenant_id)
    found = check(Snapshot(1, (tenant, *others)))
    if tenant_id in found.overruled:
        raise ChangeRefusedError(f"tenant {tenant_id!r} stands in the file: change it there")
    if (why := found.left_out.get(tenant_id)) is not None:
        raise ChangeRefusedError(why)


def _tenant(ledger: Ledger, tenant_id: str) -> TenantRow:
    found = books.tenant(ledger, tenant_id)
    if found is None:
        raise RegistryMissingError(f"the registry has no tenant {tenant_id!r}")
    return found


def _served_keys(snapshot: Snapshot, tenant_id: str) -> list[Any]:
    found = next((each for each in snapshot.tenants if each["id"] == tenant_id), {})
    return list(found.get("keys", ()))


def _said(wish: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in wish.items() if value is not None}


def _exact(found: Any) -> Any:
    """Without floats: one that was read from JSON has the digits that were written, still."""
    match found:
        case float():
            return Decimal(repr(found))
        case Mapping():
            return {str(name): _exact(value) for name, value in found.items()}
        case list() | tuple():
            return [_exact(each) for each in found]
    return found
