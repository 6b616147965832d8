"""The whole path over a master that Sentinels watch: `weir serve`, its worker and its ledger."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fixtures_cluster import DOWN_AFTER_MS, Watched
from steady_callers import TENANTS, calling, settled

pytestmark = [pytest.mark.timeout(60), pytest.mark.xdist_group("weir")]

LOSS_S = 1.0
"""What asynchronous replication may lose: what was acknowledged so shortly before the failover."""
BACK_S = DOWN_AFTER_MS / 1000 + 5.0
"""The Sentinels notice, elect one of them (which waits up to a second) and promote."""


def test_f_09_the_master_dies_and_its_replica_takes_over(
    own_watched: Watched, tmp_path: Path
) -> None:
    """F-09: every tenant is served again without a restart, and nothing counts twice."""
    with calling(tmp_path, own_watched.url) as callers:
        own_watched.master().kill()
        killed_s = time.monotonic()
        back_s = callers.until_served(*TENANTS, since_s=killed_s) - killed_s
        callers.stop.set()
        time.sleep(0.2)  # the last answers
        booked = settled(callers.weir)

    print(f"\nrequests resumed {back_s:.2f} s after the master was killed")
    lost = [answer for answer in callers.served() if answer.request_id not in booked]
    assert back_s <= BACK_S
    assert {status for _, status in callers.statuses()} <= {200, 503}
    assert set(booked.values()) == {1}
    assert all(killed_s - LOSS_S < answer.done_s <= killed_s for answer in lost)
