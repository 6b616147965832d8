"""Kill switches and pauses: what of a tenant may not spend any more."""

from __future__ import annotations

from metering.caps import Scope, ScopeKind
from metering.clock import now_ms
from metering.flags import Flag, FlagKind, flags, put_up, stage_min, take_down
from metering.ids import is_id
from metering.scope_names import parse_scope, scope_text
from proxy.admin.caps import tenant_of
from proxy.admin.errors import FieldRefused, NotFound
from proxy.admin.pages import REASON
from proxy.admin.routes import BASE, Answer, Call, Param, Role, Route
from proxy.admin.rows import flag_row

_KINDS = [kind.value for kind in FlagKind]


async def list_flags(call: Call) -> Answer:
    """What is up, who put it up, and why; and the floor under degradation."""
    tenant, console = tenant_of(call), call.console
    ask, keys = console.redis.execute_command, console.keys
    found = await flags(ask, keys, tenant.id)
    rows = [flag_row(each, tenant.id) for each in found]
    floor = await stage_min(ask, keys, tenant.id)
    return Answer({"data": rows, "next_cursor": None, "stage_min": floor})


async def put_flag(call: Call) -> Answer:
    """Refuse what comes there from now on, and end what runs already."""
    tenant, console = tenant_of(call), call.console
    scope = _scope(call.body.get("scope", "tenant"), tenant.id, call)
    reason = call.body["reason"].strip()
    if not reason:
        raise FieldRefused("reason must say why.", param="reason")
    flag = Flag(FlagKind(call.body["flag"]), scope, call.who.id, reason, now_ms())
    await put_up(console.redis.execute_command, console.keys, tenant.id, flag)
    row = flag_row(flag, tenant.id)
    return Answer(row, status=201, target=f"tenants/{tenant.id}/flags", after=row)


async def remove_flag(call: Call) -> Answer:
    """Take it back: what comes is served again."""
    tenant, console = tenant_of(call), call.console
    kind = FlagKind(call.query["flag"])
    scope = _scope(call.query.get("scope", "tenant"), tenant.id, call, must_exist=False)
    ask = console.redis.execute_command
    if not await take_down(ask, console.keys, tenant.id, kind, scope):
        raise NotFound(f"{scope_text(scope, tenant.id)} is not {kind}.")
    row = {"scope": scope_text(scope, tenant.id), "flag": kind.value}
    return Answer({**row, "removed": True}, target=f"tenants/{tenant.id}/flags", before=row)


def _scope(text: str, tenant_id: str, call: Call, *, must_exist: bool = True) -> Scope:
    """The scope that is named; one of a key or project that there is not stops nothing."""
    try:
        scope = parse_scope(text, tenant_id)
    except ValueError as error:
        raise FieldRefused(f"scope: {error}.", param="scope") from None
    tenant = tenant_of(call)
    if scope.kind not in (ScopeKind.TENANT, ScopeKind.USER) and not is_id(scope.id):
        raise FieldRefused(f"scope: no {scope.kind} can be called so.", param="scope")
    known = {
        ScopeKind.KEY: {key.id for key in tenant.keys},
        ScopeKind.PROJECT: {*tenant.projects, *(key.project for key in tenant.keys)},
    }
    if must_exist and scope.id not in known.get(scope.kind, {scope.id}):
        raise NotFound(f"Tenant {tenant_id!r} has no {scope.kind} {scope.id!r}.")
    return scope


_ALL = f"{BASE}/tenants/{{tenant}}/flags"
_SCOPE = {"type": "string", "minLength": 1, "maxLength": 300}

ROUTES = (
    Route(
        "GET",
        _ALL,
        Role.VIEWER,
        list_flags,
        summary="What of a tenant is paused or stopped: by whom, why, and since when",
        tag="flags",
    ),
    Route(
        "POST",
        _ALL,
        Role.ADMIN,
        put_flag,
        summary="Pause or stop a tenant, or a scope within it",
        tag="flags",
        body={
            "type": "object",
            "additionalProperties": False,
            "required": ["flag", "reason"],
            "properties": {
                "flag": {"enum": _KINDS},
                "scope": {**_SCOPE, "description": "`run:r-1`, `key:web`; the tenant if left out"},
                "reason": REASON,
            },
        },
        audit="flag.put",
    ),
    Route(
        "DELETE",
        _ALL,
        Role.ADMIN,
        remove_flag,
        summary="Take back a pause or a stop",
        tag="flags",
        query=(
            Param("flag", "Which", {"enum": _KINDS, "type": "string"}, required=True),
            Param("scope", "`run:r-1`, `key:web`; the tenant if left out", _SCOPE),
        ),
        audit="flag.remove",
    ),
)
