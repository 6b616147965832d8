"""The review queue: what was found, what was done about it, what a person decided.

Rules: append-only, in three tables. An item is made once per alarm, whoever sees it: the shard's
row of `velocity_watermark` is held while it is looked for. Every step and decision is a row before
it is a flag in Redis, so that what a crash left undone can be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, exists, insert, select

from metering.settlement.anomalies import Case, Verdict
from metering.settlement.ledger import tables
from metering.settlement.ledger.outbox import put_alerts
from metering.settlement.ledger.store import Ledger, keep_rows
from metering.settlement.ledger.velocities import lock_shard
from metering.settlement.velocity import Cause, Finding
from metering.tolerances import Mode, Step

_ITEM, _STEP, _DECISION = tables.review_item.c, tables.review_step.c, tables.review_decision.c

ACCEPTED_DAYS = 14
"""How long a level that a person accepted is remembered; by then the history has it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided, and why."""

    verdict: Verdict
    level_nano: int | None
    by: str
    reason: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Item:
    """A row of the queue with all that became of it."""

    id: int
    shard: int
    tenant: str
    api_key_id: str
    mode: Mode
    since_min: int
    finding: Finding
    created_at: int
    steps: Mapping[Step, int]
    """Each step and when it was taken, UTC ns."""
    decisions: tuple[Decision, ...]

    @property
    def case(self) -> Case:
        """What the rules need of it."""
        verdict = self.decisions[-1].verdict if self.decisions else None
        return Case(self.mode, self.api_key_id, self.since_min, frozenset(self.steps), verdict)


class DecidedBeforeError(Exception):
    """Somebody has let it go on, or closed it, before."""


def open_items(ledger: Ledger, shards: Sequence[int]) -> list[Item]:
    """The items of these shards of which something may be left to do, oldest first."""
    with ledger.read() as connection:
        return _items(connection, _ITEM.shard.in_(shards), ~_has(Step.CLOSED))


def all_items(ledger: Ledger, *, tenant: str | None = None) -> list[Item]:
    """Every item there ever was, oldest first."""
    with ledger.read() as connection:
        return _items(connection, *([] if tenant is None else [_ITEM.tenant == tenant]))


def find_item(ledger: Ledger, number: int) -> Item | None:
    """The item of that number."""
    with ledger.read() as connection:
        return next(iter(_items(connection, _ITEM.id == number)), None)


def accepted_levels(
    ledger: Ledger, shards: Sequence[int], *, now_ns: int
) -> dict[str, dict[tuple[str, Cause], int]]:
    """By tenant, the newest level that was accepted for the tenant and each of its keys."""
    since = now_ns - ACCEPTED_DAYS * 86_400_000_000_000
    query = (
        select(_ITEM.tenant, _ITEM.api_key_id, _ITEM.cause, _DECISION.level_nano)
        .join(tables.review_decision, _DECISION.item_id == _ITEM.id)
        .where(
            _ITEM.shard.in_(shards),
            _DECISION.decided_at >= since,
            _DECISION.level_nano.is_not(None),
        )
        .order_by(_DECISION.id)
    )
    found: dict[str, dict[tuple[str, Cause], int]] = {}
    with ledger.read() as connection:
        for row in connection.execute(query):
            levels = found.setdefault(row.tenant, {})
            levels[row.api_key_id, Cause(row.cause)] = int(row.level_nano)
    return found


def begin_item(ledger: Ledger, item: Item) -> bool:
    """Add an item (its number is made here) unless there is one for this alarm; whether it was new.

    One that is still open is for every alarm of its subject.
    """
    with ledger.write() as connection:
        lock_shard(connection, item.shard, since_min=item.since_min)
        same = (
            _ITEM.shard == item.shard,
            _ITEM.tenant == item.tenant,
            _ITEM.api_key_id == item.api_key_id,
            _ITEM.mode == item.mode.value,
        )
        standing = ~_has(Step.CLOSED) | (_ITEM.since_minute >= item.since_min)
        if connection.execute(select(_ITEM.id).where(*same, standing).limit(1)).first() is not None:
            return False
        connection.execute(insert(tables.review_item).values(**_row(item)))
    return True


def take_steps(
    ledger: Ledger, number: int, *, choose: Callable[[Item], Iterable[Step]], now_ns: int
) -> list[Step]:
    """Note what `choose` finds due in the item as it stands now; the steps that were noted here.

    The first of them that a person should hear of becomes an alert in the same transaction.
    """
    with ledger.write() as connection:
        [item] = _items(connection, _ITEM.id == number)
        lock_shard(connection, item.shard, since_min=item.since_min)
        [item] = _items(connection, _ITEM.id == number)
        steps = [step for step in choose(item) if step not in item.steps]
        _note(connection, number, steps, now_ns)
        if item.mode is not Mode.SHADOW:
            put_alerts(connection, _alerts(item, steps), now_ns)
    return steps


def decide(ledger: Ledger, number: int, decision: Decision) -> bool:
    """Add a decision; False when the last one said the same. DecidedBeforeError when it went on."""
    with ledger.write() as connection:
        [item] = _items(connection, _ITEM.id == number)
        lock_shard(connection, item.shard, since_min=item.since_min)
        [item] = _items(connection, _ITEM.id == number)
        if item.decisions and item.decisions[-1].verdict is decision.verdict:
            return False
        if item.case.is_decided:
            last = item.decisions[-1]
            raise DecidedBeforeError(
                f"review item {number} was decided before: {last.verdict}, by {last.by}"
            )
        if Step.CLOSED in item.steps and decision.verdict is Verdict.KEEP:
            raise DecidedBeforeError(f"review item {number} is over: nothing is paused")
        connection.execute(
            insert(tables.review_decision).values(
                item_id=number,
                verdict=decision.verdict.value,
                level_nano=decision.level_nano,
                decided_by=decision.by,
                reason=decision.reason,
                decided_at=decision.at_ns,
            )
        )
    return True


def _has(step: Step) -> Any:
    return exists().where(_STEP.item_id == _ITEM.id, _STEP.step == step.value)


def _items(connection: Connection, *conditions: Any) -> list[Item]:
    query = select(tables.review_item).where(*conditions).order_by(_ITEM.id)
    rows = connection.execute(query).all()
    numbers = [row.id for row in rows]
    steps: dict[int, dict[Step, int]] = {number: {} for number in numbers}
    decisions: dict[int, list[Decision]] = {number: [] for number in numbers}
    for start in range(0, len(numbers), 500):  # SQLite binds 32,766 values, older ones 999
        some = numbers[start : start + 500]
        taken = select(tables.review_step).where(_STEP.item_id.in_(some)).order_by(_STEP.taken_at)
        for row in connection.execute(taken):
            steps[row.item_id][Step(row.step)] = row.taken_at
        decided = select(tables.review_decision).where(_DECISION.item_id.in_(some))
        for row in connection.execute(decided.order_by(_DECISION.id)):
            decisions[row.item_id].append(_decision(row))
    return [_item(row, steps[row.id], decisions[row.id]) for row in rows]


def _item(row: Row[Any], steps: Mapping[Step, int], decisions: Sequence[Decision]) -> Item:
    return Item(
        id=row.id,
        shard=row.shard,
        tenant=row.tenant,
        api_key_id=row.api_key_id,
        mode=Mode(row.mode),
        since_min=row.since_minute,
        finding=Finding(
            Cause(row.cause), row.seen_nano, row.usual_nano, row.bound_nano, row.judged_by
        ),
        created_at=row.created_at,
        steps=steps,
        decisions=tuple(decisions),
    )


def _decision(row: Row[Any]) -> Decision:
    return Decision(
        Verdict(row.verdict), row.level_nano, row.decided_by, row.reason, row.decided_at
    )


def _row(item: Item) -> dict[str, Any]:
    return {
        "shard": item.shard,
        "tenant": item.tenant,
        "api_key_id": item.api_key_id,
        "mode": item.mode.value,
        "cause": item.finding.cause.value,
        "since_minute": item.since_min,
        "seen_nano": item.finding.seen_nano,
        "usual_nano": item.finding.usual_nano,
        "bound_nano": item.finding.bound_nano,
        "judged_by": item.finding.judged_by,
        "created_at": item.created_at,
    }


def _note(connection: Connection, number: int, steps: Sequence[Step], now_ns: int) -> None:
    rows = [{"item_id": number, "step": step.value, "taken_at": now_ns} for step in steps]
    keep_rows(connection, tables.review_step, rows)


_TOLD = {Step.ALERT: "spend_velocity", Step.DEGRADE: "spend_degraded", Step.PAUSE: "spend_paused"}


def _alerts(item: Item, steps: Iterable[Step]) -> list[tuple[str, dict[str, Any]]]:
    """One for each step of the ladder, named by the item: so it is said once."""
    body = {
        "review_item": item.id,
        "tenant": item.tenant,
        "api_key_id": item.api_key_id or None,
        "cause": item.finding.cause.value,
        "since_ms": item.since_min * 60_000,
        "seen_nano": item.finding.seen_nano,
        "usual_nano": item.finding.usual_nano,
        "bound_nano": item.finding.bound_nano,
        "judged_by": item.finding.judged_by,
    }
    return [(f"{_TOLD[step]}:{item.id}", body) for step in steps if step in _TOLD]
