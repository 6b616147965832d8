"""Both sides of a comparison, row by row."""

from __future__ import annotations

from typing import Any

from metering.settlement.exports.rows import CostRow, UsageRow
from metering.settlement.reconcile import OwnUsage

DAYS = ("2026-11-01", "2026-11-02", "2026-11-03")
FINAL = dict.fromkeys(DAYS, True)
IN, OUT = "input_uncached", "output_text"
MODEL = "gpt-4o-2024-08-06"


def own(quantity: int = 100_000, cost: int = 10**9, **changes: Any) -> OwnUsage:
    usual = {"day": DAYS[0], "model": MODEL, "unit": IN, "tier": "standard", "tenant": "acme"}
    more = {"project": "default", "key": "k1", "upstream": "gpt-4o", "sell_nano": 2 * cost}
    return OwnUsage(**{**usual, **more, "quantity": quantity, "cost_nano": cost, **changes})


def theirs(quantity: int = 100_000, **changes: Any) -> UsageRow:
    usual = {"day": DAYS[0], "model": MODEL, "unit": IN, "tier": "standard"}
    return UsageRow(**{**usual, "quantity": quantity, **changes})


def cost(amount: int = 10**9, **changes: Any) -> CostRow:
    return CostRow(**{"day": DAYS[0], "model": MODEL, "amount_nano": amount, **changes})
