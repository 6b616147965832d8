"""Steps as they are written, and the stages that the caps are given for them."""

from __future__ import annotations

from metering.caps import Stage
from metering.steps import Step, Steps, burst


def test_a_stage_ends_below_where_it_began() -> None:
    """The share to leave at is lower by the hysteresis, and never so low that it is no share."""
    steps = Steps((Step(30_000, to="a"), Step(800_000, to="b")), hysteresis_ppm=50_000)

    assert steps.stairs("tenant").stages == (Stage(30_000, 1), Stage(800_000, 750_000))


def test_every_writer_and_every_text_has_a_memory_of_its_own() -> None:
    """Changed steps do not take over the stage of those before them, and the name is an id."""
    one, other = Steps((Step(800_000, to="a"),)), Steps((Step(900_000, to="a"),))
    names = {
        each.stairs(writer).name for each in (one, other) for writer in ("tenant", "model/a b:c")
    }

    assert len(names) == 4
    assert one.stairs("tenant").name == Steps((Step(800_000, to="a"),)).stairs("tenant").name
    assert {name.partition(".")[0] for name in names} == {"tenant", "model"}
    assert all(name.replace(".", "").isalnum() for name in names)


def test_a_burst_is_one_step_without_a_memory() -> None:
    """`burst_threshold` is left where it was entered, at once."""
    stairs = burst(800_000, "cheap").stairs("burst_threshold", is_shadow=True)

    assert (stairs.stages, stairs.dwell_ms, stairs.is_shadow) == (
        (Stage(800_000, 800_000),),
        0,
        True,
    )
