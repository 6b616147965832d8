"""The admin API described by itself: an OpenAPI 3.1 document and a page to read, both from ROUTES.

Rules: nothing is written down twice, so nothing can differ; the page loads its style from here and
nothing else, and runs no script.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson

from proxy.admin import catalogue
from proxy.admin.registry_writing import shapes
from proxy.admin.routes import BASE, SAFE, Answer, Call, Param, Role, Route

_STYLE = Path(__file__).parent / "static" / "page.css"

_PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
                "metadata": {"type": "object"},
            },
        }
    },
}


async def show_document(call: Call) -> Answer:
    """The OpenAPI document."""
    return Answer(raw=orjson.dumps(document(), option=orjson.OPT_INDENT_2))


async def show_page(call: Call) -> Answer:
    """The same for people."""
    headers = {"Content-Security-Policy": _PAGE_POLICY}
    return Answer(raw=page(), content_type="text/html; charset=utf-8", headers=headers)


async def show_style(call: Call) -> Answer:
    """The page's style."""
    return Answer(raw=_STYLE.read_bytes(), content_type="text/css; charset=utf-8")


@cache
def document() -> dict[str, Any]:
    """OpenAPI 3.1 of every route under /admin/v1."""
    paths: dict[str, dict[str, Any]] = {}
    for route in _described():
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "Tokenweir admin API",
            "version": _version(),
            "description": "Tenants, keys, caps, money and everything else that is administered.",
        },
        "servers": [{"url": "/"}],
        "security": [{"adminKey": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "adminKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An admin key: `weir_admin_...`",
                }
            },
            "schemas": {"Error": _ERROR, **_shapes_in(paths)},
        },
    }
    moved = orjson.loads(orjson.dumps(whole).replace(b"#/$defs/", b"#/components/schemas/"))
    assert isinstance(moved, dict), "it was one"
    return moved


def _described() -> list[Route]:
    found = [each for each in catalogue.routes() if each.path.startswith(f"{BASE}/")]
    return sorted(found, key=lambda each: (each.tag, each.path, each.method))


def _operation(route: Route) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": [*_path_params(route), *_query_params(route)],
        "responses": _responses(route),
        "x-tokenweir-role": route.role.value,
    }
    if route.audit is not None:
        told["x-tokenweir-audit"] = route.audit
    if route.role is Role.ANYBODY:
        told["security"] = []
    if route.body is not None:
        content = {"application/json": {"schema": dict(route.body)}}
        needed = "$ref" in route.body or bool(route.body.get("required"))
        told["requestBody"] = {"required": needed, "content": content}
    return told


def _operation_id(route: Route) -> str:
    words = re.findall(r"\w+", route.path.removeprefix(BASE))
    return "_".join([route.method.lower(), *words])


def _path_params(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in route.names
    ]


def _query_params(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": each.name,
            "in": "query",
            "required": each.required,
            "description": each.about,
            "schema": dict(each.schema),
        }
        for each in route.query
    ]


def _responses(route: Route) -> dict[str, Any]:
    schema = dict(route.answer or {})
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "2XX": {"description": "Done", "content": {"application/json": {"schema": schema}}},
        "default": {"description": "Refused, and why", "content": error},
    }


def _shapes_in(found: Any) -> dict[str, Any]:
    """The shapes of the configuration that are referred to, and those that they refer to."""
    wanted: dict[str, Any] = {}
    waiting = _names_in(found)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted[name] = shapes()[name]
            waiting |= _names_in(wanted[name])
    return dict(sorted(wanted.items()))


def _names_in(found: Any) -> set[str]:
    return set(re.findall(r"#/\$defs/(\w+)", orjson.dumps(found).decode()))


@cache
def page() -> bytes:
    """Every route by its subject: what it does, who may, what it takes."""
    routes = _described()
    tags = list(dict.fromkeys(route.tag for route in routes))
    index = "".join(f'<li><a href="#{_anchor(tag)}">{escape(tag)}</a></li>' for tag in tags)
    parts = "".join(_section(tag, [each for each in routes if each.tag == tag]) for tag in tags)
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<title>Tokenweir admin API</title>"
        f'<link rel="stylesheet" href="{BASE}/page.css"></head><body>'
        "<header><h1>Tokenweir admin API</h1>"
        "<p>Send an admin key: <code>Authorization: Bearer weir_admin_…</code>. "
        "Errors have OpenAI's shape. Amounts are decimal text in <code>*_usd</code> and whole "
        "nano-dollars in <code>*_nano</code>; times are RFC 3339, UTC. "
        f'For programs: <a href="{BASE}/openapi.json">openapi.json</a>.</p></header>'
        f"<nav><ul>{index}</ul></nav><main>{parts}</main></body></html>"
    )
    return text.encode()


def _section(tag: str, routes: Iterable[Route]) -> str:
    items = "".join(map(_item, routes))
    title = escape(tag[:1].upper() + tag[1:])
    return f'<section id="{_anchor(tag)}"><h2>{title}</h2>{items}</section>'


def _item(route: Route) -> str:
    method = "read" if route.method in SAFE else "change"
    role = "" if route.role is Role.ANYBODY else f"<span>{route.role}</span>"
    audit = "" if route.audit is None else f"<span>audit: {escape(route.audit)}</span>"
    rows = [
        (each.name, "query, needed" if each.required else "query", _of_query(each))
        for each in route.query
    ]
    rows += _body_rows(route.body)
    cells = "".join(
        f"<tr><td>{_code(name)}</td><td>{escape(kind)}</td><td>{_prose(about)}</td></tr>"
        for name, kind, about in rows
    )
    table = f"<table><tbody>{cells}</tbody></table>" if cells else ""
    return (
        f'<article><h3><b class="{method}">{route.method}</b> <code>{escape(route.path)}</code>'
        f"</h3><p>{_prose(route.summary)}. {role}{audit}</p>{table}</article>"
    )


def _body_rows(body: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    if body is None:
        return []
    if "$ref" in body:
        name = str(body["$ref"]).rpartition("/")[2].removesuffix("Shape").lower()
        return [("", "body", f"a {name}, in the shape that it has in config.yaml")]
    needed = body.get("required", ())
    return [
        (name, "body, needed" if name in needed else "body", _about(schema))
        for name, schema in body.get("properties", {}).items()
    ]


def _of_query(param: Param) -> str:
    """What it means, and which values there are."""
    values = ", ".join(f"`{each}`" for each in param.schema.get("enum", ()))
    return f"{param.about}: {values}" if values else param.about


def _code(name: str) -> str:
    return f"<code>{escape(name)}</code>" if name else "all of it"


def _prose(text: str) -> str:
    """Text with `code` in it."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _about(schema: Mapping[str, Any]) -> str:
    if "description" in schema:
        return str(schema["description"])
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "$ref" in schema:
        return "in the shape that it has in config.yaml"
    return str(schema.get("format", schema.get("type", "")))


def _anchor(tag: str) -> str:
    return re.sub(r"[^a-z]+", "-", tag)


def _version() -> str:
    try:
        return version("tokenweir")
    except PackageNotFoundError:  # run from a checkout that nobody installed
        return "0"


ROUTES = (
    Route(
        "GET",
        f"{BASE}/",
        Role.ANYBODY,
        show_page,
        summary="This page",
        tag="console",
    ),
    Route(
        "GET",
        f"{BASE}/openapi.json",
        Role.ANYBODY,
        show_document,
        summary="This API as an OpenAPI 3.1 document",
        tag="console",
    ),
    Route(
        "GET",
        f"{BASE}/page.css",
        Role.ANYBODY,
        show_style,
        summary="The style of the page",
        tag="console",
    ),
)
