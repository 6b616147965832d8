"""A tenant's `prepaid` to what it is treated by."""

from __future__ import annotations

from metering.tenants import BALANCE_RULE, CapRule, Prepaid
from proxy.config_decode import Findings
from proxy.config_limits import cap_nano
from proxy.config_limits_shape import PrepaidShape
from proxy.config_yaml import Path


def build_prepaid(path: Path, shape: PrepaidShape | None, findings: Findings) -> Prepaid | None:
    """What is written at `path`; levels from the highest to the lowest."""
    if shape is None:
        return None
    levels: list[int] = []
    for index, usd in enumerate(shape.low_balance_at):
        at = (*path, "low_balance_at", index)
        nano = cap_nano(at, usd, findings)
        if nano is None:
            continue
        if nano in levels:
            findings.fault(at, f"{usd} stands here twice", "tell of each amount once")
        levels.append(nano)
    return Prepaid(shape.hard_stop, tuple(sorted(levels, reverse=True)))


def balance_rules(prepaid: Prepaid | None) -> tuple[CapRule, ...]:
    """The cap that stops at the end of the credit, where it is wished."""
    return (BALANCE_RULE,) if prepaid is not None and prepaid.hard_stop else ()
