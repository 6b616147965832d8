"""How long the same upstream is waited for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.retries import NO_RETRIES, Retries

USUAL = Retries()


@pytest.mark.parametrize(
    ("after_s", "done", "jitter", "wait_s"),
    [
        (None, 0, 0.0, 0.0),
        (None, 0, 1.0, 0.25),
        (0.0, 0, 0.5, 0.125),
        (1.0, 0, 0.0, 1.0),
        (1.0, 0, 1.0, 1.1),
        (2.0, 0, 0.0, 2.0),
        (2.01, 0, 0.0, None),
        (None, 1, 0.0, None),
    ],
)
def test_the_usual_wait(after_s, done, jitter, wait_s):
    """What was asked for and a little more, or anything below the backoff; once, and if short."""
    assert USUAL.wait_s(after_s, done, jitter) == (
        None if wait_s is None else pytest.approx(wait_s)
    )


def test_the_backoff_doubles():
    """Its bound does, up to the longest wait."""
    patient = Retries(max=9, max_wait_s=1.5)

    assert [patient.wait_s(None, done, 1.0) for done in range(4)] == [0.25, 0.5, 1.0, 1.5]


def test_none_is_none():
    """Whoever wants no retries waits for nothing."""
    assert NO_RETRIES.wait_s(0.1, 0, 0.5) is None


@given(
    after_s=st.none() | st.floats(0, 1e9),
    done=st.integers(0, 2_000),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_a_wait_is_bounded(after_s, done, jitter):
    """Never negative, and never longer than the longest but for the spread."""
    wait_s = Retries(max=5_000).wait_s(after_s, done, jitter)

    assert wait_s is None or 0 <= wait_s <= 2.0 * 1.1
