"""Who may spend: tenants, their projects and keys, and the limits they stand under.

Ids are immutable and travel in events; names are for people and may change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from metering.caps import BALANCE, AnyWindow, CapMode, Limit, ScopeKind
from metering.steps import Steps


@dataclass(frozen=True, slots=True)
class SpendLimits:
    """`limits.tenant`: the rolling 24-hour cap and what happens near it.

    From `burst_threshold_ppm` of the cap on, requests go to `fallback_model` when that is cheaper:
    one step. `steps` are several, written instead of these two.
    `marks_ppm` are shares of the cap that are told once each time spend crosses them.
    """

    daily_cap_nano: int | None = None
    burst_threshold_ppm: int = 1_000_000
    fallback_model: str | None = None
    marks_ppm: tuple[int, ...] = ()
    steps: Steps | None = None


@dataclass(frozen=True, slots=True)
class CapRule:
    """A cap over every scope of a kind within the tenant, or over the one with this `id`.

    A rule with an id takes the place of the one without, for the same kind and window.
    """

    kind: ScopeKind
    window: AnyWindow
    limit: Limit
    id: str | None = None
    mode: CapMode = CapMode.ENFORCE
    marks_ppm: tuple[int, ...] = ()

    @property
    def slot(self) -> str:
        """Rules of one kind and id differ in it: the window, or that it bounds concurrency alone,
        for which the window does not matter."""
        is_bare = self.limit == Limit(concurrent=self.limit.concurrent)
        return "concurrent" if is_bare else self.window.label


@dataclass(frozen=True, slots=True)
class Prepaid:
    """A tenant that pays in advance: whether it is stopped when its credit is used up, and below
    which amounts, in nano-USD, that is told before."""

    hard_stop: bool = False
    low_balance_nano: tuple[int, ...] = ()


BALANCE_RULE = CapRule(ScopeKind.TENANT, BALANCE, Limit())
"""Counts what a tenant spends ever; the limit is what the worker publishes, see `with_balance`."""


@dataclass(frozen=True, slots=True)
class FeatureLimits:
    """`limits.feature` and `limits.features.NAME`: what one feature may ask for."""

    max_context_tokens: int | None = None
    cache_ttl_seconds: int | None = None
    exclude_cache_from_billing: bool | None = None


ANY_FEATURE = "*"
"""The entry of `Tenant.feature_limits` for features that have none of their own; no valid id."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A client's credential as we keep it: the SHA-256 of the key, never the key."""

    id: str
    sha256: str
    project: str
    pins: Mapping[ScopeKind, str] = field(default_factory=dict)
    """Feature, user, session or run that every request with this key belongs to, whatever it
    says itself; without a pin these are cooperative."""
    act_for: frozenset[str] = frozenset()
    """Other tenants, by id, in whose name this key may report and ask."""
    expires_ns: int | None = None
    """When it opens the door no more, Unix ns."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """One paying customer. `models` is an allow-list of public names; None allows all.

    `feature_limits` is by feature id, each entry complete; `ANY_FEATURE` holds the others' limits.
    `cap_rules` stand beside the daily cap of `limits`. `project_steps` are degradation steps of
    projects, which go before those of `limits`; with `steps_in_shadow` none is taken.
    """

    id: str
    name: str
    limits: SpendLimits
    keys: tuple[ApiKey, ...] = ()
    projects: Mapping[str, str] = field(default_factory=dict)
    models: frozenset[str] | None = None
    feature_limits: Mapping[str, FeatureLimits] = field(default_factory=dict)
    cap_rules: tuple[CapRule, ...] = ()
    project_steps: Mapping[str, Steps] = field(default_factory=dict)
    steps_in_shadow: bool = False
    may_decline_steps: bool = True
    """Whether a request may ask not to be degraded."""
    targets_earn_credit: bool = False
    """Whether a late answer costs less by a target that the request itself has named."""
    prepaid: Prepaid | None = None
    """Whether it pays in advance; with a hard stop `cap_rules` have BALANCE_RULE."""
    is_registered: bool = False
    """Whether it was made while everything runs, and stands in the ledger and in no file."""

    @property
    def has_money_cap(self) -> bool:
        """Whether a request of this tenant may meet a cap that refuses by money."""
        rules = self.cap_rules
        return (
            self.limits.daily_cap_nano is not None
            or self.is_stopped_by_balance
            or any(rule.limit.nano is not None and rule.mode is CapMode.ENFORCE for rule in rules)
        )

    @property
    def is_stopped_by_balance(self) -> bool:
        """Whether it may spend no more than its credit."""
        return self.prepaid is not None and self.prepaid.hard_stop

    def may_use(self, model: str) -> bool:
        """Whether the tenant's allow-list admits this public model name."""
        return self.models is None or model in self.models


DEFAULT_PROJECT = "default"
"""The project of a key that names none."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking: the tenant and key an Authorization header proved."""

    tenant: Tenant
    key: ApiKey
