"""The review queue on both databases: once per alarm, append-only, decided once."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from sqlalchemy import select

from metering.settlement.anomalies import Verdict
from metering.settlement.ledger import tables
from metering.settlement.ledger.reviews import (
    ACCEPTED_DAYS,
    DecidedBeforeError,
    Decision,
    Item,
    accepted_levels,
    all_items,
    begin_item,
    decide,
    find_item,
    open_items,
    take_steps,
)
from metering.settlement.ledger.store import Ledger
from metering.settlement.velocity import Cause, Finding
from metering.tolerances import Mode, Step

ITEM = Item(
    id=0,
    shard=3,
    tenant="acme",
    api_key_id="",
    mode=Mode.ENFORCE,
    since_min=1_000,
    finding=Finding(Cause.SPEND, 90, 10, 30, "recent"),
    created_at=7,
    steps={},
    decisions=(),
)
NOW = 60_000_000_000_000


def _steps(ledger: Ledger, number: int, *steps: Step) -> list[Step]:
    return take_steps(ledger, number, choose=lambda _: steps, now_ns=NOW)


def _say(verdict: Verdict, level_nano: int | None = None) -> Decision:
    return Decision(verdict, level_nano, "ann", "because", NOW)


def test_an_alarm_makes_one_item(ledger: Ledger) -> None:
    """While one is open it is for every alarm of its subject; others have their own."""
    assert begin_item(ledger, ITEM)
    assert not begin_item(ledger, ITEM)
    assert not begin_item(ledger, replace(ITEM, since_min=1_500))
    assert begin_item(ledger, replace(ITEM, api_key_id="k1"))
    assert begin_item(ledger, replace(ITEM, mode=Mode.SHADOW))

    _steps(ledger, 1, Step.CLOSED)
    assert not begin_item(ledger, ITEM)
    assert begin_item(ledger, replace(ITEM, since_min=1_001))
    assert [item.id for item in open_items(ledger, [3])] == [2, 3, 4]
    assert open_items(ledger, [4]) == []
    assert [item.id for item in all_items(ledger, tenant="acme")] == [1, 2, 3, 4]
    assert all_items(ledger, tenant="other") == []


def test_an_item_comes_back_as_it_was(ledger: Ledger) -> None:
    """With what was done and decided, in the order in which it was."""
    begin_item(ledger, ITEM)
    _steps(ledger, 1, Step.ALERT, Step.PAUSE)
    decide(ledger, 1, _say(Verdict.KEEP))
    decide(ledger, 1, _say(Verdict.REBASE, 90))

    assert find_item(ledger, 1) == replace(
        ITEM,
        id=1,
        steps={Step.ALERT: NOW, Step.PAUSE: NOW},
        decisions=(_say(Verdict.KEEP), _say(Verdict.REBASE, 90)),
    )
    assert find_item(ledger, 2) is None


def test_a_step_is_taken_once_and_told_once(ledger: Ledger) -> None:
    """Steps that nobody needs to hear of are no alerts, and shadow tells nobody."""
    begin_item(ledger, replace(ITEM, api_key_id="k1"))
    assert _steps(ledger, 1, Step.ALERT) == [Step.ALERT]
    assert _steps(ledger, 1, Step.ALERT, Step.PAUSE, Step.CALM) == [Step.PAUSE, Step.CALM]
    begin_item(ledger, replace(ITEM, mode=Mode.SHADOW))
    _steps(ledger, 2, Step.ALERT)

    with ledger.read() as connection:
        rows = connection.execute(select(tables.outbox).order_by(tables.outbox.c.id)).all()
    assert [row.key for row in rows] == ["spend_velocity:1", "spend_paused:1"]
    assert orjson.loads(rows[0].body) == {
        "kind": "spend_velocity",
        "review_item": 1,
        "tenant": "acme",
        "api_key_id": "k1",
        "cause": "spend",
        "since_ms": 60_000_000,
        "seen_nano": 90,
        "usual_nano": 10,
        "bound_nano": 30,
        "judged_by": "recent",
    }


@pytest.mark.parametrize(
    ("first", "then", "outcome"),
    [
        (Verdict.KEEP, Verdict.APPROVE, True),
        (Verdict.KEEP, Verdict.KEEP, False),
        (Verdict.APPROVE, Verdict.APPROVE, False),
        (Verdict.APPROVE, Verdict.KEEP, None),
        (Verdict.REBASE, Verdict.APPROVE, None),
    ],
)
def test_who_was_let_go_is_decided(
    ledger: Ledger, first: Verdict, then: Verdict, outcome: bool | None
) -> None:
    """The same again changes nothing; another word after that is refused, and says who it was."""
    begin_item(ledger, ITEM)
    assert decide(ledger, 1, _say(first))

    if outcome is None:
        with pytest.raises(DecidedBeforeError, match=f"item 1 was decided before: {first}, by ann"):
            decide(ledger, 1, _say(then))
    else:
        assert decide(ledger, 1, _say(then)) is outcome


def test_nothing_can_be_kept_that_is_not_paused(ledger: Ledger) -> None:
    """Of an item that is over."""
    begin_item(ledger, ITEM)
    _steps(ledger, 1, Step.CALM, Step.CLOSED)

    with pytest.raises(DecidedBeforeError, match="nothing is paused"):
        decide(ledger, 1, _say(Verdict.KEEP))


def test_the_newest_level_is_the_accepted_one(ledger: Ledger) -> None:
    """For two weeks; by then the history has it."""
    for at, level in ((1, 50), (2, 70)):
        begin_item(ledger, replace(ITEM, since_min=1_000 + at))
        decide(ledger, at, _say(Verdict.REBASE, level))
        _steps(ledger, at, Step.CLOSED)
    begin_item(ledger, replace(ITEM, api_key_id="k1"))
    decide(ledger, 3, _say(Verdict.APPROVE))

    levels = {"acme": {("", Cause.SPEND): 70}}
    assert accepted_levels(ledger, [3], now_ns=NOW) == levels
    assert accepted_levels(ledger, [4], now_ns=NOW) == {}
    late = NOW + ACCEPTED_DAYS * 86_400_000_000_000 + 1
    assert accepted_levels(ledger, [3], now_ns=late) == {}
