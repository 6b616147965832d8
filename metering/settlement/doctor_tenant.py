"""Diagnosis of one tenant's month: why its invoice is empty, or a number on it is off. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from metering.money import format_usd
from metering.plans import ChargeKind, Component, Plan
from metering.settlement.doctor_facts import (
    Billed,
    Facts,
    Finding,
    Level,
    Streams,
    TenantUsage,
    Unknown,
    count_of,
)
from metering.settlement.utc import day_of, utc_text

GRACE_NS = 3_600_000_000_000
"""So long after its end a month can be closed."""


def month(facts: Facts) -> Iterator[Finding]:
    """Whether there can be anything in the month yet, or still."""
    asked = facts.asked
    if asked.now_ns < asked.start_ns:
        yield Finding(
            Level.TROUBLE, f"{asked.month} has not begun (UTC)", "ask about another --month"
        )
    elif asked.now_ns < asked.end_ns:
        yield Finding(Level.OK, f"{asked.month} is under way: numbers still grow")
    else:
        yield Finding(Level.OK, f"{asked.month} is over (UTC)")


def tenant(facts: Facts) -> Iterator[Finding]:
    """Whether there is such a tenant, and a key with which to spend in its name."""
    name, place = facts.asked.tenant, facts.place
    assert name is not None
    if place.tenant is None:
        near = difflib.get_close_matches(name, place.tenants, 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        known = isinstance(facts.usage, TenantUsage) and facts.usage.last_ns is not None
        yield Finding(
            Level.NOTE if known else Level.TROUBLE,
            f"{place.file} has no tenant {name!r}" + (", the ledger has" if known else hint),
            "it was taken out of the file: nobody spends in its name now"
            if known
            else "add it to `tenants`, or ask about the right one",
            {"near": near},
        )
        return
    keys = (*(key.id for key in place.tenant.keys), *place.minted_keys)
    if keys:
        said = f"tenant {name} is configured with {count_of(len(keys), 'key')}"
        yield Finding(Level.OK, said, numbers={"keys": list(keys)})
    else:
        yield Finding(
            Level.TROUBLE,
            f"tenant {name} has no key, so no request can be its own",
            f"`weir keys new --tenant {name}`, and put the line into the file",
        )
    models = place.tenant.models
    if models is not None and not models:
        yield Finding(
            Level.TROUBLE, f"tenant {name} may use no model", "put names into `tenants[].models`"
        )


def keys(facts: Facts) -> Iterator[Finding]:
    """Whether what was used came with keys that are the tenant's today."""
    found, place = facts.usage, facts.place
    assert isinstance(found, TenantUsage)
    if place.tenant is None:
        return
    own = {*(key.id for key in place.tenant.keys), *place.minted_keys}
    strange = {key: n for key, n in sorted(found.keys.items()) if key not in own}
    if strange:
        yield Finding(
            Level.NOTE,
            f"used in this month with keys that are not in the file: {', '.join(strange)}",
            "they were taken out, or act for the tenant from elsewhere",
            {"keys": strange},
        )
    elif found.keys:
        yield Finding(
            Level.OK, f"all usage came with {count_of(len(found.keys), 'key')} of its own"
        )


def flags(facts: Facts) -> Iterator[Finding]:
    """Whether somebody has paused or stopped it."""
    found = facts.flags
    assert found is not None
    assert not isinstance(found, Unknown)
    for each in found:
        what = f"{each.scope} of {facts.asked.tenant}" if each.scope else str(facts.asked.tenant)
        verb = "resume" if each.kind == "paused" else "allow"
        since = f" since {utc_text(each.at_ms * 1_000_000)}" if each.at_ms else ""
        who = f" by {each.by}" if each.by else ""
        yield Finding(
            Level.TROUBLE,
            f"{what} is {each.kind}{since}{who}: its requests are refused",
            f"`weir flags --tenant {facts.asked.tenant}` shows why, `weir {verb}` ends it",
            {"at_ms": each.at_ms},
        )
    if not found:
        yield Finding(Level.OK, "nothing of it is paused or stopped")


def usage(facts: Facts) -> Iterator[Finding]:
    """Whether there is anything to bill in the month, and why not."""
    found, asked = facts.usage, facts.asked
    assert isinstance(found, TenantUsage)
    waiting = facts.streams.of_tenant if isinstance(facts.streams, Streams) else 0
    numbers: dict[str, Any] = {"events": found.events, "billable": found.billable}
    numbers |= {"sell_nano": found.sell_nano, "waiting": waiting, "free": dict(found.free)}
    if waiting:
        yield Finding(
            Level.NOTE,
            f"{count_of(waiting, 'event')} of {asked.tenant} in the streams, not in the ledger yet",
            "see `streams`",
            {"waiting": waiting},
        )
    if not found.events:
        yield _nothing_used(facts, found, numbers)
    elif not found.billable:
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(found.free.items()))
        yield Finding(
            Level.TROUBLE,
            f"none of {count_of(found.events, 'event')} in {asked.month} is billed: {reasons}",
            "docs/events.md says what each reason means; `weir usage --by request` shows them",
            numbers,
        )
    else:
        free = found.events - found.billable
        rest = f", {free:,} more are billed to nobody" if free else ""
        yield Finding(
            Level.OK,
            f"{count_of(found.billable, 'event')} to bill in {asked.month}, "
            f"{format_usd(found.sell_nano)} USD as admitted{rest}",
            numbers=numbers,
        )


def _nothing_used(facts: Facts, found: TenantUsage, numbers: Mapping[str, Any]) -> Finding:
    asked = facts.asked
    if found.last_ns is None:
        newest = facts.streams.newest_of_tenant_ms if isinstance(facts.streams, Streams) else None
        sent = f"; Redis has one of {utc_text(newest * 1_000_000)}" if newest else ""
        return Finding(
            Level.TROUBLE,
            f"no event of {asked.tenant} was ever booked{sent}",
            "see `streams` and `worker`"
            if newest
            else "no request of its keys was admitted: look at what clients were answered "
            "(401: another key; 403: paused, or the model is not allowed), and whose key they use",
            numbers,
        )
    months = f"; it has usage in {', '.join(found.months)}" if found.months else ""
    return Finding(
        Level.TROUBLE,
        f"nothing of {asked.tenant} in {asked.month}{months}; its last event is of "
        f"{utc_text(found.last_ns)}",
        "an event counts in the UTC month in which its request began: ask about that --month",
        {**numbers, "months": list(found.months)},
    )


def unpriced(facts: Facts) -> Iterator[Finding]:
    """Whether something was used that has no price, and is on no line."""
    found = facts.usage
    assert isinstance(found, TenantUsage)
    if not found.unpriced:
        if found.events:
            yield Finding(Level.OK, "everything that was used has a price")
        return
    names = ", ".join(f"{model} ({n})" for model, n in sorted(found.unpriced.items()))
    yield Finding(
        Level.TROUBLE,
        f"events with a unit that has no rate, so billed without it: {names}",
        "give the model all its rates in `pricing.rules`; what is booked stays as it is",
        {"events": dict(found.unpriced)},
    )


def prices(facts: Facts) -> Iterator[Finding]:
    """Whether the newest usage was priced by what the file says now."""
    found, place = facts.usage, facts.place
    assert isinstance(found, TenantUsage)
    now = (place.cost_version, place.sell_version)
    then = (found.cost_version, found.sell_version)
    if then == (None, None):
        return
    numbers = {"file": list(now), "newest_event": list(then)}
    if then == now:
        yield Finding(Level.OK, f"the newest event has the file's prices ({now[1]})", "", numbers)
    else:
        yield Finding(
            Level.NOTE,
            f"the newest event was priced by cost {then[0]} and sell {then[1]}, the file says "
            f"{now[0]} and {now[1]}",
            "prices changed since, or a proxy runs with another file: `weir reload`",
            numbers,
        )


def plan(facts: Facts) -> Iterator[Finding]:
    """Which plan holds in the month, and whether it is what somebody thinks it is."""
    place, asked = facts.place, facts.asked
    first, last = day_of(asked.start_ns), day_of(asked.end_ns - 1)
    if not place.assignments:
        yield Finding(
            Level.OK,
            "no plan is assigned: usage is billed at its list prices",
            numbers={"plans": 0},
        )
        return
    begun = [each for each in place.assignments if each.since <= last]
    if not begun:
        each = min(place.assignments, key=lambda one: one.since)
        yield Finding(
            Level.TROUBLE,
            f"plan {each.plan} begins {each.since}, after {asked.month}: usage is billed at its "
            "list prices",
            "put the right day into `tenants[].plan[].from`, before the month is closed",
            {"from": each.since.isoformat()},
        )
        return
    newest = max(begun, key=lambda one: one.since)
    if min(each.since for each in begun) > first:
        since = min(each.since for each in begun)
        yield Finding(
            Level.NOTE,
            f"no plan until {since}: what was used before is billed at its list prices, and fees "
            "count by days",
            numbers={"from": since.isoformat()},
        )
    billed = facts.billed
    if isinstance(billed, Billed) and billed.fault:
        todo = "give the plan a version with an `effective_from` that covers the month"
        yield Finding(Level.TROUBLE, f"no statement can be made: {billed.fault}", todo)
    else:
        yield Finding(Level.OK, f"plan {newest.plan}, from {newest.since}")
    if isinstance(billed, Billed) and billed.body is not None:
        trial = [each for each in billed.body["terms"] if each["trial"]]
        if trial:
            days = f"{trial[0]['from']} until {trial[-1]['to']}"
            yield Finding(Level.NOTE, f"{days} is a trial: usage is free in it")


def charges(facts: Facts) -> Iterator[Finding]:
    """Charges that matched no usage, and usage that no charge covers."""
    billed, used = facts.billed, facts.usage
    assert isinstance(billed, Billed)
    if billed.body is None:
        return
    models = sorted(used.models) if isinstance(used, TenantUsage) else []
    wrong = False
    charged = {line["component"] for line in billed.body["lines"]}
    for plan_id, version, component in _components(facts, billed.body):
        if component.id in charged or component.kind is ChargeKind.FLAT:
            continue
        wrong = True
        wants = _wants(facts.place.plans, version, component)
        yield Finding(
            Level.NOTE,
            f"charge {component.id} of plan {plan_id} matches nothing that was used: {wants}; used "
            f"were the models {', '.join(models) or 'none'}",
            "compare `where` and the cells with the names in `weir usage` (a meter's `model` is "
            "the upstream's, `model_requested` the client's)",
            {"component": component.id, "meter": component.meter, "models": models},
        )
    uncovered: dict[str, list[int]] = {}
    for line in billed.body["lines"]:
        if line["component"] == "" and line["reference"] is None:
            sums = uncovered.setdefault(f"{line['model']} {line['unit']}", [0, 0, 0])
            for n, name in enumerate(("quantity", "amount_nano", "list_nano")):
                sums[n] += int(line[name])
    if uncovered and any(term["plan"] for term in billed.body["terms"]):
        wrong = True
        paid, listed = (sum(each[n] for each in uncovered.values()) for n in (1, 2))
        yield Finding(
            Level.NOTE,
            f"no charge covers {', '.join(sorted(uncovered))}: {format_usd(paid)} USD are billed "
            f"for it, {format_usd(listed)} USD at list prices",
            "as it should be where the plan says so in `other_usage`; else add a charge or a cell",
            {"amount_nano": paid, "list_nano": listed, "usage": uncovered},
        )
    if not wrong:
        yield Finding(Level.OK, "every charge matches usage, and all usage is charged")


def _components(facts: Facts, body: Mapping[str, Any]) -> Iterator[tuple[str, str, Component]]:
    """The charges that held in the month, each once."""
    plans = {each.version: each for each in facts.place.plans}
    seen = set()
    for term in body["terms"]:
        found = plans.get(term["version"] or "")
        if found is None or term["trial"]:
            continue
        add_ons = (term["assigned"] or {}).get("add_ons", ())
        for each in found.components:
            if (not each.add_on or each.id in add_ons) and (found.version, each.id) not in seen:
                seen.add((found.version, each.id))
                yield found.id, found.version, each


def _wants(plans: Any, version: str, component: Component) -> str:
    """What a charge looks for, in words."""
    found: Plan = next(each for each in plans if each.version == version)
    assert component.meter is not None
    meter = found.meter(component.meter)
    parts = [f"meter {meter.name}"]
    if meter.units:
        parts.append(f"units {', '.join(meter.units[:4])}{', ...' if len(meter.units) > 4 else ''}")
    for name, patterns in sorted(meter.where.items()):
        parts.append(f"where {name} is {' or '.join(patterns)}")
    cells = [
        " and ".join(f"{name} {value}" for name, value in sorted(cell.match.items()))
        for cell in component.cells
    ]
    if cells:
        parts.append(f"cells {'; '.join(cells[:4])}{'; ...' if len(cells) > 4 else ''}")
    return ", ".join(parts)


def invoice(facts: Facts) -> Iterator[Finding]:
    """What the invoice says, and whether that can still change."""
    billed, asked = facts.billed, facts.asked
    assert isinstance(billed, Billed)
    total = (
        f"the invoice of {asked.tenant} for {asked.month} is {format_usd(billed.total_nano)} USD"
    )
    numbers = {"total_nano": billed.total_nano, "sha256": billed.sha256}
    if billed.closed_at is not None:
        yield Finding(
            Level.OK,
            f"{total}, closed {utc_text(billed.closed_at)}: it never changes again, "
            "what comes later is on the next",
            numbers=numbers,
        )
    elif billed.body is not None and asked.now_ns >= asked.end_ns + GRACE_NS:
        todo = f"`weir plans close --tenant {asked.tenant} --month {asked.month}` books it"
        yield Finding(Level.NOTE, f"{total}, and the month is not closed", todo, numbers)
    else:
        yield Finding(Level.OK, f"{total} so far", numbers=numbers)
