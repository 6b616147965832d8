"""Choosing: everybody has a place or a reason, and each strategy does what its name says."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.affinity import Affinity
from routing.choice import Dice, Entrant, choose
from routing.history import Observed
from routing.upstreams import AS_WRITTEN, Policy, Strategy, Terms


def one(label: str, **fields: Any) -> Entrant:
    """An entrant; `p95`, `busy`, `weight` and `priority` by their short names."""
    observed = Observed(p95_ms=fields.pop("p95", None), in_flight=fields.pop("busy", 0))
    terms = Terms(weight=fields.pop("weight", 1), priority=fields.pop("priority", 0))
    return Entrant(label, terms, observed=observed, **fields)


DICE = Dice(b"exchange-1")  # one of those that explore nothing

TABLE: dict[str, tuple[Strategy, list[Entrant], int | None, str, str, list[str]]] = {
    "the file's order": (
        Strategy.PRIORITY, [one("a"), one("b"), one("c")], None, "abc", "first",
        ["", "later", "later"],
    ),
    "priority before the file": (
        Strategy.PRIORITY, [one("a", priority=1), one("b"), one("c", priority=1)], None,
        "bac", "priority", ["priority", "", "priority"],
    ),
    "priority before the cost": (
        Strategy.LEAST_COST, [one("a", nano=1, priority=1), one("b", nano=9)], None,
        "ba", "priority", ["priority", ""],
    ),
    "failing goes last": (
        Strategy.PRIORITY, [one("a", is_failing=True), one("b", priority=5)], None,
        "ba", "healthy", ["failing", ""],
    ),
    "all fail": (
        Strategy.PRIORITY, [one("a", is_failing=True), one("b", is_failing=True)], None,
        "ab", "first", ["", "later"],
    ),
    "late goes behind": (
        Strategy.LEAST_COST, [one("a", nano=1, p95=900), one("b", nano=9, p95=90)], 100,
        "ba", "in_time", ["misses_target", ""],
    ),
    "unknown is not late": (
        Strategy.PRIORITY, [one("a", p95=900), one("b")], 100, "ba", "in_time",
        ["misses_target", ""],
    ),
    "cheapest": (
        Strategy.LEAST_COST, [one("a", nano=3), one("b", nano=1), one("c", nano=2)], None,
        "bca", "cheapest", ["dearer", "", "dearer"],
    ),
    "free is cheapest": (
        Strategy.LEAST_COST, [one("a", nano=3), one("b", nano=0)], None, "ba", "cheapest",
        ["dearer", ""],
    ),
    "no price goes last": (
        Strategy.LEAST_COST, [one("a"), one("b", nano=7)], None, "ba", "cheapest",
        ["no_price", ""],
    ),
    "fastest": (
        Strategy.LEAST_LATENCY, [one("a", p95=300), one("b", p95=100), one("c", p95=200)], None,
        "bca", "fastest", ["slower", "", "slower"],
    ),
    "not measured goes behind": (
        Strategy.LEAST_LATENCY, [one("a"), one("b", p95=9_000)], None, "ba", "fastest",
        ["not_measured", ""],
    ),
    "least busy": (
        Strategy.LEAST_BUSY, [one("a", busy=3), one("b", busy=1)], None, "ba", "least_busy",
        ["busier", ""],
    ),
    "busy for its weight": (
        Strategy.LEAST_BUSY, [one("a", busy=3, weight=6), one("b", busy=1)], None,
        "ab", "least_busy", ["", "busier"],
    ),
    "what cannot": (
        Strategy.PRIORITY, [one("a", reason="lacks=tools"), one("b"), one("c")], None,
        "bc", "first", ["lacks=tools", "", "later"],
    ),
    "only one can": (
        Strategy.LEAST_COST, [one("a", nano=1, reason="when=stream"), one("b")], None,
        "b", "only", ["when=stream", ""],
    ),
    "none can": (
        Strategy.WEIGHTED, [one("a", reason="lacks=tools")], None, "", "", ["lacks=tools"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_choices(name: str) -> None:
    """Order, the winner's word, and everybody else's reason."""
    strategy, entrants, target_ms, order, word, reasons = TABLE[name]

    found = choose(Policy(strategy), entrants, DICE, target_ms=target_ms)

    assert "".join(entrants[index].label for index in found.order) == order
    assert found.word == word
    assert list(found.reasons) == reasons


def _dice(number: int, home: bytes | None = None) -> Dice:
    return Dice(f"exchange-{number}".encode(), home)


def _winners(policy: Policy, entrants: list[Entrant], *, count: int = 4_000) -> Counter[str]:
    found = [choose(policy, entrants, _dice(number)) for number in range(count)]
    return Counter(entrants[each.order[0]].label for each in found)


def test_weights_are_kept() -> None:
    """Over many requests each upstream serves its share, and weight 0 serves none."""
    entrants = [one("a", weight=7), one("b", weight=3), one("c", weight=0)]

    found = _winners(Policy(Strategy.WEIGHTED), entrants)

    assert found["a"] / 4_000 == pytest.approx(0.7, abs=0.03)
    assert found["b"] / 4_000 == pytest.approx(0.3, abs=0.03)
    assert found["c"] == 0


def test_equal_costs_are_drawn_by_weight() -> None:
    """A tie is no reason to send everything to the first in the file."""
    found = _winners(Policy(Strategy.LEAST_COST), [one("a", nano=5), one("b", nano=5, weight=3)])

    assert found["b"] / 4_000 == pytest.approx(0.75, abs=0.03)


def test_nearly_as_fast_is_as_fast() -> None:
    """A fifth slower is noise: both serve."""
    found = _winners(Policy(Strategy.LEAST_LATENCY), [one("a", p95=100), one("b", p95=118)])

    assert min(found["a"], found["b"]) > 1_500


def test_what_was_never_measured_is_asked_now_and_then() -> None:
    """One request in ten goes there, until enough is known of it."""
    found = _winners(Policy(Strategy.LEAST_LATENCY), [one("a", p95=100), one("b")])

    assert found["b"] / 4_000 == pytest.approx(0.10, abs=0.02)


def test_what_was_slow_is_asked_again_now_and_then() -> None:
    """One in fifty, also where it missed a target; what fails is left to its breaker."""
    entrants = [one("a", p95=100), one("b", p95=900), one("c", p95=900, is_failing=True)]

    found = _winners(Policy(Strategy.LEAST_LATENCY), entrants)

    assert found["b"] / 4_000 == pytest.approx(0.02, abs=0.01)
    assert found["c"] == 0


def test_an_explored_upstream_says_so() -> None:
    """The answer does not claim that it was the fastest."""
    entrants = [one("a", p95=100), one("b")]
    found = [
        choose(Policy(Strategy.LEAST_LATENCY), entrants, _dice(number)) for number in range(200)
    ]

    explored = [each for each in found if each.order[0] == 1]
    assert explored
    assert all(each.word == "explored" for each in explored)
    assert all(each.reasons == ("another_explored", "") for each in explored)


@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_home_is_kept(strategy: Strategy) -> None:
    """With equals, every exchange of a session goes where the first one went."""
    policy = Policy(strategy, Affinity.SESSION)
    entrants = [one(label, nano=5, p95=100) for label in "abcd"]

    homes = {choose(policy, entrants, _dice(number, b"session")).order for number in range(50)}
    words = {choose(policy, entrants, _dice(number, b"session")).word for number in range(50)}

    assert len(homes) == 1
    assert words == {"affinity"}


def test_a_crowded_home_is_left() -> None:
    """Affinity does not pile requests up: a quarter more than the least busy is enough."""
    policy = Policy(Strategy.LEAST_BUSY, Affinity.SESSION)
    home = choose(policy, [one("a"), one("b")], _dice(1, b"s")).order[0]
    busy = {home: 11, 1 - home: 8}

    near = choose(policy, [one("a", busy=busy[0]), one("b", busy=busy[1])], _dice(1, b"s"))
    busy[home] = 12
    far = choose(policy, [one("a", busy=busy[0]), one("b", busy=busy[1])], _dice(1, b"s"))

    assert near.order[0] == home
    assert far.order[0] == 1 - home


@st.composite
def _entrants(draw: st.DrawFn) -> list[Entrant]:
    count = draw(st.integers(1, 6))
    maybe = st.one_of(st.none(), st.integers(0, 3))
    return [
        one(
            f"u{number}",
            nano=draw(maybe),
            p95=draw(maybe),
            busy=draw(st.integers(0, 3)),
            weight=draw(st.integers(0, 3)),
            priority=draw(st.integers(0, 2)),
            is_failing=draw(st.booleans()),
            reason=draw(st.sampled_from(["", "", "", "lacks=tools"])),
        )
        for number in range(count)
    ]


POLICIES = st.builds(Policy, st.sampled_from(Strategy), st.just(Affinity.AUTO))


@given(POLICIES, _entrants(), st.binary(min_size=1, max_size=8), st.booleans())
def test_everybody_has_a_place_or_a_reason(
    policy: Policy, entrants: list[Entrant], key: bytes, has_home: bool
) -> None:
    """Who can serve is in the order once, who cannot is not, and all but the winner have a reason;
    the same again gives the same."""
    dice = Dice(key, b"home" if has_home else None)
    found = choose(policy, entrants, dice, target_ms=2)

    assert sorted(found.order) == [i for i, each in enumerate(entrants) if not each.reason]
    assert [not reason for reason in found.reasons] == [
        index in found.order[:1] for index in range(len(entrants))
    ]
    assert choose(policy, entrants, dice, target_ms=2) == found


@settings(max_examples=50)
@given(_entrants(), st.sampled_from([each for each in Strategy if each != "priority"]))
def test_the_file_does_not_matter_to_a_strategy(
    entrants: list[Entrant], strategy: Strategy
) -> None:
    """In whatever order upstreams of some weight stand in the file, the order is the same."""
    entrants = [each for each in entrants if each.terms.weight][:4]
    dice = Dice(b"exchange", b"home")

    orders = {
        tuple(turned[index].label for index in choose(Policy(strategy), turned, dice).order)
        for turned in permutations(entrants)
    }

    assert len(orders) == 1


@given(_entrants())
def test_a_failing_upstream_is_never_before_a_whole_one(entrants: list[Entrant]) -> None:
    """Whatever it costs, and however it was asked for."""
    for strategy in Strategy:
        order = choose(Policy(strategy), entrants, Dice(b"x")).order
        flags = [entrants[index].is_failing for index in order]
        assert flags == sorted(flags)


def test_as_written_is_the_default() -> None:
    """A model that says nothing has its upstreams asked in the order of the file."""
    assert Policy(Strategy.PRIORITY, Affinity.NONE) == AS_WRITTEN
