"""The shape of `cost_to_serve` and `sla` in the configuration file.

The rules are those of `proxy.config_shape`; the names, units and defaults of `cost_to_serve` are
those under which such a section is known elsewhere, so that it loads as it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from proxy.config_values import FORBID, Count, Number, Share, text, whole

ClientTargets = Annotated[Literal["inform", "credit"], BeforeValidator(text)]


@dataclass(frozen=True, kw_only=True)
class CostToServeShape:
    """What a request costs to serve, and what happens when its margin is too small."""

    __pydantic_config__ = FORBID

    base_cost_per_token: Number = Decimal("0.000002")
    """USD per token of a model that has no cost price of its own."""
    latency_penalty_multiplier: Number = Decimal("1.3")
    """A tenth of it is added to the cost when the latency target will be missed."""
    failure_buffer: Number = Decimal("1.05")
    """The cost times this, for answers that have to be asked for again; more where more fail."""
    margin_threshold: Share = Decimal("0.35")
    """Least margin, 1 - cost / sell, at which requests are served without a bound."""
    throttle_window_ms: Annotated[int, Field(ge=1_000, le=3_600_000), BeforeValidator(whole)] = (
        60_000
    )
    """The window of `max_requests_per_window`, in milliseconds."""
    max_requests_per_window: Count = 1_000
    """Requests of one tenant for one model that are served under the margin within the window."""
    mode: Annotated[Literal["enforce", "shadow", "off"], BeforeValidator(text)] = "enforce"
    """Throttle and reroute; only say what would be done; or do nothing."""


@dataclass(frozen=True, kw_only=True)
class SlaShape:
    """What a tenant gets for answers that came later than their target."""

    __pydantic_config__ = FORBID

    credit_share: Share = Decimal(0)
    """Share of its price that an answer costs less when it missed its target."""
    client_targets: ClientTargets = "inform"
    """What a target in a request's header does: only inform, or earn the credit as well."""


@dataclass(frozen=True, kw_only=True)
class OwnSlaShape:
    """One tenant's own."""

    __pydantic_config__ = FORBID

    client_targets: ClientTargets | None = None
    """As `sla.client_targets`, for this tenant."""


NO_SLA = SlaShape()
"""What there is without the section."""

NO_OWN_SLA = OwnSlaShape()
