"""The fault runner itself: after a short run every invariant holds.

Long runs are `make faults`; docs/reliability.md has their figures.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from fixtures_needs import need
from fixtures_weir import environment

ROOT = Path(__file__).parents[1]


def fault_run(*words: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "faults", "run", *words],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.stdout, done.stderr[-2000:]
    return done.returncode, orjson.loads(done.stdout)


@pytest.mark.slow(120)
@pytest.mark.timeout(120)
@pytest.mark.xdist_group("weir")
def test_four_kills_lose_nothing_and_double_nothing() -> None:
    """F-01, F-03, F-20: proxies and the worker die, deliveries come again; I1 to I10 hold."""
    need("redis-server")

    code, report = fault_run(
        *("--kills", "4", "--seed", "7", "--clients", "8", "--pause", "0.4", "--rest", "60"),
        *("--only", "kill-proxy", "--only", "kill-worker", "--only", "deliver-again"),
    )

    states = {each["id"]: each["state"] for each in report["invariants"]}
    assert states == dict.fromkeys(states, "holds"), report
    assert (code, report["ok"]) == (0, True)
    assert report["killed"] >= 4
    assert report["outcomes"]["complete"] > 0
    assert report["events"]["events"] >= report["outcomes"]["complete"]
