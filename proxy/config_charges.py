"""One charge of a plan in the file, made into a component: which keys its kind takes, and how.

A key that the kind does not look at is a fault: whoever wrote it thinks that it does something.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from metering.money import (
    AMOUNT_NANO_MAX,
    rate_pico_per_mtok,
    rate_pico_per_token,
    to_ppm,
    usd_to_nano,
)
from metering.plans import DIMENSIONS, Cell, ChargeKind, Component, Meter, Tier
from proxy.config_decode import Findings, suggest
from proxy.config_plans_shape import CellShape, ChargeShape, CreditsShape, TierShape
from proxy.config_yaml import Path

_CREDIT_MICRO = 1_000_000
_PERCENT_MAX = 10_000
_RATE_USD_MAX = 1000
"""Of one unit: what lies above is an amount."""

_KEYS: Mapping[str, tuple[str, ...]] = {
    "flat": ("amount",),
    "per_unit": ("meter", "rate", "per_mtok", "included"),
    "per_request": ("meter", "rate", "included"),
    "graduated": ("meter", "tiers", "included"),
    "volume": ("meter", "tiers", "included"),
    "package": ("meter", "amount", "size", "included"),
    "percentage": ("meter", "percent"),
    "matrix": ("meter", "cells", "included"),
    "credits": ("meter", "cells", "amount", "included"),
}
"""The keys that each kind looks at, beside those that all have."""

_METERS: Mapping[str, str] = {
    "per_request": "api-calls",
    "percentage": "list-price",
    "matrix": "llm-tokens",
    "credits": "llm-tokens",
}
"""The meter of a kind when none is named."""

_NEEDED: Mapping[str, str] = {
    "flat": "amount",
    "package": "amount",
    "percentage": "percent",
    "graduated": "tiers",
    "volume": "tiers",
    "matrix": "cells",
}


@dataclass(frozen=True)
class Known:
    """What charges can refer to: the meters by name, and the section `credits`."""

    meters: Mapping[str, Meter]
    credits: CreditsShape


def build_charge(written: ChargeShape, path: Path, known: Known, findings: Findings) -> Component:
    """The component; sound only when `findings` holds no fault of it."""
    kind = written.kind
    for key in ("meter", "amount", "rate", "per_mtok", "percent", "size", "tiers", "cells"):
        if getattr(written, key) not in (None, ()) and key not in _KEYS[kind]:
            takes = ", ".join(_KEYS[kind])
            findings.fault((*path, key), f"a charge of kind {kind} has no {key}", f"it has {takes}")
    if written.included and "included" not in _KEYS[kind]:
        findings.fault((*path, "included"), f"a charge of kind {kind} includes nothing")
    needed = _NEEDED.get(kind)
    broken = any(findings.is_broken((*path, key)) for key in ("kind", needed or "kind"))
    if needed is not None and not broken and getattr(written, needed) in (None, ()):
        findings.fault(path, f"a charge of kind {kind} needs {needed}")
    meter = _meter(written, path, known, findings)
    cells = _cells(written, path, known, meter, findings)
    return Component(
        written.id,
        ChargeKind.PER_UNIT if kind == "per_request" else ChargeKind(kind),
        written.name or written.id,
        None if meter is None else meter.name,
        usd_nano(_amount(written, path, known, findings), (*path, "amount"), findings),
        _unit_rate(written, path, findings),
        percent_ppm(written.percent, (*path, "percent"), findings, most=_PERCENT_MAX),
        _size(written, path, findings),
        _included(written, path, findings),
        _tiers(written.tiers, (*path, "tiers"), findings),
        cells,
        written.prorate,
        written.add_on,
    )


def _meter(written: ChargeShape, path: Path, known: Known, findings: Findings) -> Meter | None:
    if written.kind == "flat":
        return None
    name = written.meter or _METERS.get(written.kind)
    if name is None:
        names = ", ".join(sorted(known.meters))
        findings.fault(path, f"a charge of kind {written.kind} needs a meter", f"known: {names}")
        return None
    meter = known.meters.get(name)
    at = (*path, "meter")
    if meter is None:
        findings.fault(at, f"unknown meter {name!r}", suggest(name, known.meters))
    elif meter.is_money != (written.kind == "percentage"):
        if meter.is_money:
            findings.fault(at, f"meter {name!r} counts money", "charge it by kind: percentage")
        else:
            findings.fault(at, f"meter {name!r} counts no money", "use list-price or cost")
    return meter


def _amount(written: ChargeShape, path: Path, known: Known, findings: Findings) -> Decimal | None:
    if written.kind != "credits" or written.amount is not None:
        return written.amount
    if known.credits.amount is None:
        findings.fault(path, "a credit has no price", "give amount here or in `credits`")
    return known.credits.amount


def _unit_rate(written: ChargeShape, path: Path, findings: Findings) -> int:
    if written.kind not in ("per_unit", "per_request"):
        return 0
    return _rate(written.rate, written.per_mtok, path, findings)


def _rate(
    rate: Decimal | None,
    per_mtok: Decimal | None,
    path: Path,
    findings: Findings,
    *,
    most: int = _RATE_USD_MAX,
) -> int:
    """Pico-USD per unit (or millionths of a millionth of a credit) from either way to write it."""
    if (rate is None) == (per_mtok is None):
        findings.fault(path, "needs a rate: either rate or per_mtok", "give one of the two")
        return 0
    if rate is not None:
        return _converted(rate, (*path, "rate"), findings, rate_pico_per_token, most=most)
    assert per_mtok is not None
    at = (*path, "per_mtok")
    return _converted(per_mtok, at, findings, rate_pico_per_mtok, most=most * 10**6)


def _converted(
    value: Decimal, path: Path, findings: Findings, convert: Callable[[Decimal], int], *, most: int
) -> int:
    if value < 0:
        findings.fault(path, f"{value} is negative", "a coupon takes something off")
    elif value > most:
        findings.fault(path, f"{value} is more than {most}", "an amount is not a rate")
    else:
        try:
            return convert(value)
        except ValueError as error:
            findings.fault(path, str(error))
    return 0


def usd_nano(value: Decimal | None, path: Path, findings: Findings) -> int:
    """An amount in nano-USD, none of it for None."""
    most = AMOUNT_NANO_MAX // 10**9
    return 0 if value is None else _converted(value, path, findings, usd_to_nano, most=most)


def percent_ppm(value: Decimal | None, path: Path, findings: Findings, *, most: int) -> int:
    """Percent in parts per million, none of it for None."""
    if value is None:
        return 0

    def convert(percent: Decimal) -> int:
        return to_ppm(percent.scaleb(-2))

    return _converted(value, path, findings, convert, most=most)


def _size(written: ChargeShape, path: Path, findings: Findings) -> int:
    if written.kind == "package" and written.size is None:
        findings.fault(path, "a package has a size", "size: 1000")
    return written.size or 1


def _included(written: ChargeShape, path: Path, findings: Findings) -> int:
    """Included units; credits in millionths."""
    at, value = (*path, "included"), written.included
    if value < 0:
        findings.fault(at, f"{value} is negative")
        return 0
    scaled = value * _CREDIT_MICRO if written.kind == "credits" else value
    if scaled != scaled.to_integral_value():
        findings.fault(at, f"{value} is no whole number of units")
        return 0
    return int(scaled)


def _tiers(written: Sequence[TierShape], path: Path, findings: Findings) -> tuple[Tier, ...]:
    found: list[Tier] = []
    below = 0
    for index, each in enumerate(written):
        at, is_last = (*path, index), index == len(written) - 1
        if each.up_to is None and not is_last:
            findings.fault(at, "only the last tier is open", "give it up_to")
        elif each.up_to is not None and is_last:
            findings.fault((*at, "up_to"), "the last tier is open", "leave up_to out")
        elif each.up_to is not None and each.up_to <= below:
            findings.fault((*at, "up_to"), f"must be more than {below}", "tiers go upwards")
        below = each.up_to or below
        rate = _converted(
            each.rate, (*at, "rate"), findings, rate_pico_per_token, most=_RATE_USD_MAX
        )
        found.append(Tier(each.up_to, rate, usd_nano(each.flat, (*at, "flat"), findings)))
    return tuple(found)


def _cells(
    written: ChargeShape, path: Path, known: Known, meter: Meter | None, findings: Findings
) -> tuple[Cell, ...]:
    cells, at = written.cells, (*path, "cells")
    if written.kind == "credits" and not cells:
        cells, at = known.credits.rates, ("credits", "rates")
        if not cells:
            findings.fault(path, "nothing says how many credits a unit is", "add credits.rates")
    most = _RATE_USD_MAX if written.kind == "matrix" else 10**9
    return tuple(
        _cell(cell, (*at, index), meter, most, findings) for index, cell in enumerate(cells)
    )


def _cell(
    written: CellShape, path: Path, meter: Meter | None, most: int, findings: Findings
) -> Cell:
    match = {name: value for name in DIMENSIONS if (value := getattr(written, name)) is not None}
    for name in match if meter is not None else ():
        assert meter is not None
        if name not in meter.dimensions:
            has = ", ".join(meter.dimensions) or "none"
            message = f"meter {meter.name!r} does not tell {name} apart"
            findings.fault((*path, name), message, f"its dimensions: {has}")
    return Cell(match, _rate(written.rate, written.per_mtok, path, findings, most=most))
