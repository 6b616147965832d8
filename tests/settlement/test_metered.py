"""Meters: what is read off events does not depend on their order or on how they are cut."""

from __future__ import annotations

from dataclasses import replace

import pytest
from charge_samples import portion
from hypothesis import given
from hypothesis import strategies as st

from metering.plans import API_CALLS, COST_USAGE, LIST_USAGE, LLM_TOKENS, Aggregation, Meter
from metering.settlement.metered import Portion, Usage

_LARGEST = Meter("largest", Aggregation.MAX, ("input_uncached",), ("project",))
_USERS = Meter("users", Aggregation.UNIQUE, of="user")
_SEARCH = Meter("searches", Aggregation.COUNT, ("api_call",), where={"feature": ("search*",)})
_METERS = (API_CALLS, LLM_TOKENS, LIST_USAGE, COST_USAGE, _LARGEST, _USERS, _SEARCH)

_portions = st.lists(
    st.builds(
        lambda unit, quantity, model, user: replace(
            portion(unit, quantity, model=model), names={"user": user}
        ),
        st.sampled_from(["input_uncached", "output_text", "api_call"]),
        st.integers(1, 1000),
        st.sampled_from(["model-a", "model-b"]),
        st.sampled_from(["ann", "ben", ""]),
    ),
    max_size=20,
)


def _rows(portions: list[Portion]) -> list[object]:
    usage = Usage(_METERS)
    for each in portions:
        usage.add(each)
    return [usage.rows(meter) for meter in _METERS]


def _figures(meter: Meter, portions: list[Portion]) -> list[tuple[tuple[str, ...], int]]:
    usage = Usage([meter])
    for each in portions:
        usage.add(each)
    return [
        (tuple(value for _, value in row.dimensions), row.quantity) for row in usage.rows(meter)
    ]


@given(_portions, st.randoms())
def test_the_order_of_events_does_not_matter(portions: list[Portion], random) -> None:
    """The same events in another order show the same on every meter."""
    shuffled = list(portions)
    random.shuffle(shuffled)

    assert _rows(shuffled) == _rows(portions)


_CALL = portion("api_call", 1)
_READ = portion("input_uncached", 50)


@pytest.mark.parametrize(
    ("meter", "portions", "rows"),
    [
        pytest.param(API_CALLS, [_CALL, _CALL, _READ], [((), 2)], id="calls"),
        pytest.param(API_CALLS, [_CALL, portion("api_call", -1)], [], id="a call taken back"),
        pytest.param(
            LLM_TOKENS,
            [_READ, _READ, portion("output_text", 7, model="b"), _CALL],
            [(("b", "output_text"), 7), (("model-a", "input_uncached"), 100)],
            id="tokens by model and type",
        ),
        pytest.param(LIST_USAGE, [_READ, _CALL], [(("model-a",), 150)], id="money at list price"),
        pytest.param(COST_USAGE, [_READ], [(("model-a",), 50)], id="our cost"),
        pytest.param(
            _LARGEST,
            [_READ, portion("input_uncached", 70), portion("output_text", 999)],
            [(("default",), 70)],
            id="the largest prompt",
        ),
        pytest.param(
            _USERS,
            [replace(_CALL, names={"user": name}) for name in ("ann", "ben", "ann", "")],
            [((), 2)],
            id="users",
        ),
        pytest.param(
            _SEARCH,
            [_CALL, portion("api_call", 1, feature="search-web")],
            [((), 1)],
            id="calls of some features",
        ),
    ],
)
def test_meters(meter: Meter, portions: list[Portion], rows: list[object]) -> None:
    """Each aggregation shows what it is for, and nothing else."""
    assert _figures(meter, portions) == rows
