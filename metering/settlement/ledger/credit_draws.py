"""What settled events draw from their tenants' grants, and what expires of these.

Kept up by a watermark per shard, apart from the settling transaction, in the order of the chain:
one transaction draws for some events and moves the watermark, so an event draws once, whoever dies
when. Only events of tenants with grants are read, and nothing at all while nobody has one.
Beside it stands what Redis has counted of a tenant (`credit_tenant`): what it may have counted at
most is that and what is left of the grants, see `limits_of`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, select, update

from metering.caps import BALANCE, ScopeKind
from metering.events import RECOVERED, Kind
from metering.settlement.counting import Series
from metering.settlement.credits import (
    GRACE_NS,
    Entry,
    EntryKind,
    Paid,
    Standing,
    draw,
    entries_transaction,
    expiry,
    month_root,
    paid_after,
)
from metering.settlement.ledger import tables
from metering.settlement.ledger.credit_books import (
    has_grants,
    lock_credits,
    tenant_grants,
    write_entries,
)
from metering.settlement.ledger.credit_closing import paid_for_month
from metering.settlement.ledger.credit_families import Family, families_of
from metering.settlement.ledger.credit_tables import (
    credit_grant,
    credit_tenant,
    credit_watermark,
    grant_entry,
    grant_standing,
)
from metering.settlement.ledger.posted import post
from metering.settlement.ledger.spending import spent_by_bucket
from metering.settlement.ledger.store import Ledger, keep_rows
from metering.settlement.utc import day_of

CHUNK = 1_000
"""Events drawn for in one transaction: bounds how long a settling batch may have to wait."""

SPAN = 50_000
"""Places of the chain that are looked through for them in one transaction."""

LIMIT_MAX = 2**53 - 1
"""More than this no cap can be told: nine million dollars."""

_EVENT, _ENTRY = tables.usage_event.c, grant_entry.c
_READ = (
    _EVENT.event_id,
    _EVENT.seq,
    _EVENT.tenant,
    _EVENT.kind,
    _EVENT.corrects,
    _EVENT.occurred_at,
    _EVENT.sell_nano,
    _EVENT.admission_nano,
    _EVENT.usage_source,
)
_SERIES = Series(ScopeKind.TENANT, BALANCE)


def draw_credits(ledger: Ledger, shards: Iterable[int], *, now_ns: int) -> int:
    """Draw for what is in the ledger and was not drawn for; how many events were looked at."""
    if not has_grants(ledger):
        return 0
    done = 0
    for shard in shards:
        while (count := _draw(ledger, shard, now_ns)) is not None:
            done += count
    return done


def expire_credits(
    ledger: Ledger, is_mine: Callable[[str], bool], *, settled_ns: int, now_ns: int
) -> int:
    """Book what has expired of the grants of tenants that are mine; how many grants these were.

    `settled_ns` is the time before which all of their events are drawn for.
    """
    due = (
        select(credit_grant.c.tenant)
        .join(grant_standing, grant_standing.c.grant_id == credit_grant.c.id)
        .where(grant_standing.c.left_nano > 0, credit_grant.c.expires_at <= settled_ns - GRACE_NS)
        .distinct()
    )
    with ledger.read() as connection:
        tenants = [name for name in connection.execute(due).scalars() if is_mine(name)]
    if not tenants:
        return 0
    expired = 0
    with ledger.write() as connection:
        lock_credits(connection)
        for standing in tenant_grants(connection, tenants):
            if (entry := expiry(standing, settled_ns)) is None:
                continue
            grant = standing.grant
            key = f"expire:{grant.id}:{standing.entries + 1}"
            made = entries_transaction(grant.tenant, [(grant, entry)], idem_key=key)
            [txn_id] = post(connection, [made], now_ns).values()
            write_entries(connection, [standing], [(entry, txn_id)])
            expired += 1
    return expired


def limits_of(ledger: Ledger, shard: int, tenants: Sequence[str], now_ns: int) -> dict[str, int]:
    """What Redis may have counted of each of these tenants when nothing is left: what it had
    counted at one place of the chain, and what was left of the grants there.

    Events that are drawn for from here on move an amount from one to the other, so that this
    changes with grants alone. Whoever was never granted anything may have nothing; a tenant whose
    events were not looked through yet is not in the answer.
    """
    mark, table = tables.watermark.c, credit_tenant.c
    counts = select(table.tenant, table.counted_nano).where(table.shard == shard)
    found: dict[str, int] = {}
    with ledger.read() as connection:
        is_begun = connection.execute(select(mark.shard).where(mark.shard == shard)).first()
        counted = {row.tenant: int(row.counted_nano) for row in connection.execute(counts)}
        left: dict[str, int] = {}
        for standing in tenant_grants(connection, tenants):
            name = standing.grant.tenant
            holds = standing.grant.holds_at(now_ns)
            left[name] = left.get(name, 0) + (standing.left_nano if holds else 0)
    for tenant in tenants:
        if tenant not in left:
            found[tenant] = 0
        elif tenant in counted or is_begun is None:
            found[tenant] = min(max(counted.get(tenant, 0) + left[tenant], 0), LIMIT_MAX)
    return found


def _draw(ledger: Ledger, shard: int, now_ns: int) -> int | None:
    """One transaction's worth; None when there is nothing to do."""
    with ledger.read() as connection:
        if not _is_behind(connection, shard):
            return None
    with ledger.write() as connection:
        mark = tables.watermark
        lock = select(mark.c.events).where(mark.c.shard == shard).with_for_update()
        head = connection.execute(lock).scalar_one()
        keep_rows(connection, credit_watermark, [{"shard": shard, "seq": 0}])
        done = credit_watermark.c.seq
        after = connection.execute(
            select(done).where(credit_watermark.c.shard == shard).with_for_update()
        ).scalar_one()
        tenants = list(connection.execute(select(credit_grant.c.tenant).distinct()).scalars())
        reach = min(head, after + SPAN)
        events = (
            select(*_READ)
            .where(_EVENT.shard == shard, _EVENT.seq > after, _EVENT.seq <= reach)
            .where(_EVENT.tenant.in_(select(credit_grant.c.tenant)))
            .order_by(_EVENT.seq)
            .limit(CHUNK)
        )
        rows = list(connection.execute(events).all())
        reach = rows[-1].seq if len(rows) == CHUNK else reach
        counted = _counted(connection, shard, tenants, after, now_ns)
        _count(connection, shard, rows, counted)
        _book(connection, shard, rows, reach, now_ns)
        moved = update(credit_watermark).where(credit_watermark.c.shard == shard)
        connection.execute(moved.values(seq=reach))
    return len(rows)


def _is_behind(connection: Connection, shard: int) -> bool:
    """Whether there is something to look at: asked without the write lock. A tenant's first grant
    is to be looked at, too, for what was counted of it before."""
    mark, done = tables.watermark.c, credit_watermark.c
    head = connection.execute(select(mark.events).where(mark.shard == shard)).scalar()
    if head is None:
        return False
    seen = connection.execute(select(done.seq).where(done.shard == shard)).scalar() or 0
    if head > seen:
        return True
    known = select(credit_tenant.c.tenant).where(credit_tenant.c.shard == shard)
    fresh = select(credit_grant.c.tenant).where(credit_grant.c.tenant.not_in(known)).limit(1)
    return connection.execute(fresh).first() is not None


def _counted(
    connection: Connection, shard: int, tenants: Sequence[str], after: int, now_ns: int
) -> dict[str, int]:
    """What Redis had counted of each tenant up to this place; of new ones the ledger sums it."""
    table = credit_tenant.c
    query = select(table.tenant, table.counted_nano).where(table.shard == shard)
    found = {row.tenant: int(row.counted_nano) for row in connection.execute(query)}
    fresh = [tenant for tenant in tenants if tenant not in found]
    if fresh:
        sums = dict.fromkeys(fresh, 0)
        now_ms = now_ns // 1_000_000
        for one in spent_by_bucket(
            connection, shard, _SERIES, fresh, now_ms=now_ms, through_seq=after
        ):
            if one.tenant in sums:
                sums[one.tenant] += one.amounts[0]
        rows = [
            {"tenant": name, "shard": shard, "seq": after, "counted_nano": nano}
            for name, nano in sums.items()
        ]
        keep_rows(connection, credit_tenant, rows)
        found |= sums
    return found


def _count(
    connection: Connection, shard: int, rows: Sequence[Any], counted: dict[str, int]
) -> None:
    """Add these events by the rule of the windows: of corrections, those of recovered events."""
    last = {row.tenant: row.seq for row in rows}
    more = dict.fromkeys(last, 0)
    parents = _sources(connection, shard, {row.corrects for row in rows if row.corrects})
    for row in rows:
        is_counted = row.kind != Kind.CORRECTION or parents.get(row.corrects, row.seq) < row.seq
        more[row.tenant] += row.admission_nano if is_counted else 0
        if row.usage_source == RECOVERED:
            more[row.tenant] += _early(connection, shard, row)
    for tenant, seq in last.items():
        values = {"seq": seq, "counted_nano": counted[tenant] + more[tenant]}
        place = (credit_tenant.c.tenant == tenant, credit_tenant.c.shard == shard)
        connection.execute(update(credit_tenant).where(*place).values(values))


def _sources(connection: Connection, shard: int, event_ids: set[str]) -> dict[str, int]:
    """Where in the chain those of these events are that were recovered."""
    if not event_ids:
        return {}
    query = select(_EVENT.event_id, _EVENT.seq).where(
        _EVENT.event_id.in_(event_ids), _EVENT.shard == shard, _EVENT.usage_source == RECOVERED
    )
    return {row.event_id: row.seq for row in connection.execute(query)}


def _early(connection: Connection, shard: int, row: Any) -> int:
    """The corrections of a recovered event that were booked before it."""
    query = select(_EVENT.admission_nano).where(
        _EVENT.corrects == row.event_id, _EVENT.shard == shard, _EVENT.seq < row.seq
    )
    return sum(int(nano) for nano in connection.execute(query).scalars())


def _book(connection: Connection, shard: int, rows: Sequence[Any], reach: int, now_ns: int) -> None:
    """Draw for these events in their order: one balanced transaction for each tenant."""
    sold = [row for row in rows if row.sell_nano]
    if not sold:
        return
    families = families_of(connection, shard, sold)
    roots = {family.root for family in families.values()}
    drawn = _drawn(connection, roots)
    by_tenant: dict[str, list[Any]] = {}
    for row in sold:
        by_tenant.setdefault(row.tenant, []).append(row)
    before = tenant_grants(connection, list(by_tenant))
    for tenant, events in sorted(by_tenant.items()):
        grants = [each for each in before if each.grant.tenant == tenant]
        closed = _closed(connection, tenant, events)
        entries = _drawn_for(events, grants, families, drawn, closed)
        if not entries:
            continue
        of = {each.grant.id: each.grant for each in grants}
        made = entries_transaction(
            tenant,
            [(of[entry.grant_id], entry) for entry in entries],
            idem_key=f"draw:{shard}:{reach}:{tenant}",
        )
        [txn_id] = post(connection, [made], now_ns).values()
        write_entries(connection, grants, [(entry, txn_id) for entry in entries])


def _drawn_for(
    events: Sequence[Any],
    grants: Sequence[Standing],
    families: dict[str, Family],
    drawn: dict[str, Paid],
    closed: dict[str, dict[str, int]],
) -> list[Entry]:
    """What the events of one tenant take and give back; `drawn` and `closed` move along."""
    standings = {each.grant.id: each for each in grants}
    entries: list[Entry] = []
    for row in events:
        family = families[row.event_id]
        known = drawn.get(family.root, Paid(family.root))
        paid = Paid(family.root, family.before(row.seq), known.drawn)
        month = closed.get(_month_of(row.occurred_at))
        now = draw(
            paid,
            list(standings.values()),
            event_id=row.event_id,
            occurred_at=row.occurred_at,
            sell_nano=row.sell_nano,
            most=month,
        )
        for entry in now:
            standings[entry.grant_id] = standings[entry.grant_id].after(entry)
            if month is not None:
                part = entry.owed_nano - entry.amount_nano
                month[entry.grant_id] = month.get(entry.grant_id, 0) + part
        drawn[family.root] = paid_after(paid, row.sell_nano, now)
        entries += now
    return entries


def _closed(
    connection: Connection, tenant: str, events: Sequence[Any]
) -> dict[str, dict[str, int]]:
    """What each grant pays for the months that a close moved and something is taken back of."""
    months = {_month_of(row.occurred_at) for row in events if row.sell_nano < 0}
    roots = {month_root(tenant, month): month for month in months}
    if not roots:
        return {}
    moved = select(_ENTRY.root).where(_ENTRY.root.in_(roots)).distinct()
    return {
        roots[root]: dict(paid_for_month(connection, tenant, roots[root]).drawn)
        for root in connection.execute(moved).scalars().all()
    }


def _month_of(time_ns: int) -> str:
    return f"{day_of(time_ns):%Y-%m}"


def _drawn(connection: Connection, roots: set[str]) -> dict[str, Paid]:
    """What each grant gave for these."""
    columns = _ENTRY.root, _ENTRY.grant_id, _ENTRY.kind, _ENTRY.amount_nano, _ENTRY.owed_nano
    query = select(*columns).where(_ENTRY.root.in_(roots))
    found: dict[str, Paid] = {}
    for row in connection.execute(query):
        entry = Entry(
            row.grant_id, EntryKind(row.kind), int(row.amount_nano), 0, int(row.owed_nano)
        )
        found[row.root] = paid_after(found.get(row.root, Paid(row.root)), 0, [entry])
    return found
