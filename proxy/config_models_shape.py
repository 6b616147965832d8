"""The shape of section `models`; the rules are those of `proxy.config_shape`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator

from proxy.config_degrade_shape import ANYTHING, Dwell, StepShape, SupportsShape
from proxy.config_failures_shape import USUAL_RETRIES, RetriesShape
from proxy.config_values import FORBID, Count, Seconds, Share, Text
from proxy.config_values import text as _text


@dataclass(frozen=True, kw_only=True)
class UpstreamShape:
    """One place that can serve a model."""

    __pydantic_config__ = FORBID

    provider: Text
    """A name from `providers`."""
    model: Text
    """The model's name there."""


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A model as clients ask for it."""

    __pydantic_config__ = FORBID

    upstreams: tuple[UpstreamShape, ...]
    """Where it is served, in order of preference."""
    fallbacks: tuple[Text, ...] = ()
    """Models of this file to try when every upstream failed."""
    supports: SupportsShape = ANYTHING
    """What it can take."""
    max_context_tokens: Count | None = None
    """Most tokens of prompt and answer together."""
    target_latency_ms: Count | None = None
    """How fast its answers are to be, in milliseconds; a request may say otherwise."""
    on_disconnect: Annotated[Literal["abort", "drain"], BeforeValidator(_text)] | None = None
    """When the client leaves, for requests for this model; the server's if left out."""
    degrade: tuple[StepShape, ...] | None = None
    """Steps near a cap for requests for this model, instead of the tenant's."""
    degrade_hysteresis: Share | None = None
    """How far under a step's share every cap has to be before the step ends; 0.05 if left out."""
    degrade_min_dwell_s: Dwell | None = None
    """Shortest that a step holds, in seconds; 60 if left out."""
    retries: RetriesShape = USUAL_RETRIES
    """When the same upstream is asked again."""
    deadline_s: Seconds | None = None
    """How long a request may take in all, in seconds; the server's if left out."""
    context_fallbacks: tuple[Text, ...] = ()
    """Models to go to with a prompt that is too long for this one."""
    content_policy_fallbacks: tuple[Text, ...] = ()
    """Models to go to with what is against the policy of its upstream."""
