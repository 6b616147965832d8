"""What must hold when a course is over, against numbers that were computed apart from ours."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date
from fractions import Fraction
from typing import Any, cast

from redis.asyncio import Redis
from sqlalchemy import select

from metering.events import RECOVERED, Kind, UsageEvent, decode, encode, payload_hash
from metering.money import format_cents
from metering.settlement.counting import DAILY, NO_RULES
from metering.settlement.ledger import tables
from metering.settlement.ledger.credit_tables import grant_standing
from metering.settlement.ledger.invoice_books import all_issued
from metering.settlement.ledger.plan_books import Terms, closed_statement, statement_of
from metering.settlement.ledger.queries import invoice_report
from metering.settlement.ledger.rows import decode_amounts
from metering.settlement.ledger.standing import confirmed_spool
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import verify
from metering.settlement.recount import Recount
from metering.usage import TOKEN_CLASSES
from simulation.delivery import KEYS, Course
from simulation.expected import HOUR_NS, MONTHS, Expected
from simulation.memory_redis import Client
from simulation.naive_credit import Purse, purse_of
from simulation.naive_prices import totals
from simulation.naive_statements import Sums, items_of

_INVOICED = ("usage", "fee", "discount", "credit", "adjustment")


async def examine(course: Course) -> Iterator[str]:
    """Everything that does not hold, in words."""
    expected = Expected(course.world)
    found = list(_check_events(course, expected))
    found += [f"verify: {each}" for each in verify(course.ledger)]
    found += _check_rollups(course.ledger, expected)
    found += _check_invoices(course, expected)
    found += _check_statements(course, expected)
    purses = _purses(course, expected)
    found += _check_grants(course.ledger, purses)
    found += _check_issued(course, expected, purses)
    found += _check_balances(course.ledger, expected, purses)
    found += _check_leftovers(course)
    found += await _check_windows(course, expected)
    return iter(found)


def _rows(ledger: Ledger, table: Any) -> list[Any]:
    with ledger.read() as connection:
        return list(connection.execute(select(table)).all())


def _check_events(course: Course, expected: Expected) -> Iterator[str]:
    rows = {row.event_id: row for row in _rows(course.ledger, tables.usage_event)}
    for name in sorted(expected.events.keys() - rows.keys()):
        yield f"event {name} is not in the ledger"
    for name in sorted(rows.keys() - expected.events.keys()):
        yield f"event {name} is in the ledger, and nobody sent it"
    for name in sorted(rows.keys() & expected.events.keys()):
        event, row = expected.events[name], rows[name]
        if name in expected.adjustments:
            yield from _check_adjustment(decode(bytes(row.payload)), event)
        elif row.payload_hash != payload_hash(encode(event)):
            yield f"event {name} was booked with another body"
        theirs = {
            unit: (one.quantity, one.rate, one.sell, one.cost, *([one.variant] * bool(one.variant)))
            for unit, one in expected.amounts[name].items()
        }
        ours = {unit: tuple(each) for unit, each in decode_amounts(row.amounts).items()}
        if ours != theirs:
            yield f"event {name} is booked as {ours}, and comes to {theirs}"


def _check_adjustment(ours: UsageEvent, wanted: UsageEvent) -> Iterator[str]:
    """An adjustment stands where its event stands and names the prices that it goes by."""
    for name in _PLACE:
        if getattr(ours, name) != getattr(wanted, name):
            yield f"adjustment {wanted.event_id} has another {name} than {getattr(wanted, name)}"
    if ours.units or ours.admission_nano:
        yield f"adjustment {wanted.event_id} counts something"


_PLACE = (
    *("tenant", "project", "api_key_id", "feature", "user", "session", "run", "request_id"),
    *("provider", "model_requested", "model_upstream", "model_version", "region", "price_tier"),
    *("status", "cache_status", "billable", "occurred_at", "cost_version", "sell_version"),
    *("kind", "corrects"),
)


def _check_rollups(ledger: Ledger, expected: Expected) -> Iterator[str]:
    sums: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    for name, event in expected.events.items():
        place = (
            event.tenant,
            event.occurred_at - event.occurred_at % HOUR_NS,
            event.project,
            event.api_key_id,
            event.feature or "",
            event.provider,
            event.model_upstream,
            event.model_version or "",
            event.status,
            event.cache_status or "",
            event.billable,
        )
        if event.kind != Kind.ADJUSTMENT:
            sums[*place, "attempt"][0] += -1 if event.corrects else 1
        for unit, one in expected.amounts[name].items():
            for index, more in enumerate((one.quantity, one.sell, one.cost)):
                sums[*place, unit][index] += more
    ours = {tuple(row)[:12]: list(row)[12:] for row in _rows(ledger, tables.rollup)}
    for place in sorted(ours.keys() | sums.keys(), key=str):
        if ours.get(place, [0, 0, 0]) != sums.get(place, [0, 0, 0]):
            yield f"rollup {place} is {ours.get(place)}, events come to {sums.get(place)}"


def _check_invoices(course: Course, expected: Expected) -> Iterator[str]:
    for tenant in course.world.tenants:
        for month, first in MONTHS.items():
            report = invoice_report(course.ledger, tenant, month)
            lines = _invoice_lines(expected, tenant, first)
            if report is None:
                if lines:
                    yield f"invoice {tenant} {month} is missing"
                continue
            ours = {
                tuple(line.get(name, "") for name in _LINE): (line["quantity"], line["amount_nano"])
                for line in report.invoice["lines"]
            }
            if ours != lines or len(report.invoice["lines"]) != len(lines):
                yield f"invoice {tenant} {month} has the lines {ours}, and should have {lines}"
            total = sum(amount for _, amount in lines.values())
            if (report.invoice["total_nano"], report.invoice["total"]) != (
                total,
                format_cents(total),
            ):
                yield f"invoice {tenant} {month} comes to {report.invoice['total_nano']}: {total}"


_LINE = ("kind", "project", "model", "unit", "price_version", "rate_pico", "variant")


def _invoice_lines(
    expected: Expected, tenant: str, first: date
) -> dict[tuple[Any, ...], tuple[int, int]]:
    sums: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0])
    for name, event in expected.events.items():
        amounts = expected.amounts[name]
        if event.tenant != tenant or not event.billable:
            continue
        for item in items_of(event, amounts):
            one = amounts[item.unit]
            if one.rate is None or (item.day.year, item.day.month) != (first.year, first.month):
                continue
            kind = "usage" if event.kind == Kind.USAGE else "adjustment"
            kind = "credit" if item.unit == "sla_credit" else kind
            key = (kind, event.project, event.model_upstream, item.unit, event.sell_version)
            total = sums[*key, one.rate, one.variant or ""]
            total[0] += one.quantity
            total[1] += one.sell
    return {key: (quantity, amount) for key, (quantity, amount) in sums.items()}


def _check_statements(course: Course, expected: Expected) -> Iterator[str]:
    for tenant in course.world.tenants:
        november = expected.sums(tenant, "2026-11", with_late=False)
        yield from _compare(course, tenant, "2026-11", november)
        december = expected.sums(tenant, "2026-12", with_late=True)
        again = expected.sums(tenant, "2026-11", with_late=True)
        for key in again.keys() | november.keys():
            more = again.get(key, 0) - november.get(key, 0)
            december[key] = december.get(key, 0) + more
        yield from _compare(course, tenant, "2026-12", december)
        nothing = statement_of(course.ledger, tenant, "2027-01", Terms()).late
        if nothing:
            yield f"statement {tenant} 2027-01 has late events again: {nothing}"


def _compare(course: Course, tenant: str, month: str, sums: Sums) -> Iterator[str]:
    closed = closed_statement(course.ledger, tenant, month)
    if closed is None:
        yield f"statement {tenant} {month} is missing"
        return
    ours: Sums = defaultdict(int)
    for line in closed.body["lines"]:
        version = line["price_version"] if line["component"] else ""
        ours[version, line["component"]] += line["amount_nano"]
    theirs: Sums = defaultdict(int)
    for (version, component), amount in sums.items():
        theirs[version if component else "", component] += amount
    for key in sorted(ours.keys() | theirs.keys()):
        if ours[key] != theirs[key]:
            yield f"statement {tenant} {month}: {key} is {ours[key]}, and should be {theirs[key]}"
    if closed.body["total_nano"] != sum(sums.values()):
        yield f"statement {tenant} {month} comes to {closed.body['total_nano']}"
    cents = sum(line["cents"] for line in closed.body["lines"])
    if cents != round(Fraction(sum(sums.values()), 10**7)):
        yield f"statement {tenant} {month}: the cents of its lines are not those of its total"


def _purses(course: Course, expected: Expected) -> dict[str, Purse]:
    """Each tenant's grants by the naive computation, in the order in which events were booked."""
    rows = sorted(_rows(course.ledger, tables.usage_event), key=lambda row: row.seq)
    found = {}
    for tenant in expected.world.tenants:
        shard = KEYS.shard(tenant)
        events = [
            (row.seq, expected.paid_with(event), totals(expected.amounts[row.event_id])[0])
            for row in rows
            if (event := expected.events.get(row.event_id)) is not None and event.tenant == tenant
        ]
        acts = [(through.get(shard, 0), act) for through, act in course.acts]
        found[tenant] = purse_of(tenant, events, acts, expected.bills(tenant))
    return found


def _check_issued(course: Course, expected: Expected, purses: dict[str, Purse]) -> Iterator[str]:
    """Invoices as they were sent: numbered without a gap, over the whole of their statement, with
    the credits that were drawn by then; nobody is asked for less than nothing for these."""
    invoices = all_issued(course.ledger)
    numbers = [each.number for each in invoices]
    if numbers != [str(number) for number in range(1, len(numbers) + 1)]:
        yield f"invoices are numbered {numbers}"
    sent = {(one.document["tenant"], one.document["period"]): one.document for one in invoices}
    if len(sent) != len(invoices):
        yield f"{len(invoices)} invoices were issued for {len(sent)} months"
    for tenant in course.world.tenants:
        bills = expected.bills(tenant)
        for month in MONTHS:
            wanted = sum(bill.total for bill in bills[month])
            if month == "2026-12":  # of November what is new
                wanted -= bills["2026-11"][0].total
            applied = purses[tenant].invoices.get(month, {})
            if (made := sent.get((tenant, month))) is None:
                if wanted or applied:
                    yield f"invoice {tenant} {month} was not issued"
                continue
            ours = {each["grant"]: each["amount_nano"] for each in made["credits"]}
            due = wanted - sum(applied.values())
            if (made["total_nano"], ours, made["due_nano"]) != (wanted, applied, due):
                yield (
                    f"invoice {tenant} {month} comes to {made['total_nano']} less {ours}, "
                    f"and should come to {wanted} less {applied}"
                )


def _check_grants(ledger: Ledger, purses: dict[str, Purse]) -> Iterator[str]:
    ours = {
        row.grant_id: (
            row.left_nano,
            row.drawn_nano,
            row.expired_nano,
            row.taken_nano,
            row.owed_nano,
        )
        for row in _rows(ledger, grant_standing)
    }
    theirs = {name: pot.numbers() for purse in purses.values() for name, pot in purse.pots.items()}
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            yield f"grant {name} stands at {ours.get(name)}, and should at {theirs.get(name)}"


def _check_balances(ledger: Ledger, expected: Expected, purses: dict[str, Purse]) -> Iterator[str]:
    """What a tenant owes is what its statements say, less what its grants paid; and what it cost us
    is what its events say."""
    owed: dict[tuple[str, str], int] = defaultdict(int)
    for tenant in expected.world.tenants:
        sold = sum(sum(expected.sums(tenant, m, with_late=True).values()) for m in MONTHS)
        names = [name for name, event in expected.events.items() if event.tenant == tenant]
        cost = sum(totals(expected.amounts[name])[1] for name in names)
        owed[tenant, "receivable"], owed[tenant, "revenue"] = sold, -sold
        owed[tenant, "cogs"], owed[tenant, "provider_payable"] = cost, -cost
        for pot in purses[tenant].pots.values():
            for account, amount in pot.books():
                owed[tenant, account] += amount
    ours = {(row.tenant, row.account): row.amount_nano for row in _rows(ledger, tables.balance)}
    for place in sorted(ours.keys() | owed.keys()):
        if ours.get(place, 0) != owed[place]:
            yield f"balance {place} is {ours.get(place, 0)}, and should be {owed[place]}"


def _check_leftovers(course: Course) -> Iterator[str]:
    world, ledger = course.world, course.ledger
    conflicts = {row.payload_hash for row in _rows(ledger, tables.event_conflict)}
    if conflicts != {payload_hash(encode(each)) for each in world.conflicts}:
        yield f"{len(conflicts)} conflicts are kept of {len(world.conflicts)}"
    dead = Counter(bytes(row.raw) for row in _rows(ledger, tables.dead_letter))
    if dead != Counter(world.malformed):
        reasons = [row.reason for row in _rows(ledger, tables.dead_letter)]
        yield f"dead letters are {dead} for {reasons}, and should be {world.malformed}"
    for name, count in world.spooled.items():
        ranges = confirmed_spool(ledger, [name]).get(name)
        if ranges != f"1-{count}":
            yield f"of {name}'s spool {ranges} is confirmed, and it has {count} records"
        said = course.redis.hget(KEYS.confirmed, name)
        if said is None or said.decode() != ranges:
            yield f"{name} was told that {said!r} is confirmed, and it is {ranges}"


async def _check_windows(course: Course, expected: Expected) -> list[str]:
    """The recount of each tenant's day, from the ledger and the stream, at their last moment."""
    rows = {row.event_id: row for row in _rows(course.ledger, tables.usage_event)}
    if rows.keys() != expected.events.keys():
        return []  # said already
    now_ms = course.redis.now_ms
    bucket_ms = DAILY.window.bucket_ms  # type: ignore[union-attr]
    oldest = now_ms // bucket_ms - 86_400_000 // bucket_ms
    sums: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for name, event in expected.events.items():
        place, sign = name, 1
        if event.corrects:
            if expected.events[event.corrects].usage_source != RECOVERED:
                continue
            place, sign = event.corrects, -1
        elif event.kind != Kind.USAGE:
            continue
        bucket = rows[place].stream_ms // bucket_ms
        if bucket >= oldest:
            tokens = sum(n for unit, n in event.units.items() if unit in TOKEN_CLASSES)
            counted = (event.admission_nano, tokens, sign * (event.attempt == 1))
            for index, amount in enumerate(counted):
                sums[event.tenant, bucket][index] += amount
    client = cast("Redis", Client(course.redis, lambda _: None, lambda: False))
    ours: dict[tuple[str, int], list[int]] = {}
    for shard in range(KEYS.shards):
        count = Recount(course.ledger, client, KEYS, shard, NO_RULES, {DAILY: None}, now_ms)
        await count.run()
        for where, buckets in count.spent.items():
            ours |= {(where.tenant, bucket): amounts for bucket, amounts in buckets.items()}
    return [
        f"window {place} recounts to {ours.get(place)}, and should be {sums.get(place)}"
        for place in sorted(ours.keys() | sums.keys())
        if ours.get(place, [0, 0, 0]) != sums.get(place, [0, 0, 0])
    ]


def papers(course: Course) -> dict[str, str]:
    """What a customer gets, by name: the hashes of its bytes. The order of things changes none."""
    found = {}
    for tenant in course.world.tenants:
        for month in MONTHS:
            if (closed := closed_statement(course.ledger, tenant, month)) is not None:
                found[f"statement {tenant} {month}"] = closed.sha256
            if (report := invoice_report(course.ledger, tenant, month)) is not None:
                found[f"invoice {tenant} {month}"] = report.sha256
                found[f"events {tenant} {month}"] = report.event_digest
    return found
