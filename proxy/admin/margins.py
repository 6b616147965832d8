"""What is earned in a month, beside what it really cost."""

from __future__ import annotations

from metering.clock import now_ns
from proxy.admin.margin_report import margins_body
from proxy.admin.pages import MONTH, month_of, with_usd
from proxy.admin.routes import BASE, Answer, Call, Param, Role, Route
from proxy.cli_margins import BY


async def show_margins(call: Call) -> Answer:
    """Sold, cost, margin and capture ratio; and the models that drift."""
    settings, month = call.console.settings, month_of(call.query, now_ns())
    by = call.query.get("by", "model")
    found = await call.console.ask(lambda ledger: margins_body(ledger, settings, month, by))
    return Answer(with_usd(found))


ROUTES = (
    Route(
        "GET",
        f"{BASE}/margins",
        Role.BILLING,
        show_margins,
        summary="What is earned in a month, beside what it really cost",
        tag="margins",
        query=(MONTH, Param("by", "What a row is", {"type": "string", "enum": list(BY)})),
    ),
)
