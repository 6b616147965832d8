"""Admission without Redis: bounded, told, and forgotten once Redis has it."""

from __future__ import annotations

from typing import Literal

import pytest
from caps_samples import ask, hold, stairs
from hypothesis import given
from hypothesis import strategies as st
from outage_samples import CAP, Redis, Site

from metering.caps import (
    AdmittedBy,
    CapsNotAskedError,
    CapsUnavailableError,
    CommitResult,
    Hold,
    Reservation,
    Vector,
)
from metering.outage_caps import LOCAL_MAX
from metering.redis_wire import RedisReplyError


async def test_closed_admits_nobody_and_says_that_nothing_was_sent() -> None:
    site = Site("closed")
    await site.spend(1)
    site.redis.is_up = False

    refused = await site.reserve(hold(CAP), ask(1))

    assert isinstance(refused, CapsNotAskedError)
    assert (site.caps.counts.refused, site.caps.counts.admitted) == (1, 0)


async def test_local_admits_up_to_the_share_of_what_was_left() -> None:
    """700 of 1,000 left, a tenth of it among two processes: 35, and not one more."""
    site = Site(processes=2)
    await site.spend(300)
    site.redis.is_up = False

    first = await site.reserve(hold(CAP), ask(30))
    beyond = await site.reserve(hold(CAP), ask(6))
    last = await site.reserve(hold(CAP), ask(5))

    assert isinstance(first, Reservation)
    assert (first.admitted_by, first.states[0].held.nano) == (AdmittedBy.LOCAL, 30)
    assert isinstance(beyond, CapsUnavailableError)
    assert isinstance(last, Reservation)


async def test_who_was_not_seen_gets_nothing() -> None:
    site = Site()
    site.redis.is_up = False

    assert isinstance(await site.reserve(hold(CAP), ask(1)), CapsUnavailableError)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["reserve", "commit", "spool", "flap"]),
            st.integers(0, 1),
            st.integers(0, 60),
        ),
        max_size=40,
    ),
    st.integers(0, 1_000_000),
)
async def test_the_slices_never_pass_the_share(
    steps: list[tuple[str, int, int]], share_ppm: int
) -> None:
    """Whatever two processes do while Redis comes and goes: local spend is within the share of
    what was left when they last saw it, and the cap is never passed by more than share * limit."""
    redis = Redis()
    sites = [Site(redis=redis, processes=2, share_ppm=share_ppm) for _ in range(2)]
    for site in sites:
        await site.spend(100)
    redis.is_up = False
    open_now: list[tuple[Site, Hold, int]] = []
    local: dict[Site, int] = dict.fromkeys(sites, 0)
    for verb, index, nano in steps:
        if verb == "reserve":
            what = hold(CAP)
            answer = await sites[index].reserve(what, ask(nano))
            if isinstance(answer, Reservation):
                open_now.append((sites[index], what, nano))
                local[sites[index]] += nano
        elif verb == "flap":  # Redis is back for one request of one process
            redis.is_up = True
            await sites[index].spend(nano)
            redis.is_up = False
        elif open_now:
            site, what, held = open_now.pop()
            with pytest.raises(CapsUnavailableError):
                await site.caps.commit(what, Vector(min(nano, held)), ())
            local[site] -= held - min(nano, held)

    slice_nano = 900 * share_ppm // 1_000_000 // 2  # what the first to look saw left
    assert all(spent <= slice_nano for spent in local.values())
    assert sum(local.values()) <= 1_000 * share_ppm // 1_000_000


async def test_what_was_used_counts_until_redis_has_it() -> None:
    """Coming and going gives nobody a second share; a replayed commit frees it."""
    site = Site()
    await site.spend(0)
    site.redis.is_up = False
    what = hold(CAP)
    await site.reserve(what, ask(100))
    with pytest.raises(CapsUnavailableError):
        await site.caps.commit(what, Vector(80), ())
    room = await site.reserve(hold(CAP), ask(21))

    site.redis.is_up = True
    await site.spend(0)
    site.redis.is_up = False
    before = await site.reserve(hold(CAP), ask(21))
    site.redis.is_up = True
    await site.caps.commit(what, Vector(80), ())
    site.redis.is_up = False
    after = await site.reserve(hold(CAP), ask(92))

    assert isinstance(room, CapsUnavailableError)
    assert isinstance(before, CapsUnavailableError)
    assert isinstance(after, Reservation)  # a tenth of the 920 that are left


async def test_a_finished_replay_clears_what_it_skipped() -> None:
    """A record that the ledger had already is not committed again, and holds nothing up once an
    answer of Redis shows what was spent."""
    site = Site()
    await site.spend(0)
    site.redis.is_up = False
    what = hold(CAP)
    await site.reserve(what, ask(100))
    with pytest.raises(CapsUnavailableError):
        await site.caps.commit(what, Vector(100), ())

    site.caps.replayed()
    by_old_numbers = await site.reserve(hold(CAP), ask(1))
    site.redis.is_up = True
    await site.spend(0)
    site.redis.is_up = False

    assert isinstance(by_old_numbers, CapsUnavailableError)
    assert isinstance(await site.reserve(hold(CAP), ask(100)), Reservation)


async def test_a_commit_that_was_applied_unseen_frees_no_second_slice() -> None:
    """F-10: its repeat says nothing of where the caps stand; the old numbers offer the slice again
    each time that Redis comes and goes."""
    site = Site()
    await site.spend(0)
    site.redis.is_up = False
    spent = 0

    for _ in range(12):
        what = hold(CAP)
        if isinstance(await site.reserve(what, ask(90)), CapsUnavailableError):
            break
        site.redis.is_up = site.redis.is_silent = True
        with pytest.raises(CapsUnavailableError):
            await site.caps.commit(what, Vector(90), ())
        spent += 90
        site.redis.is_silent = False
        replayed = await site.caps.commit(what, Vector(90), ())
        site.caps.replayed()
        site.redis.is_up = False
        assert replayed.result is CommitResult.REPEAT

    assert spent == 90  # a tenth of 1,000 is all that there is


async def test_what_is_one_tenants_is_no_outage_of_others() -> None:
    """Redis answers, and refuses one tenant's keys: that is told once, and the others are not
    served as if it were away."""
    site = Site()
    await site.spend(0)
    site.redis.broken.add("odd")

    refused = [await site.reserve(hold(CAP, tenant="odd"), ask(1)) for _ in range(3)]
    served = await site.reserve(hold(CAP), ask(500))
    away = site.caps.is_away
    site.redis.broken.clear()
    mended = await site.reserve(hold(CAP, tenant="odd"), ask(1))
    site.redis.broken.add("odd")
    local = await site.reserve(hold(CAP, tenant="odd"), ask(1))

    assert {type(each) for each in refused} == {RedisReplyError}  # it may have held: give it back
    assert isinstance(served, Reservation)
    assert (site.said, away, site.caps.counts.outages) == ([], False, 0)
    assert isinstance(mended, Reservation)
    assert isinstance(local, Reservation)
    assert local.admitted_by is AdmittedBy.LOCAL
    assert site.broken == ["odd", "odd"]


async def test_what_still_waits_on_disk_after_a_replay_counts() -> None:
    """Its record came after the replay began, or was refused: Redis does not have it."""
    site = Site()
    await site.spend(0)
    site.redis.is_up = False
    what = hold(CAP)
    await site.reserve(what, ask(100))
    with pytest.raises(CapsUnavailableError):
        await site.caps.commit(what, Vector(100), ())

    site.caps.replayed({what.exchange_id})

    assert isinstance(await site.reserve(hold(CAP), ask(1)), CapsUnavailableError)


async def test_thresholds_keep_their_meaning() -> None:
    """At 0.5 of the cap, by what was known last, the dear candidate is passed over."""
    site = Site()
    await site.spend(500)
    site.redis.is_up = False

    answer = await site.reserve(hold(CAP), ask(2), ask(1, stage=1), stairs=stairs(0.5))

    assert isinstance(answer, Reservation)
    assert (answer.index, answer.stage) == (1, 1)


async def test_open_admits_everybody_once_told() -> None:
    """Unseen or over the cap; but who was paused when last seen stays out."""
    site = Site("open")
    site.redis.model.flags["paused"] = {"paused"}
    await site.reserve(hold(CAP, tenant="paused"), ask(1))
    site.redis.is_up = False

    answers = [await site.reserve(hold(CAP, tenant="new"), ask(5_000)) for _ in range(3)]
    paused = await site.reserve(hold(CAP, tenant="paused"), ask(1))
    site.redis.is_up = True
    await site.spend(1)

    assert {getattr(each, "admitted_by", None) for each in answers} == {AdmittedBy.OPEN}
    assert isinstance(paused, CapsUnavailableError)
    assert site.said == ["away", None]
    assert (site.caps.counts.outages, site.caps.counts.admitted) == (1, 3)


@pytest.mark.parametrize("mode", ["local", "open"])
async def test_what_could_not_be_recorded_is_not_begun(mode: Literal["local", "open"]) -> None:
    """F-24: with Redis away and a spool that cannot be written, nobody is admitted."""
    site = Site(mode)
    await site.spend(0)
    site.redis.is_up = False
    site.is_recordable = False

    assert isinstance(await site.reserve(hold(CAP), ask(1)), CapsUnavailableError)


async def test_a_silent_redis_may_have_held_and_is_told() -> None:
    """F-07: an exchange admitted here ends the hold that was placed unseen, too."""
    site = Site()
    await site.spend(0)
    site.redis.is_silent = True
    what = hold(CAP)

    answer = await site.reserve(what, ask(50))
    refused = await site.reserve(hold(CAP), ask(500))
    site.redis.is_silent = False
    held = dict(site.redis.model.records)
    await site.caps.release(what)

    assert isinstance(answer, Reservation)
    assert type(refused) is CapsUnavailableError  # it was asked: the caller gives it back
    assert (what.tenant, what.exchange_id) in held
    assert (what.tenant, what.exchange_id) not in site.redis.model.records


async def test_an_exchange_that_outlives_the_outage_is_held_in_redis() -> None:
    site = Site()
    await site.spend(0)
    site.redis.is_up = False
    what = hold(CAP)
    await site.reserve(what, ask(60))
    kept = await site.caps.renew(what, ttl_ms=1_000)

    site.redis.is_up = True
    again = await site.caps.renew(what, ttl_ms=1_000)
    site.redis.is_up = False
    room = await site.reserve(hold(CAP), ask(94))

    assert (kept.is_held, again.is_held) == (True, True)
    assert (what.tenant, what.exchange_id) in site.redis.model.records
    assert isinstance(room, Reservation)  # a tenth of the 940 that Redis has left


async def test_a_local_exchange_moves_within_the_slice() -> None:
    site = Site()
    await site.spend(0)
    site.redis.is_up = False
    what = hold(CAP)
    await site.reserve(what, ask(60))

    moved = await site.caps.swap(what, ask(90))
    with pytest.raises(CapsUnavailableError, match="no room"):
        await site.caps.swap(what, ask(101))
    room = await site.reserve(hold(CAP), ask(11))

    assert isinstance(moved, Reservation)
    assert isinstance(room, CapsUnavailableError)


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits to be known to Redis takes memory here, so there is a last one."""
    monkeypatch.setattr("metering.outage_caps.LOCAL_MAX", 2)
    site = Site("open")
    site.redis.is_up = False

    answers = [await site.reserve(hold(CAP), ask(1)) for _ in range(3)]

    assert [isinstance(each, Reservation) for each in answers] == [True, True, False]
    assert LOCAL_MAX > 2
