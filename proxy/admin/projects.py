"""The projects of a tenant: entries of its document, changed one by one."""

from __future__ import annotations

from typing import Any

from metering.settlement.ledger import registry_books as books
from proxy.admin import tenants
from proxy.admin.errors import Conflict, FieldRefused, NotFound
from proxy.admin.pages import PAGE, listed, page
from proxy.admin.registry_writing import exact, need_registered
from proxy.admin.routes import BASE, Answer, Call, Role, Route


async def list_projects(call: Call) -> Answer:
    """Their entries; `default` is always there."""
    tenant_id = call.path["tenant"]
    written = call.console.settings.tenants.get(tenant_id)
    if written is not None and not written.is_registered:
        rows = [{"id": each, "name": name} for each, name in written.projects.items()]
    else:
        rows = _entries(await tenants.find(call, tenant_id))
        if "default" not in {row["id"] for row in rows}:
            rows.insert(0, {"id": "default"})
    return Answer(page(rows, lambda row: row["id"], call.query))


async def put_project(call: Call) -> Answer:
    """Make a project, or let this take the place of the one of that id."""
    row, project = await _found(call), call.path["project"]
    entry = exact(call.body, "ProjectShape")
    if entry.setdefault("id", project) != project:
        raise FieldRefused("id must be that of the path: an id never changes.", param="id")
    entries = _entries(row)
    before = next((each for each in entries if each["id"] == project), None)
    others = [each for each in entries if each["id"] != project]
    document = {**row.document, "projects": [*others, entry]}
    await tenants.change_document(call, row, document, within=f"projects[{len(others)}].")
    target = f"tenants/{row.id}/projects/{project}"
    return Answer(entry, target=target, before=before, after=entry)


async def remove_project(call: Call) -> Answer:
    """Take it out; a key of it is a reason not to."""
    row, project = await _found(call), call.path["project"]
    entries = _entries(row)
    before = next((each for each in entries if each["id"] == project), None)
    if before is None:
        raise NotFound(f"Tenant {row.id!r} has no project {project!r} of its own.")
    keys = await call.console.ask(lambda ledger: books.keys(ledger, row.id))
    used = [key.id for key in keys if not key.revoked_at and key.document.get("project") == project]
    if used:
        raise Conflict(f"The key {used[0]!r} is of this project: revoke it first.")
    others = [each for each in entries if each["id"] != project]
    await tenants.change_document(call, row, {**row.document, "projects": others})
    target = f"tenants/{row.id}/projects/{project}"
    return Answer({"id": project, "removed": True}, target=target, before=before)


async def _found(call: Call) -> books.TenantRow:
    need_registered(call.console.settings, call.path["tenant"])
    return await tenants.find(call, call.path["tenant"])


def _entries(row: books.TenantRow) -> list[dict[str, Any]]:
    return [dict(each) for each in row.document.get("projects", ())]


_ALL = f"{BASE}/tenants/{{tenant}}/projects"
_ONE = f"{_ALL}/{{project}}"

ROUTES = (
    Route(
        "GET",
        _ALL,
        Role.VIEWER,
        list_projects,
        summary="The projects of a tenant",
        tag="tenants",
        query=PAGE,
        answer=listed(),
    ),
    Route(
        "PUT",
        _ONE,
        Role.ADMIN,
        put_project,
        summary="Make or replace a project",
        tag="tenants",
        body={"$ref": "#/$defs/ProjectShape"},
        audit="project.put",
    ),
    Route(
        "DELETE",
        _ONE,
        Role.ADMIN,
        remove_project,
        summary="Remove a project that no key uses",
        tag="tenants",
        audit="project.remove",
    ),
)
