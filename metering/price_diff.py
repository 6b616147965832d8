"""Two price books side by side: which rates of which models differ, and by how much. Pure.

Compared is what is published, so a book of the file and one out of the ledger are compared alike.
Classes of a side that changed in the same way stand in one row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from metering.money import PPM, divide_half_even

CONDITIONS = "conditions"
"""The unit of a row for tiers, regions and long prompts, whose change is said without numbers."""

_Rules = Mapping[tuple[str, str], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class RateChange:
    """What changes for a model on one side; None where there is no such rate, before or after."""

    model: str
    provider: str
    """Empty: of every provider."""
    side: str
    units: tuple[str, ...]
    before_pico: int | None
    after_pico: int | None

    @property
    def change_ppm(self) -> int | None:
        """By how much, in millionths of what it was; None where it was nothing."""
        if not self.before_pico or self.after_pico is None:
            return None
        return divide_half_even((self.after_pico - self.before_pico) * PPM, self.before_pico)


def compare(before: bytes | None, after: bytes | None) -> list[RateChange]:
    """What differs between two published bodies of the same side; None is an empty book.

    ValueError when they are of two sides.
    """
    old, old_side = _read(before)
    new, new_side = _read(after)
    if None not in (old_side, new_side) and old_side != new_side:
        raise ValueError(f"a book of {old_side} cannot be compared with one of {new_side}")
    side = new_side or old_side or ""
    found: list[RateChange] = []
    for key in sorted(old.keys() | new.keys()):
        found += _changes(key, side, old.get(key), new.get(key))
    return found


def _changes(
    key: tuple[str, str],
    side: str,
    old: Mapping[str, Any] | None,
    new: Mapping[str, Any] | None,
) -> Iterator[RateChange]:
    rates = [{} if each is None else each["rates_pico"] for each in (old, new)]
    moves: dict[tuple[int | None, int | None], list[str]] = {}
    for unit in dict.fromkeys((*rates[0], *rates[1])):
        move = rates[0].get(unit), rates[1].get(unit)
        if move[0] != move[1]:
            moves.setdefault(move, []).append(unit)
    for move, units in moves.items():
        yield RateChange(*key, side, tuple(sorted(units)), *move)
    if old is not None and new is not None and old.get("variants") != new.get("variants"):
        yield RateChange(*key, side, (CONDITIONS,), None, None)


def _read(body: bytes | None) -> tuple[_Rules, str | None]:
    """The rules by model and provider; of two alike the first one holds."""
    if body is None:
        return {}, None
    book = orjson.loads(body)
    rules: Sequence[Mapping[str, Any]] = book["rules"]
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for rule in rules:
        found.setdefault((rule["model"], rule["provider"] or ""), rule)
    return found, book["side"]
