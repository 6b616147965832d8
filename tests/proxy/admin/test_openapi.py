"""The description of the admin API is that of its routes, for programs and for people."""

from __future__ import annotations

from typing import Any

from fixtures_console import Desk
from jsonschema import Draft202012Validator

from proxy.admin import catalogue
from proxy.admin.openapi import document, page
from proxy.admin.routes import BASE


def _refs(found: Any) -> set[str]:
    if isinstance(found, dict):
        own = {found["$ref"]} if isinstance(found.get("$ref"), str) else set()
        return own.union(*map(_refs, found.values()))
    return set().union(*map(_refs, found)) if isinstance(found, list) else set()


def test_every_route_is_described() -> None:
    """With its role, and each operation has a name of its own."""
    told = {
        (method.upper(), path): each
        for path, methods in document()["paths"].items()
        for method, each in methods.items()
    }
    routes = {(each.method, each.path): each for each in catalogue.routes()}
    ours = {at: each for at, each in routes.items() if each.path.startswith(f"{BASE}/")}

    assert told.keys() == ours.keys()
    assert all(told[at]["x-tokenweir-role"] == each.role for at, each in ours.items())
    assert len({each["operationId"] for each in told.values()}) == len(told)


def test_every_reference_leads_somewhere() -> None:
    """Schemas are sound, and those that are referred to are in the document."""
    schemas = document()["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)

    assert {each.rpartition("/")[2] for each in _refs(document())} <= schemas.keys()
    assert {"TenantShape", "ProjectShape", "PinShape"} <= schemas.keys()


def test_a_body_that_is_a_whole_document_is_needed() -> None:
    """A tenant cannot be made of nothing; a page says so, with the values there are to choose."""
    body = document()["paths"][f"{BASE}/tenants"]["post"]["requestBody"]

    assert body["required"] is True
    assert b"<td>all of it</td><td>body</td><td>a tenant" in page()
    assert b"<code>day</code>, <code>month</code>" in page()
    assert b"`" not in page()


async def test_anybody_can_read_it(desk: Desk) -> None:
    """It holds nothing of the installation; the page runs no script and loads nothing elsewhere."""
    said = await desk.ask("GET", f"{BASE}/openapi.json", role=None)
    read = await desk.ask("GET", f"{BASE}/", role=None)
    style = await desk.ask("GET", f"{BASE}/page.css", role=None)

    assert said.body["openapi"] == "3.1.0"
    assert "script" not in read.headers["Content-Security-Policy"]
    assert b"<script" not in page() and b"http" not in page().replace(b"https", b"")
    assert style.headers["Content-Type"].startswith("text/css")
