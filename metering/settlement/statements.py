"""Statements: everything that a tenant's plan comes to in a month, with the reasons.

Pure: the same usage and terms give the same bytes, in whatever order the events were read. Usage
that no component covers stays at the price it was admitted at, or costs nothing where the plan says
so. Order: charges, then coupons as the assignment names them, each on what is left, then the
minimum. A statement is a total and, for the books, the `entries` by which that total differs from
what the events were booked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from typing import Any

import orjson

from metering.money import PPM, divide_half_even, format_cents, format_short
from metering.plans import Assignment, ChargeKind, Component, Coupon, Meter, Plan, Term
from metering.settlement.charges import (
    Line,
    Share,
    at_list,
    cell_of,
    cents_of,
    charge,
    percent,
    portions,
)
from metering.settlement.journal import CURRENCY
from metering.settlement.metered import Cells, Grain, Usage, fits, reduced

LIST_PRICE = "list_price"
"""The entry that takes back what covered usage was booked at."""

MINIMUM, MINIMUM_NAME = "minimum", "Minimum"
"""What stands in the place of a charge on the line of a minimum, and what that is called."""

REST = ("kind", "project", "model", "type", "price_version", "rate_pico", "variant")
"""What tells lines at list prices apart; the dimensions that a reader of the ledger fills in."""


@dataclass(frozen=True, slots=True)
class Charged:
    """A line within its term. `reference` is the earlier month that it belongs to, if it is late.

    `version` and `plan` are those of the terms, empty where there was no plan.
    """

    line: Line
    start: date
    end: date
    plan: str = ""
    version: str = ""
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """What a tenant owes for a month. `sums` are the amounts by (plan version, component), and
    `entries` what has to be booked, by the same names, beside what the events were booked at."""

    tenant: str
    period: str
    terms: tuple[Term, ...]
    charged: tuple[Charged, ...]
    sums: Mapping[str, int]
    entries: Mapping[str, int]
    list_nano: int
    event_count: int = 0
    event_digest: str = ""
    late: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def total_nano(self) -> int:
        """All lines together."""
        return sum(each.line.amount_nano for each in self.charged)

    def body(self) -> dict[str, Any]:
        """The statement as an invoice: plain values, the lines in order, cents at each."""
        lines = [_line(each) for each in self.charged]
        cents = cents_of([each.line.amount_nano for each in self.charged])
        return {
            "tenant": self.tenant,
            "period": self.period,
            "currency": CURRENCY,
            "terms": [_term(term) for term in self.terms],
            "lines": [{**line, "cents": cent} for line, cent in zip(lines, cents, strict=True)],
            "total_nano": self.total_nano,
            "total": format_cents(self.total_nano),
            "list_nano": self.list_nano,
            "sums": dict(self.sums),
            "entries": dict(self.entries),
            "late": {month: dict(found) for month, found in self.late.items()},
            "event_count": self.event_count,
            "event_digest": self.event_digest,
        }


def statement_bytes(body: Mapping[str, Any]) -> bytes:
    """The canonical JSON of a statement's body."""
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def entries_of(body: Mapping[str, Any]) -> dict[str, int]:
    """What a statement's close books, by the id of the transaction: late events' part included."""
    head = f"plan:{body['tenant']}:{body['period']}"
    entries = {f"{head}:{key}": amount for key, amount in body["entries"].items()}
    for month, late in body["late"].items():
        entries |= {f"{head}:late:{month}:{key}": n for key, n in late["entries"].items()}
    return entries


def sha256_of(body: bytes) -> str:
    """What names those bytes."""
    return hashlib.sha256(body).hexdigest()


def new_usage(term: Term) -> Usage:
    """Where a term's portions are summed: knows the meters of its plan."""
    return Usage(term.plan.meters if term.plan is not None else ())


def make_statement(
    tenant: str, period: str, terms: Sequence[Term], usages: Sequence[Usage]
) -> Statement:
    """The statement of a month: `usages` in the order of `terms`, which cover all its days."""
    of_days = sum(term.days for term in terms)
    charged: list[Charged] = []
    entries: dict[str, int] = {}
    for _, grouped in groupby(zip(terms, usages, strict=True), key=lambda one: one[0].assigned):
        group = list(grouped)
        before = len(charged)
        for term, usage in group:
            lines, covered_nano = _term_lines(term, usage, of_days)
            charged += [_charged(term, line) for line in lines]
            if covered_nano:
                _add(entries, _key(term, LIST_PRICE), -covered_nano)
        held = [term for term, _ in group]
        charged += _discounts(held, period, charged[before:])
        charged += _minimum(held, of_days, charged[before:])
    sums: dict[str, int] = {}
    for each in charged:
        _add(sums, f"{each.version}:{each.line.component}", each.line.amount_nano)
        if each.line.component:
            key = f"{each.version}:{each.line.component}"
            _add(entries, key, each.line.amount_nano)
    list_nano = sum(cells.list_nano for usage in usages for cells in usage.sums.values())
    kept = {key: amount for key, amount in sorted(entries.items()) if amount}
    return Statement(
        tenant, period, tuple(terms), tuple(charged), dict(sorted(sums.items())), kept, list_nano
    )


def _add(sums: dict[str, int], key: str, amount: int) -> None:
    sums[key] = sums.get(key, 0) + amount


def _key(term: Term, component: str) -> str:
    return f"{term.plan.version if term.plan is not None else ''}:{component}"


def _charged(term: Term, line: Line) -> Charged:
    plan = term.plan
    if plan is None:
        return Charged(line, term.start, term.end)
    return Charged(line, term.start, term.end, plan.id, plan.version)


def components_of(term: Term) -> list[Component]:
    """What the term's plan charges, the add-ons that were taken among it."""
    if term.plan is None or term.assigned is None or term.is_trial:
        return []
    return [
        each for each in term.plan.components if not each.add_on or each.id in term.assigned.add_ons
    ]


def _term_lines(term: Term, usage: Usage, of_days: int) -> tuple[list[Line], int]:
    """The term's lines, and what the usage that is not billed at list prices was booked at."""
    components = components_of(term)
    share = Share(term.days, of_days)
    lines: list[Line] = []
    covering: list[tuple[Component, Meter]] = []
    for component in components:
        meter = None
        if component.kind is not ChargeKind.FLAT:
            assert term.plan is not None
            assert component.meter is not None
            meter = term.plan.meter(component.meter)
            if meter.covers:
                covering.append((component, meter))
        lines += charge(component, meter, [] if meter is None else usage.rows(meter), share)
    rest = {g: c for g, c in usage.sums.items() if not is_covered(g, covering)}
    free = why_free(term)
    covered_nano = sum(cells.list_nano for grain, cells in usage.sums.items() if grain not in rest)
    if free is not None:
        covered_nano += sum(cells.list_nano for cells in rest.values())
    return lines + _rest_lines(rest, free), covered_nano


def why_free(term: Term) -> str | None:
    """Why usage that no component covers costs nothing; None when it costs its list price."""
    if term.plan is None:
        return None
    if term.is_trial:
        return "free during the trial"
    return "included in the plan" if term.plan.other_usage == "included" else None


def is_covered(grain: Grain, covering: Iterable[tuple[Component, Meter]]) -> bool:
    """Whether one of these charges stands in the place of the list price."""
    values = dict(grain)
    return any(
        fits(meter, values) and cell_of(component, reduced(grain, meter.dimensions)) is not None
        for component, meter in covering
    )


def _rest_lines(rest: Mapping[Grain, Cells], free: str | None) -> list[Line]:
    """Usage at the prices of its admission, as an invoice without a plan has it."""
    sums: dict[tuple[str, ...], Cells] = {}
    for grain, cells in rest.items():
        values = dict(grain)
        total = sums.setdefault(tuple(values.get(name, "") for name in REST), Cells())
        total.quantity += cells.quantity
        total.list_nano += cells.list_nano
        total.events += cells.events
    lines = []
    for key in sorted(sums):
        kind, project, model, unit, version, rate, variant = key
        cells = sums[key]
        if not rate or not (cells.quantity or cells.list_nano):
            continue  # a plain count that nothing prices
        line = Line(
            "",
            kind or "usage",
            "",
            cells.quantity,
            0 if free else cells.list_nano,
            free or at_list(cells.quantity, int(rate), cells.list_nano, cells.events, variant),
            unit=unit,
            rate_pico=int(rate),
            dimensions={"model": model, "type": unit, "project": project}
            | ({"variant": variant} if variant else {}),
            events=cells.events,
            list_nano=cells.list_nano,
            price_version=version,
        )
        lines.append(line)
    return lines


def _discounts(terms: Sequence[Term], period: str, charged: Sequence[Charged]) -> list[Charged]:
    """The coupons of an assignment, in the order that it names them, each on what is left."""
    last = terms[-1]
    if last.plan is None or last.assigned is None:
        return []
    offered = {coupon.id: coupon for coupon in last.plan.coupons}
    left: dict[str, int] = {}
    for each in charged:
        _add(left, each.line.component, each.line.amount_nano)
    found = []
    for name in last.assigned.coupons:
        coupon = offered.get(name)
        if coupon is None or not _is_running(coupon, last.assigned.since, period):
            continue
        named = coupon.components or tuple(left)
        base = sum(left.get(component, 0) for component in named)
        off = _off(coupon, base)
        if off > 0:
            found.append(_charged(last, _discount(coupon, base, off)))
            parts = portions(off, [left.get(component, 0) for component in named])
            for component, part in zip(named, parts, strict=True):
                _add(left, component, -part)
    return found


def _off(coupon: Coupon, base: int) -> int:
    if coupon.percent_ppm:
        return divide_half_even(max(0, base) * coupon.percent_ppm, PPM)
    return min(coupon.amount_nano, max(0, base))


def _discount(coupon: Coupon, base: int, off: int) -> Line:
    what = (
        f"{percent(coupon.percent_ppm)} off {format_short(base)} USD"
        if coupon.percent_ppm
        else f"{format_short(coupon.amount_nano)} USD off, at most what is due"
    )
    name = coupon_name(coupon)
    return Line(coupon_component(coupon), "discount", name, 1, -off, what, unit="coupon")


def coupon_component(coupon: Coupon) -> str:
    """What stands in the place of a charge on a coupon's line."""
    return f"coupon:{coupon.id}"


def coupon_name(coupon: Coupon) -> str:
    """What a coupon's line is called."""
    return f"Coupon {coupon.id}"


def _is_running(coupon: Coupon, since: date, period: str) -> bool:
    year, month = map(int, period.split("-"))
    passed = (year * 12 + month) - (since.year * 12 + since.month)
    return coupon.months is None or passed < coupon.months


def _minimum(terms: Sequence[Term], of_days: int, charged: Sequence[Charged]) -> list[Charged]:
    """What is missing to the minimum of the assignment, by the days in which it holds."""
    last = terms[-1]
    if last.plan is None:
        return []
    days = sum(
        term.days * term.plan.minimum_nano for term in terms if term.plan and not term.is_trial
    )
    least = divide_half_even(days, of_days)
    due = sum(each.line.amount_nano for each in charged)
    if least <= due:
        return []
    formula = f"{format_short(least)} USD at least, {format_short(due)} USD due"
    line = Line(MINIMUM, "fee", MINIMUM_NAME, 1, least - due, formula, unit="minimum")
    return [_charged(last, line)]


def _line(each: Charged) -> dict[str, Any]:
    line = each.line
    return {
        "kind": line.kind,
        "project": line.dimensions.get("project", ""),
        "model": line.dimensions.get("model", ""),
        "unit": line.unit,
        "quantity": line.quantity,
        "rate_pico": line.rate_pico,
        "amount_nano": line.amount_nano,
        "price_version": line.price_version or each.version,
        **({"variant": line.dimensions["variant"]} if "variant" in line.dimensions else {}),
        "plan": each.plan,
        "component": line.component,
        "name": line.name,
        "meter": line.meter,
        "tier": line.tier,
        "formula": line.formula,
        "dimensions": dict(line.dimensions),
        "events": line.events,
        "list_nano": line.list_nano,
        "from": each.start.isoformat(),
        "to": each.end.isoformat(),
        "reference": each.reference,
    }


def _term(term: Term) -> dict[str, Any]:
    plan, assigned = term.plan, term.assigned
    return {
        "from": term.start.isoformat(),
        "to": term.end.isoformat(),
        "plan": None if plan is None else plan.id,
        "version": None if plan is None else plan.version,
        "assigned": None
        if assigned is None
        else {
            "plan": assigned.plan,
            "since": assigned.since.isoformat(),
            "add_ons": list(assigned.add_ons),
            "coupons": list(assigned.coupons),
        },
        "trial": term.is_trial,
    }


def read_terms(found: Iterable[Mapping[str, Any]], plans: Mapping[str, Plan]) -> tuple[Term, ...]:
    """The terms of a statement's body; `plans` by version. KeyError names one that is missing."""
    return tuple(
        Term(
            date.fromisoformat(each["from"]),
            date.fromisoformat(each["to"]),
            None if each["version"] is None else plans[each["version"]],
            None
            if each["assigned"] is None
            else Assignment(
                each["assigned"]["plan"],
                date.fromisoformat(each["assigned"]["since"]),
                tuple(each["assigned"]["add_ons"]),
                tuple(each["assigned"]["coupons"]),
            ),
            each["trial"],
        )
        for each in found
    )
