"""Steps to stages: they add up, skip what cannot serve, and run in no circle."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from metering.steps import Step
from routing.degrade import (
    NO_CHANGES,
    Changes,
    Ladder,
    Rung,
    Skip,
    climb,
    cycle_of,
    effective,
    rungs,
)


def test_steps_add_up() -> None:
    """The last model, the smallest bound and the last instruction hold; closed stays closed."""
    steps = (
        Step(500_000, to="b", max_tokens=100),
        Step(600_000, max_tokens=400, instruct="be brief"),
        Step(700_000, to="c", instruct="one line"),
        Step(800_000, cache_only=True),
        Step(900_000, to="b"),
    )

    assert rungs(steps) == (
        Rung(),
        Rung(("b",), Changes(100)),
        Rung(("b",), Changes(100, "be brief")),
        Rung(("c", "b"), Changes(100, "one line")),
        Rung(("c", "b"), Changes(100, "one line"), is_closed=True),
        Rung(("b", "c"), Changes(100, "one line"), is_closed=True),
    )


def test_a_bound_that_the_client_keeps_is_no_change() -> None:
    """Only what lowers `max_tokens` changes anything."""
    assert effective(Changes(100), 100) == NO_CHANGES
    assert effective(Changes(100, "x"), 50) == Changes(instruct="x")
    assert effective(Changes(100), 101) == effective(Changes(100), None) == Changes(100)


Asked = tuple[str, Changes]


COSTS = {"b": 3, "c": 2, "d": 2}


def up(steps: tuple[Step, ...], unable: dict[str, str]) -> Ladder[Asked]:
    return climb(
        rungs(steps),
        judge=lambda name, _: unable.get(name) or COSTS[name],
        make=lambda name, changes: ((name or "own", changes),),
    )


def test_the_cheapest_that_can_serve_is_taken() -> None:
    """Of two alike the one written last; one that is dearer than a step before is passed over."""
    made = up((Step(1, to="c"), Step(2, to="b"), Step(3, to="d")), {})

    assert [stage[0][0] for stage in made.stages] == ["own", "c", "c", "d"]
    assert made.skips == ((), (), (Skip("b", "dearer"),), ())


def test_who_cannot_serve_is_passed_over_with_the_reason() -> None:
    """A stage takes the model of the step before it, in the end the one that was asked for."""
    steps = (Step(500_000, to="b"), Step(600_000, to="c", max_tokens=9))
    made = up(steps, {"c": "lacks=tools"})
    none = up(steps, {"b": "dearer", "c": "lacks=tools"})

    assert made.stages == ((("own", NO_CHANGES),), (("b", NO_CHANGES),), (("b", Changes(9)),))
    assert made.skips == ((), (), (Skip("c", "lacks=tools"),))
    assert none.stages[1:] == ((("own", NO_CHANGES),), (("own", Changes(9)),))
    assert none.skips[2] == (Skip("c", "lacks=tools"), Skip("b", "dearer"))


def test_nothing_is_made_from_a_closed_stage_on() -> None:
    """The ladder ends below the stage at which nothing is sent."""
    made = up((Step(500_000, to="b"), Step(600_000, cache_only=True), Step(700_000, to="c")), {})

    assert (len(made.stages), made.closed) == (2, 2)


STEPS = st.lists(
    st.builds(
        Step,
        st.just(1),
        to=st.sampled_from([None, "a", "b", "c"]),
        max_tokens=st.none() | st.integers(1, 9),
        instruct=st.none() | st.just("x"),
    ),
    max_size=5,
)


@given(STEPS)
def test_stages_only_tighten(steps: list[Step]) -> None:
    """From stage to stage a bound never grows and an instruction never goes away."""
    found = rungs(steps)

    for before, after in pairwise(found):
        assert (after.changes.max_tokens or 10) <= (before.changes.max_tokens or 10)
        assert after.changes.instruct is not None or before.changes.instruct is None
        assert set(before.targets) <= set(after.targets)


def test_circles_are_found() -> None:
    """A circle is named from where it starts; two ways to one model are none."""
    assert cycle_of({"a": ["b"], "b": ["c", "a"], "c": []}) == ["a", "b", "a"]
    assert cycle_of({"a": ["b", "c"], "b": ["c"], "c": []}) is None
    assert cycle_of({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]
