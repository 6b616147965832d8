"""Alerts on their way out."""

from __future__ import annotations

import re
from pathlib import Path

from metering.alert_sinks import ALERT_KINDS
from metering.settlement.ledger.outbox import (
    LEASE_NS,
    RETRY_MAX_NS,
    close_alerts,
    give_back,
    note_failed,
    note_sent,
    put_alerts,
    take_alerts,
)
from metering.settlement.ledger.store import Ledger

NOW = 10**18


def _put(ledger: Ledger, *keys: str) -> None:
    with ledger.write() as connection:
        put_alerts(connection, ((key, {"n": 1}) for key in keys), NOW)


def test_an_alert_is_taken_once_and_by_its_key_said_once(ledger: Ledger) -> None:
    _put(ledger, "memory:1", "backlog:1", "memory:1")

    [first, second] = take_alerts(ledger, "log", now_ns=NOW)
    assert (first.kind, first.key, first.body) == ("memory", "memory:1", {"kind": "memory", "n": 1})
    assert take_alerts(ledger, "log", now_ns=NOW) == []  # leased
    for alert in (first, second):
        note_sent(ledger, alert, "log")
    _put(ledger, "memory:1")

    assert take_alerts(ledger, "log", now_ns=NOW + 2 * LEASE_NS) == []


def test_whoever_dies_with_an_alert_leaves_it_to_the_next(ledger: Ledger) -> None:
    _put(ledger, "memory:1")
    take_alerts(ledger, "log", now_ns=NOW)

    assert [alert.key for alert in take_alerts(ledger, "log", now_ns=NOW + LEASE_NS)] == [
        "memory:1"
    ]


def test_a_sink_that_fails_is_tried_later_and_later(ledger: Ledger) -> None:
    _put(ledger, "memory:1")
    now, waits = NOW, []
    for _ in range(12):
        [alert] = take_alerts(ledger, "log", now_ns=now)
        note_failed(ledger, alert, "log", now_ns=now)
        due = now
        while not _is_due(ledger, due):
            due += 1_000_000_000
        waits.append((due - now) // 1_000_000_000)
        now = due

    assert waits[:4] == [1, 2, 4, 8]
    assert waits[-1] == RETRY_MAX_NS // 1_000_000_000


def test_each_sink_has_deliveries_of_its_own(ledger: Ledger) -> None:
    """What one has taken is due at another; one that is added later is given nothing old."""
    _put(ledger, "memory:1", "backlog:1")
    for alert in take_alerts(ledger, "log", now_ns=NOW):
        note_sent(ledger, alert, "log")
    close_alerts(ledger, ["log", "hook"])

    [memory] = take_alerts(ledger, "hook", now_ns=NOW, kinds=["memory"])
    assert take_alerts(ledger, "log", now_ns=NOW + 2 * LEASE_NS) == []
    note_sent(ledger, memory, "hook")
    close_alerts(ledger, ["log", "hook"])

    assert memory.key == "memory:1"
    assert take_alerts(ledger, "later", now_ns=NOW) == []


def test_what_a_sink_still_wants_is_kept_for_a_new_one_too(ledger: Ledger) -> None:
    _put(ledger, "memory:1")
    [alert] = take_alerts(ledger, "hook", now_ns=NOW)
    note_failed(ledger, alert, "hook", now_ns=NOW)
    close_alerts(ledger, ["hook"])

    assert [each.attempts for each in take_alerts(ledger, "hook", now_ns=NOW + 10**10)] == [1]
    assert [each.attempts for each in take_alerts(ledger, "later", now_ns=NOW)] == [0]


def test_what_was_not_tried_is_given_back_at_once(ledger: Ledger) -> None:
    _put(ledger, "memory:1")
    taken = take_alerts(ledger, "log", now_ns=NOW)

    give_back(ledger, taken, "log", now_ns=NOW)

    assert take_alerts(ledger, "log", now_ns=NOW) == taken


def _is_due(ledger: Ledger, now_ns: int) -> bool:
    """Asks without taking."""
    with ledger.read() as connection:
        next_at = connection.exec_driver_sql("SELECT next_at FROM outbox_delivery").scalar_one()
    return bool(next_at <= now_ns)


def test_every_kind_of_alert_is_explained() -> None:
    """Each kind that the source can raise has a row and a section in the page about alerts."""
    root = Path(__file__).parents[3]
    sources = [path.read_text() for path in (root / "metering/settlement").rglob("*.py")]
    kinds = {
        kind
        for source in sources
        for kind in re.findall(r'f"([a-z]+_?[a-z]+):\{|Reading\("([a-z_]+)"', source)
    }
    others = {"usage", "review", "plan", "coupon", "stripe"}
    # keys of transactions, a field in Redis, a component of a statement, the source of a grant
    others |= {"grant", "draw", "expire", "take", "again", "settle"}  # of credit
    named = {first or second for first, second in kinds} - others
    page = (root / "docs/alerts.md").read_text()

    assert named >= {"backlog", "memory", "cap_drift", "dead_letter", "stream_gap", "unpriced"}
    assert named <= set(ALERT_KINDS)
    assert [kind for kind in ALERT_KINDS if f"| `{kind}` |" not in page] == []
    assert [kind for kind in named if f"\n## {kind}\n" not in page] == []
