"""The ladder: what is due when, and what stands and falls by a decision."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metering.settlement.anomalies import (
    Alarm,
    Case,
    Verdict,
    flags_due,
    is_over,
    is_waiting,
    steps_due,
)
from metering.tolerances import Mode, Step, Tolerance

ENFORCE = Tolerance(mode=Mode.ENFORCE, degrade_after_min=10, pause_after_min=20)
CASE = Case(Mode.ENFORCE, "", since_min=100)


@pytest.mark.parametrize(
    ("mode", "age", "due"),
    [
        (Mode.ENFORCE, 3, [Step.ALERT]),
        (Mode.ENFORCE, 9, [Step.ALERT]),
        (Mode.ENFORCE, 10, [Step.ALERT, Step.DEGRADE]),
        (Mode.ENFORCE, 20, [Step.ALERT, Step.DEGRADE, Step.PAUSE]),
        (Mode.SHADOW, 20, [Step.ALERT, Step.DEGRADE, Step.PAUSE]),
        (Mode.ALERT, 500, [Step.ALERT]),
        (Mode.OFF, 500, []),
    ],
)
def test_each_step_has_its_own_duration(mode: Mode, age: int, due: list[Step]) -> None:
    """Counted from the first minute of the alarm; nobody is touched unless it is asked for."""
    tolerance = replace(ENFORCE, mode=mode)

    assert steps_due(CASE, tolerance, Alarm.LOUD, now_min=100 + age - 1) == due


@pytest.mark.parametrize(
    ("case", "alarm", "due"),
    [
        (replace(CASE, steps={Step.ALERT, Step.DEGRADE}), Alarm.LOUD, [Step.PAUSE]),
        (replace(CASE, api_key_id="k1"), Alarm.LOUD, [Step.ALERT, Step.PAUSE]),
        (replace(CASE, verdict=Verdict.APPROVE), Alarm.LOUD, []),
        (replace(CASE, verdict=Verdict.KEEP), Alarm.LOUD, list(ENFORCE.ladder)),
        (replace(CASE, steps={Step.CALM}), Alarm.LOUD, []),
        (CASE, Alarm.FADING, []),
        (CASE, Alarm.OVER, [Step.CALM]),
        (replace(CASE, steps={Step.CALM}), Alarm.OVER, []),
    ],
    ids=[
        "taken",
        "key-has-no-stage",
        "approved",
        "kept",
        "was-calm",
        "fading",
        "calm",
        "calm-once",
    ],
)
def test_what_is_due_depends_on_what_was(case: Case, alarm: Alarm, due: list[Step]) -> None:
    """Long into an alarm."""
    assert steps_due(case, ENFORCE, alarm, now_min=500) == due


def test_a_ladder_may_leave_steps_out() -> None:
    """Whoever wants no degradation writes none."""
    tolerance = replace(ENFORCE, ladder=(Step.ALERT, Step.PAUSE))

    assert steps_due(CASE, tolerance, Alarm.LOUD, now_min=500) == [Step.ALERT, Step.PAUSE]


DEGRADED = frozenset({Step.ALERT, Step.DEGRADE})
PAUSED = frozenset({Step.PAUSE, Step.PAUSE_SET})


@pytest.mark.parametrize(
    ("steps", "verdict", "due"),
    [
        (DEGRADED, None, [Step.DEGRADE_SET]),
        (DEGRADED | {Step.DEGRADE_SET}, None, []),
        (DEGRADED | {Step.DEGRADE_SET, Step.CALM}, None, [Step.DEGRADE_LIFTED]),
        (DEGRADED | {Step.CALM}, None, [Step.DEGRADE_LIFTED]),
        (DEGRADED | {Step.DEGRADE_SET, Step.DEGRADE_LIFTED, Step.CALM}, None, []),
        ({Step.PAUSE}, None, [Step.PAUSE_SET]),
        (PAUSED | {Step.CALM}, None, []),
        (PAUSED | {Step.CALM}, Verdict.KEEP, []),
        (PAUSED, Verdict.APPROVE, [Step.PAUSE_LIFTED]),
        (PAUSED, Verdict.REBASE, [Step.PAUSE_LIFTED]),
        ({Step.PAUSE}, Verdict.APPROVE, [Step.PAUSE_LIFTED]),
        (PAUSED | {Step.PAUSE_LIFTED}, Verdict.APPROVE, []),
    ],
)
def test_flags_follow_the_rows(
    steps: frozenset[Step], verdict: Verdict | None, due: list[Step]
) -> None:
    """A pause ends by a decision, a degradation also when it is calm; each is done once."""
    assert flags_due(replace(CASE, steps=steps, verdict=verdict)) == due
    assert flags_due(replace(CASE, mode=Mode.SHADOW, steps=steps, verdict=verdict)) == []


@pytest.mark.parametrize(
    ("case", "over", "waiting"),
    [
        (CASE, False, True),
        (replace(CASE, steps={Step.ALERT, Step.CALM}), True, False),
        (replace(CASE, steps=PAUSED | {Step.CALM}), False, True),
        (replace(CASE, steps=PAUSED | {Step.CALM}, verdict=Verdict.KEEP), False, False),
        (replace(CASE, steps=PAUSED | {Step.CALM}, verdict=Verdict.APPROVE), False, False),
        (
            replace(CASE, steps=PAUSED | {Step.CALM, Step.PAUSE_LIFTED}, verdict=Verdict.APPROVE),
            True,
            False,
        ),
        (replace(CASE, mode=Mode.SHADOW, steps={Step.PAUSE, Step.CALM}), True, False),
    ],
    ids=["alarm", "calm", "paused", "kept", "approved", "resumed", "shadow"],
)
def test_a_pause_waits_for_a_person(case: Case, over: bool, waiting: bool) -> None:
    """What was only told is over when it is calm."""
    assert (is_over(case), is_waiting(case)) == (over, waiting)
