"""`anomalies` of the file, made into the tolerances of its tenants.

A tenant's own entry overrides the section key by key. What spans keys is checked here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from metering.money import AMOUNT_NANO_MAX, format_cents, usd_to_nano
from metering.tolerances import LADDER, Mode, Step, Tolerance, Tolerances
from proxy.config_anomalies_shape import AnomaliesShape
from proxy.config_decode import Findings, suggest
from proxy.config_yaml import Path

PATH: Path = ("anomalies",)


def build_tolerances(
    shape: AnomaliesShape, tenants: Iterable[str], findings: Findings
) -> Tolerances:
    """Everybody's tolerance; `tenants` are the ids there are."""
    known = set(tenants)
    every = _tolerance(vars(shape), PATH, findings)
    by_tenant = {}
    for tenant, own in shape.tenants.items():
        path = (*PATH, "tenants", tenant)
        if tenant not in known:
            findings.fault(path, f"unknown tenant {tenant!r}", suggest(tenant, known))
            continue
        tree = findings.document.at(path)
        written = {key: value for key, value in vars(own).items() if key in (tree or {})}
        by_tenant[tenant] = _tolerance({**vars(shape), **written}, path, findings)
    return Tolerances(every, by_tenant)


def _tolerance(keys: Mapping[str, Any], path: Path, findings: Findings) -> Tolerance:
    _check_ladder(keys, path, findings)
    return Tolerance(
        mode=Mode(keys["mode"]),
        floor_nano=_nano(keys, "floor_usd_per_min", path, findings) or 0,
        z=float(keys["z"]),
        half_life_min=keys["half_life_min"],
        minutes=keys["minutes"],
        samples_min=keys["min_samples"],
        days_min=keys["min_days"],
        cold_start_nano=_nano(keys, "cold_start_usd_per_min", path, findings),
        unit_cost_nano=_nano(keys, "unit_cost_usd", path, findings),
        ladder=tuple(Step(each) for each in keys["ladder"]),
        degrade_after_min=keys["degrade_after_min"],
        pause_after_min=keys["pause_after_min"],
        degrade_stage=keys["degrade_stage"],
    )


def _check_ladder(keys: Mapping[str, Any], path: Path, findings: Findings) -> None:
    ladder = list(keys["ladder"])
    in_order = [each.value for each in LADDER if each.value in ladder]
    if ladder != in_order:
        findings.fault(
            (*path, "ladder"),
            "the steps are not in their order, or one stands twice",
            f"write [{', '.join(in_order)}]",
        )
    if "pause" in ladder and keys["pause_after_min"] < keys["minutes"]:
        findings.fault(
            (*path, "pause_after_min"),
            "a pause would come before there can be an alarm",
            f"write at least {keys['minutes']}, which is `minutes`",
        )
    if {"degrade", "pause"} <= set(ladder) and (
        keys["pause_after_min"] <= keys["degrade_after_min"]
    ):
        findings.warn(
            (*path, "pause_after_min"),
            "the pause comes no later than the degradation",
            "write more than degrade_after_min, or take degrade out of the ladder",
        )


def _nano(keys: Mapping[str, Any], name: str, path: Path, findings: Findings) -> int | None:
    usd = keys[name]
    if usd is None:
        return None
    try:
        nano = usd_to_nano(usd)
    except ValueError as error:
        findings.fault((*path, name), str(error))
        return None
    if not 0 <= nano <= AMOUNT_NANO_MAX:
        findings.fault((*path, name), f"must be between 0 and {format_cents(AMOUNT_NANO_MAX)} USD")
        return None
    return nano
