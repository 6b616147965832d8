"""Low balances: one alert per crossing, and none for what wavers."""

from __future__ import annotations

from metering.settlement.credit_levels import Level, levels_of
from metering.tenants import Prepaid, SpendLimits, Tenant


def told(level_nano: int, *balances: int) -> list[int]:
    """The balances at which a crossing began."""
    level, found = Level("acme", level_nano), []
    for left in balances:
        after = level.after(left)
        if after.is_below and not level.is_below:
            found.append(left)
        level = after
    return found


def test_a_crossing_is_news_once() -> None:
    assert told(100, 150, 99, 50, 0, 10) == [99]


def test_it_is_over_a_twentieth_above() -> None:
    assert told(100, 99, 104, 98, 105, 97) == [99, 97]


def test_the_level_itself_is_not_below() -> None:
    assert told(100, 100) == []


def test_nothing_left_is_below_zero_and_below_everything() -> None:
    assert told(0, 1, 0, 0, 5, 0) == [0, 0]
    assert told(100, 0) == [0]


def test_a_hard_stop_is_told_of() -> None:
    """Whatever levels are written; a tenant that pays afterwards has none."""

    def tenant(name: str, prepaid: Prepaid | None) -> Tenant:
        return Tenant(name, name, SpendLimits(), prepaid=prepaid)

    tenants = [
        tenant("stopped", Prepaid(hard_stop=True, low_balance_nano=(5, 9))),
        tenant("told", Prepaid(low_balance_nano=(5,))),
        tenant("later", None),
    ]
    assert levels_of(tenants) == {"stopped": (9, 5, 0), "told": (5,)}
