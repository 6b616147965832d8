"""The paths of the dashboard's pages and files; the admin API answers the rest."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from proxy.dashboard.assets import FOREVER, HEADERS, Asset, Assets, load_assets

PAGES = {"/dashboard": "index.html", "/dashboard/login": "login.html"}


def add_pages(app: web.Application) -> None:
    """Serve them; who may see numbers is the API's business, the pages hold none."""
    assets = load_assets()

    async def asset(request: web.Request) -> web.Response:
        found = assets.files.get(request.match_info["path"])
        if found is None or request.match_info["digest"] != assets.digest:
            return web.Response(
                status=404, text="Reload the page: this file is of another version.\n"
            )
        return _answer(request, found, {"Cache-Control": FOREVER})

    for path, name in PAGES.items():
        app.router.add_get(path, _page(assets, name))
    app.router.add_get("/dashboard/", _to_dashboard)
    app.router.add_get("/dashboard/assets/{digest}/{path:.*}", asset)


def _page(assets: Assets, name: str):  # type: ignore[no-untyped-def] # aiohttp has no name for it
    page = assets.page(name)

    async def answer(request: web.Request) -> web.Response:
        return _answer(request, page, {"Cache-Control": "no-cache"})

    return answer


async def _to_dashboard(request: web.Request) -> web.Response:
    return web.Response(status=308, headers={"Location": "/dashboard", **HEADERS})


def _answer(request: web.Request, asset: Asset, more: Mapping[str, str]) -> web.Response:
    headers = {**HEADERS, **more, "ETag": asset.etag}
    if request.headers.get("If-None-Match") == asset.etag:
        return web.Response(status=304, headers=headers)
    return web.Response(
        body=asset.body, content_type=asset.content_type, charset="utf-8", headers=headers
    )
