"""Processes that book payments are killed with SIGKILL: the credit is the money all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures_ledger import new_ledger
from fixtures_payments import USD, Till

from metering.settlement.ledger.verify import verify

MINUTE = 60_000_000_000
PROGRAM = Path(__file__).parent / "programs" / "payments_booker.py"


def _start(till: Till, folder: Path) -> subprocess.Popen[str]:
    words = [f"sqlite:///{folder / 'ledger.db'}", till.settings.api_base, str(till.clock())]
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


@pytest.mark.slow(120)
@pytest.mark.timeout(240)
def test_a_kill_at_each_step_costs_nothing(tmp_path: Path) -> None:
    """The n-th process is killed at its n-th step, with a payment and a refund under way."""
    till = Till(new_ledger(tmp_path))
    till.turn()
    steps: list[str] = []
    for count in range(1, 9):
        till.clock.now_ns += 5 * MINUTE
        payment = till.stripe.pay(1_000)
        till.stripe.refund(payment, 400)
        till.call_back()
        process = _start(till, tmp_path)
        assert process.stdout is not None
        for _ in range(count):
            last = process.stdout.readline().strip()
        steps.append(last)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    for _ in range(3):
        till.turn(later=20 * MINUTE)

    assert {"taken", "asked", "fetched", "booking", "booked"} <= set(steps)
    assert till.left() == 8 * 6 * USD
    assert verify(till.ledger) == []
    till.server.stop()
    till.ledger.close()
