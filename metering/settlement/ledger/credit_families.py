"""What is paid for together: an event, what corrects it however far, and what rates these again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from metering.events import Kind, decode
from metering.settlement.ledger import tables
from metering.settlement.rerating import adjustment_id, original_of

_EVENT = tables.usage_event.c


@dataclass(slots=True)
class Family:
    """An event and what corrects it, as far as it is booked: amounts by place in the chain."""

    root: str
    sells: list[tuple[int, int]] = field(default_factory=list)

    def before(self, seq: int) -> int:
        """What they sell for together, up to this place."""
        return sum(sell for at, sell in self.sells if at < seq)


def families_of(connection: Connection, shard: int, rows: Sequence[Any]) -> dict[str, Family]:
    """By event, the family that it is of: what it corrects, however far, and all that does; what
    rates an event again is of its family, too."""
    parents = {row.event_id: row.corrects for row in rows} | _rerated(connection, rows)
    _climb(connection, shard, parents)
    roots = {_root(parents, row.event_id) for row in rows}
    found = {root: Family(root) for root in roots}
    owner = {root: found[root] for root in roots}
    query = select(
        _EVENT.event_id, _EVENT.corrects, _EVENT.seq, _EVENT.sell_nano, _EVENT.occurred_at
    )
    mine = _EVENT.shard == shard
    level = connection.execute(query.where(_EVENT.event_id.in_(roots), mine)).all()
    members = {row.event_id: row.occurred_at for row in level}
    for row in level:
        owner[row.event_id].sells.append((row.seq, int(row.sell_nano)))
    names = set(roots)
    while names:  # corrections may come before what they correct
        children = connection.execute(query.where(_EVENT.corrects.in_(names), mine)).all()
        names = set()
        for row in children:
            if row.event_id not in owner:
                owner[row.event_id] = owner[row.corrects]
                owner[row.event_id].sells.append((row.seq, int(row.sell_nano)))
                names.add(row.event_id)
                members[row.event_id] = row.occurred_at
    _add_rerated(connection, shard, members, owner)
    for row in rows:
        if row.event_id not in owner:  # an adjustment under another id than ours
            owner[row.event_id] = found[_root(parents, row.event_id)]
            owner[row.event_id].sells.append((row.seq, int(row.sell_nano)))
    return owner


def _rerated(connection: Connection, rows: Sequence[Any]) -> dict[str, str | None]:
    """By adjustment among these, the event that it rates again: only its body names it."""
    names = [row.event_id for row in rows if row.kind == Kind.ADJUSTMENT]
    if not names:
        return {}
    query = select(_EVENT.event_id, _EVENT.payload).where(_EVENT.event_id.in_(names))
    return {
        row.event_id: original_of(decode(bytes(row.payload))) for row in connection.execute(query)
    }


def _add_rerated(
    connection: Connection, shard: int, members: dict[str, int], owner: dict[str, Family]
) -> None:
    """Add the adjustments of these events, which are numbered without a gap: their ids say so."""
    query = select(_EVENT.event_id, _EVENT.seq, _EVENT.sell_nano).where(_EVENT.shard == shard)
    number = 1
    while members:
        ids = {adjustment_id(name, at, number): name for name, at in members.items()}
        found = connection.execute(query.where(_EVENT.event_id.in_(ids))).all()
        for row in found:
            owner[row.event_id] = owner[ids[row.event_id]]
            owner[row.event_id].sells.append((row.seq, int(row.sell_nano)))
        members = {name: members[name] for name in (ids[row.event_id] for row in found)}
        number += 1


def _climb(connection: Connection, shard: int, parents: dict[str, str | None]) -> None:
    """Add what is corrected by these, up to events that correct nothing."""
    wanted = {above for above in parents.values() if above is not None} - parents.keys()
    while wanted:
        query = select(_EVENT.event_id, _EVENT.corrects).where(
            _EVENT.event_id.in_(wanted), _EVENT.shard == shard
        )
        rows = {row.event_id: row.corrects for row in connection.execute(query)}
        parents |= rows
        wanted = {above for above in rows.values() if above is not None} - parents.keys()


def _root(parents: dict[str, str | None], event_id: str) -> str:
    seen = {event_id}
    while (above := parents.get(event_id)) is not None and above not in seen:
        seen.add(above)
        event_id = above
    return event_id
