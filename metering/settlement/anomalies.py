"""What is done about spend that is out of the ordinary: tolerances, the ladder, what is due. Pure.

Rules: nobody is degraded or paused unless the mode says `enforce`; every step has its own duration;
a pause ends by a person's decision only, a degradation also by itself. What was decided is a row
before it is a flag, so whoever comes after a crash knows what is still to be done.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
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


class Verdict(StrEnum):
    """What a person decided."""

    APPROVE = "approve"
    """Go on; the alarm was right or harmless, and what is usual stays what it was."""
    KEEP = "keep"
    """Stay paused; may be followed by one of the others."""
    REBASE = "rebase"
    """Go on, and take this level for usual from now on."""

    @property
    def is_final(self) -> bool:
        """Whether the tenant or key goes on."""
        return self is not Verdict.KEEP


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


@dataclass(frozen=True, slots=True)
class Case:
    """What there is to know about a review item; `api_key_id` is empty for the tenant itself."""

    mode: Mode
    api_key_id: str
    since_min: int
    steps: Set[Step] = frozenset()
    verdict: Verdict | None = None

    @property
    def is_decided(self) -> bool:
        """Whether a person has let it go on."""
        return self.verdict is not None and self.verdict.is_final


def steps_due(case: Case, tolerance: Tolerance, *, in_alarm: bool, now_min: int) -> list[Step]:
    """What is to be noted now. A flag that is to stand or to fall is `flags_due`."""
    if not in_alarm:
        return [] if Step.CALM in case.steps else [Step.CALM]
    if case.is_decided or Step.CALM in case.steps:
        return []
    return [
        step
        for step in tolerance.steps
        if step not in case.steps
        and now_min - case.since_min + 1 >= tolerance.after_min(step)
        and not (step is Step.DEGRADE and case.api_key_id)  # keys have no stage of their own
    ]


def flags_due(case: Case) -> list[Step]:
    """Which flags are to be set or lifted, as the step that notes it when it is done."""
    if case.mode is not Mode.ENFORCE:
        return []
    steps, due = case.steps, []
    calm = Step.CALM in steps
    for wanted, is_set, lifted, ends in (
        (Step.DEGRADE, Step.DEGRADE_SET, Step.DEGRADE_LIFTED, calm or case.is_decided),
        (Step.PAUSE, Step.PAUSE_SET, Step.PAUSE_LIFTED, case.is_decided),
    ):
        if wanted not in steps or lifted in steps:
            continue
        if ends:
            due.append(lifted)
        elif is_set not in steps:
            due.append(is_set)
    return due


def is_over(case: Case) -> bool:
    """Whether the item can be closed: calm, nothing stands any more, and no decision is owed."""
    owed = case.mode is Mode.ENFORCE and Step.PAUSE in case.steps and not case.is_decided
    return Step.CALM in case.steps and not owed and not flags_due(case)


def is_waiting(case: Case) -> bool:
    """Whether a person should look at it: in the queue."""
    return case.mode is not Mode.SHADOW and case.verdict is None and not is_over(case)
