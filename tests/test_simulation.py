"""Whole worlds out of seeds: settled by the real code over deaths, then compared with numbers that
were computed apart. `make simulate` runs thousands; docs/simulation.md has their figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from metering.money import PICO_PER_NANO
from metering.settlement import rating, rerating, statements, worker_booking
from metering.settlement.batches import Batch
from metering.settlement.ledger import credit_closing, rollups
from simulation.runs import Runs, runs

SEEDS = range(8)


@pytest.fixture(scope="module")
def ready() -> Iterator[Runs]:
    with runs() as made:
        yield made


@pytest.mark.slow(60)
@pytest.mark.timeout(60)
def test_every_seed_comes_out_as_computed_apart(ready: Runs) -> None:
    """Each event is booked once, every paper has the amounts and the bytes that it must have."""
    outcomes = [ready.run(seed, size=16) for seed in SEEDS]

    assert {each.seed: each.findings for each in outcomes if each.findings} == {}
    assert sum(each.kills.total() for each in outcomes) > 5 * len(SEEDS)


@pytest.mark.slow(60)
@pytest.mark.timeout(60)
def test_a_death_at_any_point_changes_nothing(ready: Runs) -> None:
    """One world, killed at a point of its course and no other, all along."""
    points = ready.run(3, size=4, only=0).met.total()
    outcomes = [ready.run(3, size=4, only=number) for number in range(1, points + 1, points // 12)]

    assert [each.findings for each in outcomes if each.findings] == []
    assert all(each.kills.total() == 1 for each in outcomes)


def test_a_seed_takes_the_same_steps_again(ready: Runs) -> None:
    """What fails once can be looked at."""
    one, again = ready.run(5, size=8), ready.run(5, size=8)

    assert (one.trace, one.met, one.kills) == (again.trace, again.met, again.kills)


def test_an_event_that_is_acknowledged_unbooked_is_found(
    ready: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The simulation can fail: here the worker loses the last event of each batch."""
    write = worker_booking.write_parts

    def losing(ledger: Any, batch: Batch, **kwargs: Any) -> Any:
        kept = Batch(batch.bookings[:-1], batch.malformed)
        return [(batch, report) for _, report in write(ledger, kept, **kwargs)]

    monkeypatch.setattr(worker_booking, "write_parts", losing)

    outcomes = [ready.run(seed, size=12) for seed in range(1, 3)]
    assert any("is not in the ledger" in each for one in outcomes for each in one.findings)


def test_an_amount_that_is_rounded_otherwise_is_found(
    ready: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The simulation can fail: here halves of a nano-USD, and all the rest, are rounded down."""
    monkeypatch.setattr(
        rating, "amount_nano", lambda quantity, rate: quantity * rate // PICO_PER_NANO
    )

    assert any("is booked as" in each for each in ready.run(0, size=12).findings)


def test_rollups_that_count_twice_are_found(ready: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation can fail: here an attempt is summed as two."""
    attempts = rollups.attempts_of
    monkeypatch.setattr(rollups, "attempts_of", lambda row: 2 * attempts(row))

    assert any(each.startswith("rollup") for each in ready.run(0, size=12).findings)


def test_a_coupon_that_is_taken_twice_is_found(
    ready: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The simulation can fail: here every discount is a nano-USD too large."""
    off = statements._off
    monkeypatch.setattr(statements, "_off", lambda coupon, base: off(coupon, base) + 1)

    outcomes = [ready.run(seed, size=12) for seed in range(4)]
    assert any(each.startswith("statement") for one in outcomes for each in one.findings)


def test_a_close_that_draws_too_much_is_found(ready: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation can fail: here a plan's fee takes a nano-USD more from the grants."""
    settle = credit_closing.settle

    def greedy(*args: Any, more_nano: int, **kwargs: Any) -> Any:
        return settle(*args, more_nano=more_nano + 1, **kwargs)

    monkeypatch.setattr(credit_closing, "settle", greedy)

    found = ready.run(1, size=10).findings
    assert any(each.startswith(("grant", "invoice")) for each in found)


def test_a_rating_again_that_is_off_is_found(ready: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation can fail: here every adjustment is a nano-USD too dear."""
    amount = rerating._amount
    monkeypatch.setattr(rerating, "_amount", lambda *args: amount(*args) + 1)

    assert any(each.startswith("event") for each in ready.run(0, size=10).findings)
