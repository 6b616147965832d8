"""Buckets that add up, and percentiles within their error."""

from __future__ import annotations

import random
from itertools import pairwise

from metering.settlement.histograms import (
    BOUNDS,
    ERROR_PPM_MAX,
    MS_MAX,
    bucket_of,
    percentile_ms,
    percentiles,
)


def test_a_percentile_is_within_five_percent_of_the_true_value() -> None:
    dice = random.Random(1)
    values = sorted(int(dice.lognormvariate(6, 1.5)) for _ in range(5_000))
    counts: dict[int, int] = {}
    for value in values:
        counts[bucket_of(value)] = counts.get(bucket_of(value), 0) + 1

    for per_mille in (1, 250, 500, 950, 990, 1000):
        true = values[-(-len(values) * per_mille // 1000) - 1]
        found = percentile_ms(counts, per_mille)
        assert found is not None
        assert abs(found - true) * 1_000_000 <= ERROR_PPM_MAX * true


def test_buckets_leave_no_gap_and_short_times_have_their_own() -> None:
    assert [bucket_of(value) for value in range(10)] == list(range(10))
    assert all(bucket_of(last) == last for last in BOUNDS)
    assert all(bucket_of(a + 1) == b for a, b in pairwise(BOUNDS))
    assert (bucket_of(-5), bucket_of(10**9)) == (0, MS_MAX)
    assert len(BOUNDS) < 160


def test_nothing_has_no_percentile_and_what_was_taken_back_does_not_count() -> None:
    assert percentiles({}) == {"p50": None, "p95": None, "p99": None}
    assert percentile_ms({5: 0, 9: 3}, 1) == 9
