"""Caps as they stand: what is configured, spent, held and left, read live from Redis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metering.caps import Scope, ScopeKind
from metering.ids import is_id, scope_id
from metering.tenants import Tenant
from proxy.admin.errors import FieldRefused, NotFound
from proxy.admin.routes import BASE, Answer, Call, Param, Role, Route
from proxy.cli_limits import read_limits
from proxy.limits_report import limits_body

_NAMED = ("project", "key", "feature", "user", "session", "run")


async def show_caps(call: Call) -> Answer:
    """The caps that a request of these scopes stands under."""
    tenant = tenant_of(call)
    scopes = _scopes(tenant, call.query)
    return Answer(limits_body(await read_limits(call.console.settings, tenant, scopes)))


def tenant_of(call: Call) -> Tenant:
    """The tenant of the path, as it is served now; NotFound for one that is not."""
    found = call.console.settings.tenants.get(call.path["tenant"])
    if found is None:
        raise NotFound(f"There is no tenant {call.path['tenant']!r}, or it is not served yet.")
    return found


def _scopes(tenant: Tenant, query: Mapping[str, str]) -> tuple[Scope, ...]:
    """The scopes that are named, the widest first; what a key is pinned to comes along."""
    found = {ScopeKind(name): query[name] for name in _NAMED if name in query}
    if (key_id := query.get("key")) is not None:
        key = next((each for each in tenant.keys if each.id == key_id), None)
        if key is None:
            raise NotFound(f"Tenant {tenant.id!r} has no key {key_id!r}.")
        found |= {ScopeKind.PROJECT: key.project, **key.pins}
    if found.get(ScopeKind.PROJECT, "default") not in tenant.projects:
        raise NotFound(f"Tenant {tenant.id!r} has no project {found[ScopeKind.PROJECT]!r}.")
    for kind, value in found.items():
        if kind is not ScopeKind.USER and not is_id(value):
            raise FieldRefused(f"{kind} cannot be {value[:64]!r}.", param=str(kind))
    return tuple(
        Scope(kind, scope_id(found[kind]) if kind is ScopeKind.USER else found[kind])
        for kind in ScopeKind
        if kind in found
    )


def _param(name: str) -> Param:
    schema: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 256}
    return Param(name, f"Also the caps of this {name}", schema)


ROUTES = (
    Route(
        "GET",
        f"{BASE}/tenants/{{tenant}}/caps",
        Role.VIEWER,
        show_caps,
        summary="The caps of a tenant: limit, spent, held, left, and when room frees",
        tag="caps",
        query=tuple(map(_param, _NAMED)),
    ),
)
