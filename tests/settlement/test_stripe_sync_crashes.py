"""Deaths at every step, lost answers, stragglers, jumps: Stripe has the ledger's total."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures_ledger import new_ledger
from fixtures_stripe import HOUR, METERS, Bench
from sqlalchemy import func, select

from metering.events import Kind
from metering.settlement.ledger.stripe_tables import stripe_hour
from metering.settlement.stripe_port import StripeAwayError
from metering.stripe_settings import StripeMode

STEPS = ("leased", "surveyed", "followed", "frozen", "answered", "noted", "looked", "done")
TROUBLES = (
    *("409", "429", "500_before", "500_after"),
    *("drop_before", "drop_after", "straggles"),
)
MINUTE = 60_000_000_000
PROGRAM = Path(__file__).parent / "programs" / "stripe_syncer.py"


class DeadError(BaseException):
    """The process died here."""


def _die_after(count: int):
    left = count

    def at(_step: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise DeadError

    return at


def _heal(bench: Bench) -> None:
    """Nothing goes wrong any more: everything is sent, then compared."""
    bench.stripe.trouble = lambda _number: None
    bench.sync = bench.new_sync("last")
    for _ in range(40):
        turn = bench.turn(later=11 * MINUTE)
        bench.stripe.deliver_late()
        if turn.had_lease and not turn.waiting:
            break
    bench.turn(later=2 * HOUR, verify=True)


@pytest.mark.slow(60)
@pytest.mark.timeout(180)
@pytest.mark.parametrize("mode", list(StripeMode))
def test_a_death_at_each_step_costs_nothing(mode: StripeMode, tmp_path: Path) -> None:
    """The first turn dies at its n-th step, for every n; the next process goes on from there."""
    died = 0
    for count in range(60):
        folder = tmp_path / str(count)
        folder.mkdir()
        bench = Bench(new_ledger(folder), mode)
        bench.use()
        bench.use(tenant="beta", occurred_at=bench.clock() - 3 * HOUR)
        sync = bench.new_sync("first", at=_die_after(count))
        try:
            sync.turn(verify=True)
        except DeadError:
            died += 1
            bench.use()
            _heal(bench)

        assert bench.have() == bench.want(), count
        bench.stripe.stop()
        bench.ledger.close()
        if died <= count:
            break

    assert died == count >= 15


@pytest.mark.slow(60)
@pytest.mark.timeout(180)
@pytest.mark.parametrize("recent", ["arrival", "timestamp"])
@pytest.mark.parametrize("mode", list(StripeMode))
@pytest.mark.parametrize("seed", range(2))
def test_stripe_has_what_the_ledger_has(
    seed: int, mode: StripeMode, recent: str, tmp_path: Path
) -> None:
    """After any mixture of usage, corrections, troubles, deaths and jumps of the clock."""
    chance = random.Random(f"{seed} {mode} {recent}")
    bench = Bench(new_ledger(tmp_path), mode)
    bench.stripe.most_recent_by = recent
    bench.stripe.trouble = lambda _number: (
        chance.choice(TROUBLES) if chance.random() < 0.4 else None
    )
    events = []
    for number in range(25):
        events += [_use(bench, chance) for _ in range(chance.randrange(3))]
        if events and chance.random() < 0.2:
            _take_back(bench, events.pop(chance.randrange(len(events))))
        if chance.random() < 0.5:
            bench.sync = bench.new_sync(f"p{number}", at=_die_after(chance.randrange(1, 40)))
        later = chance.choice([MINUTE, 3 * MINUTE, HOUR, 26 * HOUR])
        if later > HOUR:  # no request is on its way for a day
            bench.stripe.deliver_late()
        try:
            bench.turn(later=later, verify=chance.random() < 0.2)
        except (DeadError, StripeAwayError):
            bench.sync = bench.new_sync(f"n{number}")
        if chance.random() < 0.5:
            bench.stripe.deliver_late()
    bench.stripe.deliver_late()
    _heal(bench)

    assert bench.have() == bench.want()
    assert bench.stripe.collisions == 0
    assert len(bench.stripe.seen) > 5
    bench.stripe.stop()
    bench.ledger.close()


def _use(bench: Bench, chance: random.Random):
    return bench.use(
        tenant=chance.choice(["acme", "beta", "nobody"]),
        occurred_at=bench.clock() - chance.randrange(4) * HOUR,
        units={"input_uncached": chance.randrange(1, 9_999), "api_call": 1},
    )


def _take_back(bench: Bench, event) -> None:
    bench.use(
        kind=Kind.CORRECTION,
        tenant=event.tenant,
        corrects=event.event_id,
        units={unit: -amount for unit, amount in event.units.items()},
        occurred_at=event.occurred_at,
        admission_nano=-event.admission_nano,
        cost_nano=-event.cost_nano,
    )


@pytest.mark.slow(60)
@pytest.mark.timeout(180)
@pytest.mark.parametrize("mode", list(StripeMode))
def test_kill_nine_costs_nothing(mode: StripeMode, tmp_path: Path) -> None:
    """A real process is killed again and again while it sends over a real socket."""
    chance = random.Random(str(mode))
    bench = Bench(new_ledger(tmp_path), mode)
    for hours in range(30):
        bench.use(occurred_at=bench.clock() - hours * HOUR)
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    command = [sys.executable, str(PROGRAM), url, bench.settings.api_base, str(mode)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    kills = 0
    for number in range(8):
        process = subprocess.Popen(
            [*command, str(bench.clock()), f"p{number}"], env=environment, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(chance.randrange(4, 30)):
            if not process.stdout.readline():
                break
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        bench.use(occurred_at=bench.clock() - chance.randrange(20) * HOUR)
        bench.clock.now_ns += 3 * MINUTE
    _heal(bench)

    assert kills >= 5
    assert bench.have() == bench.want()
    with bench.ledger.read() as connection:
        sums = select(func.sum(stripe_hour.c.acked)).group_by(stripe_hour.c.event_name)
        told = sorted(int(each) for each in connection.execute(sums).scalars())
    assert told == sorted(bench.have()["cus_acme", each.event_name] for each in METERS)
    bench.stripe.stop()
    bench.ledger.close()
