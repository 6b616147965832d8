"""From a request to what a handler is called with: who asks, which query, which body.

Rules:
- Nothing is looked at before it is known who asks; the body last.
- What a route does not know, it refuses by name: parameters and fields alike.
- A cookie is sent by browsers on behalf of any page. So with one, what changes something carries a
  header that only a page of ours can add, and comes from where it was served.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from proxy.admin.body_check import first_fault
from proxy.admin.errors import CrossSite, FieldRefused, InvalidAdminKey, NotFound, RoleTooLow
from proxy.admin.opened import Console
from proxy.admin.routes import NOBODY, SAFE, AdminPrincipal, Param, Role, Route
from proxy.admin.who import bearer
from proxy.errors import BodyTooLarge, InvalidRequest, UnsupportedEncoding
from proxy.json_bounds import fault_in

COOKIE = "weir_session"
CSRF = "x-weir-csrf"

BODY_BYTES_MAX = 1024 * 1024
"""A tenant with a thousand caps takes a tenth of it."""

VALUES_MAX = 50_000

_NAME = re.compile(r"[A-Za-z0-9._~:@+-]{1,200}")
"""What may stand in a path: ids, dates, versions."""

_ECHOED_MAX = 64
"""Of a name that a client made up, at most so much is said back."""


async def who_asks(request: web.Request, route: Route, console: Console) -> AdminPrincipal:
    """Who it is, allowed to; a refusal else."""
    is_safe = request.method in SAFE
    if route.role is Role.ANYBODY:
        if not is_safe and _is_of_another_page(request):
            raise CrossSite("Another page asks for this; it can only be asked for by our own.")
        return NOBODY
    headers = request.headers.getall("Authorization", [])
    if headers:
        who = await _by_key(headers, request, console)
    else:
        who = await _by_cookie(request, console)
        if not is_safe:
            _check_origin(request)
    if not who.role.covers(route.role):
        raise RoleTooLow(
            f"The admin key {who.id!r} has the role {who.role}, and this needs {route.role}."
        )
    return who


async def _by_key(headers: list[str], request: web.Request, console: Console) -> AdminPrincipal:
    address = request.remote or ""
    return await console.log_in(bearer(headers) or "", address)


async def _by_cookie(request: web.Request, console: Console) -> AdminPrincipal:
    token = request.cookies.get(COOKIE)
    if token is None:
        raise InvalidAdminKey("Send an admin key: `Authorization: Bearer weir_admin_...`.")
    who = await console.session(token)
    if who is None:
        raise InvalidAdminKey("This session has ended; log in again.")
    return who


def _check_origin(request: web.Request) -> None:
    if request.headers.get(CSRF) != "1":
        raise CrossSite(f"With a session, a change needs the header `{CSRF}: 1`.")
    if "Sec-Fetch-Site" not in request.headers and "Origin" not in request.headers:
        raise CrossSite("With a session, a change needs `Origin` or `Sec-Fetch-Site`.")
    if _is_of_another_page(request):
        raise CrossSite("Another page asks for this; it can only be asked for by our own.")


def _is_of_another_page(request: web.Request) -> bool:
    """Whether the browser says so. Both headers are the browser's: no page can set them."""
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    origin = request.headers.get("Origin")
    if site not in ("same-origin", "none"):
        return True
    return origin is not None and urlsplit(origin).netloc != request.headers.get("Host")


def read_path(request: web.Request, route: Route) -> Mapping[str, str]:
    """The names in the path; what cannot be one, there is not."""
    found = {name: request.match_info[name] for name in route.names}
    if not all(_NAME.fullmatch(each) for each in found.values()):
        raise NotFound("There is nothing of this name.")
    return found


def read_query(request: web.Request, route: Route) -> Mapping[str, str]:
    """The parameters, each known and sound."""
    known = {each.name: each for each in route.query}
    found: dict[str, str] = {}
    for name, value in request.query.items():
        shown = name[:_ECHOED_MAX]
        if name not in known:
            names = ", ".join(known) or "none"
            raise FieldRefused(
                f"The parameter {shown!r} is not known; known: {names}.", param=shown
            )
        if name in found:
            raise FieldRefused(f"The parameter {shown!r} is given twice.", param=shown)
        found[name] = value
        _check_param(known[name], value)
    for each in route.query:
        if each.required and each.name not in found:
            raise FieldRefused(f"The parameter {each.name!r} is missing.", param=each.name)
    return found


def _check_param(param: Param, value: str) -> None:
    read: Any = value
    kind = param.schema.get("type")
    if kind == "integer":
        read = int(value) if re.fullmatch(r"-?[0-9]{1,18}", value) else value
    elif kind == "boolean":
        read = {"true": True, "false": False}.get(value, value)
    if (fault := first_fault(read, param.schema)) is not None:
        raise FieldRefused(f"The parameter {param.name!r} {fault.message}.", param=param.name)


def _parsed(raw: bytes) -> Any:
    """JSON with exact numbers. orjson looks first: it refuses what only Python takes for JSON."""
    try:
        orjson.loads(raw)
        return json.loads(raw, parse_float=Decimal, object_pairs_hook=_once)
    except ValueError:
        raise InvalidRequest("The body is not JSON.") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which each name stands once: two readers might go by different ones."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidRequest("The body has a name twice in one object.")
    return found


async def read_body(request: web.Request, route: Route) -> Any:
    """The body, checked; None where the route takes none."""
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedEncoding("Send the body as it is, without Content-Encoding.")
    if (request.content_length or 0) > BODY_BYTES_MAX:
        raise BodyTooLarge(f"The body may have {BODY_BYTES_MAX} bytes at most.")
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise BodyTooLarge(f"The body may have {BODY_BYTES_MAX} bytes at most.") from None
    if route.body is None:
        if raw:
            raise InvalidRequest("This takes no body.")
        return None
    if request.content_type != "application/json":  # what a form can send is not that
        raise InvalidRequest("Send the body as `Content-Type: application/json`.")
    if (too_much := fault_in(raw, VALUES_MAX)) is not None:
        raise InvalidRequest(too_much)
    body = _parsed(raw or b"{}")
    if (fault := first_fault(body, route.body)) is not None:
        where = fault.path[: _ECHOED_MAX * 2]
        message = f"{where or 'The body'} {fault.message}."
        raise FieldRefused(message, param=where or None)
    return body
