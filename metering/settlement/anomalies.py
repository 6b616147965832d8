"""What is done about spend that is out of the ordinary: the ladder, and what is due. Pure.

Rules: nobody is degraded or paused unless the mode says `enforce`; every step has its own duration;
a pause ends by a person's decision only, a degradation also by itself. What was decided is a row
before it is a flag, so whoever comes after a crash knows what is still to be done.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from enum import StrEnum

from metering.tolerances import Mode, Step, Tolerance


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


class Alarm(StrEnum):
    """How the subject of an item stands now."""

    LOUD = "loud"
    """Its newest minutes are out of the ordinary."""
    FADING = "fading"
    """Minutes out of the ordinary were not long ago."""
    OVER = "over"


def steps_due(case: Case, tolerance: Tolerance, alarm: Alarm, *, now_min: int) -> list[Step]:
    """What is to be noted now. A flag that is to stand or to fall is `flags_due`.

    A step is taken only while it is loud: nobody is stopped who has just come back to the usual.
    """
    if alarm is Alarm.OVER:
        return [] if Step.CALM in case.steps else [Step.CALM]
    if alarm is Alarm.FADING or case.is_decided or Step.CALM in case.steps:
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
