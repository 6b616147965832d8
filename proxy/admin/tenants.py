"""Tenants: those of the file to be seen, those of the registry to be made and changed as well.

A tenant's document has the shape of an entry of `tenants` in the configuration file. Its keys are
no part of it: see `proxy.admin.tenant_keys`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metering.clock import now_ns
from metering.ids import is_id
from metering.settlement.ledger import registry_books as books
from metering.settlement.ledger.store import Ledger
from metering.tenants import Tenant
from proxy.admin.errors import FieldRefused, NotFound
from proxy.admin.pages import PAGE, amounts, exact_usd, listed, page
from proxy.admin.registry_writing import (
    check_of,
    exact,
    in_books,
    need_registered,
    publish,
)
from proxy.admin.routes import BASE, Answer, Call, Param, Role, Route
from proxy.cli_times import rfc3339
from proxy.registry_changes import ChangeRefusedError, put_tenant

_VERSION = Param(
    "version",
    "Change it only while it is at this version",
    {"type": "integer", "minimum": 1},
)

DOCUMENT: Mapping[str, Any] = {"$ref": "#/$defs/TenantShape"}


async def list_tenants(call: Call) -> Answer:
    """Those of the file first, then those of the registry."""
    found = await call.console.ask(books.tenants)
    rows = rows_of(call.console.settings.tenants, found)
    wanted = call.query.get("q", "").casefold()
    if wanted:
        rows = [row for row in rows if wanted in f"{row['id']} {row['name']}".casefold()]
    return Answer(page(rows, lambda row: row["id"], call.query))


async def show_tenant(call: Call) -> Answer:
    """One, with its document where it has one."""
    return Answer(await row_of(call, call.path["tenant"]))


async def create_tenant(call: Call) -> Answer:
    """A new one, without keys."""
    return await _put(call, exact(call.body, "TenantShape"), expected=0, status=201)


async def replace_tenant(call: Call) -> Answer:
    """Let the document take the place of the one that is there."""
    document = exact(call.body, "TenantShape")
    if document.setdefault("id", call.path["tenant"]) != call.path["tenant"]:
        raise FieldRefused("id must be that of the path: an id never changes.", param="id")
    need_registered(call.console.settings, call.path["tenant"])
    before = await find(call, call.path["tenant"])
    version = call.query.get("version")
    return await _put(call, document, before, before.version if version is None else int(version))


async def remove_tenant(call: Call) -> Answer:
    """Take it out and revoke its keys; what it used stays in the ledger."""
    tenant_id, version = call.path["tenant"], call.query.get("version")
    need_registered(call.console.settings, tenant_id)

    def remove(ledger: Ledger) -> books.TenantRow:
        expected = None if version is None else int(version)
        return books.remove_tenant(ledger, tenant_id, now_ns=now_ns(), expected_version=expected)

    gone = await in_books(call.console, remove)
    published = await publish(call.console)
    return Answer(
        {"id": tenant_id, "removed": True, "published": published},
        target=f"tenants/{tenant_id}",
        before=gone.document,
    )


async def find(call: Call, tenant_id: str) -> books.TenantRow:
    """The registry's row; NotFound where there is none."""
    found = await call.console.ask(lambda ledger: books.tenant(ledger, tenant_id))
    if found is None:
        raise NotFound(f"There is no tenant {tenant_id!r}.")
    return found


async def row_of(call: Call, tenant_id: str) -> dict[str, Any]:
    """A tenant as it is answered."""
    written = call.console.settings.tenants.get(tenant_id)
    if written is not None and not written.is_registered:
        return _row(written)
    return _registered_row(await find(call, tenant_id), written)


async def change_document(
    call: Call, row: books.TenantRow, document: Mapping[str, Any], *, within: str = ""
) -> books.TenantRow:
    """Check, keep and publish another document of a tenant; its audit is the caller's.

    `within` is the place of what the caller was sent, which a refusal has no need to tell.
    """

    settings, version = call.console.settings, row.version

    def put(ledger: Ledger) -> books.TenantRow:
        check = check_of(settings)
        at = {"now_ns": now_ns(), "expected_version": version}
        try:
            return put_tenant(ledger, check, document, **at)
        except ChangeRefusedError as error:
            raise ChangeRefusedError(str(error).removeprefix(within)) from None

    made = await in_books(call.console, put)
    await publish(call.console)
    return made


async def _put(
    call: Call,
    document: dict[str, Any],
    before: books.TenantRow | None = None,
    expected: int = 0,
    status: int = 200,
) -> Answer:
    tenant_id = document.get("id")
    if not isinstance(tenant_id, str) or not is_id(tenant_id):
        raise FieldRefused("id must be 1 to 64 letters, digits, dots, dashes.", param="id")
    if "keys" in document:
        raise FieldRefused(f"keys are made one by one: POST .../{tenant_id}/keys.", param="keys")
    need_registered(call.console.settings, tenant_id)
    settings = call.console.settings

    def put(ledger: Ledger) -> books.TenantRow:
        check = check_of(settings)
        return put_tenant(ledger, check, document, now_ns=now_ns(), expected_version=expected)

    made = await in_books(call.console, put)
    body = {**_registered_row(made, None), "published": await publish(call.console)}
    return Answer(
        body,
        status=status,
        target=f"tenants/{tenant_id}",
        before=None if before is None else before.document,
        after=made.document,
    )


def rows_of(known: Mapping[str, Tenant], found: list[books.TenantRow]) -> list[dict[str, Any]]:
    """Every tenant, as it is answered; of a list without documents."""
    rows = [_row(each) for each in known.values() if not each.is_registered]
    ours = {row["id"] for row in rows}
    for each in found:
        if each.id not in ours:
            row = _registered_row(each, known.get(each.id))
            row.pop("document")
            rows.append(row)
    return rows


def _row(tenant: Tenant) -> dict[str, Any]:
    return {
        "id": tenant.id,
        "name": tenant.name,
        "source": "file",
        "version": None,
        **amounts("daily_cap", tenant.limits.daily_cap_nano),
        "models": None if tenant.models is None else sorted(tenant.models),
        "projects": list(tenant.projects),
        "key_count": len(tenant.keys),
        "is_served": True,
        "created_at": None,
        "updated_at": None,
    }


def _registered_row(row: books.TenantRow, served: Tenant | None) -> dict[str, Any]:
    document = row.document
    cap = document.get("limits", {}).get("tenant", {}).get("daily_cap")
    usual = None if cap is None else int(cap * 10**9)
    cap_nano = usual if served is None else served.limits.daily_cap_nano
    projects = [each["id"] for each in document.get("projects", ())]
    return {
        "id": row.id,
        "name": document.get("name", row.id),
        "source": "registry",
        "version": row.version,
        "daily_cap_usd": None if cap_nano is None else exact_usd(cap_nano),
        "daily_cap_nano": cap_nano,
        "models": document.get("models"),
        "projects": list(dict.fromkeys(["default", *projects])),
        "key_count": 0 if served is None else len(served.keys),
        "is_served": served is not None,
        "created_at": rfc3339(row.created_at),
        "updated_at": rfc3339(row.updated_at),
        "document": dict(document),
    }


_ONE = f"{BASE}/tenants/{{tenant}}"

ROUTES = (
    Route(
        "GET",
        f"{BASE}/tenants",
        Role.VIEWER,
        list_tenants,
        summary="Every tenant, of the file and of the registry",
        tag="tenants",
        query=(*PAGE, Param("q", "Only those with this in their id or name")),
        answer=listed(),
    ),
    Route(
        "POST",
        f"{BASE}/tenants",
        Role.ADMIN,
        create_tenant,
        summary="Make a tenant",
        tag="tenants",
        body=DOCUMENT,
        audit="tenant.create",
    ),
    Route(
        "GET", _ONE, Role.VIEWER, show_tenant, summary="One tenant and its document", tag="tenants"
    ),
    Route(
        "PUT",
        _ONE,
        Role.ADMIN,
        replace_tenant,
        summary="Replace the document of a tenant",
        tag="tenants",
        query=(_VERSION,),
        body=DOCUMENT,
        audit="tenant.replace",
    ),
    Route(
        "DELETE",
        _ONE,
        Role.ADMIN,
        remove_tenant,
        summary="Remove a tenant and revoke its keys",
        tag="tenants",
        query=(_VERSION,),
        audit="tenant.remove",
    ),
)
