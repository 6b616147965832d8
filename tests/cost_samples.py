"""Settings under `cost_to_serve`: models whose margin is too small, or is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fixtures_door import rule, settings, tenant

from metering.tenants import Tenant
from proxy.settings import Settings
from routing.cost_to_serve import CostRules, Mode
from routing.upstreams import Model, Upstream

THIN, FAT = 1_100_000, 3_000_000
"""Multipliers: a margin under 0.35, and one of 0.65 (with a failure buffer of 1.05)."""


def under_margin(
    url: str,
    *,
    mode: Mode = Mode.ENFORCE,
    allowed: int = 2,
    fallbacks: tuple[str, ...] = ("fat",),
    who: Tenant | None = None,
    credit_ppm: int = 0,
    **others: Any,
) -> Settings:
    """`thin` costs nearly what it sells for; `fat`, its fallback, is cheaper and keeps the margin;
    `dear` keeps it, too, and is dearer."""
    models = {
        name: Model(name, (Upstream("one", name, name),), fallbacks if name == "thin" else ())
        for name in ("thin", "fat", "dear")
    }
    made = settings(
        {"one": url},
        who=who or tenant("10.00"),
        models=models,
        rules=(
            rule("thin", "10.00", multiplier_ppm=THIN),
            rule("fat", "1.00", multiplier_ppm=FAT),
            rule("dear", "100.00", multiplier_ppm=FAT),
        ),
        **others,
    )
    rules = CostRules(mode=mode, max_requests_per_window=allowed)
    return replace(made, cost_rules=rules, sla_credit_ppm=credit_ppm)
