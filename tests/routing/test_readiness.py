"""What is said of an upstream: what was seen, and nothing that was not."""

from __future__ import annotations

from metering.money import PPM
from routing.history import SAMPLES_MIN
from routing.readiness import Figures, figures, sums
from routing.samples import Seen, Tally


def seen(served: int, failed: int = 0, *, at: int = 1) -> Seen:
    tally = Tally({"served": served, "timeout": failed, "client_gone": 3})
    for _ in range(served):
        tally.first.add(200)
    return Seen({at: tally}, in_flight=2, last_s=50.0 + at, failure=("timeout", 40.0 + at))


def test_nothing_is_said_of_nothing() -> None:
    """No share, no percentile, no margin is made up."""
    nothing = figures([])

    assert nothing == Figures()
    assert (nothing.success_ppm, nothing.drift_ppm, nothing.margin_ppm) == (None, None, None)
    assert nothing.held_used_ppm is None
    assert not nothing.first_event_ms.is_enough
    assert not nothing.has_drifted(beyond_ppm=0, exchanges_min=0)


def test_processes_are_taken_together() -> None:
    """Their attempts, their times, and the last of their failures; clients that left are neither
    success nor failure."""
    found = figures([seen(30, 10), seen(60, at=2)])

    assert (found.attempts, found.settled, found.failed) == (106, 100, 10)
    assert found.success_ppm == 900_000
    assert (found.first_event_ms.count, found.first_event_ms.p95) == (90, 200)
    assert found.first_event_ms.is_enough
    assert figures([seen(SAMPLES_MIN - 1)]).first_event_ms.is_enough is False
    assert (found.in_flight, found.last_s, found.failure) == (4, 52.0, ("timeout", 42.0))


def test_sums_are_the_same_without_percentiles() -> None:
    """For who wants the shares alone, every few seconds."""
    found, without = figures([seen(30, 10)]), sums([seen(30, 10)])

    assert without.success_ppm == found.success_ppm == 750_000
    assert without.first_event_ms.p95 is None


def test_drift_is_of_our_count() -> None:
    """A provider that says 120 where we count 100 has drifted by a fifth, in either direction."""
    more = sums([Seen({1: Tally(compared=60, reported_nano=120, unexplained_nano=20)})])
    less = sums([Seen({1: Tally(compared=60, reported_nano=80, unexplained_nano=-20)})])

    assert (more.drift_ppm, less.drift_ppm) == (PPM // 5, -PPM // 5)
    for each in (more, less):
        assert each.has_drifted(beyond_ppm=150_000, exchanges_min=60)
        assert not each.has_drifted(beyond_ppm=200_000, exchanges_min=60)
        assert not each.has_drifted(beyond_ppm=150_000, exchanges_min=61)
