"""Which sums a question is answered from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metering.settlement.analytics import (
    HOUR_NS,
    LevelOf,
    Question,
    Segment,
    checked,
    cursor_of,
    figures,
    is_summed,
    months_between,
    place_of,
    segments_of,
)
from metering.settlement.ledger.analytics_tables import MEASURES

ALL = frozenset({"tenant", "model", "status"})
HOURS, BOTH = frozenset({"hour"}), frozenset({"hour", "day"})
LEVELS = {
    "tenant": LevelOf(frozenset({"tenant"}), frozenset({"day"}), frozenset({"day"})),
    "full": LevelOf(ALL, BOTH, HOURS),
}
DAY_NS = 24 * HOUR_NS
WHOLE = Question(10 * DAY_NS, 12 * DAY_NS)
RAGGED = Question(10 * DAY_NS - HOUR_NS, 12 * DAY_NS + 2 * HOUR_NS)


@pytest.mark.parametrize(
    ("question", "of", "segments"),
    [
        (WHOLE, "sums", [Segment("tenant", "day", 10, 12)]),
        (replace(WHOLE, by=("model",)), "sums", [Segment("full", "day", 10, 12)]),
        (replace(WHOLE, by=("model",)), "times", [Segment("full", "hour", 240, 288)]),
        (replace(WHOLE, interval="hour"), "sums", [Segment("full", "hour", 240, 288)]),
        (
            RAGGED,
            "sums",
            [
                Segment("full", "hour", 239, 240),
                Segment("tenant", "day", 10, 12),
                Segment("full", "hour", 288, 290),
            ],
        ),
        (Question(5, HOUR_NS), "sums", [Segment("full", "hour", 0, 1)]),
    ],
    ids=["days", "more told apart", "times", "hours", "edges", "less than a day"],
)
def test_the_coarsest_that_knows_enough(
    question: Question, of: str, segments: list[Segment]
) -> None:
    assert segments_of(question, LEVELS, of=of) == segments  # type: ignore[arg-type]


def test_a_question_is_widened_to_whole_hours() -> None:
    asked = checked(Question(HOUR_NS + 1, 2 * HOUR_NS + 1, filters={"user": ("ann",)}))

    assert (asked.start_ns, asked.end_ns) == (HOUR_NS, 3 * HOUR_NS)
    assert not is_summed(asked)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"by": ("colour",)}, "'colour' is no dimension"),
        ({"interval": "week"}, "interval: 'week'"),
        ({"sort": "luck"}, "sort: 'luck'"),
        ({"limit": 0}, "limit: 0"),
        ({"end_ns": 0}, "from must be before to"),
        ({"end_ns": 40_000 * DAY_NS, "interval": "hour"}, "more than 20000"),
    ],
)
def test_what_cannot_be_asked_is_named(changes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        checked(replace(WHOLE, **changes))


def test_months_begin_at_their_first_hour() -> None:
    found = months_between(1_798_675_200 * 10**9, 1_801_440_000 * 10**9)  # 2026-12-31 to 2027-02-01

    assert found == [(24_323, 1_796_083_200 // 3600), (24_324, 1_798_761_600 // 3600)]


def test_a_cursor_is_the_place_it_was_made_of() -> None:
    place = [12, 'a "b"', ""]

    assert place_of(cursor_of(place), 3) == place
    for wrong in ("", "!", cursor_of([1]), cursor_of(place)[:-3]):
        with pytest.raises(ValueError, match="cursor"):
            place_of(wrong, 3)


def test_figures_are_exact_and_rates_of_nothing_are_nothing() -> None:
    sums = dict.fromkeys(MEASURES, 0) | {"sell_nano": 1, "cost_nano": 3, "q_output_text": 4}

    found = figures(sums, {})

    assert (found["margin_usd"], found["margin_nano"]) == ("-0.000000002", -2)
    assert found["tokens"] == {"total": 4, "output_text": 4}
    assert (found["error_rate"], found["cache_hit_rate"]) == (None, None)
