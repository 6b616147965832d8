"""Which caps stand over what is spent."""

from __future__ import annotations

from metering.caps import ROLLING_DAY, Limit, Scope, ScopeKind
from metering.tenant_caps import Labels, caps_under, scopes_of
from metering.tenants import CapRule, SpendLimits, Tenant


def test_scopes_go_from_wide_to_narrow() -> None:
    """A user that is no id is named by its hash."""
    found = scopes_of("web", "k1", Labels(feature="chat", user="a b", run="r1"))

    assert [scope.kind for scope in found] == ["project", "key", "feature", "user", "run"]
    assert found[3].id.startswith("h.")


def test_a_rule_for_one_takes_the_place_of_the_rule_for_all() -> None:
    """The tenant's own day comes first, limited or not."""
    for_all = CapRule(ScopeKind.KEY, ROLLING_DAY, Limit(nano=1))
    for_one = CapRule(ScopeKind.KEY, ROLLING_DAY, Limit(nano=2), id="k1")
    tenant = Tenant("acme", "Acme", SpendLimits(), cap_rules=(for_all, for_one))

    found = caps_under(tenant, scopes_of("default", "k1", Labels()))

    assert [(cap.scope, cap.limit.nano) for cap in found] == [
        (Scope(ScopeKind.TENANT), None),
        (Scope(ScopeKind.KEY, "k1"), 2),
    ]
