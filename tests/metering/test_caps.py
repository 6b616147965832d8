"""The contract of `Caps`, held by memory, by Redis 6.2 and 7, by a Cluster."""

from __future__ import annotations

from dataclasses import replace

import pytest
from caps_samples import (
    DAY_MS,
    KEY,
    MINUTE_MS,
    NOW_MS,
    SHORT,
    Subject,
    ask,
    cap,
    hold,
    stairs,
)
from fixtures_caps import TTL_MS, denied, held, reserve, spend

from metering.caps import (
    Commit,
    CommitResult,
    Denial,
    DenialReason,
    HoldEndedError,
    Reservation,
    Vector,
)


async def test_a_hold_is_placed_in_every_scope_and_given_back_by_the_commit(
    subject: Subject,
) -> None:
    """What was held is replaced by what was used, in each scope."""
    exchange = hold(cap(1_000), cap(500, scope=KEY, requests=3))

    before = await held(subject, exchange, ask(300, 20))
    after = await subject.caps.commit(exchange, Vector(250, 15, 1), [b'{"a":1}', b'{"b":2}'])

    assert [state.held for state in before.states] == [Vector(300, 20, 1)] * 2
    assert [state.spent for state in before.states] == [Vector()] * 2
    assert after.result is CommitResult.COMMITTED
    assert [state.held for state in after.states] == [Vector()] * 2
    assert [state.spent for state in after.states] == [Vector(250, 15, 1)] * 2
    assert await subject.events("acme") == [b'{"a":1}', b'{"b":2}']


async def test_nothing_is_held_when_one_scope_refuses(subject: Subject) -> None:
    """All or nothing: the tenant keeps its room when the key has none."""
    wide, narrow = cap(1_000), cap(100, scope=KEY)

    refused = await denied(subject, hold(wide, narrow), ask(200))
    after = await held(subject, hold(wide, narrow), ask(100))

    assert refused.reason is DenialReason.NEVER
    assert refused.state is not None
    assert refused.state.cap == narrow
    assert [state.held.nano for state in after.states] == [100, 100]


async def test_the_first_candidate_that_fits_is_admitted(subject: Subject) -> None:
    """Candidates are tried in the order they were ranked."""
    answer = await held(subject, hold(cap(100)), ask(200), ask(150), ask(90), ask(10))

    assert (answer.index, answer.stage) == (2, 0)


async def test_a_candidate_is_passed_over_from_its_share_on(subject: Subject) -> None:
    """The share is compared with spent + held before this request, and reaching it is enough."""
    bound = cap(1_000)
    dear, cheap, near = ask(100), ask(10, stage=1), stairs(0.8)

    await spend(subject, bound, nano=699)
    below = await held(subject, hold(bound), dear, cheap, stairs=near)
    await spend(subject, bound, nano=1)
    reached = await held(subject, hold(bound), dear, cheap, stairs=near)

    assert (below.index, below.stage) == (0, 0)
    assert (reached.index, reached.stage) == (1, 1)


async def test_when_only_the_share_is_in_the_way_the_denial_says_when_it_is_free(
    subject: Subject,
) -> None:
    """A threshold is a limit like any other, and a day has an end."""
    bound = cap(1_000)
    await spend(subject, bound, nano=500)

    answer = await denied(subject, hold(bound), ask(100), stairs=stairs(0.5))

    assert answer.reason is DenialReason.SPENT
    assert answer.state is not None
    assert answer.state.reset_ms == (NOW_MS // 300_000 + 289) * 300_000


@pytest.mark.parametrize(
    ("spent", "others", "asked", "reason"),
    [
        pytest.param(0, 0, 1_001, DenialReason.NEVER, id="larger than the cap"),
        pytest.param(600, 0, 401, DenialReason.SPENT, id="spent"),
        pytest.param(600, 300, 401, DenialReason.SPENT, id="spent, holds aside"),
        pytest.param(600, 300, 200, DenialReason.HELD, id="held"),
    ],
)
async def test_a_denial_says_why(
    subject: Subject, spent: int, others: int, asked: int, reason: DenialReason
) -> None:
    """Spent is waited for, held is tried again, never is never."""
    bound = cap(1_000)
    await spend(subject, bound, nano=spent)
    await held(subject, hold(bound), ask(others))

    answer = await denied(subject, hold(bound), ask(asked))

    assert (answer.reason, answer.dimension) == (reason, "nano")
    assert answer.state is not None
    assert (answer.state.spent.nano, answer.state.held.nano) == (spent, others)
    assert (answer.state.reset_ms is not None) == (reason is DenialReason.SPENT)


async def test_a_denial_is_about_the_cheapest_candidate_and_its_hardest_cap(
    subject: Subject,
) -> None:
    """What a client is told is what stands in the way of the least it could ask for."""
    money, tokens = cap(1_000), cap(scope=KEY, tokens=50)
    await held(subject, hold(money, tokens), ask(950, 10))

    answer = await denied(subject, hold(money, tokens), ask(5_000, 10), ask(100, 60))

    assert (answer.reason, answer.dimension) == (DenialReason.NEVER, "tokens")
    assert answer.state is not None
    assert answer.state.cap == tokens


async def test_of_candidates_at_one_price_the_denial_is_about_the_first(subject: Subject) -> None:
    """The one that was ranked before the other."""
    bound = cap(10, tokens=5, requests=0)

    answer = await denied(subject, hold(bound), ask(20), ask(10, 9, 0), ask(10, 0, 1))
    turned = await denied(subject, hold(bound), ask(20), ask(10, 0, 1), ask(10, 9, 0))

    assert (answer.dimension, turned.dimension) == ("tokens", "requests")


async def test_it_fits_when_the_denial_said_it_would(subject: Subject) -> None:
    """Not a millisecond earlier, though older buckets leave before."""
    bound = cap(100, window=SHORT)
    for _ in range(3):
        await spend(subject, bound, nano=30)
        subject.clock.ms += 1_000
    first = await denied(subject, hold(bound), ask(50))
    assert first.state is not None
    assert first.state.reset_ms is not None

    subject.clock.ms = first.state.reset_ms - 1
    early = await reserve(subject, hold(bound), ask(50))
    subject.clock.ms += 1
    on_time = await reserve(subject, hold(bound), ask(50))

    assert isinstance(early, Denial)
    assert isinstance(on_time, Reservation)


async def test_a_repeated_reserve_holds_once_and_gives_the_first_answer(subject: Subject) -> None:
    """Also when what is asked again would now be refused."""
    exchange = hold(cap(100))
    first = await held(subject, exchange, ask(500), ask(100))

    again = await held(subject, exchange, ask(500), ask(100))

    assert (first.repeat, again.repeat) == (False, True)
    assert (again.index, again.states) == (first.index, first.states)


async def test_a_repeated_commit_adds_nothing(subject: Subject) -> None:
    """Neither amounts nor events."""
    exchange = hold(cap(100))
    await held(subject, exchange, ask(50))
    await subject.caps.commit(exchange, Vector(40, 0, 1), [b"{}"])

    again = await subject.caps.commit(exchange, Vector(40, 0, 1), [b"{}"])

    assert again == Commit(CommitResult.REPEAT)
    assert (await held(subject, hold(cap(100)), ask(0))).states[0].spent.nano == 40
    assert await subject.events("acme") == [b"{}"]


async def test_a_released_hold_is_room_again_and_an_ended_exchange_cannot_hold(
    subject: Subject,
) -> None:
    """A reserve that its own release overtook must not leave a hold behind."""
    exchange, unknown = hold(cap(100)), hold(cap(100))
    await held(subject, exchange, ask(100))

    for _ in range(2):
        await subject.caps.release(exchange)
    await subject.caps.release(unknown)

    for ended in (exchange, unknown):
        with pytest.raises(HoldEndedError):
            await reserve(subject, ended, ask(1))
    assert (await held(subject, hold(cap(100)), ask(100))).states[0].held.nano == 100


async def test_a_commit_after_a_release_is_taken(subject: Subject) -> None:
    """What was used was used, whatever was thought before."""
    exchange = hold(cap(100))
    await held(subject, exchange, ask(100))
    await subject.caps.release(exchange)

    late = await subject.caps.commit(exchange, Vector(30, 0, 1), [b"{}"])

    assert late.result is CommitResult.LATE
    assert late.states[0].spent.nano == 30


async def test_an_empty_store_is_not_a_new_tenant(subject: Subject) -> None:
    """Without its epoch a shard admits nobody: what was spent is not known."""
    await subject.empty()

    assert await denied(subject, hold(cap(100)), ask(1)) == Denial(DenialReason.REBUILDING)


async def test_spend_leaves_after_the_whole_window(subject: Subject) -> None:
    """The oldest bucket counts whole; after a long absence nothing is left."""
    bound = cap(1_000)
    for nano in (100, 200):
        await spend(subject, bound, nano=nano)
        subject.clock.ms += 10 * MINUTE_MS
    subject.clock.ms = NOW_MS + DAY_MS
    whole = await held(subject, hold(bound), ask(0))
    subject.clock.ms += 5 * MINUTE_MS
    half = await held(subject, hold(bound), ask(0))
    subject.clock.ms += 40 * DAY_MS
    none = await held(subject, hold(bound), ask(0))

    assert [answer.states[0].spent.nano for answer in (whole, half, none)] == [300, 200, 0]
    assert none.states[0].reset_ms is None


async def test_two_windows_of_one_scope_share_its_holds(subject: Subject) -> None:
    """An hour's cap and a day's see the same exchange once each."""
    day, short = cap(1_000), cap(100, window=SHORT)
    await spend(subject, day, short, nano=90)
    subject.clock.ms += 10_000

    answer = await held(subject, hold(day, short), ask(50))

    assert [state.spent.nano for state in answer.states] == [90, 0]
    assert [state.held.nano for state in answer.states] == [50, 50]


async def test_an_exchange_without_caps_is_held_and_committed(subject: Subject) -> None:
    """Nothing bounds it, yet its end is known and its events are appended once."""
    free = hold()

    answer = await held(subject, free, ask(10**15))
    ended = await subject.caps.commit(free, Vector(10, 0, 1), [b"{}"])

    assert answer.states == ()
    assert ended == Commit(CommitResult.COMMITTED)


async def test_the_largest_amounts_are_exact(subject: Subject) -> None:
    """2^53-1 is the largest cap, and neither one more nor one less."""
    largest = 2**53 - 1
    bound = cap(largest)

    await spend(subject, bound, nano=largest - 1)
    refused = await denied(subject, hold(bound), ask(2))
    last = await held(subject, hold(bound), ask(1))

    assert refused.reason is DenialReason.SPENT
    assert (last.states[0].spent.nano, last.states[0].held.nano) == (largest - 1, 1)


async def test_sums_beyond_two_to_the_53_keep_every_digit(subject: Subject) -> None:
    """Only what has no limit gets there; giving it back must still leave what was there before."""
    largest = 2**53 - 1
    bound = cap(tokens=10)
    first, second, small = hold(bound), hold(bound), hold(bound)
    for exchange, nano in ((first, largest), (second, largest), (small, 3)):
        await held(subject, exchange, ask(nano))

    swapped = await subject.caps.swap(first, ask(5))
    commits = [
        await subject.caps.commit(exchange, Vector(largest), []) for exchange in (first, second)
    ]

    assert isinstance(swapped, Reservation)
    assert swapped.states[0].held.nano == largest + 8
    assert [commit.states[0].spent.nano for commit in commits] == [largest, 2 * largest]
    assert [commit.states[0].held.nano for commit in commits] == [largest + 3, 3]


@pytest.mark.parametrize("nano", [-1, 2**53, 10**30])
async def test_an_amount_out_of_range_is_refused(subject: Subject, nano: int) -> None:
    """A negative hold would be a gift; above 2^53 a double is no longer exact."""
    exchange = hold(cap(100))

    with pytest.raises(ValueError, match="2\\^53"):
        await reserve(subject, exchange, ask(nano))
    with pytest.raises(ValueError, match="2\\^53"):
        await subject.caps.commit(exchange, Vector(nano), [])


async def test_what_runs_is_held_whatever_stands_in_its_way(subject: Subject) -> None:
    """Its hold was lost and it spends all the same: so it counts, and somebody can recover it."""
    full, lost = cap(100), hold(cap(100))
    await spend(subject, full, nano=90)
    await subject.empty()

    answer = await subject.caps.reserve(
        lost, [ask(500)], owner="proxy-1", ttl_ms=TTL_MS, facts=b"facts", runs=True
    )
    again = await subject.caps.reserve(lost, [ask(500)], owner="p", ttl_ms=TTL_MS, runs=True)
    subject.clock.ms += TTL_MS + 1
    [found] = await subject.lost("acme", grace_ms=0)

    assert isinstance(answer, Reservation) and isinstance(again, Reservation)
    assert (answer.states[0].held.nano, again.repeat) == (500, True)
    assert (found.hold.exchange_id, found.facts) == (lost.exchange_id, b"facts")


async def test_a_swap_may_bring_other_facts(subject: Subject) -> None:
    """They take the place of those of the reserve; a swap without any leaves what is there."""
    exchange = hold(cap(1_000))
    await subject.caps.reserve(exchange, [ask(10)], owner="p", ttl_ms=TTL_MS, facts=b"as planned")

    await subject.caps.swap(exchange, replace(ask(20), facts=b"elsewhere"))
    await subject.caps.swap(exchange, ask(30))
    subject.clock.ms += TTL_MS + 1
    [found] = await subject.lost("acme", grace_ms=0)

    assert found.facts == b"elsewhere"


async def test_what_runs_and_was_killed_is_not_held(subject: Subject) -> None:
    """A flag is the one thing that ends it."""
    await subject.set_flag("acme", "killed")

    answer = await subject.caps.reserve(
        hold(cap(100)), [ask(1)], owner="p", ttl_ms=TTL_MS, runs=True
    )

    assert answer == Denial(DenialReason.KILLED)
