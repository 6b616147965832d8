"""How each upstream does, as all proxies together saw it within the hour."""

from __future__ import annotations

import asyncio

from proxy.admin.routes import BASE, Answer, Call, Param, Role, Route
from proxy.cli_upstreams import read_upstreams
from proxy.upstreams_report import upstreams_body

_TIMEOUT_S = 5.0


async def show_upstreams(call: Call) -> Answer:
    """State, success, latency and speed; what they cost is for those who may see costs."""
    async with asyncio.timeout(_TIMEOUT_S):
        look = await read_upstreams(call.console.settings, call.console.redis)
    body = upstreams_body(look)
    rows = body.pop("upstreams")
    if (model := call.query.get("model")) is not None:
        rows = [row for row in rows if model in row["models"]]
    if not call.who.role.covers(Role.BILLING):
        rows = [{name: each for name, each in row.items() if name not in COSTS} for row in rows]
    return Answer({"data": rows, "next_cursor": None, **body})


COSTS = frozenset({"cost_usd_per_1000", "margin_ratio", "drift"})
"""Of a row, what a viewer is not told."""

ROUTES = (
    Route(
        "GET",
        f"{BASE}/upstreams",
        Role.VIEWER,
        show_upstreams,
        summary="How each upstream does: state, success, latency, speed",
        tag="upstreams",
        query=(Param("model", "Only those that can serve this model"),),
    ),
)
