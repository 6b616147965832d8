"""The last ten minutes as the first page shows them."""

from __future__ import annotations

from typing import Any

from proxy.dashboard.live_window import KEPT_S, STEPS_KEPT, LiveWindow

NOW_MS = 1_793_491_200_000


def event(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "usage",
        "tenant": "acme",
        "attempt": 1,
        "model_requested": "big",
        "units": {"input_uncached": 60, "output_text": 40, "web_search": 3},
        "admission_nano": 2_000,
        "status": "success",
        "completed_at": NOW_MS * 1_000_000,
        **changes,
    }


def test_rates_are_of_ten_seconds_and_amounts_of_a_minute() -> None:
    """Tokens are those of token classes alone; money is whole nano-USD beside its decimal text."""
    window = LiveWindow()
    for age_s in (1, 5, 9, 30, 70):
        window.feed(NOW_MS - age_s * 1000, event())

    tick = window.tick(NOW_MS, in_flight=3)

    assert (tick["tokens_per_s"], tick["requests_per_s"]) == (30.0, 0.3)
    assert (tick["spend_nano_per_min"], tick["spend_usd_per_min"]) == (8_000, "0.000008000")
    assert tick["in_flight"] == 3
    assert [row["model"] for row in tick["models"]] == ["big"]


def test_an_exchange_counts_once_and_each_failed_try_is_an_error() -> None:
    """A second attempt adds its tokens and its failure, and no request; corrections add nothing."""
    window = LiveWindow()
    window.feed(NOW_MS - 1000, event(status="error", units={}, admission_nano=0))
    window.feed(NOW_MS - 1000, event(attempt=2))
    told = window.feed(NOW_MS - 1000, event(kind="correction", admission_nano=-9_999))

    tick = window.tick(NOW_MS, None)

    assert (tick["requests_per_min"], tick["errors_per_min"]) == (1, 1)
    assert tick["spend_nano_per_min"] == 2_000
    assert told is None


def test_what_was_used_long_ago_is_not_now_but_is_somebodys_spend() -> None:
    """Usage of last week that is reported today draws no peak; its tenant's caps are looked at."""
    window = LiveWindow()
    old = event(kind="custom", completed_at=(NOW_MS - 86_400_000) * 1_000_000)

    told = window.feed(NOW_MS - 1000, old)

    assert told == "acme"
    assert window.tick(NOW_MS, None)["spend_nano_per_min"] == 0
    window.feed(NOW_MS - 1000, event(kind="custom"))
    assert window.tick(NOW_MS, None)["spend_nano_per_min"] == 2_000


def test_models_have_the_names_of_history() -> None:
    """A click on one leads to its history, which knows the upstreams' models."""
    window = LiveWindow()
    window.feed(NOW_MS - 1000, event(model_public="large", model_upstream="gpt-4o"))

    assert [row["model"] for row in window.tick(NOW_MS, None)["models"]] == ["gpt-4o"]


def test_history_has_for_each_second_what_its_tick_said() -> None:
    """Whoever opens the page now sees the curve that was drawn for who had it open."""
    window, ticks = LiveWindow(), []
    for second in range(120):
        at_ms = NOW_MS + second * 1000
        ticks.append(window.tick(at_ms, second % 5))
        if second % 3 == 0:
            window.feed(at_ms + 400, event())

    history = window.history(NOW_MS + 119_000)

    assert len(history["at_s"]) == KEPT_S
    for name in ("tokens_per_s", "requests_per_s", "spend_nano_per_min", "in_flight"):
        assert history[name][-120:] == [tick[name] for tick in ticks]


def test_steps_down_are_summed_and_forgotten() -> None:
    """The same step of a tenant is one row with a count, the latest first, for ten minutes."""
    window = LiveWindow()
    for age_s in (500, 20, 10):
        window.feed(NOW_MS - age_s * 1000, event(degrade_step="cap_80", model_public="small"))
    window.feed(NOW_MS - 5_000, event(degrade_step="cap_80", model_public="small", tenant="b"))

    told = window.degradations(NOW_MS)
    later = window.degradations(NOW_MS + KEPT_S * 1000)

    assert [(row["tenant"], row["count"]) for row in told["degradations"]] == [
        ("b", 1),
        ("acme", 3),
    ]
    assert told["total"] == 4
    assert later == {"total": 0, "degradations": []}


def test_what_is_remembered_is_bounded() -> None:
    """Tenants without end make no memory without end."""
    window = LiveWindow()
    for number in range(STEPS_KEPT + 50):
        at_ms = NOW_MS + number * 2_000
        said = event(tenant=f"t{number}", degrade_step="s", completed_at=at_ms * 1_000_000)
        window.feed(at_ms, said)
    window.tick(NOW_MS + (STEPS_KEPT + 50) * 2_000, 0)

    assert len(window._steps) == STEPS_KEPT
    assert len(window._seconds) <= KEPT_S
