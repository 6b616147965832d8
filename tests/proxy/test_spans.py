"""Histograms: where a value falls, and that their number is bounded."""

from __future__ import annotations

from proxy.spans import Histograms, Instrument

SOME = Instrument("some", "s", "Something.", (1.0, 2.0))


def test_a_bound_is_in_its_own_bucket() -> None:
    """OTLP's buckets include their upper bound; what is above all has the last."""
    kept = Histograms()
    for value in (0.5, 1.0, 1.5, 2.0, 3.0):
        kept.observe(SOME, (("a", "b"),), value)

    point = kept.points[SOME, (("a", "b"),)]
    assert (point.counts, point.total) == ([2, 2, 1], 8.0)


def test_series_are_bounded() -> None:
    """Beyond the bound only series that are there go on."""
    kept = Histograms(series_max=2)
    for name in ("a", "b", "c", "a"):
        kept.observe(SOME, (("name", name),), 0.0)

    assert {labels[0][1]: sum(point.counts) for (_, labels), point in kept.points.items()} == {
        "a": 2,
        "b": 1,
    }
