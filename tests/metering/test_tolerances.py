"""Whose tolerance is whose, and which steps a mode takes."""

from __future__ import annotations

import pytest

from metering.tolerances import LADDER, Mode, Step, Tolerance, Tolerances


def test_a_tenant_may_have_its_own_tolerance() -> None:
    """Trial and production need not be the same."""
    trial = Tolerance(minutes=2)
    tolerances = Tolerances(Tolerance(), {"trial": trial})

    assert (tolerances.of("trial"), tolerances.of("other")) == (trial, Tolerance())


@pytest.mark.parametrize(
    ("mode", "steps"),
    [
        (Mode.OFF, ()),
        (Mode.ALERT, (Step.ALERT,)),
        (Mode.SHADOW, LADDER),
        (Mode.ENFORCE, LADDER),
    ],
)
def test_a_mode_takes_these_steps(mode: Mode, steps: tuple[Step, ...]) -> None:
    """Out of the whole ladder; in shadow they are noted only."""
    assert Tolerance(mode=mode).steps == steps


def test_nobody_is_touched_by_default() -> None:
    """Degrading and pausing have to be asked for."""
    assert set(Tolerance().steps) == {Step.ALERT}
