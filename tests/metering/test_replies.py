"""Replies that are kept: one suite for memory and Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.memory_replies import MemoryReplies
from metering.redis_connect import open_runner
from metering.redis_keys import RedisKeys
from metering.redis_replies import RedisReplies
from metering.replies import (
    ENTRY_BYTES,
    Bounds,
    ClaimState,
    Kind,
    Replies,
    Reply,
    RequestClaim,
    Shelf,
    decode_reply,
    encode_reply,
)

MINE = Shelf("replies", "acme")
ROOM = Bounds(1_000_000, 1_000_000, 1_000_000)
HELLO = Reply(200, b"\x00hello\n\xff", True, {"x-weir-model": "m"}, {"units": {"a": 1}})
CLAIM = RequestClaim("acme", "key", "d" * 64, "first")


@pytest.fixture(params=["memory", "redis_server", "redis_62_server", "redis_cluster"])
async def replies(request: pytest.FixtureRequest, redis_keys: RedisKeys) -> AsyncIterator[Replies]:
    """A store, empty."""
    if request.param == "memory":
        yield MemoryReplies()
        return
    server = request.getfixturevalue(request.param)
    async with open_runner(server.url, timeout_ms=5_000) as link:
        await link.wait_up(5)
        yield RedisReplies(link, redis_keys)


async def test_what_was_kept_is_found(replies: Replies) -> None:
    """To the byte, with everything that was said of it."""
    assert await replies.find(MINE, "n") is None
    assert await replies.keep(MINE, "n", HELLO, ttl_ms=60_000, bounds=ROOM) == 0

    found = await replies.find(MINE, "n")

    assert found is not None
    assert found.reply == HELLO
    assert 0 <= found.age_ms < 10_000


async def test_what_is_held_is_counted(replies: Replies) -> None:
    """By kind, over all shards: at least the answer and what is allowed for an entry."""

    async def held(kind: Kind) -> int:
        return sum([await replies.held(kind, shard) for shard in range(16)])

    before = await held("replies")
    await replies.keep(MINE, "n", HELLO, ttl_ms=60_000, bounds=ROOM)

    assert before == 0
    assert await held("replies") >= len(encode_reply(HELLO)) + ENTRY_BYTES
    assert await held("repeats") == 0


async def test_shelves_are_apart(replies: Replies) -> None:
    """Nobody finds what another keeps: another tenant, a pool of the same name, another kind."""
    await replies.keep(MINE, "n", HELLO, ttl_ms=60_000, bounds=ROOM)

    for shelf in (
        Shelf("replies", "other"),
        Shelf("replies", "acme", is_pool=True),
        Shelf("repeats", "acme"),
    ):
        assert await replies.find(shelf, "n") is None


async def test_a_reply_ends(replies: Replies) -> None:
    """What is kept for no time at all is not found."""
    await replies.keep(MINE, "n", HELLO, ttl_ms=0, bounds=ROOM)

    assert await replies.find(MINE, "n") is None


async def test_what_is_nearest_to_its_end_makes_room(replies: Replies) -> None:
    """Of the owner first, then of everybody on the shelf; too large is never kept."""
    size = len(encode_reply(HELLO)) + ENTRY_BYTES
    bounds = Bounds(shard=3 * size, owner=2 * size, entry=size)
    other = Shelf("replies", "acme", is_pool=True)  # another owner in the same shard
    await replies.keep(MINE, "a", HELLO, ttl_ms=10_000, bounds=bounds)
    await replies.keep(other, "a", HELLO, ttl_ms=20_000, bounds=bounds)
    await replies.keep(MINE, "b", HELLO, ttl_ms=30_000, bounds=bounds)

    assert await replies.keep(MINE, "c", HELLO, ttl_ms=40_000, bounds=bounds) == 1
    assert await replies.find(MINE, "a") is None
    assert await replies.find(other, "a") is not None
    assert await replies.keep(other, "b", HELLO, ttl_ms=50_000, bounds=bounds) == 1
    assert await replies.find(other, "a") is None
    assert await replies.keep(MINE, "d", HELLO, ttl_ms=1, bounds=Bounds(10, 10, 10)) is None
    large = Bounds(10 * size, 10 * size, size - 1)
    assert await replies.keep(MINE, "d", HELLO, ttl_ms=1, bounds=large) is None


async def test_kept_again_takes_its_own_place(replies: Replies) -> None:
    """A newer reply of the same name counts once."""
    size = len(encode_reply(HELLO)) + ENTRY_BYTES
    bounds = Bounds(2 * size, 2 * size, size)
    for _ in range(5):
        assert await replies.keep(MINE, "a", HELLO, ttl_ms=10_000, bounds=bounds) == 0

    assert await replies.keep(MINE, "b", HELLO, ttl_ms=10_000, bounds=bounds) == 0
    assert await replies.find(MINE, "a") is not None


async def test_a_claim(replies: Replies) -> None:
    """One has it; others are told that it is busy, or another request; in the end it is done."""
    second = _by("second")
    other = RequestClaim("acme", "key", "e" * 64, "third")
    assert (await replies.claim(CLAIM)).state is ClaimState.FREE
    assert (await replies.claim(CLAIM)).state is ClaimState.FREE
    assert (await replies.claim(second)).state is ClaimState.BUSY
    assert (await replies.claim(other)).state is ClaimState.OTHER
    assert await replies.hold(CLAIM)
    assert not await replies.hold(second)

    assert await replies.end(CLAIM, HELLO, ttl_ms=60_000, bounds=ROOM)

    done = await replies.claim(second)
    assert done.state is ClaimState.DONE
    assert done.found is not None
    assert done.found.reply == HELLO
    assert (await replies.claim(other)).state is ClaimState.OTHER
    assert not await replies.hold(CLAIM)


def _by(token: str) -> RequestClaim:
    return RequestClaim(CLAIM.tenant, CLAIM.name, CLAIM.digest, token)


async def test_a_claim_that_is_dropped_is_free(replies: Replies) -> None:
    """For anybody, and for another request as well."""
    await replies.claim(CLAIM)

    assert await replies.hold(CLAIM, ttl_ms=0)

    assert (await replies.claim(_by("second"))).state is ClaimState.FREE


async def test_a_claim_lapses(replies: Replies) -> None:
    """A process that died keeps nobody out for long."""
    await replies.claim(CLAIM)
    await replies.hold(CLAIM, ttl_ms=1)

    state = ClaimState.BUSY
    while state is ClaimState.BUSY:
        state = (await replies.claim(_by("second"))).state

    assert state is ClaimState.FREE
    assert not await replies.hold(CLAIM)


async def test_claims_of_tenants_are_apart(replies: Replies) -> None:
    """The same key means nothing to another tenant."""
    await replies.claim(CLAIM)

    theirs = RequestClaim("other", CLAIM.name, CLAIM.digest, "second")

    assert (await replies.claim(theirs)).state is ClaimState.FREE


async def test_of_a_large_answer_is_known_that_it_was(replies: Replies) -> None:
    """It is not kept, and the request is done all the same."""
    await replies.claim(CLAIM)
    large = Reply(200, b"x" * 5000, False)

    assert await replies.end(CLAIM, large, ttl_ms=60_000, bounds=Bounds(9999, 9999, 2000))

    done = await replies.claim(_by("second"))
    assert (done.state, done.found) == (ClaimState.DONE, None)


@given(
    reply=st.builds(
        Reply,
        st.integers(100, 599),
        st.binary(max_size=200),
        st.booleans(),
        st.dictionaries(st.text(max_size=5), st.text(max_size=5)),
        st.dictionaries(st.text(max_size=5), st.integers(0, 9)),
    )
)
def test_a_reply_is_read_as_it_was_written(reply: Reply) -> None:
    """Whatever bytes it has."""
    assert decode_reply(encode_reply(reply, "d")) == ("d", reply)


@pytest.mark.parametrize("stored", [b"", b"[]\n", b'{"status":"x"}\n', b"nonsense"])
def test_what_is_no_reply(stored: bytes) -> None:
    """Another version's, or a stranger's, is an error of its own."""
    with pytest.raises((ValueError, orjson.JSONDecodeError)):
        decode_reply(stored)
