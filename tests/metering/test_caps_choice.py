"""Choosing among candidates, as specification."""

from __future__ import annotations

import pytest
from caps_samples import KEY, ask, cap, shrinking, stairs
from hypothesis import given
from hypothesis import strategies as st

from metering.caps import Candidate, CapMode, DenialReason, Elastic, Limit, Vector
from metering.caps_choice import (
    Kept,
    Look,
    Refusal,
    choose,
    climb,
    fits,
    judge,
    least,
    share_nano,
    shrunk,
    with_output,
)
from metering.window import NOTHING, plus

amounts = st.integers(0, 2**53 - 1)


def look(nano: int | None, spent: int = 0, held: int = 0, **more: object) -> Look:
    return Look(cap(nano, **more), Vector(spent), Vector(held))  # type: ignore[arg-type]


@given(amounts, st.integers(0, 1_000_000), amounts)
def test_a_share_is_reached_when_it_is_full(limit: int, ppm: int, spent: int) -> None:
    """Exactly where spent / limit is the share or more, without a fraction in between."""
    assert (spent >= share_nano(limit, ppm)) == (spent * 1_000_000 >= limit * ppm)


@given(
    room=amounts,
    base=st.integers(0, 10**6),
    rate=st.integers(0, 10**12),
    asked=st.integers(1, 10**7),
    fewest=st.integers(0, 1_000),
    tokens_left=st.none() | st.integers(0, 10**7),
)
def test_a_shrunk_hold_is_the_largest_that_fits(
    room: int, base: int, rate: int, asked: int, fewest: int, tokens_left: int | None
) -> None:
    """It fits, one token more does not or was not asked for, and fewer than the least is none."""
    elastic = Elastic(Vector(base, 0, 1), rate, fewest)
    looks = [look(room), Look(cap(None, scope=KEY, tokens=tokens_left), NOTHING, NOTHING)]

    found = shrunk(looks, Candidate("u", Vector(2**53 - 1, asked, 1), elastic=elastic))

    if found is None:
        assert fewest > asked or not fits(looks, with_output(elastic, fewest))
    else:
        assert fits(looks, found)
        assert fewest <= found.tokens <= asked
        assert found == with_output(elastic, found.tokens)
        more = with_output(elastic, found.tokens + 1)
        assert found.tokens == asked or not fits(looks, more)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 30)), max_size=20))
def test_stages_are_left_after_they_were_entered(turns: list[tuple[int, int]]) -> None:
    """Whatever is spent when: a stage in force was entered at its share, and is kept for as long
    as its dwell lasts or its lower share is reached."""
    steps = stairs(0.3, 0.6, 0.9, leave=0.2, dwell_ms=50)
    kept, now = Kept(), 0
    for spent, pause in turns:
        now += pause
        before, kept = kept, climb([look(100, spent)], steps, kept, now)

        entered = sum(spent >= share for share in (30, 60, 90))
        lasting = sum(spent >= share for share in (10, 40, 70))
        if now < before.since_ms + 50:
            lasting = 3
        assert kept.level == max(entered, min(before.level, lasting))
        if kept.level > before.level:
            assert kept.since_ms == now


def test_a_denial_is_about_the_least_and_its_hardest_cap() -> None:
    """Never before spent before held; among the spent the one that ends last."""
    looks = [
        look(100, 90),
        look(100, 0, 95),
        look(100, 95, scope=KEY),
        look(5, mode=CapMode.SHADOW),
    ]
    asked = [ask(50), shrinking(2, 1_000, rate_pico=1_000, least=4), ask(20)]

    worst, at_ms = judge(looks, asked, None, 0, lambda refusal: 1_000 * (1 + refusal.place))

    assert least(asked[1]) == Vector(6, 4, 1)
    assert (worst, at_ms) == (Refusal(DenialReason.SPENT, 2, "nano", 1), 3_000)


def test_a_request_larger_than_a_cap_never_fits() -> None:
    worst, _ = judge([look(100, 90), look(9, scope=KEY)], [ask(10)], None, 0, lambda _: 1)

    assert (worst.reason, worst.place) == (DenialReason.NEVER, 1)


@pytest.mark.parametrize(("level", "index"), [(0, 0), (1, 1), (2, 2), (3, None)])
def test_candidates_below_the_stage_are_passed_over(level: int, index: int | None) -> None:
    found = choose([look(100)], [ask(1), ask(1, stage=1), ask(1, stage=2)], level)

    assert (found and found[0]) == index


def test_a_limit_of_one_dimension_leaves_the_others_alone() -> None:
    """What is not bounded is not looked at."""
    tight = Look(cap(None, requests=1), Vector(10**9, 10**9, 0), NOTHING)

    assert fits([tight], Vector(10**9, 10**9, 1))
    assert not fits([tight], plus(Vector(0, 0, 1), Vector(0, 0, 1)))
    assert tight.cap.limit == Limit(requests=1)
