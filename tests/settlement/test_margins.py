"""What is earned beside what it really cost: sums, shares, and whose a correction is."""

from __future__ import annotations

from typing import Any

from metering.settlement.ledger.provider_books import Run
from metering.settlement.margins import PLANS, UNSHARED, Earned, chosen, report

APPLIED = {"applied_by": "ann", "reason": "so", "applied_at": 1}


def _run(number: int, since: str, until: str, provider: str = "openai", **body: Any) -> Run:
    usual: dict[str, Any] = {
        "corrections": [],
        "models": [],
        "totals": {"capture_ppm": None, "true_margin_ppm": None},
    }
    applied = body.pop("applied", None)
    return Run(number, provider, since, until, "ann", 1, {**usual, **body}, applied)


def _correction(amount: int, day: str = "2026-11-03") -> dict[str, Any]:
    return {
        "day": day,
        "upstream": "gpt-4o",
        "tenant": "acme",
        "project": "web",
        "cost_nano": amount,
    }


def test_the_newest_comparison_speaks_for_a_day() -> None:
    """Of each provider; an older one speaks for days that no newer one covers."""
    runs = [
        _run(1, "2026-11-01", "2026-11-08"),
        _run(2, "2026-11-08", "2026-11-15"),
        _run(3, "2026-11-06", "2026-11-10"),
        _run(4, "2026-11-01", "2026-11-08", "anthropic"),
        _run(5, "2026-10-01", "2026-11-01"),
        _run(6, "2026-11-20", "2026-11-21"),
    ]

    assert [run.id for run in chosen(runs, "2026-11-01", "2026-12-01")] == [4, 3, 6]


def test_margin_and_capture_go_by_what_was_incurred() -> None:
    """Corrections that are not booked yet count as they would be booked; others are in the cost."""
    runs = [
        _run(
            1,
            "2026-11-01",
            "2026-11-08",
            corrections=[_correction(50), _correction(9, "2026-10-31")],
        ),
        _run(2, "2026-11-08", "2026-11-15", corrections=[_correction(99)], applied=APPLIED),
    ]

    body = report("model", "2026-11", [Earned("gpt-4o", 3, 300, 100)], {"acme": 60}, runs)

    assert body["rows"] == [
        {
            "name": PLANS,
            "requests": 0,
            "sold_nano": 60,
            "cost_nano": 0,
            "open_nano": 0,
            "incurred_nano": 0,
            "margin_nano": 60,
            "margin_ppm": 1_000_000,
            "capture_ppm": None,
        },
        {
            "name": "gpt-4o",
            "requests": 3,
            "sold_nano": 300,
            "cost_nano": 100,
            "open_nano": 50,
            "incurred_nano": 150,
            "margin_nano": 150,
            "margin_ppm": 500_000,
            "capture_ppm": 2_000_000,
        },
    ]
    assert body["totals"]["margin_nano"] == 210


def test_whose_a_plan_and_a_correction_are() -> None:
    """By tenant both have their place; by feature neither has, and both have rows of their own."""
    run = _run(1, "2026-11-01", "2026-11-08", corrections=[_correction(50)])
    earned = [Earned("acme", 1, 100, 40)]

    [acme] = report("tenant", "2026-11", earned, {"acme": -30}, [run])["rows"]
    by_feature = report("feature", "2026-11", [Earned("", 1, 100, 40)], {"acme": -30}, [run])

    assert (acme["sold_nano"], acme["incurred_nano"]) == (70, 90)
    assert [row["name"] for row in by_feature["rows"]] == ["", PLANS, UNSHARED]
    assert by_feature["totals"]["margin_nano"] == acme["margin_nano"] == -20


def test_models_that_drift_are_listed() -> None:
    row = {
        "model": "gpt-4o",
        "booked_nano": 80,
        "provider_nano": 100,
        "drift_ppm": 200_000,
        "true_margin_ppm": 400_000,
        "is_compensated": True,
    }
    models = [{**row, "is_over": True}, {**row, "model": "fine", "is_over": False}]
    run = _run(7, "2026-11-01", "2026-11-08", models=models)

    [found] = report("model", "2026-11", [], {}, [run])["drifting"]

    assert found == {"provider": "openai", "comparison": 7, **row, "applied": False}
