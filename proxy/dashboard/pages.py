"""The paths of the dashboard's pages and files; the admin API answers the rest.

The pages hold no numbers and are for anybody; who may see what is the API's business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import cache

from proxy.admin.errors import NotFound
from proxy.admin.routes import Answer, Call, Role, Route
from proxy.dashboard.assets import FOREVER, HEADERS, Asset, Assets, load_assets


@cache
def assets() -> Assets:
    """The files, read when they are first asked for."""
    return load_assets()


def page(name: str) -> Callable[[Call], Awaitable[Answer]]:
    """The handler of one page."""

    async def answer(call: Call) -> Answer:
        return _answer(call, assets().page(name), {"Cache-Control": "no-cache"})

    return answer


async def asset(call: Call) -> Answer:
    """One file of this version; a page of another version is to be loaded anew."""
    found = assets().files.get(f"{call.path['folder']}/{call.path['file']}")
    if found is None or call.path["digest"] != assets().digest:
        raise NotFound("There is no such file in this version; load the page again.")
    return _answer(call, found, {"Cache-Control": FOREVER})


async def to_dashboard(call: Call) -> Answer:
    """From where people come by guessing."""
    return Answer(raw=b"", status=308, headers={"Location": "/dashboard"})


def _answer(call: Call, found: Asset, more: Mapping[str, str]) -> Answer:
    headers = {**HEADERS, **more, "ETag": found.etag}
    if call.request.headers.get("If-None-Match") == found.etag:
        return Answer(raw=b"", status=304, headers=headers, content_type=found.content_type)
    return Answer(raw=found.body, headers=headers, content_type=found.content_type)


def _open(path: str, handler: Callable[[Call], Awaitable[Answer]], summary: str) -> Route:
    return Route("GET", path, Role.ANYBODY, handler, summary=summary, tag="dashboard")


ROUTES = (
    _open("/", to_dashboard, "Leads to the dashboard"),
    _open("/dashboard", page("index.html"), "The dashboard"),
    _open("/dashboard/", to_dashboard, "Leads to the dashboard"),
    _open("/dashboard/login", page("login.html"), "Where people log in"),
    _open("/dashboard/assets/{digest}/{folder}/{file}", asset, "A file of the dashboard"),
)
