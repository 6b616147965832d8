"""`meters`, `plans` and `credits` of the file, and what tenants were assigned, made into plans.

Every slip that would bill wrongly is a fault at its place: a tier out of order, a cell for a
dimension that the meter does not have, a key that the kind of charge does not look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta

from metering.ids import is_id
from metering.plans import (
    BUILT_IN,
    DIMENSIONS,
    DISTINCT,
    SIDES,
    Aggregation,
    Assignment,
    Component,
    Coupon,
    Meter,
    Plan,
)
from metering.usage import UNITS
from proxy.config_charges import Known, build_charge, percent_ppm, usd_nano
from proxy.config_decode import Findings, suggest
from proxy.config_limits_shape import TenantShape
from proxy.config_plans_shape import AssignmentShape, CouponShape, MeterShape, PlanShape
from proxy.config_shape import FileShape
from proxy.config_yaml import Path

_FIRST_DAY = date(1970, 1, 1)
"""Since when a plan holds that says nothing of it: for ever."""


def build_plans(shape: FileShape, findings: Findings) -> tuple[Plan, ...]:
    """Every version of every plan of the file."""
    meters = {**BUILT_IN, **build_meters(shape.meters, findings)}
    known = Known(meters, shape.credits)
    plans: list[Plan] = []
    for index, written in enumerate(shape.plans):
        path: Path = ("plans", index)
        plan = _plan(written, path, known, findings)
        if any((each.id, each.effective_from) == (plan.id, plan.effective_from) for each in plans):
            findings.fault(
                path,
                f"plan {plan.id!r} has terms from {plan.effective_from} already",
                "give the later terms an effective_from of their own",
            )
        plans.append(plan)
    return tuple(plans)


def build_assignments(
    tenants: Sequence[TenantShape], plans: Sequence[Plan], findings: Findings, *, today: date
) -> dict[str, tuple[Assignment, ...]]:
    """By tenant, which plans it has from when on; tenants without any are left out."""
    found: dict[str, tuple[Assignment, ...]] = {}
    for index, tenant in enumerate(tenants):
        if tenant.plan:
            path: Path = ("tenants", index, "plan")
            found[tenant.id] = _assignments(tenant.plan, path, plans, findings)
            if tenant.prepaid is not None and tenant.prepaid.hard_stop:
                _warn_of_trials(found[tenant.id], path, plans, today, findings)
    return found


def _warn_of_trials(
    assigned: Sequence[Assignment],
    path: Path,
    plans: Sequence[Plan],
    today: date,
    findings: Findings,
) -> None:
    """Until a month is closed a balance has its list prices, those of a trial, too."""
    for index, each in enumerate(assigned):
        days = max((plan.trial_days for plan in plans if plan.id == each.plan), default=0)
        if days and today < each.since + timedelta(days=days):
            findings.warn(
                (*path, index),
                f"the {days} days of its trial are free, and prepaid.hard_stop stops it all the "
                "same once its credit is used up at list prices",
                "grant what the trial may come to, or begin with hard_stop: false",
            )


def _assignments(
    written: Sequence[AssignmentShape], path: Path, plans: Sequence[Plan], findings: Findings
) -> tuple[Assignment, ...]:
    found: list[Assignment] = []
    for index, each in enumerate(written):
        at = (*path, index)
        since = day_of(each.from_, (*at, "from"), findings)
        if any(one.since == since for one in found):
            findings.fault(
                (*at, "from"), f"another plan begins on {since} already", "one plan a day"
            )
        versions = [plan for plan in plans if plan.id == each.id]
        if versions:
            _check_assignment(each, since, versions, at, findings)
        else:
            names = {plan.id for plan in plans}
            findings.fault((*at, "id"), f"unknown plan {each.id!r}", suggest(each.id, names))
        found.append(Assignment(each.id, since, each.add_ons, each.coupons))
    return tuple(found)


def _check_assignment(
    written: AssignmentShape, since: date, versions: Sequence[Plan], path: Path, findings: Findings
) -> None:
    first = min(plan.effective_from for plan in versions)
    if since < first:
        findings.fault(
            (*path, "from"),
            f"plan {written.id!r} holds from {first} on",
            "begin later, or give the plan an earlier effective_from",
        )
    add_ons = {each.id for plan in versions for each in plan.components if each.add_on}
    coupons = {coupon.id for plan in versions for coupon in plan.coupons}
    for key, names, known in (
        ("add_ons", written.add_ons, add_ons),
        ("coupons", written.coupons, coupons),
    ):
        for index, name in enumerate(names):
            at = (*path, key, index)
            if name not in known:
                what = key.removesuffix("s").replace("_", "-")
                message = f"plan {written.id!r} has no {what} {name!r}"
                findings.fault(at, message, suggest(name, known))
            elif name in names[:index]:
                findings.fault(at, f"{name!r} is named twice", "once is enough")


def build_meters(written: Sequence[MeterShape], findings: Findings) -> dict[str, Meter]:
    """The meters of the file, by name."""
    found: dict[str, Meter] = {}
    for index, each in enumerate(written):
        path: Path = ("meters", index)
        if check_name(each.name, (*path, "name"), "meter", [*BUILT_IN, *found], findings):
            found[each.name] = _meter(each, path, findings)
    return found


def _meter(written: MeterShape, path: Path, findings: Findings) -> Meter:
    aggregation = Aggregation(written.aggregation)
    is_unique = aggregation is Aggregation.UNIQUE
    if is_unique and written.of is None:
        findings.fault(path, "`unique` counts names: say which", f"of: {DISTINCT[0]}")
    if not is_unique and written.of is not None:
        findings.fault((*path, "of"), "only `unique` counts names", "leave it out")
    if written.of is not None and written.of not in DISTINCT:
        message = f"{written.of!r} cannot be counted"
        findings.fault((*path, "of"), message, suggest(written.of, DISTINCT))
    if is_unique and written.units:
        findings.fault((*path, "units"), "`unique` looks at no units", "leave them out")
    for index, name in enumerate(written.dimensions):
        _check_dimension(name, (*path, "dimensions", index), findings)
    for name, values in written.where.items():
        _check_dimension(name, (*path, "where", name), findings)
        if not values:
            findings.fault((*path, "where", name), "names nothing", "leave it out")
    return Meter(
        written.name,
        aggregation,
        () if is_unique else _units(written, aggregation, path, findings),
        written.dimensions,
        written.of,
        dict(written.where),
    )


def _check_dimension(name: str, path: Path, findings: Findings) -> None:
    if name not in DIMENSIONS:
        findings.fault(path, f"unknown dimension {name!r}", suggest(name, DIMENSIONS))


def _units(
    written: MeterShape, aggregation: Aggregation, path: Path, findings: Findings
) -> tuple[str, ...]:
    if not written.units:
        if aggregation is not Aggregation.COUNT:
            findings.fault(path, f"`{aggregation}` needs units", "units: [tokens]")
        return ("api_call",)
    found: dict[str, None] = {}
    for unit in written.units:
        found |= dict.fromkeys(SIDES.get(unit, (unit,)))
    for index, unit in enumerate(written.units):
        if unit not in SIDES and unit not in UNITS:
            at = (*path, "units", index)
            findings.warn(at, f"{unit!r} is no unit that we count", suggest(unit, UNITS))
    return tuple(found)


def _plan(written: PlanShape, path: Path, known: Known, findings: Findings) -> Plan:
    check_name(written.id, (*path, "id"), "plan", (), findings)
    charges: list[Component] = []
    for index, each in enumerate(written.charges):
        at = (*path, "charges", index)
        taken = [charge.id for charge in charges]
        check_name(each.id, (*at, "id"), "charge", taken, findings)
        charges.append(build_charge(each, at, known, findings))
    used = {charge.meter: None for charge in charges if charge.meter is not None}
    _warn_of_twice(written, [(c.meter, c.add_on) for c in charges], path, known.meters, findings)
    since = written.effective_from
    return Plan(
        written.id,
        written.name or written.id,
        tuple(charges),
        tuple(known.meters[name] for name in used if name in known.meters),
        tuple(
            _coupon(each, written, (*path, "coupons", index), findings)
            for index, each in enumerate(written.coupons)
        ),
        usd_nano(written.minimum, (*path, "minimum"), findings),
        written.trial_days,
        written.other_usage,
        _FIRST_DAY if since is None else day_of(since, (*path, "effective_from"), findings),
    )


def _warn_of_twice(
    written: PlanShape,
    used: Sequence[tuple[str | None, bool]],
    path: Path,
    meters: Mapping[str, Meter],
    findings: Findings,
) -> None:
    """Two charges by one meter both count: seldom meant, but for add-ons."""
    seen: dict[str, int] = {}
    for index, (name, add_on) in enumerate(used):
        if name is None or add_on or name not in meters or not meters[name].covers:
            continue
        first = seen.setdefault(name, index)
        if first != index:
            message = f"charges {written.charges[first].id!r} by the same meter, and both are due"
            findings.warn((*path, "charges", index, "meter"), message)


def _coupon(written: CouponShape, plan: PlanShape, path: Path, findings: Findings) -> Coupon:
    taken = [each.id for each in plan.coupons[: int(str(path[-1]))]]
    check_name(written.id, (*path, "id"), "coupon", taken, findings)
    if (written.percent is None) == (written.amount is None):
        findings.fault(path, "a coupon is a percentage or an amount", "give one of the two")
    charges = [each.id for each in plan.charges]
    for index, name in enumerate(written.charges):
        if name not in charges:
            message = f"plan {plan.id!r} has no charge {name!r}"
            findings.fault((*path, "charges", index), message, suggest(name, charges))
    off = percent_ppm(written.percent, (*path, "percent"), findings, most=100)
    nano = usd_nano(written.amount, (*path, "amount"), findings)
    return Coupon(written.id, off, nano, written.months, written.charges)


def check_name(name: str, path: Path, what: str, taken: Iterable[str], findings: Findings) -> bool:
    """Whether `name` can name a new thing; a fault when it is malformed or taken."""
    if not is_id(name):
        findings.fault(
            path,
            f"{name!r} cannot be the name of a {what}",
            "use 1 to 64 letters, digits, dots, dashes and underscores",
        )
    elif name in taken or name in ("minimum", "list_price"):
        findings.fault(path, f"there is a {what} {name!r} already", "names are unique")
    else:
        return True
    return False


def day_of(text: str, path: Path, findings: Findings) -> date:
    """A day as YYYY-MM-DD."""
    try:
        if len(text) != len("2026-11-01"):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        findings.fault(path, f"{text!r} is no day", "write it as 2026-11-01; days are UTC")
        return _FIRST_DAY
