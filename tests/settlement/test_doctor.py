"""The table of checks: what was not gathered is never well, and the order is that of an event."""

from __future__ import annotations

from dataclasses import fields, replace

from metering.settlement.doctor import CHECKS, OF_A_TENANT, examine, is_well
from metering.settlement.doctor_facts import (
    Asked,
    Facts,
    Level,
    Place,
    Reached,
    ShardStream,
    SpoolFiles,
    Streams,
    Unknown,
    age_of,
    count_of,
)

AWAY = Unknown("nobody is there")
DAY = 86_400 * 10**9
ASKED = Asked("acme", "2026-11", 100 * DAY, 130 * DAY, 120 * DAY)
NOTHING = Facts(ASKED, Place("config.yaml"), *[AWAY] * 16)
REACHED = Reached("redis://127.0.0.1", 0, 1, "weir", 16, {"shards": "16"})


def _said(facts: Facts, check: str) -> list[tuple[Level, str]]:
    return [
        (each.finding.level, each.finding.said) for each in examine(facts) if each.check == check
    ]


def test_what_was_not_gathered_is_never_well() -> None:
    """Every check over a fact that is missing says so; only the file was looked at."""
    levels = {each.check: each.finding.level for each in examine(NOTHING)}

    assert {name for name, level in levels.items() if level is Level.OK} == {
        "configuration",
        "spools",
        "month",
        "plan",
    }
    assert not is_well(examine(NOTHING))


def test_every_check_has_a_name_of_its_own_and_needs_facts_that_there_are() -> None:
    names = [check.name for check in (*CHECKS, *OF_A_TENANT)]
    facts = {field.name for field in fields(Facts)}

    assert len(names) == len(set(names))
    assert {need for check in (*CHECKS, *OF_A_TENANT) for need in check.needs} <= facts


def test_without_a_tenant_only_the_installation_is_looked_at() -> None:
    facts = replace(NOTHING, asked=replace(ASKED, tenant=None))

    assert {each.check for each in examine(facts)} == {check.name for check in CHECKS}


def _streams(*, waiting: int = 0, since_ms: int | None = None, silent_ms: int = 10) -> Streams:
    shard = ShardStream(3, 9, waiting, since_ms, 1_000_000)
    return Streams((shard,), {"w0": silent_ms}, has_group=True, now_ms=1_100_000)


def test_what_waits_is_trouble_once_it_is_old() -> None:
    """A minute divides what is on its way from what is stuck."""
    new = replace(NOTHING, streams=_streams(waiting=2, since_ms=1_099_000))
    old = replace(NOTHING, streams=_streams(waiting=2, since_ms=1_000_000))

    assert _said(new, "streams") == [(Level.NOTE, _said(new, "streams")[0][1])]
    assert _said(old, "streams") == [
        (Level.TROUBLE, "2 events not in the ledger yet, the oldest for 100 s")
    ]
    [body] = [each.body() for each in examine(old) if each.check == "streams"]
    assert body["numbers"]["waiting_by_shard"] == {"3": 2}


def test_a_silent_worker_is_trouble_when_something_waits() -> None:
    idle = replace(NOTHING, streams=_streams(silent_ms=3_600_000))
    owing = replace(NOTHING, streams=_streams(waiting=1, silent_ms=3_600_000))

    assert _said(idle, "worker")[0][0] is Level.NOTE
    assert _said(owing, "worker")[0] == (
        Level.TROUBLE,
        "no settlement worker is at work: the last spoke 60 min ago",
    )


def test_windows_are_being_rebuilt_while_a_worker_is_there() -> None:
    redis = replace(REACHED, without_epoch=(2,))
    alive = replace(NOTHING, redis=redis, streams=_streams())
    dead = replace(NOTHING, redis=redis, streams=_streams(silent_ms=3_600_000))

    assert _said(alive, "windows")[0][0] is Level.NOTE
    assert _said(dead, "windows")[0][0] is Level.TROUBLE


def test_shards_that_differ_are_trouble() -> None:
    facts = replace(NOTHING, redis=replace(REACHED, meta={"shards": "4"}))

    assert _said(facts, "redis") == [
        (Level.TROUBLE, "the data in Redis is in 4 shards, this file says 16")
    ]


def test_clocks_differ_by_more_than_the_question_took() -> None:
    """Half of the round trip is doubt, not skew."""
    slow = replace(NOTHING, redis=replace(REACHED, skew_ms=2_400, round_trip_ms=1_000))
    off = replace(NOTHING, redis=replace(REACHED, skew_ms=-2_001))

    assert _said(slow, "clock")[0][0] is Level.OK
    assert _said(off, "clock") == [
        (Level.TROUBLE, "Redis' clock differs from this machine's by -2001 ms")
    ]


def test_spools_of_other_machines_are_known_from_their_reports() -> None:
    """One that is here is looked at here."""
    there = SpoolFiles("far-0", 3, 100, 700)
    facts = replace(NOTHING, streams=replace(_streams(), spools=(there,)))

    [(level, said)] = _said(facts, "spools")

    assert level is Level.TROUBLE
    assert said.startswith("the spool of far-0 holds 3 commits (as it reported itself)")


def test_ages_and_counts_in_words() -> None:
    assert [age_of(n) for n in (-5, 40, 240, 7_200, 172_800)] == [
        "0 s",
        "40 s",
        "4 min",
        "2 h",
        "2 d",
    ]
    assert [count_of(n, "event") for n in (1, 2_000)] == ["1 event", "2,000 events"]
