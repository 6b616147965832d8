"""The whole path over a Redis Cluster: `weir serve`, its worker and its ledger."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fixtures_cluster import HOST, Cluster, Node, clustered
from steady_callers import TENANTS, calling, settled

from metering.redis_keys import RedisKeys
from metering.redis_slots import slot_of

pytestmark = [pytest.mark.timeout(60), pytest.mark.xdist_group("weir")]

KEYS = RedisKeys()
FAILOVER_NODE_TIMEOUT_MS = 1_000
LOSS_S = 1.0
"""What asynchronous replication may lose: what was acknowledged so shortly before the kill."""


def move(cluster: Cluster, tenant: str) -> Node:
    """Move the slot of a tenant's shard, with its keys, to another master."""
    slot, source = slot_of(KEYS.of(tenant)), cluster.owner(KEYS.of(tenant))
    target = next(node for node in cluster.masters if node is not source)
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
    # One key after the other, so that requests come upon a slot that is half here and half there.
    while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1):
        source.ask("MIGRATE", HOST, target.port, "", 0, 5_000, "KEYS", *keys)
    for node in (target, source):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", target.id)
    return target


def test_slots_move_while_requests_run(redis_cluster: Cluster, tmp_path: Path) -> None:
    """A request of the shard is served, or refused by name; none is lost or counted twice."""
    with calling(tmp_path, redis_cluster.url) as callers:
        for tenant in TENANTS[:3]:
            moved_to = move(redis_cluster, tenant)
            callers.until_served(*TENANTS, since_s=time.monotonic())
            assert redis_cluster.owner(KEYS.of(tenant)) is moved_to
        callers.stop.set()
        time.sleep(0.2)  # the last answers

        booked = settled(callers.weir)

    served = callers.served()
    assert {status for _, status in callers.statuses()} <= {200, 503}
    assert set(booked.values()) == {1}
    assert {answer.request_id for answer in served} - booked.keys() == set()


def test_f_09_a_master_dies_and_its_replica_takes_over(tmp_path: Path) -> None:
    """F-09: its tenants are served again in time, the others all along; nothing counts twice."""
    with (
        clustered(
            replicas=3,
            cluster_node_timeout=str(FAILOVER_NODE_TIMEOUT_MS),
            cluster_require_full_coverage="no",
        ) as cluster,
        calling(tmp_path, cluster.url) as callers,
    ):
        dying = cluster.owner(KEYS.of(TENANTS[0]))
        struck = [tenant for tenant in TENANTS if cluster.owner(KEYS.of(tenant)) is dying]
        spared = [tenant for tenant in TENANTS if tenant not in struck]

        dying.kill()
        killed_s = time.monotonic()
        back_s = callers.until_served(*struck, since_s=killed_s) - killed_s
        callers.until_served(*TENANTS, since_s=time.monotonic())
        callers.stop.set()
        time.sleep(0.2)  # the last answers
        booked = settled(callers.weir)

    print(f"\nrequests of a killed master's shards resumed after {back_s:.2f} s")
    statuses = callers.statuses(since_s=killed_s)
    lost = [answer for answer in callers.served() if answer.request_id not in booked]
    assert spared
    assert [statuses[tenant, 503] for tenant in spared] == [0] * len(spared)
    assert back_s <= 3 * FAILOVER_NODE_TIMEOUT_MS / 1000
    assert set(booked.values()) == {1}
    assert all(killed_s - LOSS_S < answer.done_s <= killed_s for answer in lost)
