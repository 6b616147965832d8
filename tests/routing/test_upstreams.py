"""Upstreams: the order of candidates, and cycles in fallbacks."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.upstreams import Model, Terms, Upstream, candidates, chain, fallback_cycle


def _models(fallbacks: dict[str, tuple[str, ...]]) -> dict[str, Model]:
    return {
        name: Model(
            name, (Upstream("p", f"{name}-1", name), Upstream("q", f"{name}-2", name)), follow
        )
        for name, follow in fallbacks.items()
    }


def test_own_upstreams_come_first() -> None:
    """A model's own upstreams go before those of its fallbacks, in the order of the file."""
    models = _models({"a": ("b",), "b": ()})

    assert [each.label for each in candidates(models, "a")] == ["p/a-1", "q/a-2", "p/b-1", "q/b-2"]


CHAINS = {
    "breadth first": ({"a": ("b", "c"), "b": ("d",), "c": (), "d": ()}, ["a", "b", "c", "d"]),
    "each once": ({"a": ("b", "c"), "b": ("c",), "c": ()}, ["a", "b", "c"]),
    "unknown names are passed over": ({"a": ("x", "b"), "b": ()}, ["a", "b"]),
    "a circle ends": ({"a": ("b",), "b": ("a",)}, ["a", "b"]),
    "unknown model": ({"b": ()}, []),
}


@pytest.mark.parametrize(("fallbacks", "expected"), CHAINS.values(), ids=CHAINS)
def test_chain(fallbacks: dict[str, tuple[str, ...]], expected: list[str]) -> None:
    """Fallbacks are followed in order, each model once."""
    assert [model.name for model in chain(_models(fallbacks), "a")] == expected


CYCLES = {
    "none": ({"a": ("b",), "b": ()}, None),
    "a diamond is no cycle": ({"a": ("b", "c"), "b": ("d",), "c": ("d",), "d": ()}, None),
    "itself": ({"a": ("a",)}, ["a", "a"]),
    "of three": ({"a": ("b",), "b": ("c",), "c": ("a",)}, ["a", "b", "c", "a"]),
    "behind another": ({"x": ("a",), "a": ("b",), "b": ("a",)}, ["a", "b", "a"]),
}


@pytest.mark.parametrize(("fallbacks", "expected"), CYCLES.values(), ids=CYCLES)
def test_cycles(fallbacks: dict[str, tuple[str, ...]], expected: list[str] | None) -> None:
    """A cycle is the list of names that closes on itself."""
    assert fallback_cycle(_models(fallbacks)) == expected


NAMES = st.sampled_from("abcde")


@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=3).map(tuple)))
def test_a_cycle_is_one(fallbacks: dict[str, tuple[str, ...]]) -> None:
    """Each name in a reported cycle falls back to the next, and the last is the first."""
    cycle = fallback_cycle(_models(fallbacks))
    if cycle is None:
        return

    assert cycle[0] == cycle[-1]
    assert all(after in fallbacks[before] for before, after in itertools.pairwise(cycle))


def test_priorities_order_the_upstreams_of_a_model() -> None:
    """Within it only: a fallback's upstream is never before the model's own."""
    late, soon = Terms(priority=7), Terms(priority=3)
    models = {
        "a": Model(
            "a", (Upstream("p", "1", "a", terms=late), Upstream("q", "2", "a", terms=soon)), ("b",)
        ),
        "b": Model("b", (Upstream("r", "3", "b"),)),
    }

    assert [each.label for each in candidates(models, "a")] == ["q/2", "p/1", "r/3"]


def test_terms_and_region_make_no_other_upstream() -> None:
    """Health, history and holds know a place by provider and model."""
    plain = Upstream("p", "m", "a")

    assert plain == Upstream("p", "m", "a", region="eu", terms=Terms(weight=9))
    assert len({plain, Upstream("p", "m", "a", region="eu")}) == 1
