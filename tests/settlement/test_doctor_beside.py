"""What is trouble beside the books, and where a note becomes trouble."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from metering.cron import Cron
from metering.job_settings import JobKind, JobSettings
from metering.settlement import doctor_beside as beside
from metering.settlement.doctor_facts import (
    Asked,
    Facts,
    JobStanding,
    Level,
    MoneyIn,
    Place,
    Reached,
    Undrawn,
    Unknown,
    Untold,
)

AWAY = Unknown("not asked here")
S = 10**9
NOW = 1_795_996_800 * S  # 2026-11-30
JOB = JobSettings("check", JobKind.VERIFY, Cron("0 0 * * *"))
PLACE = Place("config.yaml", jobs=(JOB,), webhooks=("erp",))
FACTS = Facts(Asked(None, "2026-11", 0, 1, NOW), PLACE, *[AWAY] * 13)
OK = JobStanding(NOW, NOW, "done", 1)

JOBS: dict[str, tuple[JobStanding, Level, str]] = {
    "done": (OK, Level.OK, "1 job in order"),
    "new": (JobStanding(NOW), Level.OK, "1 job in order"),
    "just begun": (replace(OK, state="due"), Level.OK, "1 job in order"),
    "never seen": (JobStanding(), Level.NOTE, "check: no worker has taken it up yet"),
    "failed": (
        replace(OK, state="failed", message="2 findings"),
        Level.TROUBLE,
        "check, due 2026-11-30T00:00:00Z, failed: 2 findings",
    ),
    "late": (
        JobStanding(NOW, NOW - 700 * S, "due"),
        Level.TROUBLE,
        "check, due 2026-11-29T23:48:20Z, is not done for 11 min (due)",
    ),
    "put off": (
        JobStanding(NOW, NOW - 700 * S, "due", waits=2, message="Redis is away"),
        Level.NOTE,
        "check, due 2026-11-29T23:48:20Z, is not done for 11 min (due): Redis is away",
    ),
    "nobody plans": (
        JobStanding(NOW - 86_400 * S - 700 * S),
        Level.TROUBLE,
        "check was due at 2026-11-29T00:00:00Z, and no worker has begun it",
    ),
}


@pytest.mark.parametrize(("at", "level", "said"), JOBS.values(), ids=JOBS)
def test_jobs(at: JobStanding, level: Level, said: str) -> None:
    """One that failed, one that nobody begins, one that waits for something."""
    [found] = beside.jobs(replace(FACTS, jobs={"check": at}))

    assert (found.level, found.said) == (level, said)


def _said(judge: Any, **facts: Any) -> list[tuple[Level, str]]:
    return [(each.level, each.said) for each in judge(replace(FACTS, **facts))]


def test_webhooks() -> None:
    """Given up, or not taken for an hour."""
    dead = Untold("erp", 2, NOW - 60 * S, 3, "answered 500")
    slow = Untold("erp", 2, NOW - 7_200 * S, 0, "")
    gone = Untold("old", 1, NOW - 7_200 * S, 0, "")

    assert _said(beside.webhooks, webhooks=()) == [(Level.OK, "1 endpoint told")]
    assert _said(beside.webhooks, webhooks=(dead,)) == [
        (Level.TROUBLE, "erp: 3 messages given up: answered 500")
    ]
    assert _said(beside.webhooks, webhooks=(slow, gone)) == [
        (Level.TROUBLE, "erp: 2 messages waiting, the oldest for 2 h"),
        (Level.NOTE, "old (no longer in the file): 1 message waiting, the oldest for 2 h"),
    ]


def test_payments() -> None:
    """Money that is there and is nobody's credit."""
    found = MoneyIn(1, 1, 1, 4, NOW - 660 * S)

    assert _said(beside.payments, payments=MoneyIn(callbacks=4, callbacks_since_ns=NOW)) == [
        (Level.OK, "no payment waits for anybody")
    ]
    assert _said(beside.payments, payments=found) == [
        (Level.TROUBLE, "1 payment of nobody that the file knows: no credit yet"),
        (Level.TROUBLE, "2 payments or callbacks wait for a person"),
        (Level.TROUBLE, "4 callbacks not worked off, the oldest for 11 min"),
    ]


def test_credit() -> None:
    """Balances are those of a while ago, or not known to the proxies at all."""
    redis = Reached("redis://x", 0, 1, "weir", 16, {"shards": "16"}, without_balance=("acme",))

    assert _said(beside.credit, credits=Undrawn(3, NOW - 60 * S)) == [
        (Level.OK, "grants are drawn from, and balances are published")
    ]
    assert _said(beside.credit, credits=Undrawn(3, NOW - 180 * S), redis=redis) == [
        (Level.TROUBLE, "3 events not drawn from grants yet, for 3 min"),
        (Level.TROUBLE, "prepaid, and Redis does not say what they may spend: acme"),
    ]
