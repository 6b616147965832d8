"""`anomalies` in the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_samples import BASE, faults, loaded

from metering.tolerances import Mode, Step, Tolerance, Tolerances

TENANTS = "tenants: [{id: trial}, {id: prod}]\n"


def _tolerances(directory: Path, section: str) -> Tolerances:
    return loaded(directory, BASE + TENANTS + section).settings.tolerances


def test_without_a_section_people_are_told_and_nobody_is_touched(tmp_path: Path) -> None:
    """The defaults are those of the room."""
    assert _tolerances(tmp_path, "") == Tolerances(Tolerance())


def test_every_key_reaches_its_place(tmp_path: Path) -> None:
    """As somebody who wants all of it writes it."""
    section = """\
anomalies:
  mode: enforce
  floor_usd_per_min: 0.50
  z: 4
  half_life_min: 60
  minutes: 5
  min_samples: 90
  min_days: 7
  cold_start_usd_per_min: null
  unit_cost_usd: 0.10
  ladder: [alert, pause]
  degrade_after_min: 7
  pause_after_min: 15
  degrade_stage: 3
"""
    assert _tolerances(tmp_path, section).every == Tolerance(
        mode=Mode.ENFORCE,
        floor_nano=500_000_000,
        z=4.0,
        half_life_min=60,
        minutes=5,
        samples_min=90,
        days_min=7,
        cold_start_nano=None,
        unit_cost_nano=100_000_000,
        ladder=(Step.ALERT, Step.PAUSE),
        degrade_after_min=7,
        pause_after_min=15,
        degrade_stage=3,
    )


def test_a_tenant_overrides_key_by_key(tmp_path: Path) -> None:
    """What it does not write is as at the top; a null is written."""
    section = """\
anomalies:
  mode: shadow
  minutes: 4
  tenants:
    trial: {mode: enforce, floor_usd_per_min: 0.1, cold_start_usd_per_min: null}
"""
    found = _tolerances(tmp_path, section)

    assert found.of("prod") == Tolerance(mode=Mode.SHADOW, minutes=4)
    assert found.of("trial") == Tolerance(
        mode=Mode.ENFORCE, minutes=4, floor_nano=100_000_000, cold_start_nano=None
    )


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ("{mode: loud}", "anomalies.mode: must be 'off', 'shadow', 'alert' or 'enforce'"),
        ("{minutes: 1}", "anomalies.minutes: must be at least 2"),
        ("{floor_usd_per_min: -1}", "anomalies.floor_usd_per_min: must be between 0 and"),
        ("{unit_cost_usd: 0.0000000001}", "anomalies.unit_cost_usd: amount 1E-10 is finer"),
        ("{z: 0}", "anomalies.z: must be more than 0"),
        ("{ladder: [pause, alert]}", "anomalies.ladder: the steps are not in their order"),
        ("{ladder: [alert, alert]}", "anomalies.ladder: the steps are not in their order"),
        ("{pause_after_min: 2}", "anomalies.pause_after_min: a pause would come before"),
        ("{tenants: {trail: {z: 3}}}", "unknown tenant 'trail' (did you mean 'trial'?)"),
        ("{tenants: {trial: {minutes: 30}}}", "anomalies.tenants.trial.pause_after_min: a pause"),
        ("{floor: 1}", "anomalies.floor: unknown key"),
    ],
)
def test_what_cannot_be_meant_is_a_fault(tmp_path: Path, section: str, fault: str) -> None:
    """With its place, and once."""
    [found] = faults(tmp_path, f"{BASE}{TENANTS}anomalies: {section}\n")

    assert fault in found


def test_a_pause_before_the_degradation_is_hardly_meant(tmp_path: Path) -> None:
    """It works: the degradation is never reached."""
    section = "anomalies: {degrade_after_min: 20, pause_after_min: 20}\n"

    [warning] = loaded(tmp_path, BASE + TENANTS + section).warnings
    assert "the pause comes no later than the degradation" in warning.message
