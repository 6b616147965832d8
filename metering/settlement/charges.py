"""Charging: what one component of a plan comes to for what its meter shows, line by line.

Pure integers. Every line is rounded half-even to nano-USD once, and nothing else is ever rounded:
a component is the sum of its lines. Kinds that rate each meter row alone (`per_unit`, `percentage`,
`matrix`, `credits`) make a line per row; those that rate the whole of a meter (`graduated`,
`volume`, `package`) make a line per tier. Included units cost nothing and have lines of their own;
where rows share them, each row gets its part by the largest remainder, so order does not matter.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from metering.money import (
    PICO_PER_NANO,
    PPM,
    amount_nano,
    divide_half_even,
    format_short,
    format_usd,
)
from metering.plans import SIDES, Cell, ChargeKind, Component, Meter, Tier
from metering.settlement.metered import Grain, MeterRow

MICRO = 1_000_000
"""Millionths in a credit."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of what a plan comes to: a quantity, how it was rated, and the amount.

    `formula` says it in words that can be checked by hand. `dimensions` and `meter` name the events
    that it is made of, `events` counts their (event, unit) pairs, and `list_nano` is what these
    were admitted at. `rate_pico` is None where the amount is no rate times the quantity.
    """

    component: str
    kind: str
    name: str
    quantity: int
    amount_nano: int
    formula: str
    unit: str = ""
    meter: str | None = None
    rate_pico: int | None = None
    tier: str | None = None
    dimensions: Mapping[str, str] = field(default_factory=dict)
    events: int = 0
    list_nano: int = 0
    price_version: str | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a period in which a component holds, in days."""

    days: int
    of_days: int

    def of(self, amount: int) -> int:
        """That part of an amount, half-even."""
        return divide_half_even(amount * self.days, self.of_days)


def charge(
    component: Component, meter: Meter | None, rows: Sequence[MeterRow], share: Share
) -> list[Line]:
    """The lines of a component. `rows` are its meter's; a flat fee has neither.

    A meter that shows nothing makes no lines, whatever the tiers say.
    """
    if component.kind is ChargeKind.FLAT:
        return [_flat(component, share)]
    assert meter is not None
    included = share.of(component.included) if component.prorated else component.included
    if component.kind in _WHOLE:
        return _whole(component, meter, rows, included)
    return _by_row(component, meter, rows, included)


_WHOLE = frozenset({ChargeKind.GRADUATED, ChargeKind.VOLUME, ChargeKind.PACKAGE})


def _flat(component: Component, share: Share) -> Line:
    full = component.amount_nano
    formula, amount = f"{format_short(full)} USD", full
    if component.prorated and share.days != share.of_days:
        amount = share.of(full)
        formula += f" x {share.days}/{share.of_days} days"
    return Line(component.id, "fee", component.name, 1, amount, formula, unit="fee")


def _whole(
    component: Component, meter: Meter, rows: Sequence[MeterRow], included: int
) -> list[Line]:
    """Kinds that rate the sum of the rows."""
    quantity = sum(row.quantity for row in rows)
    if not quantity:  # nothing came, or all of it was taken back
        return []
    free = max(0, min(included, quantity))
    row = MeterRow((), quantity, sum(r.list_nano for r in rows), sum(r.events for r in rows))
    lines = [_included(component, meter, row, free)] if free else []
    rest = quantity - free
    if rest:
        rate = {
            ChargeKind.GRADUATED: _graduated,
            ChargeKind.VOLUME: _volume,
            ChargeKind.PACKAGE: _package,
        }[component.kind]
        lines += rate(component, meter, rest)
    head = lines[0]  # what the events are is said once, or a sum over lines would count them twice
    return [_with_events(head, row), *lines[1:]]


def _with_events(line: Line, row: MeterRow) -> Line:
    return Line(
        **{name: getattr(line, name) for name in _NAMES if name not in ("events", "list_nano")},
        events=row.events,
        list_nano=row.list_nano,
    )


_NAMES = tuple(Line.__dataclass_fields__)


def slices(quantity: int, tiers: Sequence[Tier]) -> list[tuple[int, int, int]]:
    """A quantity cut at the borders of the tiers: (tier's number, units below it, units in it).

    A quantity below zero (more was taken back than came) lies in the first tier. What lies beyond
    the last tier's border is rated by the last tier.
    """
    if quantity <= 0:
        return [(0, 0, quantity)] if quantity else []
    found, below = [], 0
    for number, tier in enumerate(tiers):
        is_last = number == len(tiers) - 1
        until = quantity if tier.up_to is None or is_last else min(tier.up_to, quantity)
        if until > below:
            found.append((number, below, until - below))
            below = until
    return found


def _graduated(component: Component, meter: Meter, quantity: int) -> list[Line]:
    return [
        _tier_line(component, meter, number, count)
        for number, _, count in slices(quantity, component.tiers)
    ]


def _volume(component: Component, meter: Meter, quantity: int) -> list[Line]:
    """All units at the rate of the tier that the last of them lies in."""
    number = slices(quantity, component.tiers)[-1][0]
    return [_tier_line(component, meter, number, quantity)]


def _tier_line(component: Component, meter: Meter, number: int, count: int) -> Line:
    tier = component.tiers[number]
    amount = amount_nano(count, tier.rate_pico) + tier.flat_nano
    flat = f" + {format_short(tier.flat_nano)}" if tier.flat_nano else ""
    below = component.tiers[number - 1].up_to if number else 0
    above = "up" if tier.up_to is None else f"{tier.up_to:,}"
    return Line(
        component.id,
        "usage",
        component.name,
        count,
        amount,
        f"{count:,} x {usd_of_pico(tier.rate_pico)} USD{flat}",
        unit=unit_of(meter),
        meter=meter.name,
        rate_pico=tier.rate_pico,
        tier=f"{(below or 0) + 1:,} - {above}",
    )


def _package(component: Component, meter: Meter, quantity: int) -> list[Line]:
    """Whole packages, the last one also when it is not full."""
    packages = -(-quantity // component.package_size)
    return [
        Line(
            component.id,
            "usage",
            component.name,
            quantity,
            packages * component.amount_nano,
            f"{packages:,} packages of {component.package_size:,} x "
            f"{format_short(component.amount_nano)} USD",
            unit=unit_of(meter),
            meter=meter.name,
        )
    ]


def _by_row(
    component: Component, meter: Meter, rows: Sequence[MeterRow], included: int
) -> list[Line]:
    """Kinds that rate each row by itself."""
    rated = [(row, cell) for row in rows if (cell := cell_of(component, row.dimensions))]
    counts = [_counted(component, row, cell) for row, cell in rated]
    free = portions(included, counts)
    lines: list[Line] = []
    for (row, cell), count, part in zip(rated, counts, free, strict=True):
        if part:
            lines.append(_with_events(_included(component, meter, row, part), row))
        if count - part or not part:
            line = _row_line(component, meter, row, cell, count - part)
            lines.append(line if part else _with_events(line, row))
    return lines


def _counted(component: Component, row: MeterRow, cell: Cell) -> int:
    """The row's quantity; in millionths of a credit where credits are counted."""
    if component.kind is ChargeKind.CREDITS:
        return divide_half_even(row.quantity * cell.rate, MICRO)
    return row.quantity


def _row_line(component: Component, meter: Meter, row: MeterRow, cell: Cell, count: int) -> Line:
    rate_pico: int | None = cell.rate
    match component.kind:
        case ChargeKind.CREDITS:
            rate_pico = None
            amount = divide_half_even(count * component.amount_nano, MICRO)
            formula = f"{usd_of_micro(count)} credits x {format_short(component.amount_nano)} USD"
            if count == _counted(component, row, cell):
                formula = f"{row.quantity:,} x {usd_of_pico(cell.rate)} = {formula}"
        case ChargeKind.PERCENTAGE:
            rate_pico = None
            amount = divide_half_even(count * component.percent_ppm, PPM)
            formula = f"{percent(component.percent_ppm)} of {format_usd(count, places=9)} USD"
        case _:
            amount = amount_nano(count, cell.rate)
            formula = f"{count:,} x {usd_of_pico(cell.rate)} USD"
    values = dict(row.dimensions)
    return Line(
        component.id,
        "usage",
        component.name,
        count,
        amount,
        formula,
        unit=_row_unit(component, meter, values),
        meter=meter.name,
        rate_pico=rate_pico,
        dimensions=values,
    )


def _included(component: Component, meter: Meter, row: MeterRow, free: int) -> Line:
    values = dict(row.dimensions)
    shown = usd_of_micro(free) + " credits" if component.kind is ChargeKind.CREDITS else f"{free:,}"
    return Line(
        component.id,
        "usage",
        component.name,
        free,
        0,
        f"{shown} included",
        unit=_row_unit(component, meter, values),
        meter=meter.name,
        rate_pico=0,
        tier="included",
        dimensions=values,
    )


def _row_unit(component: Component, meter: Meter, values: Mapping[str, str]) -> str:
    if component.kind is ChargeKind.CREDITS:
        return "micro_credit"
    return values.get("type") or unit_of(meter)


def unit_of(meter: Meter) -> str:
    """What a meter's quantity is called on a line: its only unit, or its own name."""
    if meter.is_money:
        return "nano_usd"
    return meter.units[0] if len(meter.units) == 1 else meter.name


def cell_of(component: Component, dimensions: Grain) -> Cell | None:
    """The rate for a row: a component without cells has one for all of them.

    The closest cell wins, dimension after dimension as the meter has them: a name before a side
    (`input`, `output`, `tokens`), before the longest glob, before a cell that says nothing of it;
    the one written first of two alike. None when no cell fits: the row stays at its list price.
    """
    if component.kind not in (ChargeKind.MATRIX, ChargeKind.CREDITS):
        return Cell({}, component.rate_pico)
    best: tuple[list[tuple[int, int]], Cell] | None = None
    for cell in component.cells:
        closeness = _closeness(cell, dimensions)
        if closeness is not None and (best is None or closeness < best[0]):
            best = closeness, cell
    return None if best is None else best[1]


def _closeness(cell: Cell, dimensions: Grain) -> list[tuple[int, int]] | None:
    """How closely a cell fits a row, smaller being closer; None when it does not."""
    values = dict(dimensions)
    if any(name not in values for name in cell.match):
        return None
    found = []
    for name, value in dimensions:
        pattern = cell.match.get(name)
        if pattern is None:
            found.append((3, 0))
        elif pattern == value:
            found.append((0, 0))
        elif name == "type" and value in SIDES.get(pattern, ()):
            found.append((1, len(SIDES[pattern])))
        elif any(sign in pattern for sign in "*?[") and fnmatch.fnmatchcase(value, pattern):
            found.append((2, -len(pattern)))
        else:
            return None
    return found


def portions(total: int, weights: Sequence[int]) -> list[int]:
    """`total`, at most the sum of the weights above zero, in parts as large as these are.

    By the largest remainder, ties to the first; no part is larger than its weight.
    """
    positive = [max(0, weight) for weight in weights]
    whole = sum(positive)
    total = max(0, min(total, whole))
    if not whole:
        return [0] * len(weights)
    parts = [divmod(total * weight, whole) for weight in positive]
    found = [part for part, _ in parts]
    order = sorted(range(len(parts)), key=lambda n: (-parts[n][1], n))
    for n in order[: total - sum(found)]:
        found[n] += 1
    return found


def cents_of(amounts_nano: Iterable[int]) -> list[int]:
    """Cents for each line that sum to the total's, which alone is rounded (half-even).

    By the largest remainder, ties to the first: no line is off by a cent or more.
    """
    parts = [divmod(amount, 10_000_000) for amount in amounts_nano]
    total = divide_half_even(sum(cents * 10_000_000 + rest for cents, rest in parts), 10_000_000)
    found = [cents for cents, _ in parts]
    order = sorted(range(len(parts)), key=lambda n: (-parts[n][1], n))
    for n in order[: total - sum(found)]:
        found[n] += 1
    return found


def usd_of_pico(rate_pico: int) -> str:
    """A rate in USD per unit, with as many digits as it has."""
    sign = "-" if rate_pico < 0 else ""
    whole, part = divmod(abs(rate_pico), PICO_PER_NANO * 1_000_000_000)
    digits = f"{part:012d}".rstrip("0")
    return f"{sign}{whole}.{digits:0<2}"


def usd_of_micro(micro: int) -> str:
    """Millionths as a plain number, with as many digits as it has."""
    sign = "-" if micro < 0 else ""
    whole, part = divmod(abs(micro), MICRO)
    digits = f"{part:06d}".rstrip("0")
    return f"{sign}{whole:,}" + (f".{digits}" if digits else "")


def percent(ppm: int) -> str:
    """Parts per million as percent: 12.5 %."""
    whole, part = divmod(ppm, 10_000)
    digits = f"{part:04d}".rstrip("0")
    return f"{whole}" + (f".{digits}" if digits else "") + " %"


def at_list(quantity: int, rate_pico: int, amount: int, events: int, variant: str) -> str:
    """How the amount came about. What only changes a price counts no token, and says so: nothing
    times a rate is no amount that a customer could follow, and neither is a rate times a quantity
    where both are on the line."""
    rate = usd_of_pico(rate_pico)
    if not quantity:
        return f"rated again at {rate} USD" + (f", {variant}" if variant else "")
    formula = f"{quantity:,} x {rate} USD at {variant or 'list price'}"
    if is_rate_times(quantity, rate_pico, amount, events):
        return formula
    again = amount - amount_nano(quantity, rate_pico)
    return f"{formula}, {'+' if again > 0 else '-'} {format_short(abs(again))} USD rated again"


def is_rate_times(quantity: int, rate_pico: int, amount: int, events: int) -> bool:
    """Whether an amount is this rate times this quantity, each event rounded by itself."""
    return abs(amount - amount_nano(quantity, rate_pico)) <= events
