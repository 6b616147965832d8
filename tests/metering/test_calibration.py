"""Calibration: counts move towards what providers report, slowly, within bounds, for all alike."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.calibration import (
    FACTOR_MAX_PPM,
    FACTOR_MIN_PPM,
    MODELS_MAX,
    PPM,
    SAMPLES_MIN,
    TOKENS_MIN,
    WEIGHT_MAX,
    Calibration,
    Sums,
)


def taught(ratio: float, samples: int = SAMPLES_MIN, *, counted: int = 1000) -> Calibration:
    """One that has seen prompts of a model, each so many times what we counted."""
    calibration = Calibration()
    for _ in range(samples):
        calibration.observe("m", counted=counted, reported=int(counted * ratio))
    return calibration


def test_without_observations_a_count_stays() -> None:
    """Nothing is scaled before enough was seen, nor for another model."""
    assert Calibration().scaled("m", 1000) == 1000
    assert taught(1.3, SAMPLES_MIN - 1).scaled("m", 1000) == 1000
    assert taught(1.3).scaled("other", 1000) == 1000


@pytest.mark.parametrize(
    ("ratio", "scaled"), [(1.0, 1000), (1.3, 1300), (0.9, 900), (0.5, 750), (3.9, 2000)]
)
def test_a_steady_ratio_is_taken_within_bounds(ratio: float, scaled: int) -> None:
    """What is reported again and again becomes our count, from three quarters to twice of it."""
    assert taught(ratio).scaled("m", 1000) == scaled


def test_prompts_that_differ_are_covered_for_the_most_part() -> None:
    """The usual deviation is added to the mean: most of the later prompts fit under the count."""
    noise = random.Random(7)
    calibration = Calibration()
    for _ in range(500):
        calibration.observe("m", counted=1000, reported=int(1000 * noise.uniform(1.1, 1.5)))

    later = [int(1000 * noise.uniform(1.1, 1.5)) for _ in range(500)]
    covered = sum(reported <= calibration.scaled("m", 1000) for reported in later)

    assert 1390 <= calibration.scaled("m", 1000) <= 1410
    assert 0.7 <= covered / len(later) <= 0.8


def test_one_long_prompt_does_not_decide() -> None:
    """A document of a million tokens weighs no more than twenty thousand."""
    calibration = taught(1.0, 100)

    calibration.observe("m", counted=1_000_000, reported=3_000_000)

    assert calibration.take()["m"].counted == 100 * 1000 + WEIGHT_MAX


@pytest.mark.parametrize(
    ("counted", "reported"),
    [(TOKENS_MIN - 1, 100), (0, 5), (1000, 0), (1000, 249), (1000, 4001), (1000, 10**9)],
)
def test_what_no_tokenizer_does_is_left_out(counted: int, reported: int) -> None:
    """Short prompts, and reports out of all proportion, teach nothing."""
    calibration = Calibration()

    calibration.observe("m", counted=counted, reported=reported)

    assert calibration.samples("m") == 0


def test_several_processes_learn_as_one() -> None:
    """What two have observed adds up to what one would have, when it is published and read."""
    first, second, alone = Calibration(), Calibration(), Calibration()
    published: dict[str, Sums] = {}
    for number in range(40):
        for each in ((first, second)[number % 2], alone):
            each.observe("m", counted=1000, reported=1200)
    for each in (first, second):
        for model, sums in each.take().items():
            published[model] = published.get(model, Sums()) + sums
    for each in (first, second):
        each.learn(published)

    assert first.samples("m") == second.samples("m") == alone.samples("m") == 40
    assert first.scaled("m", 1000) == second.scaled("m", 1000) == alone.scaled("m", 1000) == 1200


def test_what_was_taken_still_counts() -> None:
    """Between publishing and reading back nothing is forgotten, and nothing is told twice."""
    calibration = taught(1.3)

    assert calibration.take()["m"].samples == SAMPLES_MIN
    assert calibration.take() == {}
    assert calibration.scaled("m", 1000) == 1300


def test_what_could_not_be_told_is_told_later() -> None:
    """With Redis away the observations stay our own."""
    calibration = taught(1.3)

    calibration.give_back(taken := calibration.take())

    assert calibration.samples("m") == SAMPLES_MIN
    assert calibration.take() == taken


@pytest.mark.parametrize(
    "sums",
    [
        Sums(-1, 100, 100, 0),
        Sums(100, -100, -100, 0),
        Sums(100, 100_000, -1, 0),
        Sums(100, 100_000, 100_000, -1),
        Sums(100, 100_000, 10**15, 0),
        Sums(100, 100_000, 0, 0),
        Sums(10**9, 100_000, 100_000, 0),
    ],
)
def test_stored_sums_that_cannot_be_are_left_out(sums: Sums) -> None:
    """Redis is not trusted with the size of a hold."""
    calibration = Calibration()

    calibration.learn({"m": sums})

    assert calibration.scaled("m", 1000) == 1000


def test_the_number_of_models_is_bounded() -> None:
    """Names beyond the bound are not kept, however many come."""
    calibration = Calibration()
    for number in range(MODELS_MAX + 50):
        calibration.observe(f"m{number}", counted=1000, reported=1000)

    assert len(calibration.take()) == MODELS_MAX
    calibration.observe("one more", counted=1000, reported=1000)
    assert calibration.take() == {}


observations = st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), max_size=60)


@given(observations, st.integers(0, 10**9))
def test_a_scaled_count_is_within_bounds(seen: list[tuple[int, int]], tokens: int) -> None:
    """Whatever was observed, a hold is between three quarters and twice of our count."""
    calibration = Calibration()
    for counted, reported in seen:
        calibration.observe("m", counted=counted, reported=reported)

    scaled = calibration.scaled("m", tokens)

    assert tokens * FACTOR_MIN_PPM // PPM <= scaled <= -(-tokens * FACTOR_MAX_PPM // PPM)


@given(observations)
def test_own_sums_are_always_sound(seen: list[tuple[int, int]]) -> None:
    """What one process publishes, another believes."""
    calibration = Calibration()
    for counted, reported in seen:
        calibration.observe("m", counted=counted, reported=reported)

    assert all(sums.is_sound for sums in calibration.take().values())
