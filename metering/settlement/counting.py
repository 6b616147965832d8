"""In which windows an event counts: the one rule for rebuilding, comparing and verifying. Pure.

Rules: the rolling day of a tenant always counts, whatever is configured, and whether the tenant is
configured or not. Every other window counts where a rule of the tenant names its kind, and for a
rule with an id in that scope only. In one scope a label stands once: a rule with an id takes the
place of the one without. The bucket of an event is that of Redis' time of its commit. A rate (an
hour or less) counts requests when they begin, which no event says; it is whole within the hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from metering.calendar_periods import period_at, start_ms
from metering.caps import ROLLING_DAY, AnyWindow, Scope, ScopeKind, Window
from metering.events import UsageEvent
from metering.ids import is_id, scope_id
from metering.tenants import CapRule, Tenant
from metering.window import is_rate

TENANT = Scope(ScopeKind.TENANT)

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Labels:
    """What an event says of the scopes it was in, each an id; None where it says nothing."""

    project: str | None
    key: str | None
    feature: str | None = None
    user: str | None = None
    session: str | None = None
    run: str | None = None

    def scopes(self) -> list[Scope]:
        """The scopes, the tenant's first. What cannot stand in a key was never counted."""
        found = [TENANT]
        for kind in ScopeKind:
            if kind is not ScopeKind.TENANT:
                name = getattr(self, kind.value)
                if isinstance(name, str) and is_id(name):
                    found.append(Scope(kind, name))
        return found


def labels_of(event: UsageEvent) -> Labels:
    """The scopes of an event as it arrives."""
    return Labels(
        event.project,
        event.api_key_id,
        event.feature,
        user_scope(event),
        event.session,
        event.run,
    )


def user_scope(event: UsageEvent) -> str | None:
    """The id of the scope of an event's user; None without one."""
    return scope_of(event.user)


def scope_of(user: object) -> str | None:
    """The id of a user's scope, as the client named it; None without one."""
    return scope_id(user) if isinstance(user, str) and user else None


@dataclass(frozen=True, slots=True)
class Series:
    """One window over all scopes of a kind: what the ledger is asked for at once."""

    kind: ScopeKind
    window: AnyWindow

    @property
    def is_rate(self) -> bool:
        """Whether its requests count at admission."""
        return is_rate(self.window)


DAILY = Series(ScopeKind.TENANT, ROLLING_DAY)


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of every configured tenant; one that is not configured has its rolling day."""

    by_tenant: Mapping[str, tuple[CapRule, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, tenants: Iterable[Tenant]) -> Rules:
        """Those of these tenants."""
        return cls({tenant.id: tenant.cap_rules for tenant in tenants})

    def windows(self, tenant: str, scope: Scope) -> list[AnyWindow]:
        """The windows of a scope of a tenant, one for each label."""
        rules = [rule for rule in self.by_tenant.get(tenant, ()) if rule.kind is scope.kind]
        found: dict[str, AnyWindow] = {}
        if scope.kind is ScopeKind.TENANT:
            found[ROLLING_DAY.label] = ROLLING_DAY
        found |= {rule.window.label: rule.window for rule in rules if rule.id is None}
        if scope.kind is not ScopeKind.TENANT:
            found |= {rule.window.label: rule.window for rule in rules if rule.id == scope.id}
        return list(found.values())

    def counts(self, tenant: str, scope: Scope, window: AnyWindow) -> bool:
        """Whether this window of this scope counts."""
        return window in self.windows(tenant, scope)

    def series(self, tenants: Iterable[str]) -> dict[Series, list[str]]:
        """What the rules of these tenants ask for, and which of them ask for it; without the
        rolling day of tenants, which is everybody's."""
        found: dict[Series, list[str]] = {}
        for tenant in sorted(tenants):
            for rule in self.by_tenant.get(tenant, ()):
                names = found.setdefault(Series(rule.kind, rule.window), [])
                if not names or names[-1] != tenant:
                    names.append(tenant)
        found.pop(DAILY, None)
        return found

    def marks(self, tenant: str) -> dict[str, Series]:
        """The names under which a tenant's windows are noted once they are whole. A rule with an
        id has its own: its scope may have had another window before."""
        found: dict[str, Series] = {}
        for rule in self.by_tenant.get(tenant, ()):
            series = Series(rule.kind, rule.window)
            if series != DAILY and not series.is_rate:
                which = rule.kind.value if rule.id is None else f"{rule.kind}/{rule.id}"
                found[f"{tenant} {which} {name_of(rule.window)}"] = series
        return found


NO_RULES = Rules()
"""Nobody is configured: the rolling days of tenants alone."""


def counted_in(event: UsageEvent, rules: Rules) -> list[tuple[Scope, AnyWindow]]:
    """Every window of every scope that an event counts in."""
    return [
        (scope, window)
        for scope in labels_of(event).scopes()
        for window in rules.windows(event.tenant, scope)
    ]


def name_of(window: AnyWindow) -> str:
    """A window in one word, the zone of a calendar window included."""
    if isinstance(window, Window):
        return f"{window.label}={window.bucket_ms}x{window.buckets}"
    return f"{window.label}@{window.zone}"


def bucket_of(window: AnyWindow, at_ms: int) -> int:
    """The bucket that this moment falls into."""
    if isinstance(window, Window):
        return at_ms // window.bucket_ms
    return period_at(window, at_ms).number


def bucket_start_ms(window: AnyWindow, bucket: int) -> int:
    """When a bucket begins."""
    if isinstance(window, Window):
        return bucket * window.bucket_ms
    return start_ms(window.unit, window.zone, bucket)


def oldest_bucket(window: AnyWindow, now_ms: int) -> int:
    """The first bucket that still counts now."""
    here = bucket_of(window, now_ms)
    return here - window.buckets if isinstance(window, Window) else here


def keep_ms(window: AnyWindow, now_ms: int) -> int:
    """How long a scope that was just written must be kept for the sake of this window."""
    if isinstance(window, Window):
        return window.bucket_ms * (window.buckets + 2)
    return period_at(window, now_ms).next_end_ms - now_ms + _DAY_MS
