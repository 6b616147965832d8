"""Every route of the catalogue, called once: none fails by a fault of ours."""

from __future__ import annotations

import re

from fixtures_console import Desk

from proxy.admin import catalogue
from proxy.admin.routes import SAFE, Role

NAMES = {"tenant": "acme", "month": "2026-10", "model": "big", "line": "1"}
BODIES = {
    "POST /admin/v1/credits": {"tenant": "acme", "amount_usd": "1"},
    "POST /admin/v1/invoices/issue": {"month": "2026-10", "force": True},
}
EXPECTED = frozenset(range(200, 210)) | {400, 404, 409}


async def test_every_route_answers(desk: Desk) -> None:
    """On an installation where little has happened: done, or a refusal that says why."""
    wrong = []
    for route in catalogue.routes():
        if not route.path.startswith("/admin/") or route.path.endswith("/live"):
            continue
        path = re.sub(r"\{(\w+)\}", lambda name: NAMES.get(name[1], "1"), route.path)
        wanted = "&".join(f"{each.name}=paused" for each in route.query if each.required)
        body = BODIES.get(f"{route.method} {route.path}", {"reason": "a try"})
        sent = None if route.method in SAFE or route.body is None else body
        role = None if route.role is Role.ANYBODY else "admin"
        said = await desk.ask(route.method, f"{path}?{wanted}", sent, role=role)
        if said.status not in EXPECTED:
            wrong.append((route.method, path, said.status, said.raw[:300]))

    assert wrong == []
