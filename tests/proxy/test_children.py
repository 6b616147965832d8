"""The rules of restarting; the processes themselves are met in test_supervisor."""

import pytest

from proxy.children import QUICK_DEATHS_MAX, Child, backoff_s


@pytest.mark.parametrize(
    ("quick_deaths", "expected"), [(0, 0.0), (1, 0.1), (2, 0.2), (4, 0.8), (7, 5.0), (99, 5.0)]
)
def test_the_wait_doubles_and_is_bounded(quick_deaths, expected):
    """A child that had worked comes back at once."""
    assert backoff_s(quick_deaths) == pytest.approx(expected)


def test_when_a_child_counts_as_failed():
    """After as many quick deaths in a row as make a series, and not before."""
    child = Child("proxy-0", lambda: 0, quick_deaths=QUICK_DEATHS_MAX - 1)
    assert not child.has_failed()
    child.quick_deaths += 1
    assert child.has_failed()
