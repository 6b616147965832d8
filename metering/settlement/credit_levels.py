"""Low balances: below which amounts a tenant's credit is told of, and when that is news. Pure.

Rules: one alert per level and crossing, however long the balance stays below it. It is over once
the balance is a twentieth above the level again, so that corrections around it are no crossings.
A balance of nothing is below a level of zero: so the end of a prepaid tenant's credit is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from metering.tenants import Tenant

REARM_PART = 20


@dataclass(frozen=True, slots=True)
class Level:
    """An amount of a tenant, whether its credit is below it, and how often it came to be."""

    tenant: str
    level_nano: int
    is_below: bool = False
    crossings: int = 0

    def after(self, left_nano: int) -> Level:
        """With so much credit left."""
        level = self.level_nano
        if not self.is_below and (left_nano < level or left_nano <= 0):
            return Level(self.tenant, level, True, self.crossings + 1)
        if self.is_below and left_nano >= level + level // REARM_PART and left_nano > 0:
            return Level(self.tenant, level, False, self.crossings)
        return self


def levels_of(tenants: Iterable[Tenant]) -> Mapping[str, tuple[int, ...]]:
    """By tenant, what is to be told: a hard stop is, whatever else is configured."""
    found: dict[str, tuple[int, ...]] = {}
    for tenant in tenants:
        if tenant.prepaid is not None:
            levels = {*tenant.prepaid.low_balance_nano, *([0] if tenant.prepaid.hard_stop else [])}
            found[tenant.id] = tuple(sorted(levels, reverse=True))
    return found
