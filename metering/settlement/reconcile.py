"""Our ledger against a provider's own books: matched, and every gap given its name. Pure.

Rules: a full outer join, by UTC day, model, unit and service tier, so every quantity of both sides
stands in exactly one line. Days that the provider's export does not cover are not compared. What
belongs to other keys or projects of the same organisation stands in lines of its own. Tokens are
compared first, then cost: a cost that differs where the tokens agree is a matter of price.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from metering.money import PPM
from metering.settlement.exports.rows import REQUESTS, CostRow, UsageRow, next_day
from metering.usage import INPUT_CLASSES, OUTPUT_CLASSES, OUTPUT_REASONING, OUTPUT_TEXT

INFO_PPM, WARN_PPM, ALERT_PPM = 10_000, 50_000, 150_000
"""Drift from which on a line is worth a look, a word, and an alert."""

FLOOR, FLOOR_NANO = 1_000, 10_000_000
"""Drift is a share of at least so many units, or nano-USD: three tokens of two are no alarm."""

COST_UNIT = "cost"
"""The unit of lines that compare money, in nano-USD."""

TRUE_UP = "cost_true_up"
"""The unit under which an applied correction stands in the ledger: a cost and no quantity."""

_DATED = re.compile(r"(?:[-@](?:\d{8}|\d{4}-\d{2}-\d{2})|-latest)$")


class Gap(StrEnum):
    """Why the two sides of a line differ."""

    MISSING_HERE = "missing_here"
    """The provider counted what our ledger does not have: it went around the proxy, or was lost."""
    MISSING_THERE = "missing_there"
    """We have what the provider does not know: estimated, cancelled, or of another account."""
    COUNT = "count"
    """Both have it, in other numbers."""
    SPLIT = "split"
    """The same tokens in all, in other classes or tiers."""
    BOUNDARY = "boundary"
    """The day before or after has the opposite: it ran over midnight."""
    PRICE = "price"
    """The tokens agree and the cost does not."""
    COST = "cost"
    """The cost differs, and no usage export says whether the tokens do."""
    UNPRICED = "unpriced"
    """We had no rate for some of it."""
    CURRENCY = "currency"
    """The provider charges in another currency; nothing is converted."""
    KEY_UNKNOWN = "key_unknown"
    """Of a project or key that is not this account's."""
    LATE = "late"
    """The export is younger than the day's numbers take to settle."""


class Level(StrEnum):
    """How far apart the sides of a line are."""

    OK = "ok"
    INFO = "info"
    WARN = "warn"
    ALERT = "alert"
    PROVISIONAL = "provisional"


@dataclass(frozen=True, slots=True)
class OwnUsage:
    """What the ledger has of one unit, for one (tenant, project, key) on a day.

    `model` is the one the provider answered with, as far as it said; `upstream` the one we sent.
    """

    day: str
    model: str
    unit: str
    tier: str
    tenant: str
    project: str
    key: str
    quantity: int
    cost_nano: int = 0
    sell_nano: int = 0
    unpriced: int = 0
    upstream: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """Which of the organisation's rows are this account's; all where nothing is named.

    `models` are the provider's names by ours, where matching names is not enough.
    """

    projects: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    models: Mapping[str, str] = field(default_factory=dict, hash=False)

    def has(self, row: UsageRow | CostRow) -> bool:
        """Whether a row is of this account. What a row does not name speaks for it."""
        if self.projects and row.project and row.project not in self.projects:
            return False
        return not (self.keys and row.key and row.key not in self.keys)


EVERYTHING = Account()


@dataclass(frozen=True, slots=True)
class Terms:
    """What is compared: days by kind of export, each with whether its numbers are final."""

    usage_days: Mapping[str, bool]
    cost_days: Mapping[str, bool]
    account: Account = EVERYTHING
    alert_ppm: int = ALERT_PPM


@dataclass(frozen=True, slots=True)
class Line:
    """The two sides of one thing on one day; `gap` is None where they are equal."""

    day: str
    model: str
    unit: str
    tier: str
    ours: int
    theirs: int
    gap: Gap | None
    level: Level
    drift_ppm: int


@dataclass(frozen=True, slots=True)
class Matched:
    """Every line: of usage, of cost, and of what is not ours. `names` are the models' names in the
    lines by ours; a day in `totals_only` has one cost for all models."""

    usage: tuple[Line, ...]
    costs: tuple[Line, ...]
    names: Mapping[str, str]
    totals_only: frozenset[str]


def match(
    own: Sequence[OwnUsage], usage: Sequence[UsageRow], costs: Sequence[CostRow], terms: Terms
) -> Matched:
    """Both sides, joined and classified; rows of days that are not compared are passed over."""
    usage = [row for row in usage if row.day in terms.usage_days]
    costs = [row for row in costs if row.day in terms.cost_days]
    names = _Names([row.model for row in usage], [row.model for row in costs], terms.account)
    lines = _usage_lines([one for one in own if one.day in terms.usage_days], usage, names, terms)
    by_place: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        by_place.setdefault((line.day, line.model), []).append(line)
    totals = _totals_only(costs, terms)
    cost_lines = _cost_lines(
        [one for one in own if one.day in terms.cost_days],
        costs,
        names,
        terms,
        by_place,
        totals=totals,
    )
    mine = {one.model: names.of(one.model) for one in own}
    return Matched(tuple(lines), tuple(cost_lines), mine, totals)


def stem(name: str) -> str:
    """A model's name without its date, and as a name rather than a title."""
    plain = name.strip().lower().replace(" ", "-").replace(".", "-")
    return _DATED.sub("", plain)


class _Names:
    """One name for each model, the provider's most exact one."""

    def __init__(self, usage: Iterable[str], costs: Iterable[str], account: Account) -> None:
        self._aliases = account.models
        exact = set(usage) - {""}
        self._known = exact | (set() if exact else set(costs) - {""})
        self._by_stem: dict[str, set[str]] = {}
        for name in self._known:
            self._by_stem.setdefault(stem(name), set()).add(name)

    def of(self, name: str) -> str:
        """The name of the model in the lines; itself where it cannot be told which it is."""
        name = self._aliases.get(name, name)
        if name in self._known or not name:
            return name
        found = self._by_stem.get(stem(name), set())
        return next(iter(found)) if len(found) == 1 else name


_Place = tuple[str, str, str, str]


def _usage_lines(
    own: Sequence[OwnUsage], usage: Sequence[UsageRow], names: _Names, terms: Terms
) -> list[Line]:
    ours: dict[_Place, int] = {}
    theirs: dict[_Place, int] = {}
    foreign: dict[_Place, int] = {}
    tiered = all(row.tier for row in usage)
    told = {row.unit for row in usage}
    for one in own:
        unit = OUTPUT_TEXT if one.unit == OUTPUT_REASONING else one.unit
        if unit in told or unit in INPUT_CLASSES or unit in OUTPUT_CLASSES:
            tier = one.tier if tiered else ""
            _add(ours, (one.day, names.of(one.model), unit, tier), one.quantity)
    for row in usage:
        tier = row.tier if tiered else ""
        side = theirs if terms.account.has(row) else foreign
        _add(side, (row.day, names.of(row.model), row.unit, tier), row.quantity)
    lines = [
        _line(place, ours.get(place, 0), theirs.get(place, 0), terms.usage_days, terms.alert_ppm)
        for place in sorted(ours.keys() | theirs.keys())
    ]
    lines = _with_boundaries(_with_splits(lines))
    return lines + [_foreign(place, n) for place, n in sorted(foreign.items()) if n]


def _cost_lines(
    own: Sequence[OwnUsage],
    costs: Sequence[CostRow],
    names: _Names,
    terms: Terms,
    usage: Mapping[tuple[str, str], Sequence[Line]],
    *,
    totals: frozenset[str],
) -> list[Line]:
    ours: dict[_Place, int] = {}
    theirs: dict[_Place, int] = {}
    unpriced: set[_Place] = set()
    strange: dict[_Place, int] = {}
    foreign: dict[_Place, int] = {}
    for one in own:
        model = "" if one.day in totals else names.of(one.model)
        place = (one.day, model, COST_UNIT, "")
        _add(ours, place, one.cost_nano)
        if one.unpriced:
            unpriced.add(place)
    for row in costs:
        place = (row.day, names.of(row.model), COST_UNIT, "")
        side = foreign if not terms.account.has(row) else theirs
        if row.currency != "USD":
            side, place = strange, (*place[:3], row.currency)
        _add(side, place, row.amount_nano)
    lines = []
    for place in sorted(ours.keys() | theirs.keys()):
        sides = ours.get(place, 0), theirs.get(place, 0)
        line = _line(place, *sides, terms.cost_days, terms.alert_ppm, floor=FLOOR_NANO)
        if any(other[:3] == place[:3] for other in strange) and not line.theirs:
            line = replace(line, gap=Gap.CURRENCY, level=Level.OK)
        elif line.gap not in (None, Gap.LATE) and (line.model or line.day in totals):
            line = replace(line, gap=_cause(line, usage, place in unpriced))
        lines.append(line)
    lines = _with_boundaries(lines)
    lines += [
        replace(_foreign(place, n), gap=Gap.CURRENCY) for place, n in sorted(strange.items()) if n
    ]
    return lines + [_foreign(place, n) for place, n in sorted(foreign.items()) if n]


def _cause(
    line: Line, usage: Mapping[tuple[str, str], Sequence[Line]], is_unpriced: bool
) -> Gap | None:
    """Why a cost differs that both sides may have: what its tokens say."""
    if is_unpriced:
        return Gap.UNPRICED
    places = [(line.day, line.model)] if line.model else [at for at in usage if at[0] == line.day]
    found = [
        each
        for place in places
        for each in usage.get(place, ())
        if each.unit != REQUESTS and each.gap is not Gap.KEY_UNKNOWN
    ]
    if not found:
        return Gap.COST if line.gap is Gap.COUNT else line.gap
    if all(each.level is Level.OK for each in found):
        return Gap.PRICE
    if all(each.level is Level.OK or each.gap is Gap.SPLIT for each in found):
        return Gap.SPLIT  # other classes, other rates
    return line.gap


def _line(
    place: _Place,
    ours: int,
    theirs: int,
    days: Mapping[str, bool],
    alert_ppm: int,
    *,
    floor: int = FLOOR,
) -> Line:
    drift_ppm = abs(ours - theirs) * PPM // max(abs(theirs), floor)
    gap, level = _gap(ours, theirs), _level(drift_ppm, alert_ppm)
    if gap is not None and not days[place[0]]:
        gap, level = Gap.LATE, Level.PROVISIONAL
    return Line(*place, ours, theirs, gap, level, drift_ppm)


def _gap(ours: int, theirs: int) -> Gap | None:
    if ours == theirs:
        return None
    if not ours:
        return Gap.MISSING_HERE
    return Gap.COUNT if theirs else Gap.MISSING_THERE


def _level(drift_ppm: int, alert_ppm: int) -> Level:
    if drift_ppm >= alert_ppm:
        return Level.ALERT
    if drift_ppm >= WARN_PPM:
        return Level.WARN
    return Level.INFO if drift_ppm >= INFO_PPM else Level.OK


def _foreign(place: _Place, quantity: int) -> Line:
    return Line(*place, 0, quantity, Gap.KEY_UNKNOWN, Level.OK, 0)


def _with_splits(lines: Sequence[Line]) -> list[Line]:
    """Lines whose model has the same tokens in all on that side, in other classes, are a split."""
    sums: dict[tuple[str, str, str], list[int]] = {}
    for line in lines:
        found = sums.setdefault(_side(line), [0, 0])
        found[0] += line.ours
        found[1] += line.theirs
    result = []
    for line in lines:
        ours, theirs = sums[_side(line)]
        is_near = abs(ours - theirs) * PPM < INFO_PPM * max(theirs, FLOOR)
        if is_near and line.level not in (Level.OK, Level.PROVISIONAL):
            line = replace(line, gap=Gap.SPLIT, level=Level.INFO)  # noqa: PLW2901 - the same line
        result.append(line)
    return result


def _side(line: Line) -> tuple[str, str, str]:
    is_input, is_output = line.unit in INPUT_CLASSES, line.unit in OUTPUT_CLASSES
    side = "input" if is_input else "output" if is_output else line.unit
    return line.day, line.model, side


def _with_boundaries(lines: Sequence[Line]) -> list[Line]:
    """Two days in a row that are off by about the same, one up and one down, are one thing."""
    at = {(line.day, line.model, line.unit, line.tier): n for n, line in enumerate(lines)}
    result = list(lines)
    for n, line in enumerate(lines):
        other = at.get((next_day(line.day), line.model, line.unit, line.tier))
        if other is None or Gap.BOUNDARY in (result[n].gap, result[other].gap):
            continue
        pair = (line, lines[other])
        if all(each.gap is not None and each.level in _FAR for each in pair) and _nets(*pair):
            for place, each in zip((n, other), pair, strict=True):
                result[place] = replace(each, gap=Gap.BOUNDARY, level=Level.INFO)
    return result


_FAR = (Level.INFO, Level.WARN, Level.ALERT)


def _nets(first: Line, second: Line) -> bool:
    one, other = first.ours - first.theirs, second.ours - second.theirs
    return one * other < 0 and abs(one + other) * PPM < INFO_PPM * (
        abs(first.theirs) + abs(second.theirs)
    )


def _totals_only(costs: Sequence[CostRow], terms: Terms) -> frozenset[str]:
    """Days whose costs name no model at all: they are one sum."""
    named: dict[str, bool] = {}
    for row in costs:
        if terms.account.has(row):
            named[row.day] = named.get(row.day, False) or bool(row.model)
    return frozenset(day for day, is_named in named.items() if not is_named)


def _add(sums: dict[_Place, int], place: _Place, more: int) -> None:
    sums[place] = sums.get(place, 0) + more
