"""Diagnosis of the ledger and what is made from it: totals, alerts, Stripe. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from metering.settlement.doctor_facts import (
    Behind,
    Facts,
    Finding,
    Level,
    StripeHours,
    Unknown,
    age_of,
    count_of,
)

NS = 1_000_000_000
ROLLED_S = 120
"""Rollups follow the books within seconds."""

ALERT_S = 600
"""An alert that no sink has taken for so long does not arrive by itself."""

STRIPE_S = 3 * 3_600
"""Hours are told once a minute; one that waits longer is stuck."""

COMPARED_S = 8 * 86_400
"""A comparison covers a week if nobody says otherwise."""


def ledger(facts: Facts) -> Iterator[Finding]:
    """Whether the ledger can be read and written, and by this version."""
    book = facts.book
    if isinstance(book, Unknown):
        yield Finding(
            Level.TROUBLE,
            f"the ledger cannot be read: {book.why}",
            "start `weir worker`, which makes it and brings it up to date; `weir ledger verify` "
            "names damage",
        )
        return
    numbers = {"revision": book.revision, "newest": book.head, "events": book.events}
    if book.revision > book.head:
        yield Finding(
            Level.TROUBLE,
            f"{book.where} is at migration {book.revision}, this version knows {book.head}",
            "use the newer version of weir",
            numbers,
        )
    elif book.revision < book.head:
        yield Finding(
            Level.TROUBLE,
            f"{book.where} is at migration {book.revision}, this version wants {book.head}",
            "start the worker of this version: it migrates the ledger",
            numbers,
        )
    if book.refuses:
        yield Finding(
            Level.TROUBLE,
            f"{book.where} takes no writes: {book.refuses}",
            "free the disk, or give the worker's user the right to write there",
            numbers,
        )
    if book.revision == book.head and not book.refuses:
        last = book.last_booked_ns
        ago = "" if last is None else f", the last {age_of((facts.asked.now_ns - last) // NS)} ago"
        said = f"{book.where} has {count_of(book.events, 'event')}{ago}, migration {book.revision}"
        yield Finding(Level.OK, said, numbers=numbers)


def rollups(facts: Facts) -> Iterator[Finding]:
    """Whether the hourly totals have what the books have."""
    found = facts.behind
    assert isinstance(found, Behind)
    if not found.unrolled:
        yield Finding(Level.OK, "the rollups have every event")
        return
    since_ns = found.unrolled_since_ns or facts.asked.now_ns
    waited_s = (facts.asked.now_ns - since_ns) // NS
    yield Finding(
        Level.TROUBLE if waited_s > ROLLED_S else Level.NOTE,
        f"{count_of(found.unrolled, 'event')} not in the rollups yet, for {age_of(waited_s)}",
        "the worker adds them every five seconds; what Stripe is told waits for that",
        {"events": found.unrolled},
    )


def dead_letters(facts: Facts) -> Iterator[Finding]:
    """What could not be booked, or came twice with two bodies."""
    found = facts.behind
    assert isinstance(found, Behind)
    if found.dead:
        yield Finding(
            Level.TROUBLE,
            f"{count_of(found.dead, 'dead letter')} on no invoice; the newest: {found.dead_reason}",
            "`weir dead list`, then `weir dead replay` or `weir dead close`",
            {"dead_letters": found.dead, "oldest_ns": found.dead_since_ns},
        )
    if found.conflicts:
        yield Finding(
            Level.NOTE,
            f"{count_of(found.conflicts, 'event')} came a second time with another body in this "
            "month; the first stands",
            "two proxies share a data_dir, or it was changed on its way: see `event_conflict`",
            {"conflicts": found.conflicts},
        )
    if not found.dead and not found.conflicts:
        yield Finding(Level.OK, "no dead letters, no conflicts")


def price_versions(facts: Facts) -> Iterator[Finding]:
    """Whether every price that was booked with is kept."""
    found = facts.behind
    assert isinstance(found, Behind)
    if not found.missing_prices:
        yield Finding(Level.OK, "every price version of the newest events is kept")
        return
    names = ", ".join(found.missing_prices)
    yield Finding(
        Level.TROUBLE,
        f"the newest events are booked with price versions that the ledger does not keep: {names}",
        "the books cannot be rated again: `weir ledger verify`, and restore `price_body` from a "
        "backup",
        {"versions": list(found.missing_prices)},
    )


def alerts(facts: Facts) -> Iterator[Finding]:
    """Whether what was found reaches somebody."""
    found = facts.alerts
    assert not isinstance(found, Unknown)
    late = False
    for each in found:
        waited_s = (facts.asked.now_ns - each.since_ns) // NS
        if waited_s <= ALERT_S:
            continue
        late = True
        yield Finding(
            Level.TROUBLE,
            f"{count_of(each.alerts, 'alert')} not at sink {each.sink!r} for {age_of(waited_s)} "
            f"({each.attempts} attempts)",
            "see the worker's log (`alert_not_sent`) and `alerts.sinks`; they are tried again by "
            "themselves",
            {"sink": each.sink, "alerts": each.alerts, "attempts": each.attempts},
        )
    if not late:
        waiting = sum(each.alerts for each in found)
        said = f"{count_of(waiting, 'alert')} on the way" if waiting else "every alert is delivered"
        yield Finding(Level.OK, said, numbers={"waiting": waiting})


def stripe(facts: Facts) -> Iterator[Finding]:
    """Whether Stripe has what the ledger says."""
    found, place = facts.stripe, facts.place
    assert isinstance(found, StripeHours)
    if not place.has_stripe:
        yield Finding(Level.OK, "nothing is told to Stripe: the file has no section `stripe`")
        return
    before = len(found.unsent_tenants) + len(found.held) + found.differing
    if found.unsent_tenants:
        names = ", ".join(found.unsent_tenants)
        yield Finding(
            Level.NOTE,
            f"used in this month and not told to Stripe, for want of a customer: {names}",
            "give them `tenants[].stripe_customer`, if Stripe bills them",
            {"tenants": list(found.unsent_tenants)},
        )
    for reason, hours in sorted(found.held.items()):
        yield Finding(
            Level.TROUBLE,
            f"{count_of(hours, 'hour')} held back from Stripe: {reason}",
            "`weir stripe status` shows them; `weir stripe carry` for too_old, else mend the cause "
            "and `weir stripe sync --held`",
            {"reason": reason, "hours": hours},
        )
    if found.differing:
        yield Finding(
            Level.TROUBLE,
            f"for {count_of(found.differing, 'hour')} Stripe shows something else than it took",
            "`weir stripe verify` names them, --repair sends what is lacking",
            {"hours": found.differing},
        )
    if found.waiting:
        since_ns = found.waiting_since_ns or facts.asked.now_ns
        waited_s = (facts.asked.now_ns - since_ns) // NS
        yield Finding(
            Level.TROUBLE if waited_s > STRIPE_S else Level.NOTE,
            f"{count_of(found.waiting, 'hour')} to be told to Stripe, the oldest of "
            f"{age_of(waited_s)} ago",
            "the worker tells them; `weir stripe sync` does it now and says what is in the way",
            {"hours": found.waiting},
        )
    elif not before:
        yield Finding(Level.OK, f"Stripe has taken {count_of(found.taken, 'hour')}, none waits")


def reconciliation(facts: Facts) -> Iterator[Finding]:
    """Whether providers were asked, and agreed."""
    found = facts.comparisons
    assert not isinstance(found, Unknown)
    by_provider = {each.provider: each for each in found}
    for name in facts.place.compared:
        if name not in by_provider:
            yield Finding(
                Level.NOTE,
                f"{name} was never compared with what it says itself",
                f"`weir reconcile run --provider {name}`",
            )
    for name, each in sorted(by_provider.items()):
        gaps = {gap: n for gap, n in sorted(each.gaps.items()) if n}
        numbers = {"comparison": each.number, "gaps": gaps, "corrections": each.corrections}
        aged_s = (facts.asked.now_ns - each.ran_at) // NS
        what = f"{name}, comparison {each.number} ({age_of(aged_s)} old)"
        show = f"`weir reconcile show {each.number}`"
        if each.over and not each.applied:
            yield Finding(
                Level.TROUBLE,
                f"{what}: too far off for {', '.join(each.over)}",
                f"{show} names the gaps; `weir reconcile apply` books its corrections",
                numbers,
            )
        elif aged_s > COMPARED_S and name in facts.place.compared:
            todo = f"`weir reconcile run --provider {name}`"
            yield Finding(Level.NOTE, f"{what} is the newest", todo, numbers)
        else:
            said = ", ".join(f"{n} {gap}" for gap, n in gaps.items()) or "no gaps"
            yield Finding(Level.OK, f"{what}: {said}", numbers=numbers)
    if not by_provider and not facts.place.compared:
        yield Finding(Level.OK, "no provider has `reconcile`: its bill is compared with nothing")


def late(facts: Facts) -> Iterator[Finding]:
    """What came for months that were closed before."""
    found = facts.late
    assert not isinstance(found, Unknown)
    for each in found:
        yield Finding(
            Level.NOTE,
            f"{count_of(each.events, 'event')} of {each.tenant} came after {each.month} was closed",
            "they are on the next statement, as lines of kind `adjustment`: close the next month",
            {"tenant": each.tenant, "month": each.month, "events": each.events},
        )
    if not found:
        yield Finding(Level.OK, "nothing waits that came after its month was closed")
