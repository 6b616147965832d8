"""A month by a plan, computed apart from ours: from single events, in fractions, never rounded."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from fractions import Fraction

from charge_samples import naive_graduated

from metering.plans import Cell, Component, Plan
from metering.settlement.metered import Portion

_OUTPUTS = ("output_text", "output_reasoning", "output_audio", "output_image")


def naive_total(plan: Plan, portions: Sequence[Portion], coupons: Iterable[str]) -> Fraction:
    """Nano-USD of a whole month in which the plan holds from the first to the last day."""
    total = Fraction(0)
    covered = [False] * len(portions)
    for component in plan.components:
        total += _component(component, portions, covered)
    if plan.other_usage == "list_price":
        total += sum(
            each.list_nano for each, taken in zip(portions, covered, strict=True) if not taken
        )
    for name in coupons:
        coupon = next(each for each in plan.coupons if each.id == name)
        if coupon.percent_ppm:
            total -= total * coupon.percent_ppm / 10**6
        else:
            total -= min(total, coupon.amount_nano)
    return max(total, Fraction(plan.minimum_nano))


def _component(component: Component, portions: Sequence[Portion], covered: list[bool]) -> Fraction:
    if component.kind == "flat":
        return Fraction(component.amount_nano)
    total, quantity = Fraction(0), 0
    for number, each in enumerate(portions):
        if not _is_counted(component.meter, each):
            continue
        cell = _cell(component, each) if component.cells else None
        if component.cells and cell is None:
            continue
        covered[number] = True
        quantity += each.quantity
        match component.kind:
            case "percentage":
                total += Fraction(each.list_nano * component.percent_ppm, 10**6)
            case "matrix":
                assert cell is not None
                total += Fraction(each.quantity * cell.rate, 1000)
            case "credits":
                assert cell is not None
                credit = Fraction(each.quantity * cell.rate, 10**12)
                total += credit * component.amount_nano
    return total + _of_all(component, max(0, quantity - component.included))


def _of_all(component: Component, quantity: int) -> Fraction:
    match component.kind:
        case "per_unit":
            return Fraction(quantity * component.rate_pico, 1000)
        case "graduated":
            return naive_graduated(quantity, component.tiers)
        case "volume" if quantity:
            tier = next(t for t in component.tiers if t.up_to is None or quantity <= t.up_to)
            return Fraction(quantity * tier.rate_pico, 1000) + tier.flat_nano
        case "package":
            full, rest = divmod(quantity, component.package_size)
            return Fraction((full + bool(rest)) * component.amount_nano)
    return Fraction(0)


def _is_counted(meter: str | None, portion: Portion) -> bool:
    if meter == "api-calls":
        return portion.unit == "api_call"
    if meter == "llm-tokens":
        return portion.unit.startswith(("input_", "output_"))
    assert meter == "list-price"
    return True


def _cell(component: Component, portion: Portion) -> Cell | None:
    """The samples have at most one cell that fits."""
    side = "output" if portion.unit in _OUTPUTS else "input"
    found = [
        cell
        for cell in component.cells
        if fnmatch.fnmatchcase(portion.dimensions["model"], cell.match.get("model", "*"))
        and cell.match.get("type", side) == side
    ]
    assert len(found) <= 1
    return found[0] if found else None
