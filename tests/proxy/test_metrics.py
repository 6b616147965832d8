"""Counters, gauges and histograms of one process."""

from proxy.metrics import Kind, Metric, Metrics

COUNTED = Metric("weir_counted_total", Kind.COUNTER, "Counted.", ("kind",))
GAUGED = Metric("weir_gauged", Kind.GAUGE, "Gauged.")
TIMED = Metric("weir_timed_seconds", Kind.HISTOGRAM, "Timed.", (), (0.1, 1.0))


def test_a_counter_grows_by_label():
    """Each set of labels counts for itself, one at a time or many."""
    metrics = Metrics()
    metrics.add(COUNTED, "a")
    metrics.add(COUNTED, "a", by=4)
    metrics.add(COUNTED, "b")

    assert metrics.counters == {("weir_counted_total", "a"): 5, ("weir_counted_total", "b"): 1}


def test_a_gauge_is_what_it_was_set_to_last():
    """It goes up and down."""
    metrics = Metrics()
    metrics.set(GAUGED, to=5)
    metrics.set(GAUGED, to=2)

    assert metrics.gauges == {("weir_gauged",): 2}


def test_a_histogram_has_a_bucket_for_everything():
    """A bound belongs to its own bucket, what is above all of them to the last; then the sum."""
    metrics = Metrics()
    for value in (0.05, 0.1, 0.5, 7.0):
        metrics.observe(TIMED, value=value)

    assert metrics.histograms == {("weir_timed_seconds",): [2, 1, 1, 7.65]}


def test_a_successor_goes_on_counting():
    """Counters and histograms are taken over; gauges ended with the process."""
    before, after = Metrics(), Metrics()
    before.add(COUNTED, "a", by=3)
    before.observe(TIMED, value=0.5)
    before.set(GAUGED, to=1)
    after.resume(before.series())
    after.add(COUNTED, "a")
    after.observe(TIMED, value=0.5)

    assert after.counters == {("weir_counted_total", "a"): 4}
    assert after.histograms == {("weir_timed_seconds",): [0, 2, 0, 1.0]}
    assert after.gauges == {}
