"""What is earned in a month beside what it really cost, for `weir margins` and the admin API."""

from __future__ import annotations

from typing import Any

from metering.settlement.ledger import margin_sums
from metering.settlement.ledger.store import Ledger
from metering.settlement.margins import report
from proxy.settings import Settings


def margins_body(ledger: Ledger, settings: Settings, month: str, by: str) -> dict[str, Any]:
    """Rows by model, tenant, feature or project, and the models that drift."""
    beside = {
        tenant: margin_sums.beside_list_prices(
            ledger, month, tenant, settings.plans, settings.assignments.get(tenant, ())
        )
        for tenant in margin_sums.with_statements(ledger, month, settings.assignments)
    }
    runs = margin_sums.comparisons(ledger, month)
    found = report(by, month, margin_sums.earned(ledger, month, by), beside, runs)
    wanted = {name for name, each in settings.providers.items() if each.reconcile is not None}
    never = sorted(wanted - {run.provider for run in runs})
    return {"month": month, **found, "not_compared": never}
