"""Plans: their versions, and what a month of a tenant comes to by one, as things are."""

from __future__ import annotations

from datetime import date
from typing import Any

import orjson

from metering.clock import now_ns
from metering.plans import Assignment, Plan
from metering.settlement.ledger.plan_books import Terms, kept_plans, statement_of
from metering.settlement.ledger.store import Ledger
from proxy.admin.errors import Conflict, NotFound
from proxy.admin.pages import MONTH, PAGE, listed, month_of, page, with_usd
from proxy.admin.routes import BASE, Answer, Call, Param, Role, Route
from proxy.admin.rows import plan_row, plan_versions


async def list_plans(call: Call) -> Answer:
    """Every version of every plan, of the file and of the ledger."""
    settings = call.console.settings
    rows = [plan_row(plan, kept_in, settings) for plan, kept_in in await _versions(call)]
    return Answer(page(rows, lambda row: f"{row['plan']}@{row['version']}", call.query))


async def show_plan(call: Call) -> Answer:
    """The terms of a plan: its latest version, or the one that is named."""
    name, version = call.path["plan"], call.query.get("version")
    found = [
        plan
        for plan, _ in await _versions(call)
        if plan.id == name and version in (None, plan.version)
    ]
    if not found:
        raise NotFound(f"There is no such version of a plan {name!r}.")
    chosen = max(found, key=lambda each: each.effective_from)
    return Answer({"version": chosen.version, **orjson.loads(chosen.body())})


async def preview(call: Call) -> Answer:
    """What a month comes to. Nothing is written."""
    settings, tenant = call.console.settings, call.path["tenant"]
    period = month_of(call.query, now_ns())
    assigned = settings.assignments.get(tenant, ())
    if (plan := call.query.get("plan")) is not None:
        if plan not in {each.id for each, _ in await _versions(call)}:
            raise NotFound(f"There is no plan {plan!r}.")
        assigned = (Assignment(plan, date.fromisoformat(f"{period}-01")),)
    elif tenant not in settings.tenants:
        raise NotFound(f"There is no tenant {tenant!r}.")
    elif not assigned:
        raise Conflict(f"Tenant {tenant!r} has no plan: try one with ?plan=.")
    terms = Terms(settings.plans, assigned)

    def ask(ledger: Ledger) -> dict[str, Any]:
        try:
            return statement_of(ledger, tenant, period, terms).body()
        except LookupError as error:
            raise Conflict(f"{error.args[0]}.") from None

    return Answer(with_usd({**await call.console.ask(ask), "closed_at": None}))


async def _versions(call: Call) -> list[tuple[Plan, list[str]]]:
    def ask(ledger: Ledger) -> dict[str, Plan]:
        with ledger.read() as connection:
            return kept_plans(connection)

    return plan_versions(call.console.settings.plans, await call.console.ask(ask))


ROUTES = (
    Route(
        "GET",
        f"{BASE}/plans",
        Role.VIEWER,
        list_plans,
        summary="Every version of every plan, and who has it",
        tag="plans",
        query=PAGE,
        answer=listed(),
    ),
    Route(
        "GET",
        f"{BASE}/plans/{{plan}}",
        Role.VIEWER,
        show_plan,
        summary="The terms of a plan",
        tag="plans",
        query=(Param("version", "This version; the latest if left out"),),
    ),
    Route(
        "GET",
        f"{BASE}/tenants/{{tenant}}/statement",
        Role.VIEWER,
        preview,
        summary="What a month comes to by the tenant's plan, as things are",
        tag="plans",
        query=(MONTH, Param("plan", "As if the tenant had this plan for the whole month")),
    ),
)
