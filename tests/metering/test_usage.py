"""The words of usage: classes, totals, and what passes for a count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.usage import (
    COUNT_MAX,
    INPUT_CLASSES,
    OTHER_UNITS,
    OUTPUT_CLASSES,
    TOKEN_CLASSES,
    TOOL_UNITS,
    UNITS,
    input_total,
    is_count,
    output_total,
)


def test_classes_are_disjoint() -> None:
    """No unit is named twice, or a total would count it twice."""
    assert len({*UNITS, *TOOL_UNITS}) == len(UNITS) + len(TOOL_UNITS)
    assert set(INPUT_CLASSES) | set(OUTPUT_CLASSES) == set(TOKEN_CLASSES)


@given(st.dictionaries(st.sampled_from(UNITS + TOOL_UNITS), st.integers(0, COUNT_MAX)))
def test_totals_add_up(units: dict[str, int]) -> None:
    """Input and output together are all the tokens, and nothing that is no token."""
    tokens = sum(n for name, n in units.items() if name not in OTHER_UNITS + TOOL_UNITS)

    assert input_total(units) + output_total(units) == tokens


@pytest.mark.parametrize("value", [0, 1, COUNT_MAX])
def test_a_count_is_a_number_of_tokens(value: int) -> None:
    """Zero is a count: it is not the same as nothing."""
    assert is_count(value)


@pytest.mark.parametrize("value", [-1, COUNT_MAX + 1, True, False, 1.0, "1", None, [1], {}])
def test_other_things_are_not(value: object) -> None:
    """What a confused provider may send instead is told apart, JSON's true among it."""
    assert not is_count(value)
