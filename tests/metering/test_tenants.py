"""Tenants: the allow-list, and the name under which all other features' limits stand."""

from __future__ import annotations

import pytest

from metering.ids import is_id
from metering.tenants import ANY_FEATURE, SpendLimits, Tenant


@pytest.mark.parametrize(
    ("models", "may"),
    [(None, True), (frozenset({"a"}), True), (frozenset({"b"}), False), (frozenset(), False)],
    ids=["no list", "listed", "not listed", "empty list"],
)
def test_the_allow_list(models: frozenset[str] | None, may: bool) -> None:
    """No list admits every model; an empty one admits none."""
    assert Tenant("t", "T", SpendLimits(), models=models).may_use("a") is may


def test_any_feature_is_no_id() -> None:
    """No feature can be called what stands for all of them."""
    assert not is_id(ANY_FEATURE)


def test_limits_are_off_unless_set() -> None:
    """A tenant without limits has no cap, and never degrades."""
    assert SpendLimits() == SpendLimits(None, 1_000_000, None)
