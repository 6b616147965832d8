"""`weir tenants` and `weir keys`: rows for programs, tables for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table

from metering.money import format_usd
from metering.registry_body import canonical
from metering.tenants import DEFAULT_PROJECT, ApiKey, Tenant
from proxy.cli_times import rfc3339

if TYPE_CHECKING:
    from metering.settlement.ledger.registry_books import KeyRow, TenantRow


def file_key_row(tenant: str, key: ApiKey, now_ns: int) -> dict[str, Any]:
    """A key that stands in the file."""
    return {
        "tenant": tenant,
        "id": key.id,
        "project": key.project,
        "source": "file",
        "live": key.expires_ns is None or now_ns < key.expires_ns,
        "created_at": None,
        "expires_at": _time(key.expires_ns),
        "revoked_at": None,
        "rotated_from": None,
    }


def key_row(row: KeyRow, now_ns: int) -> dict[str, Any]:
    """A key of the registry; never its hash."""
    return {
        "tenant": row.tenant,
        "id": row.id,
        "project": row.document.get("project", DEFAULT_PROJECT),
        "source": "registry",
        "live": row.is_live(now_ns),
        "created_at": _time(row.created_at),
        "expires_at": _time(row.expires_at),
        "revoked_at": _time(row.revoked_at),
        "rotated_from": row.rotated_from,
    }


def keys_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One line for each key."""
    table = Table(header_style="bold")
    for heading in ("Tenant", "Key", "Project", "Stands in", "Ends"):
        table.add_column(heading, no_wrap=heading == "Key")
    for row in rows:
        ends = row["expires_at"] or "never"
        if row["revoked_at"]:
            ends = f"revoked {row['revoked_at']}"
        table.add_row(row["tenant"], row["id"], row["project"], row["source"], ends)
    return table


def tenant_row(tenant: Tenant) -> dict[str, Any]:
    """A tenant that is served, wherever it stands."""
    cap = tenant.limits.daily_cap_nano
    return {
        "id": tenant.id,
        "name": tenant.name,
        "source": "registry" if tenant.is_registered else "file",
        "keys": len(tenant.keys),
        "daily_cap_usd": None if cap is None else format_usd(cap),
        "left_out": None,
    }


def left_out_row(row: TenantRow, why: str) -> dict[str, Any]:
    """A tenant of the registry that is not served, and why."""
    name = str(row.document.get("name", row.id))
    facts = {"keys": 0, "daily_cap_usd": None, "left_out": why}
    return {"id": row.id, "name": name, "source": "registry", **facts}


def tenants_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One line for each tenant."""
    table = Table(header_style="bold")
    for heading in ("Tenant", "Name", "Stands in", "Keys", "Cap of 24 h, USD", ""):
        is_number = heading in ("Keys", "Cap of 24 h, USD")
        table.add_column(heading, justify="right" if is_number else "left")
    for row in rows:
        note = f"not served: {row['left_out']}" if row["left_out"] else ""
        facts = (str(row["keys"]), row["daily_cap_usd"] or "none", note)
        table.add_row(row["id"], row["name"], row["source"], *facts)
    return table


def document_json(document: Mapping[str, Any]) -> Any:
    """A document as plain JSON, its numbers with the digits that were written."""
    import json

    return json.loads(canonical(document))


def _time(at_ns: int | None) -> str | None:
    return None if at_ns is None else rfc3339(at_ns)
