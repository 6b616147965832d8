"""Tenants that pay in advance, as they are written."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_samples import BASE, faults, loaded

from metering.tenants import BALANCE_RULE, Prepaid

TENANT = """tenants:
  - id: acme
    prepaid: {hard_stop: true, low_balance_at: [2.00, 10.00]}
  - id: later
  - id: told
    prepaid: {low_balance_at: [0.5]}
"""


def test_a_hard_stop_is_a_cap_on_the_balance(tmp_path: Path) -> None:
    """Levels go from the highest to the lowest; without a stop there is no cap."""
    tenants = loaded(tmp_path, BASE + TENANT).settings.tenants

    assert tenants["acme"].prepaid == Prepaid(True, (10 * 10**9, 2 * 10**9))
    assert tenants["acme"].cap_rules == (BALANCE_RULE,)
    assert tenants["acme"].has_money_cap
    assert tenants["acme"].is_stopped_by_balance
    assert tenants["later"].prepaid is None
    assert tenants["told"].cap_rules == ()
    assert not tenants["told"].is_stopped_by_balance


@pytest.mark.parametrize(
    ("was", "now", "says"),
    [
        ("hard_stop", "hard_stopp", "tenants[0].prepaid.hard_stopp"),
        ("2.00", "-2", "tenants[0].prepaid.low_balance_at[0]: a cap of -2 USD is negative"),
        ("2.00", "10", "tenants[0].prepaid.low_balance_at[1]: 10.00 stands here twice"),
        ("true", "maybe", "tenants[0].prepaid.hard_stop"),
    ],
)
def test_slips_are_faults(tmp_path: Path, was: str, now: str, says: str) -> None:
    """Each with its path."""
    found = faults(tmp_path, BASE + TENANT.replace(was, now, 1))

    assert any(says in str(each) for each in found), found
