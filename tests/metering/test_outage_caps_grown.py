"""An exchange that Redis holds and that needs more while Redis is away."""

from __future__ import annotations

import pytest
from caps_samples import KEY, ask, cap, hold, shrinking
from hypothesis import given
from hypothesis import strategies as st
from outage_samples import CAP, Site

from metering.caps import (
    CapsUnavailableError,
    DenialReason,
    Hold,
    Reservation,
    Scope,
    ScopeKind,
    Vector,
)

RUN = Scope(ScopeKind.RUN, "r1")


async def held_in_redis(site: Site, nano: int, *, what: Hold | None = None) -> Hold:
    """Redis has admitted it, and is away now."""
    what = what or hold(CAP)
    await site.reserve(what, ask(nano))
    site.redis.is_up = False
    return what


def room(site: Site) -> int:
    """What another exchange could have of the slice."""
    fits = [n for n in range(1, 200) if site.caps.slices.choose(hold(CAP), [ask(n)], None)]
    return max(fits, default=0)


async def test_it_grows_out_of_the_slice_by_what_redis_does_not_hold() -> None:
    """A tenth of the 900 that were left: 50 of these 90 are gone, for the 100 are held already."""
    site = Site()
    what = await held_in_redis(site, 100)

    grown = await site.caps.swap(what, ask(150))

    assert isinstance(grown, Reservation)
    assert grown.vector == Vector(150, 0, 1)
    assert grown.states[0].held.nano == 150
    assert room(site) == 40


async def test_beyond_the_slice_it_stays_as_it_is() -> None:
    site = Site()
    what = await held_in_redis(site, 100)

    with pytest.raises(CapsUnavailableError):
        await site.caps.swap(what, ask(191))
    await site.caps.swap(what, ask(180))
    with pytest.raises(CapsUnavailableError):
        await site.caps.swap(what, ask(191))

    assert room(site) == 10


async def test_a_slice_of_a_stream_may_be_as_much_as_fits() -> None:
    """Asked for 200 tokens more, it gets the 90 that are there: of one nano each."""
    site = Site()
    what = hold(CAP)
    await site.reserve(what, shrinking(40, 60, rate_pico=1_000))
    site.redis.is_up = False

    grown = await site.caps.swap(what, shrinking(40, 260, rate_pico=1_000, least=100))
    with pytest.raises(CapsUnavailableError):
        await site.caps.swap(what, shrinking(40, 260, rate_pico=1_000, least=151))

    assert isinstance(grown, Reservation)
    assert grown.vector == Vector(190, 150, 1)


async def test_a_dearer_upstream_is_paid_for_with_the_output_so_far() -> None:
    """What is held already has become dearer, too, and no part of it may shrink away."""
    site = Site()
    what = hold(CAP)
    await site.reserve(what, shrinking(0, 60, rate_pico=1_000))
    site.redis.is_up = False

    with pytest.raises(CapsUnavailableError):
        await site.caps.swap(what, shrinking(0, 80, rate_pico=2_000, least=1))
    moved = await site.caps.swap(what, shrinking(0, 70, rate_pico=2_000, least=1))

    assert isinstance(moved, Reservation)
    assert moved.vector == Vector(140, 70, 1)


async def test_what_runs_takes_no_place_among_requests_and_those_at_once() -> None:
    """Two at once are allowed among two processes, and one request: it is that one."""
    site = Site(processes=2)
    bound = cap(1_000, scope=KEY, requests=2, concurrent=2)
    what = await held_in_redis(site, 100, what=hold(bound))

    grown = await site.caps.swap(what, ask(110))
    beside = await site.reserve(hold(cap(1_000, scope=KEY, concurrent=2)), ask(1))

    assert isinstance(grown, Reservation)
    assert isinstance(beside, Reservation)


async def test_redis_holds_all_of_it_at_the_next_renewal() -> None:
    """And the slice is whole again, by the numbers of that answer."""
    site = Site()
    what = await held_in_redis(site, 100)
    await site.caps.swap(what, ask(150))

    site.redis.is_up = True
    await site.caps.renew(what, ttl_ms=60_000)
    record = site.redis.model.records[what.tenant, what.exchange_id]
    site.redis.is_up = False

    assert record.vector == Vector(150, 0, 1)
    assert room(site) == 85
    assert isinstance(await site.caps.swap(what, ask(200)), Reservation)


async def test_what_was_lost_with_redis_is_placed_whole() -> None:
    """A Redis that comes back empty does not know the part that it held."""
    site = Site()
    what = await held_in_redis(site, 100)
    await site.caps.swap(what, ask(150))

    site.redis.is_up = True
    del site.redis.model.records[what.tenant, what.exchange_id]
    await site.caps.renew(what, ttl_ms=60_000)

    assert site.redis.model.records[what.tenant, what.exchange_id].vector.nano == 150


async def test_what_does_not_fit_afterwards_stays_here_and_is_billed() -> None:
    """Others took the room while Redis was back: its commit counts all of it all the same."""
    site = Site()
    what = await held_in_redis(site, 100)
    await site.caps.swap(what, ask(150))
    site.redis.is_up = True
    await site.reserve(hold(CAP), ask(880))

    kept = await site.caps.renew(what, ttl_ms=60_000)
    done = await site.caps.commit(what, Vector(140), ())

    assert kept.is_held
    assert done.states[0].spent.nano == 140


async def test_what_ended_without_redis_counts_until_its_numbers_show_it() -> None:
    """Beyond the part that Redis still has as held, and after the replay until it says so."""
    site = Site()
    what = await held_in_redis(site, 100)
    await site.caps.swap(what, ask(150))
    with pytest.raises(CapsUnavailableError):
        await site.caps.commit(what, Vector(130), ())
    ended = room(site)

    site.redis.is_up = True
    await site.caps.commit(what, Vector(130), ())
    site.redis.is_up = False

    assert ended == 60
    assert room(site) == 87  # a tenth of 870


async def test_who_was_stopped_meanwhile_is_told_when_redis_is_back() -> None:
    """A run that is killed in an outage ends at its first renewal after it, held here or there."""
    site = Site()
    what = await held_in_redis(site, 100, what=hold(CAP, stops=(RUN,)))
    await site.caps.swap(what, ask(150))
    local = hold(CAP, stops=(RUN,))
    await site.reserve(local, ask(10))
    site.redis.model.flags[what.tenant] = {"killed:run/r1"}

    site.redis.is_up = True
    stops = [await site.caps.renew(each, ttl_ms=60_000) for each in (what, local)]

    assert [(each.stop, each.scope) for each in stops] == [(DenialReason.KILLED, RUN)] * 2


async def test_closed_grows_nothing_and_open_everything() -> None:
    closed, opened = Site("closed"), Site("open")
    refused, admitted = await held_in_redis(closed, 100), await held_in_redis(opened, 100)

    with pytest.raises(CapsUnavailableError):
        await closed.caps.swap(refused, ask(101))
    grown = await opened.caps.swap(admitted, ask(5_000))

    assert isinstance(grown, Reservation)
    assert grown.vector == Vector(5_000, 0, 1)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 40), st.booleans()), max_size=25))
async def test_growing_never_passes_the_slice(steps: list[tuple[int, int, bool]]) -> None:
    """Streams of two, asked to grow by turns while Redis comes back now and then: each never has
    more beyond what Redis admitted than a tenth of what it last said was left."""
    site = Site()
    streams = [hold(CAP), hold(CAP)]
    have = [100, 100]
    for what in streams:
        await site.reserve(what, ask(100))
    for index, more, is_back in steps:
        site.redis.is_up = is_back
        try:
            answer = await site.caps.swap(streams[index], ask(have[index] + more))
        except CapsUnavailableError:
            pass
        else:
            assert isinstance(answer, Reservation) or sum(have) + more > 1_000
            have[index] += more if isinstance(answer, Reservation) else 0
        if is_back:
            for what in streams:
                await site.caps.renew(what, ttl_ms=60_000)
        known = sum(record.vector.nano for record in site.redis.model.records.values())
        assert sum(have) - known <= (1_000 - known) // 10


async def test_nothing_is_remembered_of_what_has_ended() -> None:
    """By a commit, by one that failed, or given back."""
    site = Site()
    ended, failed, unused = hold(CAP), hold(CAP), hold(CAP)
    for what in (ended, failed, unused):
        await site.reserve(what, ask(1))
    await site.caps.commit(ended, Vector(1), ())
    await site.caps.release(unused)
    site.redis.is_up = False
    with pytest.raises(CapsUnavailableError):
        await site.caps.commit(failed, Vector(1), ())

    assert len(site.caps._known) == 0
