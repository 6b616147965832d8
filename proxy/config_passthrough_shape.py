"""The shape of `passthrough` in the configuration file; the rules are those of
`proxy.config_shape`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from metering.ownership import OBJECTS_MAX
from proxy.config_values import FORBID, Count, Number, Text


@dataclass(frozen=True, kw_only=True)
class PathTermsShape:
    """On which terms the paths of one family are relayed."""

    __pydantic_config__ = FORBID

    hold_usd: Number | None = None
    """USD held under the caps for a request; per image, and per second of video."""
    price_usd: Number | None = None
    """USD for a request whose answer tells no usage that has a price, per unit as `hold_usd`; what
    is held if left out."""


@dataclass(frozen=True, kw_only=True)
class PassthroughShape:
    """Every other path of OpenAI's API, relayed as it is."""

    __pydantic_config__ = FORBID

    provider: Text
    """The account where objects live, and where requests go that name no model of `models`."""
    hold_usd: Number | None = None
    """USD held for a request whose answer says what was spent, unless its family has a hold."""
    allow: tuple[Text, ...] | None = None
    """Families that are relayed; all but `realtime_secrets` if left out."""
    paths: Mapping[Text, PathTermsShape] = field(default_factory=dict)
    """Terms by family."""
    tenants: Mapping[Text, Text] = field(default_factory=dict)
    """Tenants with a provider of their own, which nobody else uses."""
    objects_max: Count = OBJECTS_MAX
    """Objects a tenant may keep at the provider: files, batches, threads and their like."""
