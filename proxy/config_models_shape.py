"""The shape of section `models`; the rules are those of `proxy.config_shape`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from proxy.config_cache_shape import NO_MODEL_CACHE, ModelCacheShape
from proxy.config_degrade_shape import ANYTHING, Dwell, StepShape, SupportsShape
from proxy.config_failures_shape import USUAL_RETRIES, RetriesShape
from proxy.config_values import FORBID, Count, Flag, Seconds, Share, Text
from proxy.config_values import text as _text
from proxy.config_values import whole as _whole

Rank = Annotated[
    int,
    Field(ge=0, le=1_000_000),
    BeforeValidator(_whole),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": 1_000_000}),
]
"""A weight or a priority: a small whole number, and zero."""


@dataclass(frozen=True, kw_only=True)
class WhenShape:
    """Which requests an upstream takes; all that is written has to hold."""

    __pydantic_config__ = FORBID

    feature: tuple[Text, ...] = ()
    """One of these features; patterns with `*` and `?`, as for all labels."""
    user: tuple[Text, ...] = ()
    """One of these users."""
    session: tuple[Text, ...] = ()
    """One of these sessions."""
    project: tuple[Text, ...] = ()
    """One of these projects."""
    tenant: tuple[Text, ...] = ()
    """One of these tenants."""
    key: tuple[Text, ...] = ()
    """A key with one of these ids."""
    tags: tuple[Text, ...] = ()
    """Only requests that ask for one of these tags."""
    stream: Flag | None = None
    """Only streams, or only whole answers."""
    min_prompt_tokens: Count | None = None
    """Only prompts of so many tokens and more."""
    max_prompt_tokens: Count | None = None
    """Only prompts of at most so many tokens."""
    metadata: Mapping[Text, tuple[Text, ...]] = field(default_factory=dict)
    """Fields of the body's `metadata`, each with the values it may have."""


@dataclass(frozen=True, kw_only=True)
class UpstreamShape:
    """One place that can serve a model."""

    __pydantic_config__ = FORBID

    provider: Text
    """A name from `providers`."""
    model: Text
    """The model's name there."""
    enabled: Flag = True
    """Whether requests go there at all."""
    priority: Rank = 0
    """The lowest goes first; others serve when all of a lower one cannot."""
    weight: Rank = 1
    """Its share among upstreams of one priority; 0 serves only when they cannot."""
    region: Text | None = None
    """Where it stands; the provider's own region if left out."""
    tags: tuple[Text, ...] = ()
    """What a request may ask for in `x-weir-tags`."""
    supports: SupportsShape = ANYTHING
    """What the model can take there; goes before the model's own."""
    max_context_tokens: Count | None = None
    """Most tokens of prompt and answer together there."""
    max_output_tokens: Count | None = None
    """Most tokens of one answer there."""
    when: WhenShape | None = None
    """Which requests it takes; all of them if left out."""


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A model as clients ask for it."""

    __pydantic_config__ = FORBID

    upstreams: tuple[UpstreamShape, ...]
    """Where it is served, in order of preference unless `strategy` says otherwise."""
    fallbacks: tuple[Text, ...] = ()
    """Models of this file to try when every upstream failed."""
    supports: SupportsShape = ANYTHING
    """What it can take."""
    max_context_tokens: Count | None = None
    """Most tokens of prompt and answer together."""
    max_output_tokens: Count | None = None
    """Most tokens of one answer."""
    strategy: Annotated[
        Literal["priority", "weighted", "least_cost", "least_latency", "least_busy"],
        BeforeValidator(_text),
    ] = "priority"
    """By what upstreams of one priority are put in order."""
    affinity: Annotated[
        Literal["none", "session", "user", "prompt", "auto"], BeforeValidator(_text)
    ] = "none"
    """What stays at one upstream as long as it can, so that its prompt cache stays warm."""
    target_latency_ms: Count | None = None
    """How fast its answers are to be, in milliseconds; a request may say otherwise."""
    on_disconnect: Annotated[Literal["abort", "drain"], BeforeValidator(_text)] | None = None
    """When the client leaves, for requests for this model; the server's if left out."""
    cache: ModelCacheShape = NO_MODEL_CACHE
    """Whether its answers are kept."""
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
    continue_on_cut: Flag = False
    """Whether another upstream goes on with a stream that breaks off or stalls."""
