"""Grants in the ledger: added, taken back, given again, and what is left of them.

Rules: a grant and each thing that becomes of it is written once, with a balanced transaction; the
id of the grant and the `idem_key` of the rest make a repeat harmless, and another body under the
same name an error. What is drawn for events is `credit_draws`. Whoever writes here holds the marks
of all shards, so that no batch and no drawing comes between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import Connection, func, select, text, update

from metering.settlement.credits import (
    Entry,
    Grant,
    Standing,
    burn_order,
    entries_transaction,
    grant_transaction,
    returning,
    taking,
)
from metering.settlement.journal import Transaction
from metering.settlement.ledger import tables
from metering.settlement.ledger.credit_tables import (
    credit_grant,
    credit_watermark,
    grant_entry,
    grant_standing,
)
from metering.settlement.ledger.posted import post
from metering.settlement.ledger.store import Ledger, insert_rows, keep_rows

Reason = Literal["refund", "dispute", "void"]

_GRANT = ("id", "tenant", "kind", "priority", "amount_nano", "effective_at", "expires_at")
_FIELDS = (*_GRANT, "source", "note")
_NUMBERS = ("entries", "left_nano", "drawn_nano", "expired_nano", "taken_nano", "owed_nano")


class GrantConflictError(Exception):
    """The same name stands in the ledger with another body."""


class UnknownGrantError(LookupError):
    """There is no grant of this id."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What taking back came to: out of what was left, out of what had expired, and owed again.

    `is_new` is False when it was done before.
    """

    left_nano: int
    expired_nano: int
    owed_nano: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class Balance:
    """A tenant's credit at one time: its grants in burn order, and their sums."""

    tenant: str
    at_ns: int
    grants: tuple[Standing, ...]

    @property
    def granted_nano(self) -> int:
        """All that was ever granted, less what was taken back."""
        return sum(each.grant.amount_nano - each.taken_nano for each in self.grants)

    @property
    def spent_nano(self) -> int:
        """What grants have paid for."""
        return sum(each.drawn_nano for each in self.grants)

    @property
    def expired_nano(self) -> int:
        """What lapsed unused, what its grace still holds for events under way included."""
        return sum(each.seen_at(self.at_ns).expired_nano for each in self.grants)

    @property
    def left_nano(self) -> int:
        """What may be used now."""
        return sum(self.left_by_grant.values())

    @property
    def left_by_grant(self) -> dict[str, int]:
        """What may be used now, by grant; zero for one that does not hold now."""
        return {
            each.grant.id: each.left_nano if each.grant.holds_at(self.at_ns) else 0
            for each in self.grants
        }


def knows_credits(ledger: Ledger) -> bool:
    """Whether the ledger has the tables of this module: the worker brings it up to date."""
    return (ledger.revision() or "") >= "0012"


def has_grants(ledger: Ledger) -> bool:
    """Whether anybody was ever granted anything."""
    with ledger.read() as connection:
        return connection.execute(select(credit_grant.c.id).limit(1)).first() is not None


def add_grant(ledger: Ledger, grant: Grant, now_ns: int) -> bool:
    """Book a grant; False when it is known with the same body. GrantConflictError for another one,
    ValueError for one that nothing could be drawn from."""
    if grant.amount_nano <= 0:
        raise ValueError(f"grant {grant.id}: an amount of {grant.amount_nano} nano-USD is no grant")
    if grant.expires_at is not None and grant.expires_at <= grant.effective_at:
        raise ValueError(f"grant {grant.id} expires before it takes effect")
    with ledger.write() as connection:
        lock_credits(connection)
        known = find_grants(connection, [grant.id])
        if known:
            if known[0].grant != grant:
                raise GrantConflictError(
                    f"grant {grant.id} is in the ledger with another body: "
                    f"{_other(known[0], grant)}"
                )
            return False
        [txn_id] = post(connection, [grant_transaction(grant)], now_ns).values()
        row = {**asdict(grant), "created_at": now_ns, "txn_id": txn_id}
        insert_rows(connection, credit_grant, [row])
        _begin_drawing(connection)
        standing = {"grant_id": grant.id, "tenant": grant.tenant, **dict.fromkeys(_NUMBERS, 0)}
        standing["left_nano"] = grant.amount_nano
        insert_rows(connection, grant_standing, [standing])
    return True


def take_back(
    ledger: Ledger,
    grant_id: str,
    amount_nano: int,
    *,
    idem_key: str,
    reason: Reason,
    now_ns: int,
) -> Taken:
    """Take a part of a grant away: what is left first, then what has expired; what was spent
    becomes receivable. A repeat under the same key changes nothing.

    UnknownGrantError, GrantConflictError when the key stands for something else, ValueError for
    more than is there.
    """
    key = f"take:{reason}:{idem_key}"
    with ledger.write() as connection:
        lock_credits(connection)
        standing = _standing(connection, grant_id)
        if (done := _entry_of(connection, key)) is not None:
            _require_same(done, grant_id, -amount_nano, key)
            return Taken(-done.amount_nano, -done.expired_nano, done.owed_nano, is_new=False)
        entry = taking(standing, amount_nano)
        _book_one(connection, standing, entry, key, now_ns)
    return Taken(-entry.amount_nano, -entry.expired_nano, entry.owed_nano, is_new=True)


def void_rest(ledger: Ledger, grant_id: str, *, now_ns: int) -> Taken:
    """Take what is left of a grant away, and nothing that was spent; all zeros when nothing is."""
    with ledger.write() as connection:
        lock_credits(connection)
        standing = _standing(connection, grant_id)
        if not standing.left_nano:
            return Taken(0, 0, 0, is_new=False)
        entry = taking(standing, standing.left_nano)
        key = f"take:void:{grant_id}:{standing.entries + 1}"
        _book_one(connection, standing, entry, key, now_ns)
    return Taken(-entry.amount_nano, 0, 0, is_new=True)


def grant_of(ledger: Ledger, grant_id: str) -> Standing | None:
    """A grant and what became of it."""
    with ledger.read() as connection:
        return next(iter(find_grants(connection, [grant_id])), None)


def give_again(
    ledger: Ledger, grant_id: str, amount_nano: int, *, idem_key: str, now_ns: int
) -> bool:
    """Give a part of what was taken back again (a dispute that was won): what the tenant owes of it
    first. False when it was done before; errors as `take_back`."""
    key = f"again:{idem_key}"
    with ledger.write() as connection:
        lock_credits(connection)
        standing = _standing(connection, grant_id)
        if (done := _entry_of(connection, key)) is not None:
            _require_same(done, grant_id, amount_nano, key)
            return False
        _book_one(connection, standing, returning(standing, amount_nano), key, now_ns)
    return True


def balance_of(ledger: Ledger, tenant: str, now_ns: int) -> Balance:
    """What a tenant was granted, has spent, and has left now."""
    with ledger.read() as connection:
        return Balance(tenant, now_ns, tuple(tenant_grants(connection, [tenant])))


def balances(ledger: Ledger, now_ns: int) -> list[Balance]:
    """Those of every tenant that was ever granted anything."""
    with ledger.read() as connection:
        found: dict[str, list[Standing]] = {}
        for standing in tenant_grants(connection, None):
            found.setdefault(standing.grant.tenant, []).append(standing)
    return [Balance(tenant, now_ns, tuple(found[tenant])) for tenant in sorted(found)]


def left_of_all(ledger: Ledger, now_ns: int) -> int:
    """What may be used now, of all tenants together."""
    grant = credit_grant.c
    query = (
        select(func.coalesce(func.sum(grant_standing.c.left_nano), 0))
        .join(credit_grant, grant.id == grant_standing.c.grant_id)
        .where(grant.effective_at <= now_ns)
        .where(grant.expires_at.is_(None) | (grant.expires_at > now_ns))
    )
    with ledger.read() as connection:
        return int(connection.execute(query).scalar_one())


def entries_of_grant(ledger: Ledger, grant_id: str) -> list[dict[str, Any]]:
    """What became of a grant, oldest first, each with the time it was booked at."""
    query = (
        select(grant_entry, tables.txn.c.booked_at, tables.txn.c.idem_key)
        .join(tables.txn, tables.txn.c.id == grant_entry.c.txn_id)
        .where(grant_entry.c.grant_id == grant_id)
        .order_by(grant_entry.c.number)
    )
    with ledger.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def find_grants(connection: Connection, grant_ids: Sequence[str]) -> list[Standing]:
    """These grants with what became of them."""
    return _read(connection, credit_grant.c.id.in_(grant_ids))


def tenant_grants(connection: Connection, tenants: Sequence[str] | None) -> list[Standing]:
    """The grants of these tenants (None: of all), in burn order."""
    if tenants is None:
        return _read(connection)
    return _read(connection, credit_grant.c.tenant.in_(tenants))


def lock_credits(connection: Connection) -> None:
    """Keep batches and drawing out until the end of the transaction."""
    mark = tables.watermark
    connection.execute(select(mark.c.shard).order_by(mark.c.shard).with_for_update()).all()
    if connection.dialect.name == "postgresql":  # SQLite has locked the whole database already
        connection.execute(text("LOCK TABLE grant_standing IN SHARE ROW EXCLUSIVE MODE"))


def write_entries(
    connection: Connection, standings: Iterable[Standing], made: Sequence[tuple[Entry, int]]
) -> None:
    """Append entries, each with the id of its transaction, and bring standings up to them.

    `standings` are the grants as they stood before, `made` is in the order in which it was made.
    """
    now = {standing.grant.id: standing for standing in standings}
    rows, moved = [], dict.fromkeys(entry.grant_id for entry, _ in made)
    for entry, txn_id in made:
        now[entry.grant_id] = now[entry.grant_id].after(entry)
        rows.append(
            {
                "grant_id": entry.grant_id,
                "number": now[entry.grant_id].entries,
                "txn_id": txn_id,
                "kind": str(entry.kind),
                "event_id": entry.event_id,
                "root": entry.root,
                "amount_nano": entry.amount_nano,
                "expired_nano": entry.expired_nano,
                "owed_nano": entry.owed_nano,
            }
        )
    insert_rows(connection, grant_entry, rows)
    for grant_id in moved:
        standing = now[grant_id]
        assert standing.is_whole, f"grant {grant_id} would not be the sum of its parts"
        numbers = {name: getattr(standing, name) for name in _NUMBERS}
        place = grant_standing.c.grant_id == grant_id
        connection.execute(update(grant_standing).where(place).values(numbers))


def _book_one(
    connection: Connection, standing: Standing, entry: Entry, key: str, now_ns: int
) -> None:
    tenant = standing.grant.tenant
    booked: Transaction = entries_transaction(tenant, [(standing.grant, entry)], idem_key=key)
    [txn_id] = post(connection, [booked], now_ns).values()
    write_entries(connection, [standing], [(entry, txn_id)])


def _begin_drawing(connection: Connection) -> None:
    """Drawing begins with what is settled after the first grant of a ledger; later ones find it
    under way. Shards without an event yet begin at their first.

    Whether this is the first one the grants say: with no event in the ledger it left no mark, and
    a second one would pass over what came between them.
    """
    if connection.execute(select(func.count()).select_from(credit_grant)).scalar_one() > 1:
        return
    mark = tables.watermark.c
    heads = connection.execute(select(mark.shard, mark.events)).all()
    rows = [{"shard": row.shard, "seq": row.events} for row in heads]
    keep_rows(connection, credit_watermark, rows)


def _standing(connection: Connection, grant_id: str) -> Standing:
    found = find_grants(connection, [grant_id])
    if not found:
        raise UnknownGrantError(f"the ledger has no grant {grant_id}")
    return found[0]


def _entry_of(connection: Connection, idem_key: str) -> Any | None:
    query = (
        select(grant_entry)
        .join(tables.txn, tables.txn.c.id == grant_entry.c.txn_id)
        .where(tables.txn.c.idem_key == idem_key)
    )
    return connection.execute(query).first()


def _require_same(done: Any, grant_id: str, amount_nano: int, key: str) -> None:
    said = done.amount_nano + done.expired_nano - done.owed_nano
    if (done.grant_id, said) != (grant_id, amount_nano):
        raise GrantConflictError(
            f"{key} is in the ledger for grant {done.grant_id} with {said} nano-USD"
        )


def _read(connection: Connection, *where: Any) -> list[Standing]:
    query = (
        select(*(credit_grant.c[name] for name in _FIELDS))
        .add_columns(*(grant_standing.c[name] for name in _NUMBERS))
        .join(grant_standing, grant_standing.c.grant_id == credit_grant.c.id)
        .where(*where)
    )
    found = [
        Standing(
            Grant(**{name: row[name] for name in _FIELDS}),
            **{name: int(row[name]) for name in _NUMBERS},
        )
        for row in connection.execute(query).mappings()
    ]
    return sorted(found, key=lambda each: burn_order(each.grant))


def _other(known: Standing, grant: Grant) -> str:
    before, after = asdict(known.grant), asdict(grant)
    differing = [name for name in _FIELDS if before[name] != after[name]]
    return ", ".join(f"{name} was {before[name]!r}, is {after[name]!r}" for name in differing)
