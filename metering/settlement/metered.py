"""Meters read off events: what a plan rates is a table of quantities, not the events themselves.

Pure, and the order of the events does not matter. Each (event, unit) is a `Portion`; a meter sums
portions, looks for the largest, or counts distinct names. Corrections are portions with negative
quantities, so that a sum holds what is true after them. `MeterRow.list_nano` and `events` say what
the row's portions were admitted at and how many they were.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from metering.plans import COST, LIST_PRICE, Aggregation, Meter


@dataclass(frozen=True, slots=True)
class Portion:
    """One unit of one billable event. `dimensions` are those of `metering.plans`, `type` the unit.

    `list_nano` is what it was admitted and booked at. `names` are what `unique` counts by and is no
    dimension.
    """

    unit: str
    quantity: int
    list_nano: int
    cost_nano: int
    dimensions: Mapping[str, str]
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Cells:
    """Portions of the same dimensions, summed: as fine as any meter looks."""

    quantity: int = 0
    list_nano: int = 0
    cost_nano: int = 0
    events: int = 0


@dataclass(frozen=True, slots=True)
class MeterRow:
    """What a meter shows for one combination of its dimensions."""

    dimensions: tuple[tuple[str, str], ...]
    quantity: int
    list_nano: int
    events: int


Grain = tuple[tuple[str, str], ...]
"""The dimensions of a portion, in sorted order of their names."""


class Usage:
    """The portions of a term, summed as they come; read by any number of meters.

    `max` and `unique` need to be known beforehand (`meters`), since sums do not hold them.
    """

    def __init__(self, meters: Iterable[Meter] = ()) -> None:
        """`meters` are those that will be read; others than sums are kept along."""
        self.sums: dict[Grain, Cells] = {}
        kept = (Aggregation.MAX, Aggregation.UNIQUE)
        self._apart = {meter.name: meter for meter in meters if meter.aggregation in kept}
        self._largest: dict[str, dict[Grain, int]] = {name: {} for name in self._apart}
        self._distinct: dict[str, dict[Grain, set[str]]] = {name: {} for name in self._apart}

    def add(self, portion: Portion) -> None:
        """Take a portion in."""
        grain = grain_of(portion.unit, portion.dimensions)
        amounts = portion.quantity, portion.list_nano, portion.cost_nano
        self.add_amounts(grain, amounts, portion.names)

    def add_amounts(
        self, grain: Grain, amounts: tuple[int, int, int], names: Mapping[str, str | None]
    ) -> None:
        """`add` for who has many portions of the same grain: quantity, list price and cost."""
        found = self.sums.get(grain)
        if found is None:
            found = self.sums[grain] = Cells()
        found.quantity += amounts[0]
        found.list_nano += amounts[1]
        found.cost_nano += amounts[2]
        found.events += 1
        for meter in self._apart.values():
            if fits(meter, dict(grain)):
                self._add_apart(meter, grain, amounts[0], names)

    def _add_apart(
        self, meter: Meter, grain: Grain, quantity: int, names: Mapping[str, str | None]
    ) -> None:
        key = reduced(grain, meter.dimensions)
        if meter.aggregation is Aggregation.MAX:
            largest = self._largest[meter.name]
            largest[key] = max(largest.get(key, 0), quantity)
        elif (
            value := names.get(meter.of or "") or dict(grain).get(meter.of or "")
        ) and quantity > 0:
            self._distinct[meter.name].setdefault(key, set()).add(value)

    def rows(self, meter: Meter) -> list[MeterRow]:
        """What the meter shows, in sorted order of its dimensions; rows of nothing are left out."""
        if meter.aggregation is Aggregation.MAX:
            found = self._largest[meter.name]
            return [MeterRow(key, found[key], 0, 0) for key in sorted(found) if found[key]]
        if meter.aggregation is Aggregation.UNIQUE:
            sets = self._distinct[meter.name]
            return [MeterRow(key, len(sets[key]), 0, 0) for key in sorted(sets)]
        totals: dict[Grain, Cells] = {}
        for grain, cells in self.sums.items():
            if fits(meter, dict(grain)):
                total = totals.setdefault(reduced(grain, meter.dimensions), Cells())
                total.quantity += measured(meter, cells)
                total.list_nano += cells.list_nano
                total.events += cells.events
        return [
            MeterRow(key, totals[key].quantity, totals[key].list_nano, totals[key].events)
            for key in sorted(totals)
            if totals[key].quantity or totals[key].list_nano
        ]


def grain_of(unit: str, dimensions: Mapping[str, str]) -> Grain:
    """The grain of a unit of an event of these dimensions."""
    return tuple(sorted({**dimensions, "type": unit}.items()))


def fits(meter: Meter, dimensions: Mapping[str, str]) -> bool:
    """Whether the meter looks at a portion of these dimensions."""
    counts_units = meter.aggregation is not Aggregation.UNIQUE and not meter.is_money
    if counts_units and dimensions["type"] not in meter.units:
        return False
    return all(
        any(fnmatch.fnmatchcase(dimensions.get(name, ""), pattern) for pattern in patterns)
        for name, patterns in meter.where.items()
    )


def reduced(grain: Grain, dimensions: Iterable[str]) -> Grain:
    """A grain with these dimensions only, in their own order."""
    values = dict(grain)
    return tuple((name, values.get(name, "")) for name in dimensions)


def measured(meter: Meter, cells: Cells) -> int:
    """What a meter reads off a sum: its quantity, its list price, or its cost."""
    if meter.units == (LIST_PRICE,):
        return cells.list_nano
    if meter.units == (COST,):
        return cells.cost_nano
    return cells.quantity
