"""The shape of `limits` and `tenants` in the configuration file: who may spend, and how much.

The rules are those of `proxy.config_shape`, where the other sections stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from proxy.config_cache_shape import NO_TENANT_CACHE, TenantCacheShape
from proxy.config_cost_shape import NO_OWN_SLA, OwnSlaShape
from proxy.config_degrade_shape import Dwell, StepShape
from proxy.config_invoices_shape import NO_PARTY, PartyShape
from proxy.config_plans_shape import AssignmentShape
from proxy.config_values import FORBID, Count, Flag, Number, Share, Text, Whole
from proxy.config_values import text as _text
from proxy.config_values import whole as _whole


@dataclass(frozen=True, kw_only=True)
class TenantLimitsShape:
    """The spend cap of a tenant, over a rolling 24 hours."""

    __pydantic_config__ = FORBID

    daily_cap: Number | None = None
    """USD within any 24 hours; null for no cap."""
    burst_threshold: Number = Decimal(1)
    """Share of the cap (above 0, at most 1) from which on `fallback_model` serves."""
    fallback_model: Text | None = None
    """The cheaper model that serves near the cap."""
    degrade: tuple[StepShape, ...] | None = None
    """Steps near a cap, instead of `burst_threshold` and `fallback_model`."""
    degrade_hysteresis: Share | None = None
    """How far under a step's share every cap has to be before the step ends; 0.05 if left out."""
    degrade_min_dwell_s: Dwell | None = None
    """Shortest that a step holds, in seconds; 60 if left out."""
    alert_at: tuple[Number, ...] = ()
    """Shares of the cap (above 0, at most 1) that are told once each time spend crosses them."""


@dataclass(frozen=True, kw_only=True)
class CapShape:
    """A cap over every scope of a kind, or over one of them."""

    __pydantic_config__ = FORBID

    scope: Annotated[
        Literal["tenant", "project", "key", "feature", "user", "session", "run"],
        BeforeValidator(_text),
    ]
    """What it stands over; each within its tenant."""
    id: Text | None = None
    """Only this project, key, feature, user, session or run; each of them if left out."""
    window: Text | None = None
    """`1m` to `30d` (rolling), or `day`, `week`, `month`; only `concurrent` does without."""
    timezone: Text | None = None
    """Where a `day`, `week` or `month` begins: an IANA name; UTC if left out."""
    usd: Number | None = None
    """USD within the window."""
    tokens: Whole | None = None
    """Tokens within the window, prompts and answers together."""
    requests: Whole | None = None
    """Requests within the window."""
    steps: Whole | None = None
    """The same, as it is called for a session or run."""
    concurrent: Whole | None = None
    """Requests at once, whatever the window."""
    mode: Annotated[Literal["enforce", "alert", "shadow"], BeforeValidator(_text)] = "enforce"
    """Refuse; only tell of `alert_at`; or only say what would have been refused."""
    alert_at: tuple[Number, ...] = ()
    """Shares of `usd` (above 0, at most 1) that are told once each time spend crosses them."""


@dataclass(frozen=True, kw_only=True)
class FeatureShape:
    """What one feature of a tenant's application may ask for."""

    __pydantic_config__ = FORBID

    max_context_tokens: Count | None = None
    """Largest prompt, in tokens."""
    cache_ttl_seconds: Annotated[int, Field(ge=0), BeforeValidator(_whole)] | None = None
    """How long an answer may be served again."""
    exclude_cache_from_billing: Flag | None = None
    """Whether answers from the cache cost nothing."""


@dataclass(frozen=True, kw_only=True)
class OwnLimitsShape:
    """A tenant's own limits; each key overrides the one at the top of the file."""

    __pydantic_config__ = FORBID

    tenant: TenantLimitsShape = TenantLimitsShape()
    """The tenant's spend cap."""
    feature: FeatureShape = FeatureShape()
    """For every feature of this tenant."""
    features: Mapping[Text, FeatureShape] = field(default_factory=dict)
    """For one feature of this tenant, by name."""
    degrade_mode: Annotated[Literal["enforce", "shadow"], BeforeValidator(_text)] | None = None
    """Take the steps near a cap, or only say which would have been taken."""
    allow_no_degrade: Flag | None = None
    """Whether a request may decline the steps (`x-weir-no-degrade`)."""
    caps: tuple[CapShape, ...] = ()
    """Further caps; one of the same scope, id and window takes the place of that at the top."""


@dataclass(frozen=True, kw_only=True)
class LimitsShape:
    """Limits of every tenant that does not set its own."""

    __pydantic_config__ = FORBID

    tenant: TenantLimitsShape = TenantLimitsShape()
    """Each tenant's spend cap (each has a cap of its own; it is not shared)."""
    feature: FeatureShape = FeatureShape()
    """For every feature."""
    features: Mapping[Text, FeatureShape] = field(default_factory=dict)
    """For one feature, by name."""
    degrade_mode: Annotated[Literal["enforce", "shadow"], BeforeValidator(_text)] = "enforce"
    """Take the steps near a cap, or only say which would have been taken."""
    allow_no_degrade: Flag = True
    """Whether a request may decline the steps (`x-weir-no-degrade`)."""
    default_output_tokens: Count = 4096
    """Output that is reserved for a request that names no maximum."""
    default_tool_uses: Count = 10
    """Uses of each tool of the provider's that are reserved for where a request names no bound."""
    caps: tuple[CapShape, ...] = ()
    """Further caps, of every tenant."""
    clamp_max_tokens: Flag = True
    """Whether a request that is not streamed shrinks to the output that it can afford."""
    min_output_tokens: Count = 64
    """Fewest output tokens that a request shrinks to; what cannot afford them is refused."""
    stream_slice_tokens: Count = 256
    """Output tokens by which the hold of a stream grows when it is used up."""
    on_exhausted: Annotated[Literal["soft", "error"], BeforeValidator(_text)] = "soft"
    """How a stream ends whose hold cannot grow: with finish reason `length`, or with an error."""


NO_LIMITS = LimitsShape()
"""What a file without `limits` means."""


@dataclass(frozen=True, kw_only=True)
class ProjectShape:
    """A part of a tenant that invoices tell apart."""

    __pydantic_config__ = FORBID

    id: Text
    """Immutable; stands in every event."""
    name: Text | None = None
    """For people; the id if left out."""
    degrade: tuple[StepShape, ...] | None = None
    """Steps near a cap for this project, instead of its tenant's."""
    degrade_hysteresis: Share | None = None
    """How far under a step's share every cap has to be before the step ends; 0.05 if left out."""
    degrade_min_dwell_s: Dwell | None = None
    """Shortest that a step holds, in seconds; 60 if left out."""


@dataclass(frozen=True, kw_only=True)
class PinShape:
    """What every request with a key belongs to, whatever it says itself."""

    __pydantic_config__ = FORBID

    feature: Text | None = None
    """In place of `x-weir-feature`."""
    user: Text | None = None
    """In place of `x-weir-user` and of the body's `user`."""
    session: Text | None = None
    """In place of `x-weir-session`."""
    run: Text | None = None
    """In place of `x-weir-run`."""


@dataclass(frozen=True, kw_only=True)
class KeyShape:
    """A client's key: exactly one of `sha256`, `key` and `mint`."""

    __pydantic_config__ = FORBID

    id: Text
    """Immutable; stands in every event."""
    project: Text | None = None
    """A project of the tenant; `default` if left out."""
    sha256: Text | None = None
    """SHA-256 of the key, 64 hexadecimal digits; `weir keys new` prints it."""
    key: Text | None = None
    """The key itself, as `${NAME}`; only its hash is kept."""
    mint: Flag = False
    """`weir serve` makes the key at its first start; only while listening on loopback."""
    pin: PinShape = PinShape()
    """What every request with this key belongs to; a request that says otherwise is refused."""
    act_for: tuple[Text, ...] = ()
    """Other tenants, by id, that this key may report events for and ask about."""
    expires_at: Text | None = None
    """When it opens the door no more, RFC 3339; never if left out."""


@dataclass(frozen=True, kw_only=True)
class PrepaidShape:
    """How a tenant that pays in advance is treated; its credit is in the ledger."""

    __pydantic_config__ = FORBID

    hard_stop: Flag = False
    """Refuse its requests once its credit is used up."""
    low_balance_at: tuple[Number, ...] = ()
    """Amounts in USD: an alert each time its credit falls below one."""


@dataclass(frozen=True, kw_only=True)
class TenantShape:
    """One paying customer."""

    __pydantic_config__ = FORBID

    id: Text
    """Immutable; stands in every event."""
    name: Text | None = None
    """For people; the id if left out."""
    limits: OwnLimitsShape = OwnLimitsShape()
    """Overrides of `limits`, key by key."""
    sla: OwnSlaShape = NO_OWN_SLA
    """Overrides of `sla`."""
    cache: TenantCacheShape = NO_TENANT_CACHE
    """Whether its answers are kept, and who shares them."""
    models: tuple[Text, ...] | None = None
    """Models the tenant may ask for; all of them if left out."""
    projects: tuple[ProjectShape, ...] = ()
    """Projects besides `default`."""
    keys: tuple[KeyShape, ...] = ()
    """What the tenant's applications authenticate with."""
    plan: tuple[AssignmentShape, ...] = ()
    """What the tenant pays by, from when on; the prices of its requests if left out."""
    billing: PartyShape = NO_PARTY
    """Whom its invoices are made out to."""
    prepaid: PrepaidShape | None = None
    """That the tenant pays in advance; it pays afterwards if left out."""
    stripe_customer: Text | None = None
    """Whom Stripe bills for its usage, `cus_...`; nothing of it is told to Stripe if left out."""
