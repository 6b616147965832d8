"""Runs of jobs: once each, by one worker, whatever dies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from fixtures_ledger import new_ledger
from sqlalchemy import select

from metering.clock import now_ns
from metering.cron import Cron
from metering.job_settings import CatchUp, JobKind, JobSettings
from metering.settlement import job_turn
from metering.settlement.job_turn import (
    Asked,
    DoneAlreadyError,
    JobFailedError,
    Jobs,
    JobWaitsError,
    Turns,
)
from metering.settlement.ledger import job_books as book
from metering.settlement.ledger import tables
from metering.settlement.ledger.job_books import Run, runs_of
from metering.settlement.ledger.store import Ledger, open_ledger

MINUTE = 60_000_000_000
START = 1_790_000_000_000_000_000 // MINUTE * MINUTE
EVERY_MINUTE = JobSettings("check", JobKind.VERIFY, Cron("* * * * *"))


class DeadError(BaseException):
    """The process ends here."""


@dataclass
class Bench:
    """A ledger, a clock that is set by hand, and a job that does as it is told."""

    ledger: Ledger
    job: JobSettings = EVERY_MINUTE
    now: int = START
    made: list[int] = field(default_factory=list)
    does: Callable[[Asked], str] = lambda _: "well"

    def turns(self, holder: str = "one", skew: int = 0) -> Turns:
        def work(_: Ledger, asked: Asked) -> str:
            self.made.append(asked.scheduled_for)
            return self.does(asked)

        jobs = Jobs([self.job], {JobKind.VERIFY: work})
        return Turns(self.ledger, jobs, holder=holder, clock=lambda: self.now + skew)

    def runs(self) -> list[Run]:
        with self.ledger.read() as connection:
            return runs_of(connection)

    def alerts(self) -> list[str]:
        with self.ledger.read() as connection:
            return list(connection.execute(select(tables.outbox.c.key)).scalars())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(new_ledger(tmp_path)) as ledger:
        yield Bench(ledger)


def test_a_new_job_begins_now_and_runs_when_it_is_due(bench: Bench) -> None:
    """What would have been due before anybody knew of it is no missed run."""
    turns = bench.turns()
    first = turns.turn()
    bench.now += MINUTE
    second, third = turns.turn(), turns.turn()

    assert (first.run, third.run) == (None, None)
    assert second.outcome == "done"
    assert bench.made == [START + MINUTE]
    assert [(run.state, run.message, run.ran_by) for run in bench.runs()] == [
        ("done", "well", "worker")
    ]


CAUGHT = {
    CatchUp.ONCE: [10],
    CatchUp.ALL: list(range(1, 11)),
    CatchUp.NONE: [],
}


@pytest.mark.parametrize(("policy", "minutes"), CAUGHT.items(), ids=CAUGHT)
def test_missed_runs(bench: Bench, policy: CatchUp, minutes: list[int]) -> None:
    """Ten runs nobody was there for, the newest six minutes ago."""
    bench.job = replace(EVERY_MINUTE, catch_up=policy, cron=Cron("0-10 * * * *"))
    bench.now = START - START % (60 * MINUTE)
    hour = bench.now
    turns = bench.turns()
    turns.turn()
    bench.now += 16 * MINUTE
    while turns.turn().run is not None:
        pass

    assert bench.made == [hour + minute * MINUTE for minute in minutes]
    if policy is CatchUp.ONCE:
        assert bench.runs()[0].message == "well; stands for 9 more that were missed"


def test_all_catches_up_a_hundred_at_most(bench: Bench) -> None:
    """A worker that was away for a week does not spend the next on it."""
    bench.job = replace(EVERY_MINUTE, catch_up=CatchUp.ALL)
    turns = bench.turns()
    turns.turn()
    bench.now += 10_000 * MINUTE
    while turns.turn().run is not None:
        pass

    assert len(bench.made) == book.MISSED_MAX
    assert bench.made[-1] == bench.now


def test_another_schedule_begins_anew(bench: Bench) -> None:
    """Times of the new one that have passed already were never promised."""
    bench.turns().turn()
    bench.now += 60 * MINUTE
    bench.job = replace(EVERY_MINUTE, cron=Cron("*/5 * * * *"))

    assert bench.turns().turn().run is None


def test_one_leads_and_the_next_takes_over(bench: Bench) -> None:
    """Nobody else plans or runs while the leader lives; then somebody does."""
    one, two = bench.turns("one"), bench.turns("two")
    one.turn()
    refused = two.turn()
    bench.now += 2 * MINUTE
    taken = two.turn()

    assert not refused.is_leader
    assert taken.is_leader
    assert bench.made == [START + 2 * MINUTE]
    two.give_up_leading()
    assert one.turn().is_leader


def test_a_failure_is_tried_again_later_and_later_and_then_told(bench: Bench) -> None:
    """Five times, with an alert at the end; the cause is with the run."""

    def fails(_: Asked) -> str:
        raise JobFailedError("the provider says no")

    bench.does, bench.job = fails, replace(EVERY_MINUTE, cron=Cron("0 * * * *"))
    turns = bench.turns()
    turns.turn()
    bench.now += 60 * MINUTE
    waits, outcomes = [], []
    while (told := turns.turn()).run is not None:
        outcomes.append(told.outcome)
        [run] = bench.runs()
        waits.append((run.next_at - bench.now) // MINUTE if run.state == "due" else 0)
        bench.now = max(bench.now, run.next_at)

    assert outcomes == ["retried"] * 4 + ["failed"]
    assert waits == [1, 2, 4, 8, 0]
    assert (run.state, run.attempts, run.message) == ("failed", 5, "the provider says no")
    assert [key.split(":")[:2] for key in bench.alerts()] == [["job_failed", "check"]]


def test_what_no_attempt_can_mend_is_not_tried_again(bench: Bench) -> None:
    """As findings in the ledger."""

    def fails(_: Asked) -> str:
        raise JobFailedError("2 findings", again=False)

    bench.does = fails
    turns = bench.turns()
    turns.turn()
    bench.now += MINUTE

    assert turns.turn().outcome == "failed"
    assert len(bench.alerts()) == 1


def test_a_surprise_is_told_by_its_kind_alone(bench: Bench) -> None:
    """Its message may hold an address or a value."""

    def breaks(_: Asked) -> str:
        raise RuntimeError("postgresql://u:secret@h/d")

    bench.does = breaks
    turns = bench.turns()
    turns.turn()
    bench.now += MINUTE

    assert turns.turn().outcome == "retried"
    assert bench.runs()[0].message == "failed with RuntimeError"


def test_a_run_that_is_put_off_is_no_attempt(bench: Bench) -> None:
    """It is looked at again after five minutes, for as long as its job likes."""

    def waits(_: Asked) -> str:
        raise JobWaitsError("3 events wait")

    bench.does = waits
    bench.job = replace(EVERY_MINUTE, cron=Cron("0 0 1 1 *"))
    turns = bench.turns()
    turns.turn()
    bench.now = bench.job.cron.next(bench.now)
    for _ in range(7):
        assert turns.turn().outcome == "waiting"
        bench.now += job_turn.WAIT_NS
    bench.does = lambda _: "closed"

    assert turns.turn().outcome == "done"
    [run] = bench.runs()
    assert (run.attempts, run.waits, run.message) == (1, 7, "closed")


def test_a_run_in_which_its_process_died_is_seen_and_made_again(bench: Bench) -> None:
    """By whoever leads next, after a pause, and not for ever."""

    def dies(_: Asked) -> str:
        raise DeadError

    bench.does, bench.job = dies, replace(EVERY_MINUTE, cron=Cron("0 * * * *"))
    one = bench.turns("one")
    one.turn()
    bench.now += 60 * MINUTE
    with pytest.raises(DeadError):
        one.turn()
    running = bench.runs()[0]
    bench.now += 2 * MINUTE
    two = bench.turns("two")
    seen = two.turn()
    noted = bench.runs()[0]
    bench.now += 2 * MINUTE
    bench.does = lambda _: "well"
    again = two.turn()

    assert (running.state, running.holder) == ("running", "one")
    assert seen.run is None
    assert (noted.state, noted.message) == ("due", book.DIED)
    assert again.outcome == "done"
    assert bench.runs()[0].attempts == 2


def test_who_was_taken_for_dead_reports_nothing(bench: Bench) -> None:
    """A process that slept through its lease finds its run in other hands."""
    bench.job = replace(EVERY_MINUTE, cron=Cron("0 * * * *"))
    two = bench.turns("two")

    def sleeps(_: Asked) -> str:
        bench.does = lambda _: "well"
        bench.now += 2 * MINUTE
        two.turn()  # finds it dead
        bench.now += 2 * MINUTE
        assert two.turn().outcome == "done"
        return "late"

    bench.does = sleeps
    one = bench.turns("one")
    one.turn()
    bench.now += 60 * MINUTE - bench.now % (60 * MINUTE)
    told = one.turn()

    assert told.outcome == "lost"
    assert bench.runs()[0].message == "well"


def test_a_long_run_says_that_it_lives(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run and leadership are renewed while it works, so nobody takes them."""
    monkeypatch.setattr(job_turn, "KEEP_EVERY_S", 0.01)
    two = bench.turns("two")

    def works(_: Asked) -> str:
        for _ in range(3):
            bench.now += book.RUN_LASTS_NS - 1
            _until(lambda: bench.runs()[0].until > bench.now + 1)
            _until(lambda: not two.turn().is_leader)
        return "long"

    bench.does = works
    one = bench.turns("one")
    one.turn()
    bench.now += MINUTE

    assert one.turn().outcome == "done"


def _until(holds: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(500):
        if holds():
            return
        pause.wait(0.01)
    raise AssertionError("never")


def test_by_hand_a_run_is_made_once_unless_again(bench: Bench) -> None:
    """Whoever leads; and the worker does not make it a second time."""
    bench.turns("worker").turn()
    at = START + MINUTE
    hand = bench.turns("hand")
    first = hand.by_hand(bench.job, at, by="ada")
    with pytest.raises(DoneAlreadyError):
        hand.by_hand(bench.job, at, by="ada")
    again = hand.by_hand(bench.job, at, by="bob", again=True)
    bench.now += MINUTE
    left = bench.turns("worker").turn()

    assert [first.outcome, again.outcome] == ["done", "done"]
    assert left.run is None
    assert bench.made == [at, at]
    assert [(run.attempts, run.ran_by) for run in bench.runs()] == [(2, "bob")]


def test_by_hand_nobody_takes_what_is_being_made(bench: Bench) -> None:
    told = []

    def works(asked: Asked) -> str:
        bench.does = lambda _: "well"
        told.append(bench.turns("hand").by_hand(bench.job, asked.scheduled_for, by="ada"))
        return "well"

    bench.does = works
    turns = bench.turns()
    turns.turn()
    bench.now += MINUTE
    turns.turn()

    assert [each.run for each in told] == [None]
    assert len(bench.made) == 1


def test_workers_on_postgresql_share_the_database_time(postgres_url: str) -> None:
    """A clock that is an hour ahead takes no lease that is not over, and runs nothing early."""
    with closing(open_ledger(postgres_url)) as ledger:
        bench = Bench(ledger, now=now_ns())
        bench.job = replace(EVERY_MINUTE, cron=Cron("0 0 1 1 *"))
        one, ahead = bench.turns("one"), bench.turns("two", skew=60 * MINUTE)
        assert one.turn().is_leader

        assert not ahead.turn().is_leader
        one.give_up_leading()
        bench.job = EVERY_MINUTE
        assert bench.turns("three", skew=-60 * MINUTE).turn().run is None
        with ledger.read() as connection:
            kept = connection.execute(select(book.job_schedule.c.through)).scalar_one()
        assert abs(kept - now_ns()) < 30 * MINUTE


def test_many_workers_make_each_run_once(ledger: Ledger) -> None:
    """All claim at once what is due; on either database each run has one taker."""
    names = [f"worker-{n}" for n in range(4)]
    due = [Run("check", START + n * MINUTE) for n in range(12)]
    with ledger.write() as connection:
        for run in due:
            book.keep_rows(connection, book.job_run, [book._row(run)])

    def take(holder: str) -> list[int]:
        taken = []
        while True:
            with ledger.write() as connection:
                run = book.claim_next(connection, ["check"], holder, now_ns())
            if run is None:
                return taken
            taken.append(run.scheduled_for)

    with ThreadPoolExecutor(len(names)) as pool:
        found = [at for taken in pool.map(take, names) for at in taken]

    assert sorted(found) == [run.scheduled_for for run in due]
