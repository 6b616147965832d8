"""Which caps stand over what a tenant spends: from its rules, and from who and what it is for.

The order is fixed: the tenant's daily cap, then the rules of tenant, project, key, feature, user,
session and run. Whoever counts spend, a proxy or the library, counts it under the same caps, or
Redis and the ledger would disagree.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from metering.caps import BALANCE, ROLLING_DAY, Cap, Limit, Scope, ScopeKind
from metering.ids import scope_id
from metering.tenants import CapRule, SpendLimits, Tenant


class Labels(NamedTuple):
    """What a request belongs to, beside its key; `user` is any text, the others are ids."""

    feature: str | None = None
    user: str | None = None
    session: str | None = None
    run: str | None = None


def scopes_of(project: str, key_id: str, labels: Labels) -> tuple[Scope, ...]:
    """Every scope of what this key does in this project, but its tenant's; the widest first."""
    user = None if labels.user is None else scope_id(labels.user)
    named = (
        (ScopeKind.FEATURE, labels.feature),
        (ScopeKind.USER, user),
        (ScopeKind.SESSION, labels.session),
        (ScopeKind.RUN, labels.run),
    )
    return (
        Scope(ScopeKind.PROJECT, project),
        Scope(ScopeKind.KEY, key_id),
        *(Scope(kind, name) for kind, name in named if name is not None),
    )


def caps_under(tenant: Tenant, stops: tuple[Scope, ...]) -> tuple[Cap, ...]:
    """The tenant's daily cap, and for every scope the rules that go for it."""
    scopes = (Scope(ScopeKind.TENANT), *stops)
    return (
        daily_cap(tenant.limits),
        *(_cap(rule, scope) for scope in scopes for rule in _rules_for(scope, tenant.cap_rules)),
    )


def with_balance(caps: Sequence[Cap], limit_nano: int) -> tuple[Cap, ...]:
    """These caps with this limit on the balance."""
    return tuple(
        replace(cap, limit=Limit(nano=limit_nano)) if cap.window == BALANCE else cap for cap in caps
    )


@lru_cache(maxsize=4_096)
def daily_cap(limits: SpendLimits) -> Cap:
    """`limits.tenant`: always there, even unlimited, so that a tenant's own spend counts."""
    return Cap(
        scope=Scope(ScopeKind.TENANT),
        window=ROLLING_DAY,
        limit=Limit(nano=limits.daily_cap_nano),
        marks_ppm=limits.marks_ppm,
    )


def _rules_for(scope: Scope, rules: tuple[CapRule, ...]) -> list[CapRule]:
    """Those of its kind; one with its id takes the place of the one without."""
    mine = [rule for rule in rules if rule.kind is scope.kind and rule.id in (None, scope.id)]
    named = {rule.slot for rule in mine if rule.id is not None}
    return [rule for rule in mine if rule.id is not None or rule.slot not in named]


def _cap(rule: CapRule, scope: Scope) -> Cap:
    return Cap(scope, rule.window, rule.limit, rule.mode, rule.marks_ppm)
