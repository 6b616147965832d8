"""The degradation stage in force, as `weir limits` shows it."""

from __future__ import annotations

from typing import Any

from caps_samples import NOW_MS, cap

from metering.caps import CapMode, Vector
from metering.caps_choice import Look
from metering.steps import Step, Steps
from metering.tenants import SpendLimits, Tenant
from proxy.stages_report import stage_rows, stage_text
from routing.upstreams import Model

STEPS = Steps((Step(500_000, to="small"), Step(800_000, max_tokens=64, instruct="secret words")))
OTHER = Steps((Step(100_000, cache_only=True),))


def rows(
    spent: int,
    *,
    steps: Steps | None = STEPS,
    project: str | None = None,
    state: dict[str, str] | None = None,
    mode: CapMode = CapMode.ENFORCE,
    **fields: Any,
) -> list[dict[str, Any]]:
    """Of a tenant with a cap of 1,000 of which so much is spent; `big` has steps of its own."""
    tenant = Tenant("acme", "Acme", SpendLimits(steps=steps), **fields)
    models = {"small": Model("small", ()), "big": Model("big", (), steps=OTHER)}
    looks = [Look(cap(1_000, mode=mode), Vector(spent), Vector())]
    return stage_rows(tenant, models, project, looks, state or {}, now_ms=NOW_MS)


def stages(found: list[dict[str, Any]]) -> dict[str, int]:
    return {row["steps"]: row["stage"] for row in found}


def test_each_writer_has_its_stage() -> None:
    """By how full the fullest enforced cap is; what refuses nobody degrades nobody."""
    assert stages(rows(50)) == {"tenant": 0, "model:big": 0}
    assert stages(rows(500)) == {"tenant": 1, "model:big": 1}
    assert stages(rows(900)) == {"tenant": 2, "model:big": 1}
    assert stages(rows(900, mode=CapMode.SHADOW)) == {"tenant": 0, "model:big": 0}


def test_a_stage_that_is_remembered_outlives_its_share() -> None:
    """As for the next request: until the cap is well under it and its time is over."""
    name = STEPS.stairs("tenant").name
    state = {f"stage:{name}": f"2 {NOW_MS - 1_000}"}

    [held, _] = rows(100, state=state)
    [over, _] = rows(100, state={f"stage:{name}": f"2 {NOW_MS - 90_000}"})

    assert (held["stage"], over["stage"]) == (2, 0)
    assert held["since"] is not None
    assert stage_text(held) == (
        f"degradation (tenant, enforce): stage 2 of 2, since {held['since']}: "
        "from 0.5 on to=small, from 0.8 on max_tokens=64; instruct"
    )
    assert stage_text(over) == "degradation (tenant, enforce): stage 0 of 2"


def test_a_floor_is_told_as_one() -> None:
    """An anomaly has set it: the caps are not to blame."""
    [row, own] = rows(0, state={"stage_min": "1"})

    assert (row["stage"], row["by_floor"], row["since"], own["stage"]) == (1, True, None, 1)
    assert "set as a floor: from 0.5 on to=small" in stage_text(row)


def test_the_most_specific_writer_counts() -> None:
    """A project's steps stand in place of the tenant's, and those of models it may not use nowhere;
    steps on trial say so."""
    named = rows(150, project="web", project_steps={"web": OTHER}, steps_in_shadow=True)

    assert stages(named) == {"project:web": 1, "model:big": 1}
    assert {row["mode"] for row in named} == {"shadow"}
    assert stages(rows(150, models=frozenset({"small"}))) == {"tenant": 0}
    assert stages(rows(150, steps=Steps(()))) == {"model:big": 1}
