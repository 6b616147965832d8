"""Which degradation steps hold for a tenant now, for `weir limits`. Pure.

By the rules of admission: the caps that are looked at, as full as they are, and what Redis
remembers of a stage that outlives its share. Nothing is changed by looking.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from metering.caps_choice import Kept, Look, climb
from metering.money import PPM
from metering.steps import Step, Steps, burst
from metering.tenants import Tenant
from proxy.admission import BURST
from proxy.cli_times import rfc3339
from routing.upstreams import Model


def stage_rows(
    tenant: Tenant,
    models: Mapping[str, Model],
    project: str | None,
    looks: Sequence[Look],
    state: Mapping[str, str],
    *,
    now_ms: int,
) -> list[dict[str, Any]]:
    """One row per writer of steps: the tenant, the project that was named, models of their own."""
    floor = _number(state.get("stage_min", "0"))
    rows = []
    for writer, steps in _written(tenant, models, project):
        stairs = steps.stairs(writer, is_shadow=tenant.steps_in_shadow)
        level, _, since = state.get(f"stage:{stairs.name}", "0 0").partition(" ")
        kept = Kept(_number(level), _number(since))
        now = climb(looks, stairs, kept, now_ms)
        stage = max(now.level, min(floor, len(steps.steps)))
        is_known = 0 < stage == now.level <= kept.level  # else no request has met it yet
        rows.append(
            {
                "steps": writer_text(writer),
                "mode": "shadow" if tenant.steps_in_shadow else "enforce",
                "stage": stage,
                "of": len(steps.steps),
                "since": rfc3339(now.since_ms * 1_000_000) if is_known else None,
                "by_floor": stage > now.level,
                "in_force": [_step(each) for each in steps.steps[:stage]],
            }
        )
    return rows


def writer_text(writer: str) -> str:
    """Who wrote the steps, as people read it: `model:gpt-5.4`."""
    return writer.replace("/", ":", 1)


def stage_text(row: Mapping[str, Any]) -> str:
    """The same in a line."""
    head = f"degradation ({row['steps']}, {row['mode']}): stage {row['stage']} of {row['of']}"
    if not row["stage"]:
        return head
    why = ", set as a floor" if row["by_floor"] else ""
    why = f", since {row['since']}" if row["since"] else why
    steps = ", ".join(f"from {each['at']:g} on {each['does']}" for each in row["in_force"])
    return f"{head}{why}: {steps}"


def _written(
    tenant: Tenant, models: Mapping[str, Model], project: str | None
) -> Iterator[tuple[str, Steps]]:
    """Steps that can hold for requests of the tenant, by their writer (see `steps_of`)."""
    limits, own = tenant.limits, None
    if limits.steps is not None:
        own = ("tenant", limits.steps)
    elif limits.fallback_model is not None:
        own = (BURST, burst(limits.burst_threshold_ppm, limits.fallback_model))
    steps = tenant.project_steps.get(project) if project is not None else None
    if steps is not None:
        own = (f"project/{project}", steps)
    if own is not None and own[1].steps:
        yield own
    for name, model in sorted(models.items()):
        if model.steps is not None and model.steps.steps and tenant.may_use(name):
            yield f"model/{name}", model.steps


def _step(step: Step) -> dict[str, Any]:
    """A step as answers tell it: the text of an instruction stays in the file."""
    parts = [] if step.to is None else [f"to={step.to}"]
    parts += [] if step.max_tokens is None else [f"max_tokens={step.max_tokens}"]
    parts += ["cache_only"] if step.cache_only else []
    parts += [] if step.instruct is None else ["instruct"]
    return {"at": step.at_ppm / PPM, "does": "; ".join(parts)}


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
