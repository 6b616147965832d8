"""Slots, maps and redirections."""

from __future__ import annotations

import pytest
from fixtures_cluster import Cluster

from metering.redis_keys import RedisKeys
from metering.redis_slots import SlotMap, SlotRange, read_redirect, read_slots, slot_of

ASKED = ("10.0.0.1", 7000)


@pytest.mark.parametrize(
    "key",
    ["", "123456789", "weir:meta", "weir:{s3}:epoch", "{}x", "a{}{b}", "{{a}}", "a{b", "ключ{é}"],
)
def test_a_key_is_in_the_slot_that_redis_says(redis_cluster: Cluster, key: str) -> None:
    said = redis_cluster.masters[0].ask("CLUSTER", "KEYSLOT", key)

    assert slot_of(key) == slot_of(key.encode()) == said


def test_all_keys_of_a_shard_are_in_one_slot() -> None:
    keys = RedisKeys()
    of_shard = [keys.epoch(3), keys.stream(3), keys.dead(3), keys.tag(3)]

    assert len({slot_of(key) for key in of_shard}) == 1


def test_a_map_is_read_as_a_node_tells_it() -> None:
    """Masters by range, replicas apart; who has no name of its own is where we asked."""
    reply = [
        [0, 99, [b"10.0.0.2", 7001, b"id-a"], [b"10.0.0.3", 7002, b"id-b", []]],
        [100, 16383, [None, 7003, b"id-c", []], [b"?", 7004, b"id-d"], [b"", 7005, b"id-e"]],
    ]

    found = read_slots(reply, b"cluster_state:fail\r\ncluster_current_epoch:7\r\n", asked=ASKED)

    assert found.ranges == (
        SlotRange(0, 99, ("10.0.0.2", 7001), "id-a"),
        SlotRange(100, 16383, ("10.0.0.1", 7003), "id-c"),
    )
    assert found.replicas == {("10.0.0.3", 7002), ("10.0.0.1", 7004), ("10.0.0.1", 7005)}
    assert (found.epoch, found.is_ok, found.is_whole) == (7, False, True)


def test_a_map_with_a_gap_is_not_whole() -> None:
    assert not SlotMap((SlotRange(0, 16382, ASKED, "id"),)).is_whole
    assert not SlotMap(()).is_whole


@pytest.mark.parametrize(
    ("message", "slot", "address"),
    [
        ("MOVED 3999 127.0.0.1:6381", 3999, ("127.0.0.1", 6381)),
        ("ASK 5 redis-2.internal:7000", 5, ("redis-2.internal", 7000)),
        ("MOVED 5 ::1:7000", 5, ("::1", 7000)),
        ("MOVED 5 :7000", 5, ("10.0.0.1", 7000)),
        ("MOVED 5 ?:7000", 5, ("10.0.0.1", 7000)),
    ],
)
def test_a_redirection_names_slot_and_node(
    message: str, slot: int, address: tuple[str, int]
) -> None:
    assert read_redirect(message, asked=ASKED) == (slot, address)
