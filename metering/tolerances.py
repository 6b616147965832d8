"""How fast tenants may spend before somebody looks, and which steps are then taken. Pure values.

The worker acts on them (`metering.settlement.anomalies`); the configuration makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Mode(StrEnum):
    """How much is done."""

    OFF = "off"
    SHADOW = "shadow"
    """Nothing, but it is noted and counted what would have been."""
    ALERT = "alert"
    ENFORCE = "enforce"


class Step(StrEnum):
    """What happens to a review item, in the order in which it can happen."""

    ALERT = "alert"
    DEGRADE = "degrade"
    """The tenant is to be degraded; `degrade_set` notes that its flag stands."""
    DEGRADE_SET = "degrade_set"
    PAUSE = "pause"
    PAUSE_SET = "pause_set"
    CALM = "calm"
    """The alarm is over."""
    DEGRADE_LIFTED = "degrade_lifted"
    PAUSE_LIFTED = "pause_lifted"
    CLOSED = "closed"
    """Nothing is left to be done."""


LADDER = (Step.ALERT, Step.DEGRADE, Step.PAUSE)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What a tenant may do before somebody looks, and what then happens; money per minute."""

    mode: Mode = Mode.ALERT
    floor_nano: int = 1_000_000_000
    """Below this a minute is never out of the ordinary."""
    z: float = 3.5
    half_life_min: int = 30
    minutes: int = 3
    """So many minutes out of the ordinary, close together, are an alarm."""
    samples_min: int = 60
    """Minutes with a request until the recent baseline is believed."""
    days_min: int = 5
    """Days until the history of the same hour is believed."""
    cold_start_nano: int | None = 10_000_000_000
    """The ceiling while neither is; None for none."""
    unit_cost_nano: int | None = None
    """How far the cost of a request may rise above its baseline; None: it is not looked at."""
    ladder: tuple[Step, ...] = LADDER
    degrade_after_min: int = 10
    pause_after_min: int = 20
    degrade_stage: int = 1

    @property
    def memory_min(self) -> int:
        """Minutes without a request after which a baseline is forgotten: 24 h of half an hour."""
        return 48 * self.half_life_min

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that are taken (in shadow: noted)."""
        match self.mode:
            case Mode.OFF:
                return ()
            case Mode.ALERT:
                return tuple(each for each in self.ladder if each is Step.ALERT)
        return self.ladder

    def after_min(self, step: Step) -> int:
        """Minutes from the alarm's first minute until this step."""
        return {
            Step.DEGRADE: self.degrade_after_min,
            Step.PAUSE: self.pause_after_min,
        }.get(step, 0)


@dataclass(frozen=True, slots=True)
class Tolerances:
    """Everybody's tolerance; a tenant that is not named has the one of all."""

    every: Tolerance = Tolerance()
    by_tenant: Mapping[str, Tolerance] = field(default_factory=dict)

    def of(self, tenant: str) -> Tolerance:
        """The tolerance for a tenant."""
        return self.by_tenant.get(tenant, self.every)


EVERYBODY_ALIKE = Tolerances()
"""What there is unless something else was written."""
