"""The shape of the section `anomalies`, as `proxy.config_shape` has that of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from proxy.config_values import FORBID, Count, Number, Text
from proxy.config_values import text as _text
from proxy.config_values import whole as _whole

_Minutes = Annotated[int, Field(ge=1, le=10_080), BeforeValidator(_whole)]
_Rung = Annotated[Literal["alert", "degrade", "pause"], BeforeValidator(_text)]


@dataclass(frozen=True, kw_only=True)
class ToleranceShape:
    """One tenant's own; a key that is not written is that of `anomalies`."""

    __pydantic_config__ = FORBID

    mode: Annotated[Literal["off", "shadow", "alert", "enforce"], BeforeValidator(_text)] = "alert"
    """Nothing; note what would be done; only tell; take every step of `ladder`."""
    floor_usd_per_min: Number = Decimal(1)
    """Spend per minute below which nothing is out of the ordinary, in USD."""
    z: Annotated[Number, Field(gt=0, le=100)] = Decimal("3.5")
    """Score from which on a minute is out of the ordinary."""
    half_life_min: Annotated[int, Field(ge=5, le=1_440), BeforeValidator(_whole)] = 30
    """How fast the recent baseline forgets, in minutes."""
    minutes: Annotated[int, Field(ge=2, le=60), BeforeValidator(_whole)] = 3
    """Minutes out of the ordinary, within three times as many, that are an alarm."""
    min_samples: Count = 60
    """Minutes with requests until the recent baseline is believed."""
    min_days: Annotated[int, Field(ge=2, le=14), BeforeValidator(_whole)] = 5
    """Days until the history of the same hour is believed."""
    cold_start_usd_per_min: Number | None = Decimal(10)
    """Ceiling for those of whom nothing is known yet, in USD per minute; null for none."""
    unit_cost_usd: Number | None = None
    """USD that a request may cost more than it used to; null: not looked at."""
    ladder: tuple[_Rung, ...] = ("alert", "degrade", "pause")
    """The steps, in this order."""
    degrade_after_min: _Minutes = 10
    """Minutes of alarm until the tenant is degraded."""
    pause_after_min: _Minutes = 20
    """Minutes of alarm until the tenant or key is paused."""
    degrade_stage: Annotated[int, Field(ge=1, le=100), BeforeValidator(_whole)] = 1
    """The degradation stage that is then in force at least."""


@dataclass(frozen=True, kw_only=True)
class AnomaliesShape:
    """Watch over how fast tenants and keys spend."""

    __pydantic_config__ = FORBID

    mode: Annotated[Literal["off", "shadow", "alert", "enforce"], BeforeValidator(_text)] = "alert"
    """Nothing; note what would be done; only tell; take every step of `ladder`."""
    floor_usd_per_min: Number = Decimal(1)
    """Spend per minute below which nothing is out of the ordinary, in USD."""
    z: Annotated[Number, Field(gt=0, le=100)] = Decimal("3.5")
    """Score from which on a minute is out of the ordinary."""
    half_life_min: Annotated[int, Field(ge=5, le=1_440), BeforeValidator(_whole)] = 30
    """How fast the recent baseline forgets, in minutes."""
    minutes: Annotated[int, Field(ge=2, le=60), BeforeValidator(_whole)] = 3
    """Minutes out of the ordinary, within three times as many, that are an alarm."""
    min_samples: Count = 60
    """Minutes with requests until the recent baseline is believed."""
    min_days: Annotated[int, Field(ge=2, le=14), BeforeValidator(_whole)] = 5
    """Days until the history of the same hour is believed."""
    cold_start_usd_per_min: Number | None = Decimal(10)
    """Ceiling for those of whom nothing is known yet, in USD per minute; null for none."""
    unit_cost_usd: Number | None = None
    """USD that a request may cost more than it used to; null: not looked at."""
    ladder: tuple[_Rung, ...] = ("alert", "degrade", "pause")
    """The steps, in this order."""
    degrade_after_min: _Minutes = 10
    """Minutes of alarm until the tenant is degraded."""
    pause_after_min: _Minutes = 20
    """Minutes of alarm until the tenant or key is paused."""
    degrade_stage: Annotated[int, Field(ge=1, le=100), BeforeValidator(_whole)] = 1
    """The degradation stage that is then in force at least."""
    tenants: Mapping[Text, ToleranceShape] = field(default_factory=dict)
    """Overrides for single tenants, key by key, by the tenant's id."""


USUAL = AnomaliesShape()
"""What a file without `anomalies` means."""
